"""Lengths in epochs and samples, as steps."""

import math

from torchpace.schedule._numbers import not_negative, whole


def epochs(number: float, *, steps_per_epoch: int) -> int:
    """The steps of some epochs, rounded up.

    Args:
        number: epochs, at least 0; may be a fraction.
        steps_per_epoch: optimizer steps in an epoch, whole, at least 1: ``len(loader)``, divided by the batches that
            are accumulated for a step.

    Raises:
        TypeError: an argument is no number.
        ValueError: an argument is out of its range.

    Example:
        >>> from torchpace.schedule import cosine, epochs, warmup
        >>> warmup(epochs(0.5, steps_per_epoch=100)).then(cosine(epochs(89.5, steps_per_epoch=100))).length
        9000
    """
    return _rounded_up(not_negative("number", number) * whole("steps_per_epoch", steps_per_epoch, 1))


def samples(number: float, *, batch_size: int) -> int:
    """The first step by which some samples have been seen.

    Args:
        number: samples, at least 0.
        batch_size: samples in an optimizer step, over all devices and accumulated batches, whole, at least 1.

    Raises:
        TypeError: an argument is no number.
        ValueError: an argument is out of its range.

    Example:
        >>> from torchpace.schedule import samples
        >>> samples(1_000_000, batch_size=256)
        3907
    """
    return _rounded_up(not_negative("number", number) / whole("batch_size", batch_size, 1))


def _rounded_up(steps: float) -> int:
    # 1.1 * 10 is a hair above 11, which is no reason for a twelfth step.
    return round(steps) if math.isclose(steps, round(steps), rel_tol=1e-12) else math.ceil(steps)
