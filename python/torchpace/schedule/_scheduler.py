"""A schedule at work on an optimizer."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from torchpace import _native
from torchpace.schedule._option import Group, Option
from torchpace.schedule._schedule import Schedule


class Scheduler(LRScheduler):
    """Sets an option of an optimizer's groups to a schedule's rate at each step; made by `Schedule.on`.

    The rate is always ``schedule(last_epoch, base)``, whatever is in the group: any step can be gone to at once, and
    what a user writes to the option lasts until the next step. The base of a group is its ``initial_lr`` (for other
    options ``initial_momentum`` and so on), which is its value when it is first seen. Several schedulers may work on
    one optimizer, each on an option or on groups of its own.

    Attributes:
        schedule: the schedule.
        last_epoch: the step, from 0; torch's name for it.
        base_values: the base of each group; None for groups that are not scheduled.
    """

    schedule: Schedule
    last_epoch: int

    def __init__(
        self,
        schedule: Schedule,
        optimizer: Optimizer,
        param: str = "lr",
        groups: int | Sequence[int] | None = None,
        last_epoch: int = -1,
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
        self.schedule = schedule
        self._option = Option(param, optimizer.param_groups)
        self._groups = _indices(groups, len(optimizer.param_groups))
        self._start, self._resumes = last_epoch + 1, last_epoch != -1
        self.base_values: list[float | None] = []
        self.optimizer = optimizer
        self._find_bases()
        self._resumes = False
        others = [group for group in optimizer.param_groups if "initial_lr" not in group]
        # torch's own start: it marks the optimizer's step, and takes our first one.
        LRScheduler.__init__(self, optimizer)
        for group in others:
            del group["initial_lr"]  # it is none of ours

    def _initial_step(self) -> None:
        self.last_epoch, self._step_count = self._start, 1
        self._write()

    def step(self, epoch: float | None = None) -> None:
        """Go to the next step, or to step `epoch`, and set the option there.

        Args:
            epoch: a step, at least 0; may be a fraction (default: the next).

        Raises:
            ValueError: `epoch` is out of its range.
        """
        if epoch is not None:
            check_step("epoch", epoch)
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
        before = self.last_epoch, self._step_count
        self.last_epoch, self._step_count = step, count  # type: ignore[assignment]
        try:
            self._write()
        except BaseException:
            self.last_epoch, self._step_count = before
            raise

    def seek(self, step: int) -> None:
        """Go to a step at once, to the values that as many calls of `step()` from the start would have set.

        A plateau keeps its memory, which depends on metrics and not on the step.

        Args:
            step: at least 0.

        Raises:
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
        check_step("step", step)
        self._go(step, int(step) + 1)

    def rebase(self, base: float | Sequence[float]) -> None:
        """Put other bases in the place of the initial values, and set the option accordingly.

        Args:
            base: a number, or one for each scheduled group; finite.

        Raises:
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
        targets = list(self._targets())
        given = base if isinstance(base, Sequence) else [base] * len(targets)
        bases = [_native.number("base", value) for value in given]
        if len(bases) != len(targets) or not all(math.isfinite(value) for value in bases):
            raise ValueError(f"base is {base}, expected a finite number, or one for each of {len(targets)} groups")
        for (index, group), value in zip(targets, bases, strict=True):
            self.base_values[index] = value
            self._mark(group, value)
        self._write()

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
        """The step and the bases as plain values; the schedule itself is not among them."""
        return {
            "param": self._option.key,
            "last_epoch": self.last_epoch,
            "_step_count": self._step_count,
            "base_values": list(self.base_values),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to the step of a `state_dict`, with its bases, and set the option there.

        Raises:
            KeyError: it lacks an entry.
            ValueError: it is of another option, or of more groups than there are.
        """
        state = {name: state_dict[name] for name in self.state_dict()}
        if state["param"] != self._option.key:
            raise ValueError(f"the state is of a schedule for {state['param']!r}, expected {self._option.key!r}")
        found, expected = len(state["base_values"]), len(self.optimizer.param_groups)
        if found > expected:
            raise ValueError(f"the state is of {found} groups, expected at most {expected}")
        bases: list[float | None] = [None] * found
        for index, group in self._targets():
            if index < found:
                base = state["base_values"][index]
                bases[index] = self._option.read(index, group) if base is None else base
        self.last_epoch, self._step_count, self.base_values = state["last_epoch"], state["_step_count"], bases
        for index, group in self._targets():
            if index < found and state["base_values"][index] is not None:
                self._mark(group, state["base_values"][index])
        self._write()

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
            bases[index - known] = float(group.get(self._option.initial, now))
        # All at once, after all that can fail.
        self.base_values += bases
        for index, group in self._targets():
            base = self.base_values[index]
            if index >= known and base is not None and self._option.initial not in group:
                self._mark(group, base)

    def _mark(self, group: Group, base: float) -> None:
        """Keep a base where torch keeps it, of the type that the option has there."""
        old = group.get(self._option.initial)
        if isinstance(old, Tensor):
            old.fill_(base)
        elif self._option.index is None and isinstance(group[self._option.name], Tensor):
            group[self._option.initial] = group[self._option.name].clone().fill_(base)
        else:
            group[self._option.initial] = base

    def _scales(self) -> list[float]:
        """The scales of the plateaus in the schedule."""
        return []

    def _values(self) -> list[tuple[int, float]]:
        step, scales, rate = float(self.last_epoch), self._scales(), self.schedule._core.lr
        return [(index, rate(base, step, scales)) for index, base in enumerate(self.base_values) if base is not None]

    def _write(self) -> None:
        self._find_bases()
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
    indices = [groups] if isinstance(groups, int) else list(groups)
    if not indices or not all(isinstance(index, int) and 0 <= index < count for index in indices):
        raise ValueError(f"groups is {groups}, expected None or indices from 0 to {count - 1}")
    return frozenset(indices)


def check_step(name: str, step: float) -> None:
    """Raise ValueError where a step is out of its range."""
    number = _native.number(name, step)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{name} is {step}, expected a finite number >= 0")
