"""The schedule: a rate as a function of the step, and its operators."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast, overload

from torchpace import _native
from torchpace.schedule._numbers import as_int, not_negative, number, real

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from torch.optim import Optimizer
    from typing_extensions import Self

    from torchpace.schedule._plateau_scheduler import PlateauScheduler
    from torchpace.schedule._scheduler import Scheduler


class Schedule:
    """A rate as a function of the step, without memory; made by the functions of `torchpace.schedule`.

    Steps count from 0 and may be fractions. Rates are in units of a base, which is 1 here, and the group's own under
    `on`. Schedules are immutable, compare by value, hash, pickle, and their repr evaluates under
    ``from torchpace.schedule import *``. One that is made of others is at most 32 levels deep and has at most 2^20
    parts; more is a ValueError.

    Example:
        >>> from torchpace.schedule import cosine, warmup
        >>> s = warmup(10).then(cosine(90))
        >>> s
        warmup(steps=10, start=0, shape='linear').then(cosine(steps=90, floor=0), at=10)
        >>> s(5), s(5, base=0.5), s(10), s(100)
        (0.5, 0.25, 1.0, 0.0)
        >>> s([0, 5, 10]).tolist()
        [0.0, 0.5, 1.0]
        >>> s[8:12].round(4).tolist()
        [0.8, 0.9, 1.0, 0.9997]
        >>> (2 * s)(5), s.clamp(low=0.2)(100), s.reverse()(0), s.repeat(every=100)(105)
        (1.0, 0.2, 0.0, 0.5)
        >>> Schedule.from_json(s.to_json()) == s
        True
    """

    __slots__ = ("_core",)
    __iter__ = None  # it has no end
    __array_ufunc__ = None  # NumPy's numbers leave a product to it

    _core: _native.Schedule

    def __init__(self, core: _native.Schedule) -> None:
        if not isinstance(core, _native.Schedule):
            raise TypeError("schedules are made by the functions of torchpace.schedule, such as cosine(steps=100)")
        object.__setattr__(self, "_core", core)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a schedule cannot be changed: {name}")

    def _made(self, core: _native.Schedule) -> Self:
        return cast("Self", _of(core))  # what is made of a plateau contains it

    @overload
    def __call__(self, step: float, base: float = 1.0) -> float: ...

    @overload
    def __call__(self, step: Sequence[float] | npt.NDArray[Any], base: float = 1.0) -> npt.NDArray[np.float64]: ...

    def __call__(
        self, step: float | Sequence[float] | npt.NDArray[Any], base: float = 1.0
    ) -> float | npt.NDArray[np.float64]:
        """The rate at a step, or at each of some.

        Args:
            step: at least 0, finite; or an array or a sequence of such, of any shape.
            base: the base rate (default: 1).

        Returns:
            A number; for an array or a sequence a NumPy array of float64 of its shape.

        Raises:
            TypeError: the step is no number.
            ValueError: the step is out of its range.
            ImportError: it is an array or a sequence, and there is no NumPy.
        """
        if getattr(step, "ndim", 0) > 0 or (isinstance(step, Sequence) and not isinstance(step, (str, bytes))):
            return self._rates_at(step, base)
        return self._core.lr(base, not_negative("step", step), [])

    def _rates_at(self, steps: Any, base: float) -> npt.NDArray[np.float64]:
        numpy = _numpy()
        array = numpy.asarray(
            steps if isinstance(steps, numpy.ndarray) or not hasattr(steps, "tolist") else steps.tolist()
        )
        if array.dtype.kind not in "iuf":
            # Fractions, say; and what is no number is an error.
            array = numpy.array([real("step", one) for one in array.ravel().tolist()]).reshape(array.shape)
        array = array.astype(numpy.float64)
        if not (numpy.isfinite(array) & (array >= 0)).all():
            raise ValueError(f"step is {steps}, expected finite numbers >= 0")
        rates: npt.NDArray[np.float64] = numpy.frombuffer(self._core.lrs(base, array.tobytes()))
        return rates.reshape(array.shape)

    @overload
    def __getitem__(self, steps: float) -> float: ...

    @overload
    def __getitem__(self, steps: slice | Sequence[int] | npt.NDArray[Any]) -> npt.NDArray[np.float64]: ...

    def __getitem__(self, steps: float | slice | Sequence[int] | npt.NDArray[Any]) -> float | npt.NDArray[np.float64]:
        """The rates at steps, at base 1: ``s[1000:2000]`` as `values`, ``s[7]`` as ``s(7)``."""
        if not isinstance(steps, slice):
            return self(steps)
        if steps.stop is None:
            raise ValueError("stop is None, expected a step: a schedule has no end")
        return self.values(steps.start or 0, steps.stop, 1 if steps.step is None else steps.step)

    def values(self, start: float, stop: float, step: float = 1, *, base: float = 1.0) -> npt.NDArray[np.float64]:
        """The rates at ``start, start + step, ...`` before ``stop``, computed without the GIL.

        Args:
            start: the first step, at least 0.
            stop: the end, not included, at least 0.
            step: the way from one to the next, above 0 (default: 1).
            base: the base rate (default: 1).

        Returns:
            A one-dimensional NumPy array of float64.

        Raises:
            TypeError: an argument is no number.
            ValueError: an argument is out of its range.
            ImportError: there is no NumPy.
        """
        numpy = _numpy()
        start, stop, step = not_negative("start", start), not_negative("stop", stop), real("step", step)
        if not (math.isfinite(step) and step > 0):
            raise ValueError(f"step is {step:g}, expected a finite number > 0")
        count = max(0.0, (stop - start) / step)
        if count >= 2**59:
            raise MemoryError(f"{count:.3g} values do not fit in memory")
        rates: npt.NDArray[np.float64] = numpy.frombuffer(self._core.values(base, start, math.ceil(count), step))
        return rates

    @overload
    def then(self, next: PlateauSchedule, at: float | None = None) -> PlateauSchedule: ...

    @overload
    def then(self, next: Schedule, at: float | None = None) -> Self: ...

    def then(self, next: Schedule, at: float | None = None) -> Schedule:
        """This schedule, and from step `at` on another, which begins with its own step 0.

        Args:
            next: the other.
            at: a step above 0 (default: where this schedule ends; one that never ends needs it).

        Raises:
            ValueError: `at` is out of its range.
        """
        return self._made(self._core.then(_core_of("next", next), at))

    @overload
    def __mul__(self, other: PlateauSchedule) -> PlateauSchedule: ...

    @overload
    def __mul__(self, other: Schedule | float) -> Self: ...

    def __mul__(self, other: Schedule | float) -> Schedule:
        """The product: the other is a factor, its rates at base 1."""
        if isinstance(other, Schedule):
            return self._made(self._core.times(other._core))
        factor = number(other)
        return NotImplemented if factor is None else self.scale(factor)

    __rmul__ = __mul__

    @overload
    def __add__(self, other: PlateauSchedule) -> PlateauSchedule: ...

    @overload
    def __add__(self, other: Schedule) -> Self: ...

    def __add__(self, other: Schedule) -> Schedule:
        """The sum of the rates, both with the same base."""
        return self._made(self._core.plus(other._core)) if isinstance(other, Schedule) else NotImplemented

    def clamp(self, low: float | None = None, high: float | None = None) -> Self:
        """``min(max(rate, low), high)``; the bounds are rates, not in units of the base.

        Args:
            low: the least rate (default: None, no bound).
            high: the greatest rate, at least `low` (default: None, no bound).

        Raises:
            ValueError: a bound is not finite, or they are in the wrong order.
        """
        return self._made(self._core.clamp(low, high))

    def repeat(self, every: float | None = None, times: int | None = None) -> Self:
        """This schedule again and again: its rate at step ``t mod every``.

        Args:
            every: steps, above 0 (default: the length of this schedule).
            times: how often, at least 1; then the rate stays what it is at step `every` (default: None, for ever).

        Raises:
            ValueError: an argument is out of its range.
        """
        return self._made(self._core.repeat(every, times))

    def scale(self, factor: float) -> Self:
        """`factor`, any finite number, times the rate."""
        return self._made(self._core.scale(factor))

    def shift(self, steps: float) -> Self:
        """The rate at step ``max(t - steps, 0)``: later, or earlier where `steps` (finite) is negative."""
        return self._made(self._core.shift(steps))

    def reverse(self, steps: float | None = None) -> Self:
        """The rate at step ``max(steps - t, 0)``; `steps` is above 0 (default: the length of this schedule)."""
        return self._made(self._core.reverse(steps))

    def above(self, low: float) -> Self:
        """``low + rate``, the rate taken with base ``base - low``: what falls to 0 falls to `low`, whatever the base.

        Example:
            >>> from torchpace.schedule import cosine
            >>> round(cosine(100).above(0.01)(50, base=0.1), 12)
            0.055
        """
        return self._made(self._core.above(low))

    def rebase(self, base: float) -> Self:
        """This schedule with a base of its own (finite), whatever the group's: its rates are absolute."""
        return self._made(self._core.rebase(base))

    @property
    def length(self) -> float | None:
        """The step from which on the rate no longer changes, an int where it is whole; None if there is none."""
        length = self._core.length()
        return None if length is None else as_int(length)

    def on(
        self,
        optimizer: Optimizer,
        param: str = "lr",
        groups: int | Sequence[int] | None = None,
        last_epoch: int = -1,
    ) -> Scheduler:
        """A scheduler that sets an option of an optimizer's groups; each group's own value is its base.

        Args:
            optimizer: any torch optimizer.
            param: the option: "lr", "momentum", "weight_decay", "betas[0]" (or "beta1"), or any other number in the
                groups (default: "lr").
            groups: the indices of the groups (default: None, all, those added later included).
            last_epoch: the step before the first; to resume, where the groups have ``initial_lr`` (default: -1).

        Returns:
            A `torch.optim.lr_scheduler.LRScheduler`; a ``ReduceLROnPlateau``, if there is a plateau in this schedule.

        Raises:
            KeyError: a group lacks the option, or in resuming its initial value.
            TypeError: the option is not a number, or an argument of a wrong type.
            ValueError: `groups` names a group that there is not.

        Example:
            >>> import torch
            >>> from torchpace import optim, schedule
            >>> weight = torch.nn.Parameter(torch.ones(3))
            >>> optimizer = optim.SGD([weight], lr=0.1, momentum=0.9)
            >>> rate = schedule.linear(10).on(optimizer)
            >>> momentum = schedule.constant(0.5).on(optimizer, "momentum")
            >>> optimizer.step()
            >>> rate.step(); momentum.step()
            >>> group = optimizer.param_groups[0]
            >>> round(group["lr"], 6), group["momentum"]
            (0.09, 0.45)
        """
        from torchpace.schedule._plateau_scheduler import PlateauScheduler
        from torchpace.schedule._scheduler import Scheduler

        kind = PlateauScheduler if self._core.plateau_count() else Scheduler
        return kind(optimizer, self, param, groups, last_epoch)

    def plot(self, steps: int | None = None, *, base: float = 1.0, ax: Axes | None = None, **style: Any) -> Axes:
        """Draw the curve with matplotlib; `torchpace.schedule.plot` also draws schedulers.

        Args:
            steps: how many, at least 1; of more than 10,000 as many samples are drawn (default: the length and the step
                after it, or 1000).
            base: the base rate (default: 1).
            ax: matplotlib axes to draw on (default: those of a new figure).
            style: passed on to ``Axes.plot``.

        Raises:
            ImportError: there is no matplotlib.
            ValueError: `steps` is out of its range.
        """
        from torchpace.schedule._picture import plot

        return plot(self, steps, base=base, ax=ax, **style)

    def preview(self, steps: int | None = None, *, base: float = 1.0, width: int = 60) -> str:
        """The curve in one line of text; `torchpace.schedule.preview` also draws schedulers.

        Args:
            steps: how many, at least 1; of more than 10,000 as many samples are looked at (default: the length and the
                step after it, or 1000).
            base: the base rate (default: 1).
            width: the greatest number of bars, at least 1 (default: 60).

        Raises:
            ValueError: an argument is out of its range.

        Example:
            >>> from torchpace.schedule import linear
            >>> linear(7).preview()
            '█▇▆▅▄▃▂▁ 0 to 1 in 8 steps'
        """
        from torchpace.schedule._picture import preview

        return preview(self, steps, base=base, width=width)

    def to_json(self) -> str:
        """The schedule as JSON.

        Raises:
            TypeError: it holds a Python function, which has no JSON; pickle keeps it.
        """
        return self._core.to_json()

    @staticmethod
    def from_json(text: str) -> Schedule:
        """The schedule that `to_json` wrote.

        Args:
            text: JSON of the same version.

        Raises:
            ValueError: it is of another version, has a field too many or too few, or an argument out of its range.
        """
        return _of(_native.Schedule.from_json(text))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, self._core.parts()

    def __repr__(self) -> str:
        return repr(self._core)

    def __eq__(self, other: object) -> bool:
        return self._core == other._core if isinstance(other, Schedule) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._core)


class PlateauSchedule(Schedule):
    """A schedule that contains a plateau: its scheduler takes a metric. Made by `plateau`, and of what that makes.

    Example:
        >>> from torchpace.schedule import PlateauSchedule, plateau, warmup
        >>> isinstance(warmup(10).then(plateau()), PlateauSchedule), isinstance(warmup(10), PlateauSchedule)
        (True, False)
    """

    __slots__ = ()

    if TYPE_CHECKING:

        def on(
            self,
            optimizer: Optimizer,
            param: str = "lr",
            groups: int | Sequence[int] | None = None,
            last_epoch: int = -1,
        ) -> PlateauScheduler: ...


def _of(core: _native.Schedule) -> Schedule:
    return (PlateauSchedule if core.plateau_count() else Schedule)(core)


def _rebuild(text: str, functions: list[Any]) -> Schedule:
    return _of(_native.Schedule.from_parts(text, functions))


def _core_of(name: str, schedule: Schedule) -> _native.Schedule:
    if not isinstance(schedule, Schedule):
        raise TypeError(f"{name} is of type {type(schedule).__name__}, expected a schedule")
    return schedule._core


def _numpy() -> Any:
    try:
        import numpy
    except ModuleNotFoundError as error:
        raise ImportError("values need NumPy: pip install numpy") from error
    return numpy
