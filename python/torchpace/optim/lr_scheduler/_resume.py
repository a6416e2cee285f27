"""Resuming in any order: the optimizer's state, new schedulers, and theirs.

A new scheduler sets the groups to its first step. Where the optimizer's state was there before, what it found is what
has to come back with the scheduler's state; in a fresh optimizer that is the state's learning rate; and where somebody
else has set the groups since, as the optimizer's state does that comes in between, they are right as they are.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor
from torch.optim import Optimizer, lr_scheduler

from torchpace._noted_step import note_steps

Values = list[dict[str, Any]]
"""What groups hold, but for their parameters."""


class _Making:
    """The schedulers that were made for an optimizer, one after the other, with nothing set by others in between."""

    def __init__(self, values: Values) -> None:
        self.found = self.left = values
        self.new: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        """Those that have neither stepped nor been given a state, and where they were when made."""
        self.busy = False
        """Whether one of them is being made, or given its state, and others with it."""


_makings: WeakKeyDictionary[Optimizer, _Making] = WeakKeyDictionary()


@contextmanager
def making(scheduler: Any, arguments: Iterable[Any]) -> Iterator[None]:
    """A block in which a scheduler is made, out of the arguments of its class."""
    optimizer = _optimizer_in(arguments)
    known = None if optimizer is None else _makings.get(optimizer)
    if optimizer is None or (known is not None and known.busy):
        yield
        return
    note_steps(optimizer)
    now = _values(optimizer)
    if known is None or not _same_rates(now, known.left):
        known = _makings[optimizer] = _Making(now)
    known.busy = True
    try:
        yield
    finally:
        known.busy = False
    known.left = _values(optimizer)
    known.new[scheduler] = _places(scheduler)


@contextmanager
def taking_over(scheduler: Any) -> Iterator[None]:
    """A block in which a scheduler takes over a state; then its groups have the learning rates that belong to it."""
    optimizer = scheduler.__dict__.get("optimizer")
    if not isinstance(optimizer, Optimizer):
        yield
        return
    now, places, last = _values(optimizer), _places(scheduler), scheduler.__dict__.get("_last_lr")
    known = _makings.setdefault(optimizer, _Making(now))
    if known.busy:
        yield
        return
    known.busy = True
    try:
        yield
    finally:
        known.busy = False
        # Schedulers within may have set something, each as if it were its turn.
        _put(optimizer, now)
    is_new = known.new.pop(scheduler, None) == places and _same_rates(now, known.left)
    # One that was made for a later step has overruled what it found.
    if is_new and not (places[0] or 0) > 0 and _in_use(known.found):
        _put(optimizer, known.found, over=known.left)
    elif is_new or (_places(scheduler) != places and _same_rates(now, [{"lr": lr} for lr in last or []])):
        _set(scheduler)
    else:
        return
    known.left = _values(optimizer)


def _optimizer_in(arguments: Iterable[Any]) -> Optimizer | None:
    for argument in arguments:
        if isinstance(argument, Optimizer):
            return argument
        if isinstance(argument, (list, tuple)) and argument and isinstance(argument[0], lr_scheduler.LRScheduler):
            return argument[0].optimizer
    return None


def _values(optimizer: Optimizer) -> Values:
    return [{key: copied(value) for key, value in group.items() if key != "params"} for group in optimizer.param_groups]


def _same(left: Any, right: Any) -> bool:
    try:
        return bool(left == right)
    except (RuntimeError, TypeError, ValueError):
        return False


def _same_rates(values: Values, others: Values) -> bool:
    """Whether the groups that both know have the same learning rates; there may be more of the first by now."""
    return bool(others) and all(
        _same(group.get("lr"), other.get("lr")) for group, other in zip(values, others, strict=False)
    )


def _in_use(values: Values) -> bool:
    """Whether the learning rates are others than they began with, as a run or its checkpoint has left them."""
    return any("initial_lr" in group and not _same(group["lr"], group["initial_lr"]) for group in values)


def _put(optimizer: Optimizer, values: Values, over: Values | None = None) -> None:
    """Put back what has changed, where it is what it was in `over`."""
    for index, (group, saved) in enumerate(zip(optimizer.param_groups, values, strict=False)):
        for key, value in saved.items():
            if key in group and (over is None or _same(group[key], over[index].get(key))):
                _put_one(group, key, value)


def _put_one(group: dict[str, Any], key: str, value: Any) -> None:
    """Set an entry of a group, a tensor in place."""
    old = group[key]
    if _same(old, value):
        return
    if isinstance(old, Tensor) and old.is_floating_point():
        old.fill_(value.item() if isinstance(value, Tensor) else value)
    else:
        group[key] = copied(value)


def _places(scheduler: Any) -> Any:
    """The steps at which a scheduler, and those within, are."""
    fields = vars(scheduler)
    return fields.get("last_epoch"), fields.get("_step_count"), list(map(_places, fields.get("_schedulers", ())))


def _set(scheduler: Any) -> None:
    """Set all that a scheduler sets to what belongs to its state."""
    # What cannot be worked out stays as it is, as in torch, which works out nothing here.
    with suppress(Exception):
        _set_others(scheduler)
    rates = vars(scheduler).get("_last_lr")
    if isinstance(rates, list):
        for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=False):
            if isinstance(rate, (int, float, Tensor)):
                _put_one(group, "lr", rate)


def _set_others(scheduler: Any) -> None:
    """Set what a scheduler sets besides learning rates."""
    if isinstance(scheduler, lr_scheduler.SequentialLR):
        # Those whose turn is over have left what the others do not set.
        turn = bisect_right(scheduler._milestones, scheduler.last_epoch)
        for inner in scheduler._schedulers[: turn + 1]:
            _set_others(inner)
    elif isinstance(scheduler, lr_scheduler.ChainedScheduler):
        for inner in scheduler._schedulers:
            _set_others(inner)
    elif isinstance(scheduler, (lr_scheduler.CyclicLR, lr_scheduler.OneCycleLR)) and scheduler.cycle_momentum:
        scheduler._get_lr_called_within_step = True
        try:
            scheduler.get_lr()  # sets the momentum
        finally:
            scheduler._get_lr_called_within_step = False
    elif hasattr(scheduler, "set_again"):
        scheduler.set_again()


def copied(value: Any) -> Any:
    """A value that does not change with the one given: a tensor's clone."""
    return value.clone() if isinstance(value, Tensor) else value
