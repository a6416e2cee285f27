"""Factors out of the user's functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.optim import lr_scheduler

from torchpace._native import Formula
from torchpace.optim.lr_scheduler._base import LRScheduler


class LambdaLR(LRScheduler, lr_scheduler.LambdaLR):
    r"""Multiply the first learning rate by a function of the step.

    .. math::
        \eta_t = \eta_0 \cdot \lambda(t)

    Args:
        optimizer: whose groups' ``lr`` is set.
        lr_lambda: a function of the step (an integer from 0) that gives the factor, or a list of one for each group.
        last_epoch: the step to resume after; -1 begins anew (default: -1).

    Raises:
        ValueError: there is another number of functions than of groups.
        TypeError: ``optimizer`` is no optimizer.
        KeyError: ``last_epoch >= 0`` and a group lacks ``initial_lr``.

    Matches torch: to the bit, at every step. Functions and lambdas stay out of ``state_dict``; of other callables it
    has their ``__dict__``.

    Differs from torch: a group added later takes the last group's function, and keeps the proportion to that group that
    its learning rate has when it comes; torch raises.

    Example:
        >>> import torch
        >>> from torchpace.optim.lr_scheduler import LambdaLR
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> scheduler = LambdaLR(optimizer, lambda step: 0.5**step)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.5]
    """

    _formula = Formula("LambdaLR")

    lr_lambdas: list[Callable[[int], float]]

    def _adopt_group(self, group: dict[str, Any], last: int, share: Any) -> None:
        self.lr_lambdas = [*self.lr_lambdas, self.lr_lambdas[last]]


class MultiplicativeLR(LRScheduler, lr_scheduler.MultiplicativeLR):
    r"""Multiply the learning rate by a function of the step, at each step.

    .. math::
        \eta_t = \eta_{t-1} \cdot \lambda(t) \text{ for } t \ge 1

    Args:
        optimizer: whose groups' ``lr`` is set.
        lr_lambda: a function of the step (an integer from 1) that gives the factor, or a list of one for each group.
        last_epoch: the step to resume after; -1 begins anew (default: -1).

    Raises:
        ValueError: there is another number of functions than of groups.
        TypeError: ``lr_lambda`` is not callable, or ``optimizer`` no optimizer.
        KeyError: ``last_epoch >= 0`` and a group lacks ``initial_lr``.

    Matches torch: to the bit, at every step. Functions and lambdas stay out of ``state_dict``; of other callables it
    has their ``__dict__``.

    Differs from torch: with ``last_epoch=n`` the functions are called for the steps 1 to n + 1, and the learning rate
    becomes that of step n + 1 of a run from ``initial_lr``; torch keeps the one it finds. A group added later takes the
    last group's function from then on; torch raises.

    Example:
        >>> import torch
        >>> from torchpace.optim.lr_scheduler import MultiplicativeLR
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> scheduler = MultiplicativeLR(optimizer, lambda step: 0.5)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.5]
    """

    _formula = Formula("MultiplicativeLR")
    _chainable = True

    lr_lambdas: list[Callable[[int], float]]

    def _adopt_group(self, group: dict[str, Any], last: int, share: Any) -> None:
        self.lr_lambdas = [*self.lr_lambdas, self.lr_lambdas[last]]
