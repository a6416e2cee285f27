"""Rates that begin small."""

from typing import Literal

from torchpace import _native
from torchpace.schedule._schedule import Schedule

_Core = _native.Schedule


def warmup(
    steps: float, start: float = 0.0, shape: Literal["linear", "cosine", "exponential", "constant"] = "linear"
) -> Schedule:
    r"""From :math:`a \eta_0` at step 0 to the base :math:`\eta_0` at step :math:`T`, and then the base.

    With :math:`x = \min(t / T, 1)`, in units of the base: linear :math:`a + (1 - a) x`, cosine
    :math:`a + (1 - a) (1 - \cos(\pi x)) / 2`, exponential :math:`a^{1 - x}`, constant :math:`a` until step :math:`T`.

    Args:
        steps: :math:`T > 0`, in steps.
        start: :math:`a \ge 0`, in units of the base; above 0 for "exponential" (default: 0).
        shape: "linear", "cosine", "exponential" or "constant" (default: "linear").

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> from torchpace.schedule import cosine, warmup
        >>> s = warmup(10).then(cosine(90))
        >>> s(0), s(5), s(10), s(55)
        (0.0, 0.5, 1.0, 0.5)
    """
    return Schedule(_Core.warmup(steps, start, shape))


def warmup_stable_decay(
    warmup: float,
    stable: float,
    decay: float,
    start: float = 0.0,
    floor: float = 0.0,
    shape: Literal["linear", "cosine", "1-sqrt"] = "linear",
) -> Schedule:
    r"""Three phases: a linear warmup, the base, and a decay to :math:`f \eta_0`, which stays.

    With :math:`x` from 0 to 1 over the decay, the rate is :math:`\eta_0 (f + (1 - f) s(x))`, where :math:`s` is
    :math:`1 - x`, :math:`(1 + \cos(\pi x)) / 2` or :math:`1 - \sqrt{x}`.

    Args:
        warmup: the steps up, at least 0.
        stable: the steps at the base, at least 0.
        decay: the steps down, above 0.
        start: the rate at step 0, at least 0, in units of the base (default: 0).
        floor: :math:`f \ge 0`, the last rate in units of the base (default: 0).
        shape: "linear", "cosine" or "1-sqrt" (default: "linear").

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> from torchpace.schedule import warmup_stable_decay
        >>> [warmup_stable_decay(10, 80, 16, shape="1-sqrt")(t) for t in (5, 10, 90, 94, 106)]
        [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    return Schedule(_Core.warmup_stable_decay(warmup, stable, decay, start, floor, shape))
