"""Pictures of schedules, and of torch's schedulers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from torch.optim.lr_scheduler import LRScheduler

from torchpace.schedule._schedule import Schedule
from torchpace.schedule._trace import trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BARS = "▁▂▃▄▅▆▇█"
_DEFAULT_STEPS = 1000


def plot(
    what: Schedule | LRScheduler,
    steps: int | None = None,
    *,
    base: float = 1.0,
    param: str = "lr",
    group: int = 0,
    ax: Axes | None = None,
    **style: Any,
) -> Axes:
    """Draw the curve of a schedule, or of a scheduler of torch's or ours from its present step on.

    A scheduler and its optimizer stay as they are: a copy of the scheduler works on a stand-in for the optimizer.
    Functions that were given to a scheduler are called.

    Args:
        what: the schedule or scheduler.
        steps: how many, at least 1 (default: a schedule's length, or 1000).
        base: the base rate of a schedule (default: 1).
        param: which option of a scheduler's optimizer (default: "lr").
        group: the index of its group (default: 0).
        ax: matplotlib axes to draw on (default: those of a new figure).
        style: passed on to ``Axes.plot``.

    Returns:
        The axes.

    Raises:
        ImportError: there is no matplotlib.
        ValueError: `steps` is out of its range, or torch's scheduler follows a metric.

    Example:
        >>> from torchpace.schedule import cosine, plot
        >>> ax = plot(cosine(100))  # doctest: +SKIP
    """
    try:
        from matplotlib import pyplot
    except ModuleNotFoundError as error:
        raise ImportError("plot needs matplotlib: pip install 'torchpace[plot]'") from error
    values, first = _curve(what, steps, base, param, group)
    if ax is None:
        ax = pyplot.subplots()[1]
        ax.set(xlabel="step", ylabel=param)
    ax.plot(range(first, first + len(values)), values, **style)
    return ax


def preview(
    what: Schedule | LRScheduler,
    steps: int | None = None,
    *,
    base: float = 1.0,
    param: str = "lr",
    group: int = 0,
    width: int = 60,
) -> str:
    """The curve in one line of text; a scheduler and its optimizer stay as they are, see `plot`.

    Args:
        what: the schedule or scheduler.
        steps: how many, at least 1 (default: a schedule's length, or 1000).
        base: the base rate of a schedule (default: 1).
        param: which option of a scheduler's optimizer (default: "lr").
        group: the index of its group (default: 0).
        width: the greatest number of bars, at least 1 (default: 60).

    Raises:
        ValueError: an argument is out of its range, or torch's scheduler follows a metric.

    Example:
        >>> from torchpace.schedule import cosine, warmup
        >>> warmup(10).then(cosine(90)).preview(base=0.1, width=20)
        '▁▅████▇▇▆▆▅▄▃▃▂▂▁▁▁▁ 0 to 0.1 in 101 steps'
    """
    if width < 1:
        raise ValueError(f"width is {width}, expected at least 1")
    values, _ = _curve(what, steps, base, param, group)
    count = min(width, len(values))
    places = [index * (len(values) - 1) // max(count - 1, 1) for index in range(count)]
    finite = [value for value in values if math.isfinite(value)] or [math.nan]
    low, high = min(finite), max(finite)
    bars = "".join(_bar(values[place], low, high) for place in places)
    return f"{bars} {low:.4g} to {high:.4g} in {len(values)} steps"


def _bar(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return "?"
    height = (value - low) / (high - low) if high > low else 0.0
    return _BARS[min(int(height * len(_BARS)), len(_BARS) - 1)]


def _curve(
    what: Schedule | LRScheduler, steps: int | None, base: float, param: str, group: int
) -> tuple[list[float], int]:
    """The values, and the step of the first."""
    if steps is not None and steps < 1:
        raise ValueError(f"steps is {steps}, expected at least 1")
    if isinstance(what, Schedule):
        # To the last rate and that included.
        count = steps or (int(what.length) + 1 if what.length else _DEFAULT_STEPS)
        return what.values(0, count, base=base).tolist(), 0
    if isinstance(what, LRScheduler):
        return trace(what, steps or _DEFAULT_STEPS, param, group), int(getattr(what, "last_epoch", 0))
    raise TypeError(f"{type(what).__name__} is neither a schedule nor a scheduler")
