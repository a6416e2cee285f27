"""Whether a step went wrong: rules over losses and gradient norms, without tensors."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Fault = Literal["growth", "slow growth", "no descent", "non-finite", "explosion"]


@dataclass(frozen=True)
class Point:
    """What was found at a point: the loss on a batch, and the 2-norm of its gradient (None: not looked at)."""

    loss: float
    norm: float | None = None

    @property
    def finite(self) -> bool:
        """Whether all that was found is finite."""
        return math.isfinite(self.loss) and (self.norm is None or math.isfinite(self.norm))


class Judge:
    """Judges a step by its batch before and after it, and by the steps accepted before.

    Args:
        ratio: the growth that is too much.
        window: how many accepted steps count.
        rise: by what share of itself a loss must rise to have risen, beyond rounding.
    """

    ratio: float
    window: int
    rise: float

    def __init__(self, ratio: float, window: int, rise: float) -> None:
        self.ratio, self.window, self.rise = ratio, window, rise
        self.past: deque[Point] = deque(maxlen=window)

    def step(self, before: Point, after: Point, turned: Callable[[], bool], retried: bool) -> Fault | None:
        """What is wrong with a step, or None.

        Args:
            before: the point before the step.
            after: the point after it, on the same batch.
            turned: whether the gradient after points against the one before.
            retried: whether a longer step from the same point was rejected.
        """
        if not after.finite:
            return "non-finite"
        if before.norm is None or after.norm is None:
            return None
        norms = [before.norm, *(point.norm for point in self.past if point.norm is not None)]
        if self._rose(before.loss, after.loss):
            # Against the largest norm: with momentum, stable steps cross a valley's floor, where the gradient is small.
            if after.norm > self.ratio * max(norms):
                return "growth"
            losses = [before.loss, *(point.loss for point in self.past)]
            if after.norm > self.ratio * min(norms) and self._rose(max(losses), after.loss) and turned():
                return "slow growth"
        if retried and after.loss >= before.loss and turned():
            # Halved from one side of a valley it may land on the other at the same height, and so for ever.
            return "no descent"
        return None

    def loss(self, point: Point) -> Fault | None:
        """What is wrong with the loss that a step began with, beside those of the accepted steps before, or None."""
        if not math.isfinite(point.loss):
            return "non-finite"
        if not self.past:
            return None
        # The older half: beside the younger, a slow explosion looks like noise.
        older = [point.loss for point in self.past][: (len(self.past) + 1) // 2]
        high = max(older)
        return "explosion" if point.loss > high + (self.ratio - 1) * max(abs(loss) for loss in older) else None

    def is_much_better(self, loss: float, than: float) -> bool:
        """Whether another loss on the same batch is so much higher that its state is to blame."""
        return math.isfinite(loss) and not than <= loss + (self.ratio - 1) * abs(loss)

    def accept(self, before: Point) -> None:
        """Remember the point that an accepted step began at."""
        self.past.append(before)

    def _rose(self, before: float, after: float) -> bool:
        return after > before + self.rise * abs(before)
