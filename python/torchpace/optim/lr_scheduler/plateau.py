"""The learning rate follows a metric."""

from __future__ import annotations

from typing import Any, SupportsFloat

from torch.optim import lr_scheduler

from torchpace._native import Formula, observe
from torchpace.optim.lr_scheduler._base import LRScheduler, proportion, shared


class ReduceLROnPlateau(LRScheduler, lr_scheduler.ReduceLROnPlateau):
    r"""Multiply the learning rate by ``factor`` when a metric has not improved for more than ``patience`` steps.

    Args:
        optimizer: whose groups' ``lr`` is set.
        mode: ``"min"``, if a smaller metric is better, or ``"max"`` (default: ``"min"``).
        factor: below 1 (default: 0.1).
        patience: steps without improvement that are borne (default: 10).
        threshold: by how much a metric has to be better to count, in the metric's units or as a share of the best one
            (default: 1e-4).
        threshold_mode: ``"rel"``, a share, or ``"abs"`` (default: ``"rel"``).
        cooldown: steps after a reduction in which none is counted (default: 0).
        min_lr: the lowest learning rate, one or a list of one for each group (default: 0).
        eps: a reduction by no more than this is left out (default: 1e-8).

    Raises:
        ValueError: ``factor >= 1``, ``mode`` or ``threshold_mode`` is unknown, or ``min_lr`` has another length than
            there are groups.
        TypeError: ``optimizer`` is no optimizer.

    Matches torch: to the bit, at every step.

    Differs from torch: a group added later has its share of the last group's ``min_lr``, where those were a list, in
    the proportion that its learning rate has at the next reduction; torch raises. It may stand in a
    :class:`SequentialLR` or :class:`ChainedScheduler`.

    Example:
        >>> import torch
        >>> from torchpace.optim.lr_scheduler import ReduceLROnPlateau
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> scheduler = ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
        >>> for metric in (1.0, 2.0):
        ...     scheduler.step(metric)
        >>> scheduler.get_last_lr()
        [0.5]
    """

    _formula = Formula("ReduceLROnPlateau")

    min_lrs: list[float]

    def step(self, metrics: SupportsFloat, epoch: int | None = None) -> None:  # type: ignore[override]
        """Take the metric of a step, and reduce the learning rates where it is time to.

        Args:
            metrics: a number, or a tensor of one element.
            epoch: the number of the step; deprecated in torch (default: None).

        Raises:
            TypeError, ValueError: ``metrics`` is no number.
        """
        if type(metrics) is not float:
            metrics = _metric(metrics)
        if epoch is not None or not observe(self, metrics):
            lr_scheduler.ReduceLROnPlateau.step(self, metrics, epoch)

    def _reduce_lr(self, epoch: Any) -> None:
        groups, known = self.optimizer.param_groups, len(self.min_lrs)
        if self.default_min_lr is None and 0 < known < len(groups):
            least, last = self.min_lrs[-1], groups[known - 1]["lr"]
            late = [shared(least, proportion(group["lr"], last)) for group in groups[known:]]
            self.min_lrs = [*self.min_lrs, *map(float, late)]
        super()._reduce_lr(epoch)


def _metric(value: Any) -> float:
    """The number that `float` makes of it.

    Raises:
        TypeError, ValueError, RuntimeError: as that, with the argument's name.
    """
    try:
        return float(value.item() if getattr(value, "size", 0) == 1 else value)  # of an array; a tensor's is a method
    except (TypeError, ValueError, RuntimeError) as error:
        raise type(error)(f"metrics is {value!r}, expected a number: {error}") from error
