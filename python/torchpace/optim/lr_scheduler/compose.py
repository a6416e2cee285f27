"""Schedulers of schedulers."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, SupportsFloat, cast

from torch.optim import Optimizer, lr_scheduler

from torchpace._native import Formula, advance
from torchpace.optim.lr_scheduler._base import LRScheduler, quiet, to_initial_lr
from torchpace.optim.lr_scheduler._resume import copied


class SequentialLR(LRScheduler, lr_scheduler.SequentialLR):
    r"""Step one scheduler after the other, each from its own step 0.

    Scheduler :math:`i` has the steps from ``milestones[i - 1]`` to before ``milestones[i]``.

    Args:
        optimizer: whose groups' ``lr`` is set.
        schedulers: the schedulers, of this optimizer, made just before.
        milestones: the steps at which the next one begins, increasing integers, one fewer than schedulers.
        last_epoch: the step to resume after; -1 begins anew (default: -1).

    Raises:
        ValueError: there are no schedulers, one is of another optimizer, or there are too many or too few milestones.
        TypeError: a scheduler has no ``optimizer``, or :meth:`step` lacks the metric that the scheduler whose turn it
            is needs.

    Matches torch: to the bit, at every step.

    Differs from torch: with ``last_epoch=n`` all schedulers begin anew and make the steps up to n + 1, so that learning
    rate and inner counts are right; torch begins at the first one's step 0 and counts from n + 1. A
    `ReduceLROnPlateau` may be among the schedulers: ``step(metrics)`` hands the metric on to it. It begins with the
    learning rate that it finds; from its milestone on every step needs a metric, before it none. While steps are made
    up for, it is passed over. A sequence or chain may begin at a milestone, from its step 0; torch raises there. Groups
    may be added later.

    Example:
        >>> import torch
        >>> from torchpace.optim.lr_scheduler import ExponentialLR, LinearLR, SequentialLR
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> warmup = LinearLR(optimizer, start_factor=0.25, total_iters=3)
        >>> scheduler = SequentialLR(optimizer, [warmup, ExponentialLR(optimizer, gamma=0.5)], milestones=[3])
        >>> optimizer.step()
        >>> for _ in range(4):
        ...     scheduler.step()
        >>> scheduler.get_last_lr()
        [0.5]
    """

    _formula = Formula("SequentialLR")

    last_epoch: int

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: list[lr_scheduler.LRScheduler],
        milestones: list[int],
        last_epoch: int = -1,
    ) -> None:
        super().__init__(optimizer, _accepted(schedulers), milestones, last_epoch)
        self._schedulers = schedulers
        if last_epoch >= 0:
            self._replay()

    def _replay(self) -> None:
        steps = self.last_epoch
        with quiet(self.optimizer):
            _make_again(self)
            for _ in range(steps):
                if takes_metrics(self._schedulers[bisect_right(self._milestones, self.last_epoch + 1)]):
                    self.last_epoch += 1
                else:
                    self.step()

    def recursive_undo(self, sched: Any = None) -> None:
        """Undo the steps that the schedulers made when they were made; of a plateau there is none."""
        if not isinstance(sched, lr_scheduler.ReduceLROnPlateau):
            super().recursive_undo(sched)

    def _update_lr(self, epoch: int | None = None) -> None:
        _begin_anew(self)

    def step(self, metrics: SupportsFloat | None = None) -> None:
        """Set the learning rates of the next step.

        Args:
            metrics: handed on to a scheduler that needs it, in its turn (default: None).

        Raises:
            TypeError: it is the turn of a scheduler that needs a metric, and there is none; or there is one, and no
                scheduler ever needs it.
        """
        if metrics is not None and not takes_metrics(self):
            lr_scheduler.SequentialLR.step(self, metrics)  # type: ignore[call-arg]  # raises
        if advance(self):
            return
        scheduler = self._schedulers[bisect_right(self._milestones, self.last_epoch + 1)]
        if not takes_metrics(scheduler):
            lr_scheduler.SequentialLR.step(self)
            return
        _check_metrics(self, scheduler, metrics)
        self.last_epoch += 1
        cast(Any, scheduler).step(metrics)
        self._last_lr = scheduler.get_last_lr()


class ChainedScheduler(LRScheduler, lr_scheduler.ChainedScheduler):
    r"""Step several schedulers together, each on what the one before has set.

    Args:
        schedulers: the schedulers, of one optimizer; those whose learning rate comes of the one before add up.
        optimizer: theirs; None takes the first one's (default: None).

    Raises:
        ValueError: there are no schedulers, or one is of another optimizer.
        TypeError: a scheduler has no ``optimizer``, or :meth:`step` lacks the metric that one of them needs.

    Matches torch: to the bit, at every step.

    Differs from torch: a `ReduceLROnPlateau` may be among the schedulers: ``step(metrics)`` hands the metric on to it,
    and then every step needs one. Groups may be added later.

    Example:
        >>> import torch
        >>> from torchpace.optim.lr_scheduler import ChainedScheduler, ExponentialLR, StepLR
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> scheduler = ChainedScheduler([ExponentialLR(optimizer, gamma=0.5), StepLR(optimizer, 2, gamma=0.5)])
        >>> optimizer.step()
        >>> for _ in range(2):
        ...     scheduler.step()
        >>> scheduler.get_last_lr()
        [0.125]
    """

    _formula = Formula("ChainedScheduler")

    def __init__(self, schedulers: Sequence[lr_scheduler.LRScheduler], optimizer: Optimizer | None = None) -> None:
        super().__init__(_accepted(schedulers), optimizer)
        self._schedulers = schedulers

    def _update_lr(self, epoch: int | None = None) -> None:
        _begin_anew(self)

    def step(self, metrics: SupportsFloat | None = None) -> None:
        """Set the learning rates of the next step.

        Args:
            metrics: handed on to the schedulers that need it (default: None).

        Raises:
            TypeError: one of them needs a metric, and there is none; or there is one, and none needs it. No scheduler
                has made a step then.
        """
        if metrics is not None and not takes_metrics(self):
            lr_scheduler.ChainedScheduler.step(self, metrics)  # type: ignore[call-arg]  # raises
        if advance(self):
            return
        if not takes_metrics(self):
            lr_scheduler.ChainedScheduler.step(self)
            return
        for scheduler in self._schedulers:
            _check_metrics(self, scheduler, metrics)
        for scheduler in self._schedulers:
            if takes_metrics(scheduler):
                cast(Any, scheduler).step(metrics)
            else:
                scheduler.step()
        self._last_lr = [copied(group["lr"]) for group in self.optimizer.param_groups]


class _StandIn:
    """Takes the place of a scheduler with a plateau while torch's constructors, which refuse one, look at it."""

    def __init__(self, scheduler: Any) -> None:
        self.optimizer = scheduler.optimizer
        self._scheduler = scheduler

    def _initial_step(self) -> None:
        _begin(self._scheduler)

    def get_last_lr(self) -> list[Any]:
        return [copied(group["lr"]) for group in self.optimizer.param_groups]


def _accepted(schedulers: Any) -> Any:
    """The schedulers as torch's constructors accept them."""
    if not any(map(takes_metrics, schedulers)):
        return schedulers
    return [_StandIn(scheduler) if takes_metrics(scheduler) else scheduler for scheduler in schedulers]


def _rewind(scheduler: Any) -> None:
    """Put a scheduler before its step 0."""
    if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
        return
    for inner in getattr(scheduler, "_schedulers", ()):
        _rewind(inner)
    if not isinstance(scheduler, lr_scheduler.ChainedScheduler):  # which does not count
        scheduler.last_epoch = -1


def _begin(scheduler: Any) -> None:
    """Make a scheduler's step 0, on groups that have their first learning rates."""
    if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
        scheduler._last_lr = [copied(group["lr"]) for group in scheduler.optimizer.param_groups]
        return
    _rewind(scheduler)
    if isinstance(scheduler, lr_scheduler.SequentialLR):
        scheduler.last_epoch = 0
        _begin(scheduler._schedulers[bisect_right(scheduler._milestones, 0)])
    elif isinstance(scheduler, lr_scheduler.ChainedScheduler):
        for inner in scheduler._schedulers:
            _begin(inner)
    else:
        scheduler._initial_step()
        return
    scheduler._last_lr = [copied(group["lr"]) for group in scheduler.optimizer.param_groups]


def _make_again(scheduler: Any) -> None:
    """Put a scheduler where its constructor has left it."""
    if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
        return
    for inner in getattr(scheduler, "_schedulers", ()):
        _make_again(inner)
    if isinstance(scheduler, lr_scheduler.SequentialLR):
        to_initial_lr(scheduler.optimizer)
        scheduler.recursive_undo()
        scheduler.last_epoch = 0
        first = scheduler._schedulers[bisect_right(scheduler._milestones, 0)]
        if takes_metrics(first):
            _begin(first)
        else:
            first._initial_step()
        scheduler._last_lr = first.get_last_lr()
    elif not isinstance(scheduler, lr_scheduler.ChainedScheduler):
        scheduler.last_epoch = -1
        scheduler._initial_step()


def _begin_anew(scheduler: Any) -> None:
    """Begin at step 0, in the turn of a scheduler of schedulers that stands in a sequence."""
    to_initial_lr(scheduler.optimizer)
    _begin(scheduler)


def takes_metrics(scheduler: Any) -> bool:
    """Whether its step takes a metric."""
    if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
        return True
    return isinstance(scheduler, SequentialLR | ChainedScheduler) and any(map(takes_metrics, scheduler._schedulers))


def _check_metrics(outer: Any, scheduler: Any, metrics: SupportsFloat | None) -> None:
    """Raise TypeError if a scheduler needs a metric, now, and there is none."""
    if metrics is not None or not takes_metrics(scheduler):
        return
    if isinstance(scheduler, SequentialLR):
        inner = scheduler._schedulers[bisect_right(scheduler._milestones, scheduler.last_epoch + 1)]
        _check_metrics(outer, inner, metrics)
    elif isinstance(scheduler, ChainedScheduler):
        for inner in scheduler._schedulers:
            _check_metrics(outer, inner, metrics)
    else:
        name, step = type(outer).__name__, outer.__dict__.get("last_epoch")
        at = "" if step is None else f" at step {step + 1}"
        raise TypeError(
            f"{name}.step() needs metrics{at}: it is the turn of {type(scheduler).__name__}; call step(metrics)"
        )
