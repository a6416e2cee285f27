"""A learning rate that follows the curvature of the loss."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from torchpace.control._eigen import NotFiniteError
from torchpace.control._numbers import number, real, whole
from torchpace.control._precondition import Preconditioner, known_one, preconditioners
from torchpace.control._sharpness import Measurement, Problem, Scale, check_problem
from torchpace.control._state import State
from torchpace.optim import _unwrap
from torchpace.optim.lr_scheduler import LRScheduler


@dataclass(frozen=True)
class CurvatureCost:
    """What the measurements of a `CurvatureLR` have cost so far.

    Attributes:
        measurements: how many there were.
        products: the Hessian-vector products that they took; each is about as dear as three training steps on the same
            data.
        seconds: the time that they took.
        share: the same as a share of all time since the scheduler was made, from 0 to 1.
    """

    measurements: int
    products: int
    seconds: float
    share: float


class CurvatureLR(LRScheduler):
    r"""Measures the curvature of the loss as training goes on, and sets the rate to a share of the stability bound.

    .. math::
        \eta_t = w(t) \cdot \mathrm{clip}(s \, \eta_{max}, \eta_{low}, \eta_{high})

    where :math:`\eta_{max}` is the optimizer's own bound (`max_stable_lr` and its like) at the measured
    :math:`\lambda_{max}(P^{-1} H)`, with momentum, dampening, Nesterov's form and weight decay, coupled or not, as the
    groups have them at the measurement. Groups of several rates keep their proportion, that of their ``initial_lr``;
    the bound is then exact for all together, whatever each one's momentum and decay.

    Where it does not help: the bound is that of the loss which is measured, and says nothing of gradient noise, which
    asks small batches for a smaller rate; on a network trained with all data the curvature itself rises until it meets
    any fixed rate (the edge of stability), so a rate that follows it may chase it downwards; and a rate that is greedy
    in every step can lose to a fixed schedule in the long run. Use it to find the scale of a rate, to survive changes
    of scale, and with full or large batches.

    Args:
        optimizer: SGD, RMSprop, Adagrad, Adam or AdamW, torch's or ours, without ``maximize`` and ``cautious``; also
            one that a trainer prepared, or in a wrapper: what is within is scheduled, by its own bound. Those that keep
            a state step at their own ``lr`` until the first step has made it.
        loss: what `sharpness` takes: ``loss()``, or ``loss(batch)`` where there is ``data``. It is called in `step`.
        data: batches; each measurement takes the next ``batches`` of a new iterator, which changes none of those that
            a loader gives to others, or of the iterator that it is (default: None).
        batches: how many batches are averaged, at least 1 (default: 1).
        safety: :math:`s`, above 0 and usually below 1: the share of the bound (default: 0.9).
        every: measure every so many steps, at least 1 (default: 100).
        smoothing: from 0 to below 1: how much of the old curvature is kept, :math:`\hat\lambda \leftarrow a
            \hat\lambda + (1 - a) \lambda`; where :math:`\lambda < 0` it counts as 0 (default: 0).
        min_lr: the least rate of the group with the greatest ``initial_lr``, at least 0 (default: 0).
        max_lr: the greatest one, at least ``min_lr``. Where there is no positive curvature the rate is this or, if this
            is infinite, stays (default: infinite).
        warmup: :math:`w`, a schedule of `torchpace.schedule` or another function of the step, from 0, that gives a
            factor; it multiplies what is clipped, and need not be a warmup (default: None, 1).
        model: whose buffers the loss changes, as in `sharpness` (default: None).
        method: "auto", "exact" or "difference", as in `sharpness` (default: "auto").
        max_iter: the most products of a measurement, at least 1 (default: 40).
        tol: the residual that is small enough, in units of the eigenvalue, above 0 (default: 1e-2).
        seed: of the measurements' random numbers (default: 0).
        last_epoch: the number of the step before the first one; -1 begins anew (default: -1).

    Raises:
        ValueError: an argument is out of its range; a group has ``maximize`` or ``cautious``; all ``initial_lr`` are 0.
        TypeError: the optimizer is none that is known, or several in one; an argument is of a wrong type.
        KeyError: ``last_epoch >= 0`` and a group lacks ``initial_lr``.
        RuntimeError: in `step` too, what `sharpness` raises, as for a loss that is not finite; the step then has not
            been counted. A curvature that is not finite, of a finite loss, is a warning, and the rate stays.

    Composes: with ``warmup``; in ``SequentialLR`` after a warmup, where it measures when its turn comes; in
    ``ChainedScheduler`` with schedulers of other options. One that multiplies the last rate has nothing to go by, as
    this sets the rate anew in every step: give it as ``warmup``.

    Paper:
        LeCun, Simard and Pearlmutter, Automatic learning rate maximization by on-line estimation of the Hessian's
        eigenvectors, 1992. Cohen et al., Gradient descent on neural networks typically occurs at the edge of stability,
        2021.

    Example:
        >>> import torch
        >>> from torchpace import optim
        >>> from torchpace.control import CurvatureLR
        >>> weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        >>> loss = lambda: (torch.tensor([0.5, 2.0]) * weight.square()).sum()
        >>> optimizer = optim.SGD([weight], lr=1.0)
        >>> scheduler = CurvatureLR(optimizer, loss, safety=0.5, every=10)
        >>> for _ in range(20):
        ...     optimizer.zero_grad()
        ...     loss().backward()
        ...     optimizer.step()
        ...     scheduler.step()
        >>> round(scheduler.get_last_lr()[0], 4), scheduler.cost.measurements
        (0.25, 3)
    """

    last_epoch: int
    base_lrs: list[float | Tensor]

    def __init__(
        self,
        optimizer: Optimizer,
        loss: Callable[..., Tensor],
        data: Iterable[Any] | None = None,
        *,
        batches: int = 1,
        safety: float = 0.9,
        every: int = 100,
        smoothing: float = 0.0,
        min_lr: float = 0.0,
        max_lr: float = math.inf,
        warmup: Callable[[float], float] | None = None,
        model: torch.nn.Module | None = None,
        method: Literal["auto", "exact", "difference"] = "auto",
        max_iter: int = 40,
        tol: float = 1e-2,
        seed: int = 0,
        last_epoch: int = -1,
    ) -> None:
        self._whole, optimizer = optimizer, known_one(optimizer)
        check_problem(loss, model, data)
        if warmup is not None and not callable(warmup):
            raise TypeError(f"warmup is of type {type(warmup).__name__}, expected a function of the step")
        self._measurement = Measurement.checked(1, "largest", method, max_iter, tol, None, seed)
        self._batches, self._every = whole("batches", batches, 1), whole("every", every, 1)
        self._safety = real("safety", safety, lambda x: math.isfinite(x) and x > 0, "a finite number > 0")
        self._smoothing = real("smoothing", smoothing, lambda x: 0 <= x < 1, "a number >= 0 and < 1")
        min_lr = real("min_lr", min_lr, lambda x: math.isfinite(x) and x >= 0, "a finite number >= 0")
        max_lr = real("max_lr", max_lr, lambda x: x >= min_lr, f"a number >= min_lr, which is {min_lr}")
        last_epoch = whole("last_epoch", last_epoch, -1)
        self._loss, self._data, self._model = loss, data, model
        self._bounds, self._warmup = (min_lr, max_lr), warmup
        self._curvature: float | None = None
        self._rate: float | None = None
        self._measurements, self._products, self._seconds = 0, 0, 0.0
        self._earlier, self._start = 0.0, time.perf_counter()
        super().__init__(optimizer, last_epoch)

    @property
    def max_stable_lrs(self) -> list[float] | None:
        """The bound of each group at the last measurement, smoothed; None before the first."""
        if self._curvature is None:
            return None
        bound = math.inf if self._curvature == 0 else 1 / self._curvature
        return [0.0 if share == 0 else bound * share for share in _shares(self.base_lrs)]

    @property
    def cost(self) -> CurvatureCost:
        """What the measurements have cost."""
        return CurvatureCost(self._measurements, self._products, self._seconds, self._seconds / self._total())

    def step(self, epoch: int | None = None) -> None:
        """Go to the next step, measure if it is time, and set the learning rates.

        Args:
            epoch: go to this step; deprecated in torch (default: None).

        Raises:
            RuntimeError, ValueError, TypeError: what `sharpness` raises; the step then has not been counted.
        """
        before = self.last_epoch, self._step_count
        try:
            super().step(epoch)
        except BaseException:
            self.last_epoch, self._step_count = before
            raise
        self._tell_wrappers()

    def get_lr(self) -> list[float | Tensor]:
        """The learning rates of this step; called by `step`, measures if it is time."""
        within_step = self._get_lr_called_within_step
        if within_step and (self._curvature is None or self.last_epoch % self._every == 0) and self._can_measure():
            self._measure()
        return self._rates()

    def state_dict(self) -> dict[str, Any]:
        """The state, in plain values: what was measured and what it has cost, not how to measure."""
        return {
            "last_epoch": self.last_epoch,
            "_step_count": self._step_count,
            "_last_lr": [float(rate) for rate in self._last_lr],
            "base_lrs": [float(base) for base in self.base_lrs],
            "curvature": self._curvature,
            "rate": self._rate,
            "measurements": self._measurements,
            "products": self._products,
            "seconds": self._seconds,
            "total_seconds": self._total(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state, and set its learning rates.

        Args:
            state_dict: what `state_dict` gave.

        Raises:
            KeyError: an entry is missing.
            TypeError: it is no dict, or an entry is of a wrong type.
            ValueError: an entry is out of its range, or it is of another number of groups.

            Nothing has changed then.
        """
        state, groups = State(state_dict, self.state_dict()), self.optimizer.param_groups
        last_lr, base_lrs = (state.numbers(name, len(groups)) for name in ("_last_lr", "base_lrs"))
        _shares(base_lrs)
        epoch, steps, measurements, products = (
            state.count(name) for name in ("last_epoch", "_step_count", "measurements", "products")
        )
        curvature, rate = state.optional("curvature"), state.optional("rate")
        seconds, total = state.number("seconds"), state.number("total_seconds")
        self.last_epoch, self._step_count = epoch, steps
        self._last_lr, self.base_lrs = list(last_lr), list(base_lrs)
        self._curvature, self._rate = curvature, rate
        self._measurements, self._products = measurements, products
        self._seconds, self._earlier = seconds, total
        self._start = time.perf_counter()
        for group, value in zip(groups, last_lr, strict=True):
            _set_lr(group, value)
        self._tell_wrappers()

    def _tell_wrappers(self) -> None:
        """Set the rates in copies of the groups, too, which a wrapper may step by, as ZeroRedundancyOptimizer does."""
        groups = self.optimizer.param_groups
        for part in _unwrap.parts(self._whole):
            copies = _unwrap.own_groups(part)
            for group, other in zip(groups, copies, strict=True) if len(copies) == len(groups) else ():
                if other is not group and other.get("lr") is not group["lr"]:
                    _set_lr(other, float(group["lr"]))

    def _total(self) -> float:
        return self._earlier + max(time.perf_counter() - self._start, 1e-9)

    def _rates(self) -> list[float | Tensor]:
        step = self.last_epoch
        factor = 1.0 if self._warmup is None else number(f"warmup({step})", self._warmup(step))
        if self._rate is None:
            return [base * factor for base in self.base_lrs]
        return [self._rate * share * factor for share in _shares(self.base_lrs)]

    def _params(self) -> list[Tensor]:
        return [param for group in self.optimizer.param_groups for param in group["params"] if param.requires_grad]

    def _can_measure(self) -> bool:
        """Whether the optimizer has what it divides by."""
        if isinstance(self.optimizer, torch.optim.SGD):
            return True
        states = (self.optimizer.state.get(param, {}) for param in self._params())
        return any("step" in state and float(state["step"]) > 0 for state in states)

    def _measure(self) -> None:
        for index, group in enumerate(self.optimizer.param_groups):
            if group.get("maximize"):
                raise ValueError(f"param_groups[{index}]: maximize is True, expected False: the bound is of descent")
        begin, shares, params = time.perf_counter(), _shares(self.base_lrs), self._params()
        known = preconditioners(self.optimizer, params)
        live = [(param, found) for param, found in zip(params, known, strict=True) if found is not None]
        problem = Problem(self._loss, [param for param, _ in live], self._model, self._measurement)
        # Of the operator whose largest eigenvalue is 1 where the rates are on the bound: each direction is measured in
        # units of its own bound. It is exact also where groups differ, as all cross the bound with the sign changing.
        scales, shifts = zip(*(_in_bounds(found, shares[found.index]) for _, found in live), strict=True)
        try:
            found, hessian = problem.measure(
                self._data, self._batches, scales, shifts if _any(shifts) else None, "lanczos"
            )
        except NotFiniteError:
            warnings.warn("the curvature is not finite, so the learning rate stays as it is", stacklevel=5)
            return
        finally:
            self._seconds += time.perf_counter() - begin
        curvature = max(found.values[0], 0.0)
        if self._curvature is not None:
            curvature = self._smoothing * self._curvature + (1 - self._smoothing) * curvature
        low, high = self._bounds
        rate = min(max(self._safety / curvature if curvature > 0 else math.inf, low), high)
        self._curvature = curvature
        self._rate = rate if math.isfinite(rate) else self._rate
        self._measurements += 1
        self._products += hessian.products


def _set_lr(group: dict[str, Any], value: float) -> None:
    if isinstance(group.get("lr"), Tensor):
        group["lr"].fill_(value)
    else:
        group["lr"] = value


def _shares(base_lrs: Sequence[float | Tensor]) -> list[float]:
    """The groups' rates in proportion, the greatest 1."""
    bases = [float(base) for base in base_lrs]
    if max(bases, default=0.0) <= 0:
        raise ValueError(f"the groups' initial_lr are {bases}, expected one > 0, to which the others keep their share")
    return [base / max(bases) for base in bases]


def _in_bounds(step: Preconditioner, share: float) -> tuple[Scale, Scale]:
    r"""The scale :math:`S` and the shift :math:`D` of one parameter in :math:`S H S + D`.

    :math:`S^2` is the group's rate by its bound; coupled decay adds to the Hessian, and the decoupled one alone is
    stable up to a rate of 2 by itself.
    """
    square = share / (step.bound * step.divisor)
    root = square.sqrt() if isinstance(square, Tensor) else math.sqrt(square)
    return root, square * step.coupled + share * step.decoupled / 2


def _any(shifts: tuple[Scale, ...]) -> bool:
    return any(isinstance(shift, Tensor) or shift != 0 for shift in shifts)
