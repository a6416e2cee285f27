"""A schedule at work on an optimizer."""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import EPOCH_DEPRECATION_WARNING, LRScheduler, ReduceLROnPlateau

from torchpace._noted_step import note_steps
from torchpace.schedule import _state
from torchpace.schedule._numbers import not_negative, number, real
from torchpace.schedule._option import Group, Option, holds_numbers
from torchpace.schedule._schedule import Schedule


class Scheduler(LRScheduler):
    """Sets an option of an optimizer's groups to a schedule's rate at each step; made by `Schedule.on`.

    The rate is always ``schedule(last_epoch, base)``, whatever is in the group: any step can be gone to at once, and
    what a user writes to the option lasts until the next step. The base of a group is its ``initial_lr`` (for other
    options ``initial_momentum`` and so on), which at the start is its value. A group that is added later keeps the
    proportion to the others that its learning rate has when it comes: its base is the one from which the schedule
    gives that rate at the present step (its rate itself, where none does). Several schedulers may work on one
    optimizer, each on an option or on groups of its own.

    Args:
        optimizer: any torch optimizer.
        schedule: the schedule; one with a plateau in it needs a `PlateauScheduler`.
        param: the option (default: "lr").
        groups: the indices of the groups (default: None, all, those added later included).
        last_epoch: the step before the first; to resume, where the groups have ``initial_lr`` (default: -1).

    Raises:
        KeyError: a group lacks the option, or in resuming its initial value.
        TypeError: the option is not a number, or an argument of a wrong type.
        ValueError: `groups` names a group that there is not, or the schedule follows a metric.

    Attributes:
        schedule: the schedule.
        last_epoch: the step, from 0; torch's name for it.
        base_values: the base of each group; None for groups that are not scheduled.
    """

    schedule: Schedule
    last_epoch: int

    def __init__(
        self,
        optimizer: Optimizer,
        schedule: Schedule,
        param: str = "lr",
        groups: int | Sequence[int] | None = None,
        last_epoch: int = -1,
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
        if not isinstance(schedule, Schedule):
            raise TypeError(f"schedule is of type {type(schedule).__name__}, expected a schedule")
        if schedule._core.plateau_count() and not isinstance(self, ReduceLROnPlateau):
            raise ValueError(f"schedule is {schedule}, which follows a metric: expected a PlateauScheduler for it")
        self.schedule = schedule
        self._option = Option(param, optimizer.param_groups)
        self._groups = _indices(groups, len(optimizer.param_groups))
        self._start, self._resumes = _last_epoch(last_epoch) + 1, last_epoch != -1
        self._memories = schedule._core.memories()
        self.base_values: list[float | None] = []
        self.optimizer = optimizer
        self._find_bases()
        self._resumes = False
        note_steps(optimizer)
        others = [group for group in optimizer.param_groups if "initial_lr" not in group]
        # torch's own start: it marks the optimizer's step, and takes our first one.
        LRScheduler.__init__(self, optimizer)
        for group in others:
            del group["initial_lr"]  # it is none of ours

    def _initial_step(self) -> None:
        self.last_epoch, self._step_count = self._start, 1
        self._find_bases()
        self._write()

    def _update_lr(self, epoch: float | None = None) -> None:
        """What torch's sequences call where a turn begins."""
        self._go(self.last_epoch + 1 if epoch is None else epoch, self._step_count)

    def set_again(self) -> None:
        """Set the option to its rate at this step, whatever has been written there since."""
        self._write()

    def __repr__(self) -> str:
        groups = "" if self._groups is None else f", groups={sorted(self._groups)}"
        return (
            f"{type(self).__name__}({self.schedule}, param={self._option.key!r}{groups}, "
            f"last_epoch={self.last_epoch}, base_values={self.base_values})"
        )

    def step(self, epoch: float | None = None) -> None:
        """Go to the next step, and set the option there.

        Args:
            epoch: a step to go to instead, at least 0; may be a fraction. Deprecated, with torch's warning: `seek` does
                this, and a metric, which only a schedule with a plateau takes, would be taken for it (default: None).

        Raises:
            TypeError, ValueError: `epoch` is no step.
        """
        if epoch is not None:
            epoch = not_negative("epoch", epoch)
            warn_of_epoch()
        if self._step_count == 1 and not getattr(self.optimizer, "_opt_called", False):
            warnings.warn(
                "the scheduler's step() was called before the optimizer's step(), which skips the schedule's first "
                "value: call optimizer.step() first",
                UserWarning,
                stacklevel=2,
            )
        self._advance(epoch)

    def _advance(self, epoch: float | None) -> None:
        self._go(self.last_epoch + 1 if epoch is None else epoch, self._step_count + 1)

    def _go(self, step: float, count: int) -> None:
        """Be at a step, or, if its rate cannot be found, stay."""
        self._find_bases()  # at the step that is left: a late group's rate is one of that step
        before = self.last_epoch, self._step_count
        self.last_epoch, self._step_count = step, count  # type: ignore[assignment]
        try:
            self._write()
        except BaseException:
            self.last_epoch, self._step_count = before
            raise

    def seek(self, step: float) -> None:
        """Go to a step at once, to the values that as many calls of `step()` from the start would have set.

        A plateau keeps its memory, which depends on metrics and not on the step.

        Args:
            step: at least 0; may be a fraction.

        Raises:
            TypeError: the step is no number.
            ValueError: the step is out of its range.

        Example:
            >>> import torch
            >>> from torchpace.schedule import linear
            >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.5)
            >>> scheduler = linear(100).on(optimizer)
            >>> scheduler.seek(50)
            >>> optimizer.param_groups[0]["lr"]
            0.25
        """
        step = not_negative("step", step)
        self._go(step, int(step) + 1)

    def rebase(self, base: float | Iterable[float]) -> None:
        """Put other bases in the place of the initial values, and set the option accordingly.

        Args:
            base: a number, or one for each scheduled group; finite.

        Raises:
            TypeError: it is no number.
            ValueError: it is not finite, or there are not as many as scheduled groups.

        Example:
            >>> import torch
            >>> from torchpace.schedule import linear
            >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.5)
            >>> scheduler = linear(100).on(optimizer)
            >>> scheduler.rebase(0.1)
            >>> scheduler.get_last_lr()
            [0.1]
        """
        self._find_bases()
        targets = [index for index, _ in self._targets()]
        several = list(base) if isinstance(base, Iterable) and number(base) is None else [base] * len(targets)
        values = [real("base", value) for value in several]
        if len(values) != len(targets) or not all(map(math.isfinite, values)):
            raise ValueError(f"base is {base}, expected a finite number, or one for each of {len(targets)} groups")
        bases = list(self.base_values)
        for index, value in zip(targets, values, strict=True):
            bases[index] = value
        self._take(_state.State(self.last_epoch, self._step_count, bases, self._memories), set(targets))

    @property
    def base_lrs(self) -> list[float | Tensor]:
        """The bases, 0 for groups that are not scheduled; torch's name for them."""
        return [base or 0.0 for base in self.base_values]

    @base_lrs.setter
    def base_lrs(self, _: Any) -> None:
        """Ignored: torch's constructor sets them, and they are known already."""

    @property
    def _last_lr(self) -> list[float | Tensor]:
        return self.get_last_lr()

    @_last_lr.setter
    def _last_lr(self, _: Any) -> None:
        """Ignored: torch's compositions set it to what it is."""

    def get_last_lr(self) -> list[float | Tensor]:
        """The learning rates of all groups; copies, where they are tensors."""
        rates = [group["lr"] for group in self.optimizer.param_groups]
        return [rate.clone() if isinstance(rate, Tensor) else rate for rate in rates]

    def get_lr(self) -> list[float | Tensor]:
        """The learning rates of all groups at this step, as the schedule has them if it is theirs."""
        rates = self.get_last_lr()
        if self._option.key == "lr":
            for index, value in self._values():
                rates[index] = value
        return rates

    def _get_closed_form_lr(self) -> list[float | Tensor]:
        return self.get_lr()

    def state_dict(self) -> dict[str, Any]:
        """The step, the bases, and what each plateau remembers, as plain values; the schedule is not among them."""
        state = {
            "param": self._option.key,
            "last_epoch": self.last_epoch,
            "_step_count": self._step_count,
            "base_values": list(self.base_values),
        }
        if self._memories:
            state["plateaus"] = [dict(zip(_state.MEMORY, memory, strict=True)) for memory in self._memories]
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to the step of a `state_dict`, with its bases, and set the option there.

        It may come before the optimizer's state or after it, and before or after the scheduler is made.

        Raises:
            KeyError: it lacks an entry.
            TypeError: it is no dict, or an entry is of a wrong type.
            ValueError: an entry is out of its range, or of another option, other plateaus, or more groups than there
                are.

            Nothing has changed then.
        """
        groups = self.optimizer.param_groups
        state = _state.read(state_dict, self._option.key, len(self._memories), len(groups))
        self._find_bases()
        bases: list[float | None] = [None] * len(state.bases)
        for index, group in self._targets():
            if index < len(bases):
                base = state.bases[index]
                # A group that is scheduled here and was not there keeps what it has.
                bases[index] = self._option.read(index, group) if base is None else base
        saved = {index for index, base in enumerate(state.bases) if base is not None}
        self._take(state._replace(bases=bases), saved)

    def _take(self, state: _state.State, marked: Container[int]) -> None:
        """Be at a state, with its bases in the groups that are to be marked; or, if its rates cannot be found, stay."""
        before = self.last_epoch, self._step_count, self.base_values, self._memories
        self.last_epoch, self._step_count, self.base_values, self._memories = state  # type: ignore[assignment]
        try:
            self._find_bases()
            self._write()
        except BaseException:
            self.last_epoch, self._step_count, self.base_values, self._memories = before
            raise
        for index, group in self._targets():
            base = self.base_values[index]
            if base is not None and index in marked:
                self._mark(group, base)

    def _targets(self) -> Iterator[tuple[int, Group]]:
        for index, group in enumerate(self.optimizer.param_groups):
            if self._groups is None or index in self._groups:
                yield index, group

    def _find_bases(self) -> None:
        """The bases of groups that are new."""
        groups, known = self.optimizer.param_groups, len(self.base_values)
        if known == len(groups):
            return
        bases: list[float | None] = [None] * (len(groups) - known)
        for index, group in self._targets():
            if index < known:
                continue
            now = self._option.read(index, group)
            if self._resumes and self._option.initial not in group:
                raise KeyError(
                    f"param_groups[{index}] has no {self._option.initial!r}, expected one where last_epoch is not -1"
                )
            initial = group.get(self._option.initial)
            bases[index - known] = self._base_of(now, late=known > 0) if initial is None else float(initial)
        # All at once, after all that can fail.
        self.base_values += bases
        for index, group in self._targets():
            base = self.base_values[index]
            if index >= known and base is not None and self._option.initial not in group:
                self._mark(group, base)

    def _base_of(self, value: float, *, late: bool) -> float:
        """The base of a group that has a value now."""
        if not late or self._option.key != "lr" or self.last_epoch < 0:
            return value
        step, scales, rate = float(self.last_epoch), self._scales(), self.schedule._core.lr
        least = rate(0.0, step, scales)
        slope = rate(1.0, step, scales) - least
        base = (value - least) / slope if slope else math.nan
        found = base >= 0 and math.isclose(rate(base, step, scales), value, rel_tol=1e-9)
        return base if found else value

    def _mark(self, group: Group, base: float) -> None:
        """Keep a base where torch keeps it, of the type that the option has there."""
        old = group.get(self._option.initial)
        value = group[self._option.name]
        if holds_numbers(old):
            old.fill_(base)
        elif self._option.index is None and holds_numbers(value):
            group[self._option.initial] = value.clone().fill_(base)
        else:
            group[self._option.initial] = base

    def _scales(self) -> list[float]:
        """The scales of the plateaus in the schedule."""
        return [memory[0] for memory in self._memories] if self._memories else []

    def _values(self) -> list[tuple[int, float]]:
        step, scales, rate = float(self.last_epoch), self._scales(), self.schedule._core.lr
        return [(index, rate(base, step, scales)) for index, base in enumerate(self.base_values) if base is not None]

    def _write(self) -> None:
        if self.last_epoch < 0:
            return  # its turn in a sequence is yet to come
        option, groups = self._option, self.optimizer.param_groups
        if option.index is None and self.schedule._core.set(
            groups, option.name, self.base_values, float(self.last_epoch), self._scales()
        ):
            return
        for index, value in self._values():
            option.write(groups[index], value)


def _indices(groups: int | Sequence[int] | None, count: int) -> frozenset[int] | None:
    if groups is None:
        return None
    try:
        indices = [operator.index(groups)]  # type: ignore[arg-type]
    except TypeError:
        try:
            indices = [operator.index(index) for index in groups]  # type: ignore[union-attr]
        except TypeError:
            indices = []
    if not indices or not all(0 <= index < count for index in indices):
        raise ValueError(f"groups is {groups}, expected None or indices from 0 to {count - 1}")
    return frozenset(indices)


def _last_epoch(step: int) -> int:
    try:
        found = operator.index(step)
    except TypeError:
        raise TypeError(f"last_epoch is {step!r}, expected an integer") from None
    if found < -1:
        raise ValueError(f"last_epoch is {step}, expected an integer >= -1")
    return found


def warn_of_epoch() -> None:
    """Warn of the `epoch` of a step as torch does."""
    warnings.warn(
        f"{EPOCH_DEPRECATION_WARNING} Call seek(step) to go to a step; only the scheduler of a schedule with a plateau "
        "takes a metric.",
        UserWarning,
        stacklevel=3,
    )
