"""What a scheduler is going to set, found out without it or its optimizer noticing."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from torchpace.schedule._option import Option
from torchpace.schedule._scheduler import Scheduler


class _Stand(Optimizer):
    """The numbers of an optimizer's groups, without its parameters and state."""

    def __init__(self, optimizer: Optimizer) -> None:
        groups = [
            {"params": [torch.zeros(())]} | {name: _copy(value) for name, value in group.items() if name != "params"}
            for group in optimizer.param_groups
        ]
        super().__init__(groups, dict(optimizer.defaults))
        # torch's schedulers warn of an optimizer that has not stepped.
        self._opt_called = True
        step = self._step
        step.__func__._wrapped_by_lr_sched = True  # type: ignore[attr-defined]
        self.step = step  # type: ignore[method-assign, assignment]

    def _step(self) -> None:
        pass


def trace(scheduler: LRScheduler, places: Sequence[int], param: str, group: int) -> tuple[Sequence[int], list[float]]:
    """The values of an option some steps from now, ascending from 0, and these steps; fewer where OneCycleLR ends.

    Raises:
        ValueError: the scheduler follows a metric.
    """
    if isinstance(scheduler, ReduceLROnPlateau) and not isinstance(scheduler, Scheduler):
        raise ValueError(f"{type(scheduler).__name__} follows a metric, so it has no curve to draw")
    stand = _Stand(scheduler.optimizer)
    # Wherever the copy would hold the optimizer it holds the stand; functions are not copied, they are called.
    twin = copy.deepcopy(scheduler, {id(scheduler.optimizer): stand})
    option = Option(param, stand.param_groups)
    values: list[float] = []
    now = 0
    for place in places:
        try:
            if isinstance(twin, Scheduler):
                if place > 0:
                    twin.seek(scheduler.last_epoch + place)  # at once, and a plateau stays where it is
            else:
                while now < place:
                    twin.step()
                    now += 1
        except ValueError:
            if isinstance(twin, OneCycleLR):
                break
            raise
        values.append(option.read(group, stand.param_groups[group]))
    return places[: len(values)], values


def _copy(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else copy.deepcopy(value)
