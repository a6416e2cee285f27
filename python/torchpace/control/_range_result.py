"""What a range test found."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torchpace import schedule
from torchpace.schedule import Schedule

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BELOW_LEAST = 6.0
_CYCLE_BELOW_LEAST = 3.0
_FALLEN = 0.1
_CYCLE_RATIO = 3.0


@dataclass(frozen=True)
class RangeTest:
    r"""The losses over a sweep of learning rates, and what follows from them; made by `lr_range_test`.

    Attributes:
        lrs: the learning rates of the sweep, rising.
        losses: the loss before the step at each, one list for each repeat; shorter where it stopped.
        smoothed: the same, smoothed.
    """

    lrs: list[float]
    losses: list[list[float]]
    smoothed: list[list[float]]

    @property
    def suggestions(self) -> list[float]:
        """For each repeat a sixth of the rate at which the smoothed loss was least; none for one that never fell.

        Chosen by experiment (benches/range_test.py): 24 trainings of networks on scikit-learn's digits, the loss after
        five epochs over that of the best of 19 rates from 1e-5 to 10. By this rule it is 1.6 in the geometric mean and
        7.5 in the worst case; at a quarter 1.9 and 16, at a tenth 1.7 and 4.9, and at the rate where the loss falls
        most steeply against the rate's logarithm 2.9 and 474.
        """
        return [self.lrs[least] / _BELOW_LEAST for least in self._least() if least > 0]

    @property
    def suggestion(self) -> float | None:
        """The median of `suggestions` (of an even number, the geometric mean of the middle two).

        None if in half of the repeats or more the loss never fell below the first: then `low` was too high.
        """
        found = self.suggestions
        return _median(found) if len(found) > len(self.losses) / 2 else None

    @property
    def spread(self) -> float | None:
        """The largest of `suggestions` over the smallest, at least 1: large where chance decides; None below two."""
        found = self.suggestions
        return max(found) / min(found) if len(found) > 1 else None

    @property
    def rose(self) -> bool:
        """Whether in all repeats the loss rose again by a tenth of its fall, or stopped the sweep by not being finite.

        If not, `high` was too low, and the suggestion may be.
        """
        return all(
            len(smoothed) < len(self.lrs) or smoothed[-1] > smoothed[least] + _FALLEN * (smoothed[0] - smoothed[least])
            for smoothed, least in zip(self.smoothed, self._least(), strict=True)
        )

    @property
    def range(self) -> tuple[float, float] | None:
        """The range for cyclical rates, as medians over the repeats; None where `suggestion` is.

        From where the smoothed loss has fallen by a tenth of its whole fall, but at most a third of the high end, to a
        third of the rate at which it is least: in the test that rate is met once, in a cycle for many steps.

        In the experiment of `suggestions`, two triangular cycles end at 1.1 times the loss of the best constant rate in
        the geometric mean and 3.6 times in the worst case; up to a half in the place of that third at 1.1 and 5.1, up
        to two thirds at 1.5 and 63.
        """
        if self.suggestion is None:
            return None
        highs, lows = [], []
        for smoothed, least in zip(self.smoothed, self._least(), strict=True):
            if least > 0:
                fallen = smoothed[0] - _FALLEN * (smoothed[0] - smoothed[least])
                highs.append(self.lrs[least] / _CYCLE_BELOW_LEAST)
                lows.append(next(lr for lr, loss in zip(self.lrs, smoothed, strict=False) if loss <= fallen))
        high = _median(highs)
        return min(_median(lows), high / _CYCLE_RATIO), high

    def cyclic(
        self,
        up: float,
        down: float | None = None,
        shape: Literal["triangular", "triangular2", "exp_range", "sine"] = "triangular",
        gamma: float = 1.0,
    ) -> Schedule:
        """`torchpace.schedule.cyclic` between the ends of `range`, as absolute rates, whatever the group's.

        Args:
            up: the steps from low to high, above 0; Smith advises 2 to 10 epochs.
            down: the steps back, above 0 (default: None, as many).
            shape: "triangular", "triangular2", "exp_range" or "sine" (default: "triangular").
            gamma: as in `torchpace.schedule.cyclic` (default: 1).

        Raises:
            ValueError: an argument is out of its range, or there is no `range`.

        Paper:
            Smith, Cyclical learning rates for training neural networks, 2017.

        Example:
            >>> from torchpace.control import RangeTest
            >>> falls_and_rises = [1.0, 1.0, 0.8, 0.3, 0.2, 9.0]
            >>> found = RangeTest([1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0], [falls_and_rises], [falls_and_rises])
            >>> rate = found.cyclic(100)
            >>> [round(rate(step, base=7.0), 6) for step in (0, 100, 200)]
            [0.01, 0.333333, 0.01]
        """
        if self.range is None:
            raise ValueError("the loss never fell below the first, so there is no range: expected a lower `low`")
        low, high = self.range
        return schedule.cyclic(up, down, low, high, shape, gamma).rebase(1.0)

    def __repr__(self) -> str:
        """What was found, in numbers; the losses are in the attributes."""
        lows, highs = (f"{rate:.3g}" for rate in (min(self.lrs, default=math.nan), max(self.lrs, default=math.nan)))
        swept = f"{len(self.losses)} x {len(self.lrs)} rates from {lows} to {highs}"
        found = self.range and tuple(float(f"{rate:.3g}") for rate in self.range)
        return f"RangeTest({swept}, suggestion={_short(self.suggestion)}, spread={_short(self.spread)}, range={found})"

    def plot(self, *, ax: Axes | None = None, **style: Any) -> Axes:
        """Draw the losses against the rates, and the suggestion, with matplotlib.

        Where a loss explodes, the axis ends above the first losses, by as much as they fall, and the curve leaves it.

        Args:
            ax: matplotlib axes to draw on (default: those of a new figure).
            style: passed on to ``Axes.plot`` for the smoothed losses.

        Returns:
            The axes.

        Raises:
            ImportError: there is no matplotlib.
        """
        try:
            from matplotlib import pyplot
        except ModuleNotFoundError as error:
            raise ImportError("plot needs matplotlib: pip install 'torchpace[plot]'") from error
        if ax is None:
            ax = pyplot.subplots()[1]
            ax.set(xlabel="lr", ylabel="loss", xscale="log")
        is_empty = not ax.has_data()
        for losses, smoothed in zip(self.losses, self.smoothed, strict=True):
            (line,) = ax.plot(self.lrs[: len(smoothed)], smoothed, **style)
            ax.plot(self.lrs[: len(losses)], losses, color=line.get_color(), alpha=0.3, linewidth=0.5)
        if self.suggestion is not None:
            ax.axvline(self.suggestion, color="gray", linestyle="--", label=f"suggestion {self.suggestion:.2g}")
            ax.legend()
        if is_empty and ax.get_yscale() == "linear":
            self._cut(ax)
        return ax

    def _cut(self, ax: Axes) -> None:
        """Set the range of the losses so that an explosion does not hide what comes before it."""
        curves = [losses for losses in (*self.losses, *self.smoothed) if losses]
        finite = [loss for losses in curves for loss in losses if math.isfinite(loss)]
        if not finite:
            return
        first, least = max(losses[0] for losses in curves), min(finite)
        top = first + ((first - least) or abs(first) or 1.0)
        if max(finite) > top:
            ax.set_ylim(least - 0.05 * (top - least), top)

    def _least(self) -> list[int]:
        """For each repeat the index of the least smoothed loss."""
        return [min(range(len(smoothed)), key=smoothed.__getitem__) for smoothed in self.smoothed]


def _short(number: float | None) -> str:
    return "None" if number is None else f"{number:.3g}"


def smooth(losses: list[float], weight: float) -> list[float]:
    r"""The average :math:`m_t = \beta m_{t-1} + (1 - \beta) L_t` with :math:`m_0 = 0`, over :math:`1 - \beta^t`."""
    average, smoothed = 0.0, []
    for count, loss in enumerate(losses, start=1):
        average = weight * average + (1 - weight) * loss
        smoothed.append(average / (1 - weight**count))
    return smoothed


def _median(rates: list[float]) -> float:
    ordered = sorted(rates)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else math.sqrt(ordered[half - 1] * ordered[half])
