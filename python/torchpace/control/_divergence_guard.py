"""The divergence guard: steps that are taken back when they go wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Literal

import torch
from torch.amp import GradScaler
from torch.nn import Module
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from torchpace.control._events import GuardEvent, read_event
from torchpace.control._judge import Fault, Judge, Point
from torchpace.control._lookahead import Lookahead
from torchpace.control._numbers import real, whole
from torchpace.control._ring import Ring
from torchpace.control._scaled import Scaled
from torchpace.control._snapshot import several, several_schedulers
from torchpace.control._state import State
from torchpace.control._stepping import Stepping
from torchpace.optim import _unwrap

Closure = Callable[[], Any]


class DivergenceGuard:
    r"""Takes back a step that diverges, lowers the learning rate, and tries again.

    Under ``on="gradient"`` each step is looked at from where it would end: the closure is evaluated again on the same
    batch, with the same random numbers and buffers. With the losses :math:`L_0, L_1` and gradient norms
    :math:`n_0, n_1` before and after it, and those of the last `window` accepted steps, it is taken back, bit for bit,

    - "non-finite": if :math:`L_1` or :math:`n_1` is not finite;
    - "growth": if :math:`n_1` exceeds `ratio` times the largest of :math:`n_0` and the norms before, and
      :math:`L_1 > L_0`;
    - "slow growth": if :math:`n_1` exceeds `ratio` times the smallest of them, :math:`L_1` exceeds :math:`L_0` and
      all losses before, and the gradient has turned, :math:`\langle g_0, g_1 \rangle < 0`: every step then lands
      farther up the other side of a valley;
    - "no descent": if the step is a repeated one, the gradient has turned, and :math:`L_1 \ge L_0`.

    Then the factor on the learning rates is multiplied by `factor` and the step tried again. A loss that falls is never
    a fault, however the norm grows: so a descent from a saddle goes on. The largest norm counts, and not
    :math:`n_0` alone, since with momentum a stable step may well cross the floor of a valley, where :math:`n_0` is
    small. The factor multiplies what a scheduler sets, within the optimizer's step alone: outside of it, and for hooks,
    ``lr`` is the scheduler's.

    The factor recovers, up to 1, by ``1 / factor`` at a time. After a rejection that takes `recover_after` steps in a
    row without another one (`calm_steps`). A larger rate that then holds for `window` steps shows that the cause is
    gone, so the next rise comes after these (`recovering`), and so on until a rejection: what one mad batch or rate has
    cut by 256 is back after 170 steps, as ``recover_after + 7 * window``.

    Where nothing is taken back, parameters, gradients, buffers and random numbers are those of a plain step.

    Cost of ``on="gradient"``: two evaluations a step and one more for each rejection (`evaluations` counts them), some
    copies, and the memory of parameters, optimizer state and three times the buffers, and of the gradients, if
    there are any when the step begins (`nbytes`): call ``zero_grad()`` before it rather than within the closure to
    spare that. The closure must have no other effects than to compute the loss and the gradients, and it must not
    clip the gradients, which hides their growth: use ``max_grad_norm`` of `torchpace.optim`. Hooks of the optimizer's
    step run at every try.

    Under ``on="loss"`` there is no second evaluation: every `every` steps a snapshot of all but gradients and random
    numbers goes to a ring of `ring`. Where the loss that a step begins with is not finite ("non-finite") or more than
    `ratio` times the largest of the older half of the last `window` ("explosion"), the present batch is evaluated at
    the snapshots, the newest first. The training goes back to the first at which that loss is finite and below a
    `ratio`-th, and the steps since are lost; if there is none, the batch is to blame and not the state, and the step is
    made as it is. A slow divergence is noticed late, and a steady oscillation not at all.

    Args:
        optimizer: an optimizer of torch's or ours, all but LBFGS, which evaluates by itself; as accelerate or Fabric
            prepared it, within a wrapper, or several in one, with all that is in it. A `GradScaler` that it brings
            is seen to without `scaler`. One whose step demands a closure (a SAM) gets it, with the gradients there.
        model: the module, or several, whose buffers and modes an evaluation may change (default: None).
        scheduler: a scheduler, or several, to be taken back too where hooks step them, and under ``on="loss"``
            (default: None). Stepping them is left to the caller.
        scaler: a `GradScaler`; the closure scales the loss for its backward pass and returns it unscaled; the guard
            unscales, steps and updates (default: None).
        on: "gradient" or "loss" (default: "gradient").
        ratio: the growth that is too much, above 1 (default: None, 1.5 for norms, 3 for losses).
        factor: what a rejection multiplies the learning rates by, between 0 and 1 (default: 0.5).
        max_retries: how often a step is tried again, or under ``on="loss"`` how often the training goes back
            before the factor has recovered, at least 0 (default: 10).
        window: how many accepted steps count, at least 1 (default: None, 10 for norms, 20 for losses).
        recover_after: steps without a rejection until the factor first rises, at least 1; further rises take `window`,
            if that is less (default: 100).
        rise: by what share of itself a loss must rise to have risen, at least 0; raised to 8 times the rounding of the
            loss's type (default: 1e-5).
        ring: the snapshots under ``on="loss"``, at least 1 (default: 3).
        every: the steps from one to the next, at least 1 (default: 10).
        generators: a random generator that the closure uses besides the global ones, of torch, Python or NumPy, or
            several (default: none).

    Raises:
        TypeError: an argument is of a wrong type, or the optimizer's step demands a closure and there is a scaler.
        ValueError: an argument is out of its range.

    Attributes:
        lr_factor: the present factor on the learning rates.
        calm_steps: steps since the last rejection or recovery.
        recovering: whether the factor has risen since the last rejection, and is below 1.
        steps: accepted steps. evaluations: calls of closures. rejections: steps taken back.
        events: what happened besides plain steps, a list of `GuardEvent`.

    Under ``maximize=True`` in all groups the loss is to rise, and rising and falling change places in the rules. For
    one process: several would decide apart.

    Example:
        >>> import torch
        >>> from torchpace import optim
        >>> from torchpace.control import DivergenceGuard
        >>> x = torch.nn.Parameter(torch.tensor(1.0))
        >>> optimizer = optim.SGD([x], lr=4.8)  # more than twice the bound, 2
        >>> guard = DivergenceGuard(optimizer)
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = x**2 / 2
        ...     loss.backward()
        ...     return loss
        >>> for _ in range(20):
        ...     loss = guard.step(closure)
        >>> abs(x.item()) < 1e-6, optimizer.param_groups[0]["lr"], guard.lr_factor
        (True, 4.8, 0.25)
        >>> [event.kind for event in guard.events]
        ['growth', 'no descent']
    """

    optimizer: Optimizer
    groups: list[dict[str, Any]]
    factor: float
    max_retries: int
    recover_after: int
    lr_factor: float
    recovering: bool
    calm_steps: int
    steps: int
    evaluations: int
    rejections: int

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        model: Module | Sequence[Module] | None = None,
        scheduler: LRScheduler | Sequence[LRScheduler] | None = None,
        scaler: GradScaler | None = None,
        on: Literal["gradient", "loss"] = "gradient",
        ratio: float | None = None,
        factor: float = 0.5,
        max_retries: int = 10,
        window: int | None = None,
        recover_after: int = 100,
        rise: float = 1e-5,
        ring: int = 3,
        every: int = 10,
        generators: Any = (),
    ) -> None:
        if not _unwrap.is_optimizer(optimizer):
            raise TypeError(f"optimizer is of type {type(optimizer).__name__}, expected an Optimizer")
        if _unwrap.within(optimizer, torch.optim.LBFGS):
            raise TypeError("optimizer is an LBFGS, which evaluates by itself: expected one that steps on gradients")
        if on not in ("gradient", "loss"):
            raise ValueError(f"on is {on!r}, expected 'gradient' or 'loss'")
        looks_ahead = on == "gradient"
        ratio = (1.5 if looks_ahead else 3.0) if ratio is None else ratio
        window = (10 if looks_ahead else 20) if window is None else window
        ratio = real("ratio", ratio, lambda x: math.isfinite(x) and x > 1, "a finite number > 1")
        self.factor = real("factor", factor, lambda x: 0 < x < 1, "a number between 0 and 1")
        self._rise = real("rise", rise, lambda x: math.isfinite(x) and x >= 0, "a finite number >= 0")
        self.max_retries = whole("max_retries", max_retries, 0, "at least 0")
        self.recover_after, window, ring, every = (
            whole(name, value, 1, "at least 1")
            for name, value in (("recover_after", recover_after), ("window", window), ("ring", ring), ("every", every))
        )
        several("scaler", scaler, GradScaler)
        self.optimizer, self.groups = optimizer, _unwrap.groups(optimizer)
        # A wrapper that has the scaler steps and updates it, on what it wraps.
        known, self._target = _unwrap.scaling(optimizer)
        self._steps_scaler = known is None
        scaler = scaler if known is None else known
        self.scaler: GradScaler | None = scaler if scaler is not None and scaler.is_enabled() else None
        self.judge: Judge = Judge(ratio, window, self._rise)
        self.stepping: Stepping = Stepping(optimizer, scaled=self.scaler is not None)
        self.scaled: Scaled = Scaled(optimizer)
        self.lr_factor, self.recovering = 1.0, False
        self.calm_steps = self.steps = self.evaluations = self.rejections = 0
        self.events: list[GuardEvent] = []
        modules, schedulers = several("model", model, Module), several_schedulers("scheduler", scheduler)
        self._way: Lookahead | Ring
        if looks_ahead:
            self._way = Lookahead(self, modules, schedulers, generators)
        else:
            self._way = Ring(self, modules, schedulers, generators, ring, every)

    def step(self, closure: Closure) -> Any:
        """One step that does not diverge, on the batch of a closure.

        Args:
            closure: clears the gradients, computes the loss and calls ``backward()`` as torch's closures do, and
                returns the loss; it is called several times.

        Returns:
            What the closure returned at the point that the step began at.

        Raises:
            DivergenceError: every try diverges, or the loss is not finite before any step; everything is as before
                the step.
            TypeError: the closure returned no number.

            What the closure raises is passed on, and everything is as before the step; under ``on="loss"``, which has
            no copy of the buffers, only no step has been made.
        """
        self.groups = _unwrap.groups(self.optimizer)
        return self._way.step(closure)

    @property
    def nbytes(self) -> int:
        """The memory of the copies, in bytes."""
        return self._way.nbytes

    def state_dict(self) -> dict[str, Any]:
        """The factor, what was seen, and the counts and events, as plain values; snapshots are not among them."""
        return {
            **{name: getattr(self, name) for name in ("lr_factor", "recovering", *_COUNTS)},
            "past": [(point.loss, point.norm) for point in self.judge.past],
            "events": [asdict(event) for event in self.events],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a `state_dict`.

        Args:
            state_dict: what `state_dict` gave.

        Raises:
            KeyError: it lacks an entry.
            TypeError: it is no dict, or an entry is of a wrong type.
            ValueError: an entry is out of its range.

            Nothing has changed then.
        """
        state = State(state_dict, self.state_dict())
        lr_factor = real("state_dict['lr_factor']", state["lr_factor"], lambda x: 0 < x <= 1, "a number > 0, at most 1")
        counts, recovering = {name: state.count(name) for name in _COUNTS}, state.flag("recovering")
        past = [_point(f"state_dict['past'][{at}]", item) for at, item in enumerate(state.listed("past"))]
        events = [read_event(f"state_dict['events'][{at}]", x) for at, x in enumerate(state.listed("events"))]
        self.lr_factor, self.recovering = lr_factor, recovering
        for name, value in counts.items():
            setattr(self, name, value)
        self.judge.past.clear()
        self.judge.past.extend(past)
        self.events = events

    def __repr__(self) -> str:
        """Which optimizer's, and what it has done so far."""
        on = "gradient" if isinstance(self._way, Lookahead) else "loss"
        done = ", ".join(f"{name}={getattr(self, name):g}" for name in ("lr_factor", *_COUNTS))
        return f"DivergenceGuard({type(self.optimizer).__name__}, on={on!r}, {done}, events={len(self.events)})"

    # What both ways of a step are made of.

    def evaluate(self, closure: Closure) -> tuple[Any, float]:
        """What the closure returns, and that as a number that is to fall."""
        self.evaluations += 1
        with torch.enable_grad():
            loss = closure()
        if isinstance(loss, torch.Tensor) and loss.is_floating_point():
            self.judge.rise = max(self._rise, 8 * torch.finfo(loss.dtype).eps)
        try:
            return loss, self._sign() * float(loss.detach() if isinstance(loss, torch.Tensor) else loss)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"closure returned {type(loss).__name__}, expected the loss, one number") from error

    def unscale(self) -> None:
        """Unscale the gradients, unless the closure did."""
        if self.scaler is not None:
            stage = self.scaler._per_optimizer_states[id(self._target)]["stage"]
            if stage.name == "READY":
                self.scaler.unscale_(self._target)

    def optimizer_step(self, closure: Closure, undo: Callable[[], object]) -> None:
        """A step of the optimizer at the lowered learning rates.

        Args:
            closure: for a step that demands one.
            undo: puts all back to before it, where the first step fails for want of a closure.
        """
        self.stepping.step(self._scaled_step, lambda: self.evaluate(closure)[0], undo)

    def _scaled_step(self, *closure: Closure) -> None:
        try:
            self.scaled.start(self.lr_factor)
            if self.scaler is None or not self._steps_scaler:
                self.optimizer.step(*closure)
            else:
                self.scaler.step(self.optimizer, *closure)
        finally:
            self.scaled.stop()

    def update(self) -> None:
        """Update the scaler."""
        if self.scaler is not None and self._steps_scaler:
            self.scaler.update()

    def rejected(self, fault: Fault, ratio: float | None, loss: float) -> None:
        """Lower the factor after a step that went wrong."""
        self.rejections += 1
        self.lr_factor *= self.factor
        self.calm_steps, self.recovering = 0, False
        self.note(fault, ratio, loss)

    def accepted(self, loss: float, *, calm: bool) -> None:
        """Count a step, and raise the factor when it is time."""
        self.calm_steps = self.calm_steps + 1 if calm else 0
        if self.lr_factor < 1 and self.calm_steps >= self._wait():
            self.lr_factor = min(1.0, self.lr_factor / self.factor)
            self.calm_steps, self.recovering = 0, self.lr_factor < 1
            self.note("recovered", None, loss)
        self.steps += 1

    def _wait(self) -> int:
        """How many calm steps the factor waits for: few where the rate before it was already seen to hold."""
        return min(self.recover_after, self.judge.window) if self.recovering else self.recover_after

    def note(self, kind: Any, ratio: float | None, loss: float) -> None:
        """Add an event."""
        self.events.append(GuardEvent(self.steps, kind, ratio, self._sign() * loss, self.lr_factor))

    def _sign(self) -> int:
        return -1 if all(group.get("maximize") for group in self.groups) else 1


_COUNTS = ("calm_steps", "steps", "evaluations", "rejections")


def _point(place: str, item: Any) -> Point:
    if not (isinstance(item, (list, tuple)) and len(item) == 2):
        raise TypeError(f"{place} is {item!r}, expected a loss and a gradient norm")
    loss, norm = item
    return Point(real(f"{place}[0]", loss), None if norm is None else real(f"{place}[1]", norm, _is_norm, "a norm"))


def _is_norm(number: float) -> bool:
    return math.isfinite(number) and number >= 0
