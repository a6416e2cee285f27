"""What a training run is doing: getting on, swinging across a valley, resting, or in its noise."""

from __future__ import annotations

import itertools
import math
from collections import deque
from enum import Enum
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torchpace.control._numbers import number, real, whole
from torchpace.control._params import Params, listed
from torchpace.control._sketch import Sketch
from torchpace.control._state import State


class Verdict(str, Enum):
    """A word for what `Monitor` sees; equal to its text, as in ``verdict == "progress"``."""

    UNKNOWN = "unknown"
    PROGRESS = "progress"
    OSCILLATION = "oscillation"
    CRITICAL_POINT = "critical point"
    NOISE_FLOOR = "noise floor"
    UNCLEAR = "unclear"
    DIVERGED = "diverged"

    __str__ = str.__str__


class Signs(NamedTuple):
    """The numbers that a verdict is made of, over the last `window` steps; see `Monitor`.

    Attributes:
        relative_norm: the gradients' root mean square norm, in units of the greatest that a window had.
        norm: the same in gradient units.
        correlation: of successive gradients, from -1 to 1.
        shrinkage: the factor by which the norm changed each step, on average.
        persistent: the share of the mean square gradient that stays from one half of the window to the next.
        fall: the fall of the loss in the window, along a straight line.
        significance: that fall in units of its standard error, in which successive errors may be alike.
    """

    relative_norm: float
    norm: float
    correlation: float
    shrinkage: float
    persistent: float
    fall: float
    significance: float


# Chosen on runs whose state is known, `TUNING` of torchpace.gallery.labelled; scored on others, `HELD_OUT`.
_TURNED = -0.45  # successive gradients that point against each other
_LASTING = 0.9  # their norm shrinks by less than this factor a step: at 0.95 of its bound, descent has 1 - 1.9 = -0.9
_SMALL = 1e-3  # of the greatest norm seen
_PERSISTENT = 5.0  # of its standard error in noise, which is 1 / (half a window) in one dimension, and less in more
_ALIKE = 0.9  # successive gradients that agree
_SIGNIFICANT = 5.0
_CALMER = 0.97  # norms that shrink by more each step are progress, whatever the loss


class Monitor:
    r"""Tells oscillation across a valley from a critical point, from progress and from the noise floor.

    A loss that no longer falls has three causes, and the gradients :math:`g_t` tell them apart. Across a valley they
    are large and turn with each step; at a critical point they are small; in the noise they are large, and their mean
    is small against their variance. Over a window of :math:`n` steps, with its two halves' mean gradients
    :math:`\bar g_1, \bar g_2`:

    .. math::
        \text{correlation} = \frac{\sum \langle g_t, g_{t-1} \rangle}
            {\sqrt{\sum \lVert g_t \rVert^2 \sum \lVert g_{t-1} \rVert^2}}, \qquad
        \text{persistent} = \frac{\langle \bar g_1, \bar g_2 \rangle}{\text{mean} \lVert g_t \rVert^2}

    The first of these verdicts that applies:

    * ``"diverged"``: a loss or gradient is not finite.
    * ``"critical point"``: the norm is at most `grad_tol`, or 0.001 of the greatest that a window had: done, or a
      saddle.
    * ``"oscillation"``: correlation below -0.45, and the norm shrinks by less than a tenth each step: lower the rate.
      Plain descent has this from 0.95 of its bound on; in noise at rest the correlation is
      :math:`-\eta\lambda/2`.
    * ``"progress"``: persistent above :math:`10 / n`, or the loss falls by more than 5 standard errors, or it falls and
      the correlation is above 0.9, or the norm shrinks by more than 3 % each step: go on.
    * ``"noise floor"``: persistent within :math:`10 / n` of 0, and the loss does not rise by more than 5 standard
      errors: average the weights, or lower the rate.
    * ``"unclear"``: none of them, such as a loss that rises or a slow swing under much momentum.

    ``"unknown"`` until the window is full. Gradients are seen through a fixed random sketch of at most `width` numbers
    for each parameter, of which up to four are kept; all numbers stay on the device until a verdict is asked for. The
    norm and the inner products are therefore estimates, within about :math:`1/\sqrt{\text{width}}`, and exact for
    parameters of at most `width` elements.

    Args:
        params: the parameters whose ``grad`` is looked at, as an optimizer takes them, with names or in groups too; or
            those of a module. Tensors of any shapes.
        window: :math:`n`, an even number of steps, at least 16 (default: 50).
        grad_tol: a norm that is small whatever was before, in gradient units, at least 0 (default: 1e-8).
        width: numbers for each parameter, at least 16 (default: 1024).
        seed: of the random signs (default: 0).

    Raises:
        ValueError: an argument is out of its range, there are no parameters, or one is there twice.
        TypeError: ``params`` is one tensor, or a parameter is none; an argument is no number; a gradient is sparse.

    Limits: a plateau whose gradients are 0.001 of those before looks like a critical point, which it nearly is; a rate
    so small that nothing moves, at a persistent gradient, is progress, as slow as it is. Under gradient scaling,
    unscale first. At small batches the progress of a few steps is far below their noise, and a short window takes it
    for the noise floor: let it be several epochs. Full-batch training at the edge of stability is told as oscillation
    while its loss still falls.

    Example:
        >>> import torch
        >>> from torchpace import optim
        >>> from torchpace.control import Monitor
        >>> weight = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> optimizer = optim.SGD([weight], lr=1.99)  # the bound is 2
        >>> monitor = Monitor([weight], window=20)
        >>> for _ in range(20):
        ...     optimizer.zero_grad()
        ...     loss = 0.5 * weight.square().sum()
        ...     loss.backward()
        ...     monitor.observe(loss)
        ...     optimizer.step()
        >>> str(monitor.verdict)
        'oscillation'
        >>> import textwrap
        >>> print(textwrap.fill(monitor.explain()))
        oscillation: successive gradients turn (correlation -1.00) and their
        norm, 1.3, changes by a factor of 0.990 each step: lower the rate.
    """

    window: int
    grad_tol: float

    def __init__(
        self,
        params: Params,
        window: int = 50,
        grad_tol: float = 1e-8,
        width: int = 1024,
        seed: int = 0,
    ) -> None:
        self._params = listed(params)
        if not self._params:
            raise ValueError("params is empty, expected at least one parameter")
        self.window = whole("window", window, 16, "an even number, at least 16")
        if self.window % 2:
            raise ValueError(f"window is {window}, expected an even number, at least 16")
        self.grad_tol = real("grad_tol", grad_tol, lambda x: math.isfinite(x) and x >= 0, "a finite number >= 0")
        width, seed = whole("width", width, 16, "at least 16"), whole("seed", seed)
        self._setup = (self.window, width, seed)
        self._sketch = Sketch(self._params, width, seed)
        self.reset()

    def reset(self) -> None:
        """Forget everything, also the greatest norm: what comes is another task."""
        self._count = 0
        # Of each step of the window: loss, squared norm, product with the gradient before.
        self._seen: deque[tuple[Tensor | float, Tensor, Tensor]] = deque(maxlen=self.window)
        self._last: Tensor | None = None
        self._sum: Tensor | None = None  # of this half window's gradients
        self._before: Tensor | None = None  # of the half window before
        self._product: Tensor | float = 0.0  # of the last two halves' sums
        self._greatest: Tensor | float = 0.0  # squared norm, mean over half a window

    @torch.no_grad()
    def observe(self, loss: Tensor | float) -> None:
        """Look at the gradients of a step, after ``backward`` and before ``zero_grad``; reads nothing back to the host.

        Args:
            loss: of this step, one number.

        Raises:
            ValueError: the loss has more than one element.
            TypeError: it is no number, or a gradient is sparse.
            RuntimeError: no parameter has a gradient.
        """
        if isinstance(loss, Tensor):
            if loss.numel() != 1:
                raise ValueError(f"loss has shape {list(loss.shape)}, expected one number")
            if loss.is_complex():
                raise TypeError(f"loss is of {loss.dtype}, expected a real number")
            loss = loss.detach().clone().reshape(())
        else:
            loss = number("loss", loss)
        if all(param.grad is None for param in self._params):
            raise RuntimeError("no parameter has a gradient: call observe after backward and before zero_grad")
        now = self._sketch()
        last = torch.zeros_like(now) if self._last is None else self._last
        self._seen.append((loss, now @ now, now @ last))
        self._last = now
        self._sum = now.clone() if self._sum is None else self._sum.add_(now)
        self._count += 1
        half = self.window // 2
        if self._count % half == 0:
            mean = torch.stack([squared for _, squared, _ in self._seen][-half:]).mean()
            mean = torch.where(mean.isfinite(), mean, 0.0)  # a step that a GradScaler skips is no measure
            self._greatest = torch.maximum(mean, torch.as_tensor(self._greatest, dtype=mean.dtype, device=mean.device))
            if self._before is not None:
                self._product = self._sum @ self._before
            self._before, self._sum = self._sum, None

    def __repr__(self) -> str:
        """What it looks at, how much it has seen, and the verdict."""
        seen = f"window={self.window}, seen={self._count}"
        return f"Monitor({len(self._params)} parameters, {seen}, verdict={str(self.verdict)!r})"

    @property
    def signs(self) -> Signs | None:
        """The numbers of the last window, read from the device; None until it is full."""
        if self._count < self.window:
            return None
        losses = [float(loss) for loss, _, _ in self._seen]
        squares = torch.stack([squared for _, squared, _ in self._seen]).tolist()
        products = torch.stack([product for _, _, product in self._seen]).tolist()
        half = self.window // 2
        mean = sum(squares) / self.window
        first, second = sum(squares[:half]), sum(squares[half:])
        apart = math.sqrt(sum(squares[1:]) * sum(squares[:-1]))
        fall, error = _fall(losses)
        return Signs(
            relative_norm=_over(math.sqrt(mean), math.sqrt(float(self._greatest))),
            norm=math.sqrt(mean),
            correlation=_over(sum(products[1:]), apart),
            shrinkage=_over(second, first) ** (1 / self.window),
            persistent=_over(float(self._product) / half**2, mean),
            fall=fall,
            significance=_over(fall, error),
        )

    @property
    def verdict(self) -> Verdict:
        """The word for the last window."""
        return self._judge(self.signs)

    def _judge(self, signs: Signs | None) -> Verdict:
        if signs is None:
            return Verdict.UNKNOWN
        if not (math.isfinite(signs.norm) and math.isfinite(signs.fall)):
            return Verdict.DIVERGED
        if signs.norm <= self.grad_tol or signs.relative_norm <= _SMALL:
            return Verdict.CRITICAL_POINT
        if signs.correlation < _TURNED and signs.shrinkage > _LASTING:
            return Verdict.OSCILLATION
        persistent = _PERSISTENT / (self.window // 2)
        descends = signs.correlation > _ALIKE and signs.fall > 0
        lasts = signs.persistent > persistent or signs.significance > _SIGNIFICANT
        if descends or lasts or signs.shrinkage < _CALMER:
            return Verdict.PROGRESS
        if abs(signs.persistent) <= persistent and signs.significance > -_SIGNIFICANT:
            return Verdict.NOISE_FLOOR
        return Verdict.UNCLEAR

    def explain(self) -> str:
        """The verdict with its numbers and what to do, in one sentence."""
        signs = self.signs
        verdict = self._judge(signs)
        if signs is None:
            return f"{verdict}: {self._count} of {self.window} steps seen."
        way = "falls" if signs.fall >= 0 else "rises"
        falls = f"the loss {way} by {abs(signs.fall):.3g} ({abs(signs.significance):.1f} standard errors)"
        persists = f"{max(signs.persistent, 0.0):.0%} of the mean square gradient persists"
        reasons = {
            Verdict.DIVERGED: "a loss or gradient is not finite: go back to a checkpoint and lower the rate",
            Verdict.CRITICAL_POINT: f"the gradients' norm is {signs.norm:.2g}, {signs.relative_norm:.1g} of its "
            "greatest: done, or at a saddle",
            Verdict.OSCILLATION: f"successive gradients turn (correlation {signs.correlation:.2f}) and their norm, "
            f"{signs.norm:.2g}, changes by a factor of {signs.shrinkage:.3f} each step: lower the rate",
            Verdict.PROGRESS: f"{falls}, and {persists}: go on",
            Verdict.NOISE_FLOOR: f"the gradients' norm is {signs.norm:.2g}, but only {persists}, and {falls}: average "
            "the weights, or lower the rate",
            Verdict.UNCLEAR: f"the correlation of successive gradients is {signs.correlation:.2f}, {persists}, "
            f"{falls}: look again later",
        }
        return f"{verdict}: {reasons[verdict]}."

    def state_dict(self) -> dict[str, Any]:
        """What was seen, as numbers and tensors; loads under ``weights_only=True``."""
        return {
            "setup": list(self._setup),
            "count": self._count,
            "losses": [float(loss) for loss, _, _ in self._seen],
            "squares": [float(squared) for _, squared, _ in self._seen],
            "products": [float(product) for _, _, product in self._seen],
            "last": self._last,
            "sum": None if self._sum is None else self._sum.clone(),
            "before": self._before,
            "product": float(self._product),
            "greatest": float(self._greatest),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a `state_dict`.

        Args:
            state_dict: what `state_dict` gave.

        Raises:
            KeyError: it lacks an entry.
            TypeError: it is no dict, or an entry is of a wrong type.
            ValueError: an entry is out of its range, or it is of another window, width or seed, or of other parameters.

            Nothing has changed then.
        """
        state = State(state_dict, self.state_dict())
        if tuple(state.listed("setup")) != self._setup:
            raise ValueError(f"the state is of window, width and seed {state['setup']}, expected {list(self._setup)}")
        count, now = state.count("count"), self._sketch.empty()
        seen = min(count, self.window)
        losses = state.numbers("losses", seen, signed=True, finite=False)
        squares = state.numbers("squares", seen, finite=False)
        products = state.numbers("products", seen, signed=True, finite=False)
        product = state.number("product", signed=True, finite=False)
        greatest = state.number("greatest", finite=False)
        half = self.window // 2
        vectors = {
            name: _vector(name, state[name], now, expected)
            for name, expected in (("last", count > 0), ("sum", count % half > 0), ("before", count >= half))
        }
        self._count = count
        self._seen.clear()
        for loss, squared, times in zip(losses, squares, products, strict=True):
            self._seen.append((loss, now.new_tensor(squared), now.new_tensor(times)))
        self._last, self._sum, self._before = vectors["last"], vectors["sum"], vectors["before"]
        self._product, self._greatest = product, greatest


def _vector(name: str, value: Any, like: Tensor, is_expected: bool) -> Tensor | None:
    """A vector of a state, of its own and where the gradients' sketches are."""
    if value is None and not is_expected:
        return None
    if not isinstance(value, Tensor) or not is_expected:
        expected = "a tensor" if is_expected else "None at this count"
        raise TypeError(f"state_dict[{name!r}] is of type {type(value).__name__}, expected {expected}")
    if value.shape != like.shape:
        raise ValueError(
            f"the state's {name} has {value.numel()} numbers, expected {like.numel()}: it is of other parameters"
        )
    return value.to(like, copy=True)


def _over(value: float, unit: float) -> float:
    """A ratio; 0 over 0 is 0."""
    if unit == 0:
        return 0.0 if value == 0 else math.copysign(math.inf, value)
    return value / unit


def _fall(losses: list[float]) -> tuple[float, float]:
    """The fall of a line through the losses, and its standard error, errors taken to follow one another (AR(1))."""
    if not all(map(math.isfinite, losses)):
        return math.nan, math.nan
    count = len(losses)
    middle, mean = (count - 1) / 2, sum(losses) / count
    across = sum((step - middle) ** 2 for step in range(count))
    slope = sum((step - middle) * (loss - mean) for step, loss in enumerate(losses)) / across
    rest = [loss - mean - slope * (step - middle) for step, loss in enumerate(losses)]
    squares = sum(value * value for value in rest)
    tied = _over(sum(left * right for left, right in itertools.pairwise(rest)), squares)
    tied = min(max(tied, 0.0), 0.99)
    error = math.sqrt(squares / (count - 2) / across * (1 + tied) / (1 - tied))
    return -slope * (count - 1), error * (count - 1)
