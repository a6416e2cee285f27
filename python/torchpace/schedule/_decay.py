"""Rates that fall, or stay."""

from collections.abc import Sequence

from torchpace import _native
from torchpace.schedule._schedule import Schedule

_Core = _native.Schedule


def constant(factor: float = 1.0) -> Schedule:
    r"""A rate that never changes: :math:`\eta(t) = \eta_0 c`.

    Args:
        factor: :math:`c`, finite, in units of the base (default: 1).

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> from torchpace.schedule import constant
        >>> constant(0.5)(100)
        0.5
    """
    return Schedule(_Core.constant(factor))


def linear(steps: float, start: float = 1.0, end: float = 0.0) -> Schedule:
    r"""A straight line: :math:`\eta(t) = \eta_0 (a + (b - a) \min(t / T, 1))`.

    Args:
        steps: :math:`T > 0`, in steps.
        start: :math:`a`, finite, in units of the base (default: 1).
        end: :math:`b`, finite, in units of the base, kept from step `steps` on (default: 0).

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> from torchpace.schedule import linear
        >>> linear(10)(5), linear(10, end=0.5)(99)
        (0.5, 0.5)
    """
    return Schedule(_Core.linear(steps, start, end))


def polynomial(steps: float, power: float = 1.0, floor: float = 0.0) -> Schedule:
    r"""Polynomial decay: :math:`\eta(t) = \eta_0 (f + (1 - f) (1 - \min(t / T, 1))^p)`.

    Args:
        steps: :math:`T > 0`, in steps.
        power: :math:`p > 0` (default: 1).
        floor: :math:`f \ge 0`, the last rate in units of the base (default: 0).

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> from torchpace.schedule import polynomial
        >>> polynomial(10, power=2)(5)
        0.25
    """
    return Schedule(_Core.polynomial(steps, power, floor))


def cosine(steps: float, floor: float = 0.0) -> Schedule:
    r"""Half a cosine wave: :math:`\eta(t) = \eta_0 (f + (1 - f) (1 + \cos(\pi \min(t / T, 1))) / 2)`.

    Args:
        steps: :math:`T > 0`, in steps.
        floor: :math:`f \ge 0`, the last rate in units of the base (default: 0).

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> from torchpace.schedule import cosine
        >>> cosine(100)(0), cosine(100)(50), cosine(100, floor=0.1)(100)
        (1.0, 0.5, 0.1)
    """
    return Schedule(_Core.cosine(steps, floor))


def exponential(factor: float, period: float = 1.0, floor: float = 0.0) -> Schedule:
    r"""Smooth exponential decay: :math:`\eta(t) = \eta_0 \max(a^{t/T}, f)`.

    Args:
        factor: :math:`a > 0`; above 1 the rate grows, for a range test.
        period: :math:`T > 0`, the steps in which the rate changes by `factor` (default: 1).
        floor: :math:`f \ge 0`, the least rate in units of the base (default: 0).

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> from torchpace.schedule import exponential
        >>> round(exponential(0.95, period=1000)(500, base=0.1), 7)
        0.0974679
    """
    return Schedule(_Core.exponential(factor, period, floor))


def step(period: float, factor: float = 0.1, floor: float = 0.0) -> Schedule:
    r"""Decay in equal steps: :math:`\eta(t) = \eta_0 \max(a^{\lfloor t/T \rfloor}, f)`.

    Args:
        period: :math:`T > 0`, the steps between two changes.
        factor: :math:`a`, above 0 and at most 1 (default: 0.1).
        floor: :math:`f \ge 0`, the least rate in units of the base (default: 0).

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> from torchpace.schedule import step
        >>> [step(10, 0.5)(t, base=0.1) for t in (0, 9, 10, 20)]
        [0.1, 0.1, 0.05, 0.025]
    """
    return Schedule(_Core.step(period, factor, floor))


def multi_step(milestones: Sequence[float], factor: float = 0.1, floor: float = 0.0) -> Schedule:
    r"""Decay at chosen steps: :math:`\eta(t) = \eta_0 \max(a^{n(t)}, f)`, :math:`n(t)` the milestones up to :math:`t`.

    Args:
        milestones: steps above 0, ascending, at least one.
        factor: :math:`a > 0` (default: 0.1).
        floor: :math:`f \ge 0`, the least rate in units of the base (default: 0).

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> from torchpace.schedule import multi_step
        >>> multi_step([30, 60])(29), multi_step([30, 60])(30)
        (1.0, 0.1)
    """
    return Schedule(_Core.multi_step(milestones, factor, floor))


def piecewise(milestones: Sequence[float], values: Sequence[float]) -> Schedule:
    r"""Constant pieces: :math:`\eta(t) = \eta_0 v_{n(t)}`, :math:`n(t)` the number of milestones up to :math:`t`.

    Args:
        milestones: steps above 0, ascending, at least one: where the next piece begins.
        values: :math:`v`, finite, in units of the base, one more than milestones. For rates in no such units,
            ``piecewise(...).rebase(1)``.

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> from torchpace.schedule import piecewise
        >>> [piecewise([10, 20], [1, 0.5, 2])(t) for t in (0, 9, 10, 20)]
        [1.0, 1.0, 0.5, 2.0]
    """
    return Schedule(_Core.piecewise(milestones, values))


def inverse_sqrt(timescale: float, floor: float = 0.0) -> Schedule:
    r"""Decay with the root of time: :math:`\eta(t) = \eta_0 \max(1 / \sqrt{1 + t/T}, f)`.

    Args:
        timescale: :math:`T > 0`, in steps; that of the warmup before it makes the transformer's schedule.
        floor: :math:`f \ge 0`, the least rate in units of the base (default: 0).

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> from torchpace.schedule import inverse_sqrt
        >>> inverse_sqrt(100)(300)
        0.5
    """
    return Schedule(_Core.inverse_sqrt(timescale, floor))


def inverse_time(timescale: float, floor: float = 0.0) -> Schedule:
    r"""Decay with time: :math:`\eta(t) = \eta_0 \max(1 / (1 + t/T), f)`.

    Args:
        timescale: :math:`T > 0`, the steps after which the rate has halved.
        floor: :math:`f \ge 0`, the least rate in units of the base (default: 0).

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> from torchpace.schedule import inverse_time
        >>> inverse_time(100)(300)
        0.25
    """
    return Schedule(_Core.inverse_time(timescale, floor))


def noam(model_size: float, warmup: float = 4000) -> Schedule:
    r"""The transformer paper's: :math:`\eta(t) = \eta_0 d^{-1/2} \min((t+1)^{-1/2}, (t+1) W^{-3/2})`.

    The paper counts steps from 1, so the first rate is not 0. The base is usually 1.

    Args:
        model_size: :math:`d > 0`, the width of the model.
        warmup: :math:`W > 0`, the steps up to the peak (default: 4000).

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> from torchpace.schedule import noam
        >>> round(noam(512)(3999), 9)
        0.000698771
    """
    return Schedule(_Core.noam(model_size, warmup))
