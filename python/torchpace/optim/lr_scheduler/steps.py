"""Factors at certain steps, or at each."""

from torch.optim import lr_scheduler

from torchpace._native import Formula
from torchpace.optim.lr_scheduler._base import LRScheduler


class StepLR(LRScheduler, lr_scheduler.StepLR):
    r"""Multiply the learning rate by ``gamma`` every ``step_size`` steps.

    .. math::
        \eta_t = \eta_{t-1} \cdot \gamma \text{ where } t > 0 \text{ is a multiple of step\_size,} \quad
        \eta_t = \eta_{t-1} \text{ elsewhere}

    Args:
        optimizer: whose groups' ``lr`` is set.
        step_size: steps from one decay to the next, an integer > 0.
        gamma: the factor, any number; in (0, 1) it decays (default: 0.1).
        last_epoch: the step to resume after; -1 begins anew (default: -1).

    Raises:
        TypeError: ``optimizer`` is no optimizer.
        KeyError: ``last_epoch >= 0`` and a group lacks ``initial_lr``.

    Matches torch: to the bit, at every step.

    Differs from torch: with ``last_epoch=n`` the learning rate becomes that of step n + 1 of a run from ``initial_lr``;
    torch keeps the one it finds. A group added later is multiplied from then on, and ``step(epoch)`` works with it.

    Example:
        >>> import torch
        >>> from torchpace.optim.lr_scheduler import StepLR
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> scheduler = StepLR(optimizer, step_size=2, gamma=0.5)
        >>> optimizer.step()
        >>> for _ in range(4):
        ...     scheduler.step()
        >>> scheduler.get_last_lr()
        [0.25]
    """

    _formula = Formula("StepLR")
    _chainable = True


class MultiStepLR(LRScheduler, lr_scheduler.MultiStepLR):
    r"""Multiply the learning rate by ``gamma`` at each of the ``milestones``.

    .. math::
        \eta_t = \eta_{t-1} \cdot \gamma^{\text{times that } t \text{ is a milestone}}

    Args:
        optimizer: whose groups' ``lr`` is set.
        milestones: steps at which it decays, integers; one named twice decays twice.
        gamma: the factor, any number; in (0, 1) it decays (default: 0.1).
        last_epoch: the step to resume after; -1 begins anew (default: -1).

    Raises:
        TypeError: ``optimizer`` is no optimizer.
        KeyError: ``last_epoch >= 0`` and a group lacks ``initial_lr``.

    Matches torch: to the bit, at every step.

    Differs from torch: with ``last_epoch=n`` the learning rate becomes that of step n + 1 of a run from ``initial_lr``;
    torch keeps the one it finds. A group added later is multiplied from then on, and ``step(epoch)`` works with it.

    Example:
        >>> import torch
        >>> from torchpace.optim.lr_scheduler import MultiStepLR
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> scheduler = MultiStepLR(optimizer, milestones=[1, 3], gamma=0.5)
        >>> optimizer.step()
        >>> for _ in range(4):
        ...     scheduler.step()
        >>> scheduler.get_last_lr()
        [0.25]
    """

    _formula = Formula("MultiStepLR")
    _chainable = True


class ExponentialLR(LRScheduler, lr_scheduler.ExponentialLR):
    r"""Multiply the learning rate by ``gamma`` at each step.

    .. math::
        \eta_t = \eta_{t-1} \cdot \gamma

    Args:
        optimizer: whose groups' ``lr`` is set.
        gamma: the factor, any number; in (0, 1) it decays.
        last_epoch: the step to resume after; -1 begins anew (default: -1).

    Raises:
        TypeError: ``optimizer`` is no optimizer.
        KeyError: ``last_epoch >= 0`` and a group lacks ``initial_lr``.

    Matches torch: to the bit, at every step.

    Differs from torch: with ``last_epoch=n`` the learning rate becomes that of step n + 1 of a run from ``initial_lr``;
    torch keeps the one it finds. A group added later is multiplied from then on, and ``step(epoch)`` works with it.

    Example:
        >>> import torch
        >>> from torchpace.optim.lr_scheduler import ExponentialLR
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> scheduler = ExponentialLR(optimizer, gamma=0.5)
        >>> optimizer.step()
        >>> for _ in range(3):
        ...     scheduler.step()
        >>> scheduler.get_last_lr()
        [0.125]
    """

    _formula = Formula("ExponentialLR")
    _chainable = True
