"""Any function of the step as a schedule."""

from collections.abc import Callable

from torchpace import _native
from torchpace.schedule._schedule import Schedule


def function(call: Callable[[float], float]) -> Schedule:
    r"""A Python function as a schedule: :math:`\eta(t) = \eta_0 f(t)`.

    It composes like any other, but has no JSON, pickles only if the function does, runs at Python's speed, and equals
    another only if the functions are one object. Its repr evaluates where the function's name is known.

    Args:
        call: :math:`f`; gets the step, an int where it is whole, and returns a number in units of the base. What it
            raises comes out of whatever asked for the rate.

    Raises:
        TypeError: it is not callable, or returns something else than a number.

    Example:
        >>> from torchpace.schedule import function, warmup
        >>> def root(step):
        ...     return (step + 1) ** -0.5
        >>> (warmup(6) * function(root))(3)
        0.25
        >>> function(root)
        function(root)
    """
    return Schedule(_native.Schedule.function(call))
