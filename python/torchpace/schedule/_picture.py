"""Pictures of schedules, and of torch's schedulers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch.optim.lr_scheduler import LRScheduler

from torchpace.schedule._numbers import whole
from torchpace.schedule._schedule import Schedule
from torchpace.schedule._trace import trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BARS = "▁▂▃▄▅▆▇█"
_DEFAULT_STEPS = 1000
_MOST_SAMPLES = 10_000


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
    Functions that were given to a scheduler are called. Of more than 10,000 steps as many samples are drawn, the last
    step among them; a scheduler of torch's makes all steps all the same.

    Args:
        what: the schedule or scheduler.
        steps: how many, at least 1 (default: a schedule's length and the step after it, or 1000).
        base: the base rate of a schedule (default: 1).
        param: which option of a scheduler's optimizer (default: "lr").
        group: the index of its group (default: 0).
        ax: matplotlib axes to draw on (default: those of a new figure).
        style: passed on to ``Axes.plot``.

    Returns:
        The axes.

    Raises:
        ImportError: there is no matplotlib.
        TypeError: `what` is neither, or `steps` no number.
        ValueError: `steps` is out of its range, or torch's scheduler follows a metric.

    Example:
        >>> from torchpace.schedule import cosine, plot
        >>> ax = plot(cosine(100))  # doctest: +SKIP
    """
    try:
        from matplotlib import pyplot
    except ModuleNotFoundError as error:
        raise ImportError("plot needs matplotlib: pip install 'torchpace[plot]'") from error
    places, values, _ = _curve(what, steps, base, param, group)
    if ax is None:
        ax = pyplot.subplots()[1]
        ax.set(xlabel="step", ylabel=param)
    ax.plot(places, values, **style)
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
        steps: how many, at least 1; of more than 10,000 as many samples are looked at (default: a schedule's length and
            the step after it, or 1000).
        base: the base rate of a schedule (default: 1).
        param: which option of a scheduler's optimizer (default: "lr").
        group: the index of its group (default: 0).
        width: the greatest number of bars, at least 1 (default: 60).

    Raises:
        TypeError: `what` is neither, or an argument no number.
        ValueError: an argument is out of its range, or torch's scheduler follows a metric.

    Example:
        >>> from torchpace.schedule import cosine, warmup
        >>> warmup(10).then(cosine(90)).preview(base=0.1, width=20)
        '▁▅████▇▇▆▆▅▄▃▃▂▂▁▁▁▁ 0 to 0.1 in 101 steps'
    """
    width = whole("width", width, 1)
    _, values, all_steps = _curve(what, steps, base, param, group)
    shown = _spread(len(values), width)
    finite = [value for value in values if math.isfinite(value)] or [math.nan]
    low, high = min(finite), max(finite)
    bars = "".join(_bar(values[index], low, high) for index in shown)
    return f"{bars} {low:.4g} to {high:.4g} in {all_steps} steps"


def _bar(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return "?"
    height = (value - low) / (high - low) if high > low else 0.0
    return _BARS[min(int(height * len(_BARS)), len(_BARS) - 1)]


def _curve(
    what: Schedule | LRScheduler, steps: int | None, base: float, param: str, group: int
) -> tuple[Sequence[float], Sequence[float], int]:
    """The steps that are shown, the values there, and how many steps there are in all."""
    count = None if steps is None else whole("steps", steps, 1)
    if isinstance(what, Schedule):
        # To the last rate and that included.
        length = what.length
        count = count or (int(length) + 1 if length else _DEFAULT_STEPS)
        places = _spread(count, _MOST_SAMPLES)
        return places, what(places, base).tolist(), count
    if isinstance(what, LRScheduler):
        count = count or _DEFAULT_STEPS
        first = getattr(what, "last_epoch", 0)  # torch's ChainedScheduler does not count
        places, values = trace(what, _spread(count, _MOST_SAMPLES), param, group)
        return [first + place for place in places], values, min(count, places[-1] + 1)
    raise TypeError(f"{type(what).__name__} is neither a schedule nor a scheduler")


def _spread(count: int, most: int) -> Sequence[int]:
    """The indices of `count` things, or so many of them, evenly spread from the first to the last."""
    if count <= most:
        return range(count)
    return [index * (count - 1) // max(most - 1, 1) for index in range(most)]
