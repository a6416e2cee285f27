"""Rates that rise and fall."""

from typing import Literal

from torchpace import _native
from torchpace.schedule._schedule import Schedule

_Core = _native.Schedule


def one_cycle(
    steps: float,
    rise: float = 0.3,
    start: float = 0.04,
    peak: float = 1.0,
    end: float = 4e-6,
    shape: Literal["cosine", "linear"] = "cosine",
) -> Schedule:
    """Up once and down once: from `start` to `peak` at step ``rise * steps``, then to `end` at step `steps`.

    The momentum's cycle goes the other way: `start` and `end` above `peak`. Differs from torch's OneCycleLR, whose
    phases are a step shorter, and which takes the peak as a rate.

    Args:
        steps: the length, above 0, in steps.
        rise: the share of it that goes up, above 0 and below 1 (default: 0.3).
        start: at least 0, in units of the base (default: 0.04).
        peak: at least 0, in units of the base (default: 1).
        end: at least 0, in units of the base, kept from step `steps` on (default: 4e-6).
        shape: "cosine" or "linear" (default: "cosine").

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> from torchpace.schedule import one_cycle
        >>> cycle, momentum = one_cycle(100), one_cycle(100, start=1, peak=0.9, end=1)
        >>> [cycle(t) for t in (0, 30, 100)], [momentum(t) for t in (0, 30, 100)]
        ([0.04, 1.0, 4e-06], [1.0, 0.9, 1.0])
    """
    return Schedule(_Core.one_cycle(steps, rise, start, peak, end, shape))


def cyclic(
    up: float,
    down: float | None = None,
    low: float = 0.1,
    high: float = 1.0,
    shape: Literal["triangular", "triangular2", "exp_range", "sine"] = "triangular",
    gamma: float = 1.0,
) -> Schedule:
    r"""Up and down for ever: :math:`\eta(t) = \eta_0 (l + (h - l) w(t) a(t))`, the wave :math:`w` from 0 to 1 and back.

    The height :math:`a(t)` is 1 for "triangular" and "sine", :math:`2^{-n}` in cycle :math:`n` (from 0) for
    "triangular2", :math:`\gamma^t` for "exp_range". Straight lines give every rate of the range equal time.

    Args:
        up: the steps from low to high, above 0.
        down: the steps back, above 0 (default: None, as many).
        low: :math:`l \ge 0`, in units of the base (default: 0.1).
        high: :math:`h \ge 0`, in units of the base (default: 1).
        shape: "triangular", "triangular2", "exp_range" or "sine" (default: "triangular").
        gamma: :math:`\gamma`, above 0 and at most 1, only for "exp_range" (default: 1).

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> from torchpace.schedule import cyclic
        >>> [cyclic(10, low=0, shape="triangular2")(t) for t in (0, 5, 10, 20, 30)]
        [0.0, 0.5, 1.0, 0.0, 0.5]
    """
    return Schedule(_Core.cyclic(up, up if down is None else down, low, high, shape, gamma))


def warm_restarts(period: float, growth: float = 1.0, decay: float = 1.0, floor: float = 0.0) -> Schedule:
    r"""Cosine decay that starts over: cycle :math:`n` has :math:`T g^n` steps, from :math:`\max(d^n, f)` to :math:`f`.

    Shrinking cycles, :math:`g < 1`, end at step :math:`T / (1 - g)`, and the rate stays at the floor.

    Args:
        period: :math:`T > 0`, the steps of the first cycle.
        growth: :math:`g > 0` (default: 1, equal cycles).
        decay: :math:`d`, above 0 and at most 1 (default: 1, equal peaks).
        floor: :math:`f`, from 0 to 1, in units of the base (default: 0).

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> from torchpace.schedule import warm_restarts
        >>> [warm_restarts(10, growth=2, decay=0.5)(t) for t in (0, 10, 30)]
        [1.0, 0.5, 0.25]
    """
    return Schedule(_Core.warm_restarts(period, growth, decay, floor))
