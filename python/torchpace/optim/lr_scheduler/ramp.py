"""From one factor to another over the first steps."""

from torch.optim import lr_scheduler

from torchpace._native import Formula
from torchpace.optim.lr_scheduler._base import LRScheduler


class ConstantLR(LRScheduler, lr_scheduler.ConstantLR):
    r"""Multiply the learning rate by ``factor`` until step ``total_iters``, then go back.

    .. math::
        \eta_0 = \eta \cdot \text{factor}, \quad
        \eta_t = \eta_{t-1} / \text{factor} \text{ at } t = \text{total\_iters}

    Args:
        optimizer: whose groups' ``lr`` is set.
        factor: in [0, 1] (default: 1/3).
        total_iters: the step at which the factor is taken back, an integer (default: 5).
        last_epoch: the step to resume after; -1 begins anew (default: -1).

    Raises:
        ValueError: ``factor`` is out of range.
        TypeError: ``optimizer`` is no optimizer.
        KeyError: ``last_epoch >= 0`` and a group lacks ``initial_lr``.
        ZeroDivisionError: ``factor`` is 0, at step ``total_iters``.

    Matches torch: to the bit, at every step.

    Differs from torch: with ``last_epoch=n`` the learning rate becomes that of step n + 1 of a run from ``initial_lr``;
    torch keeps the one it finds. A group added later keeps its rate until step ``total_iters``, where it is divided by
    ``factor`` with the others; ``step(epoch)`` works with it.

    Example:
        >>> import torch
        >>> from torchpace.optim.lr_scheduler import ConstantLR
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> scheduler = ConstantLR(optimizer, factor=0.5, total_iters=2)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.5]
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [1.0]
    """

    _formula = Formula("ConstantLR")
    _chainable = True


class LinearLR(LRScheduler, lr_scheduler.LinearLR):
    r"""Let the factor of the learning rate go from ``start_factor`` to ``end_factor`` in a straight line.

    With :math:`d` the difference of the two, :math:`s` the first and :math:`T` = ``total_iters``:

    .. math::
        \eta_0 = \eta \cdot s, \quad \eta_t = \eta_{t-1} \left(1 + \frac{d}{T s + (t - 1) d}\right)
        \text{ for } t \le T

    Args:
        optimizer: whose groups' ``lr`` is set.
        start_factor: in (0, 1] (default: 1/3).
        end_factor: in [0, 1] (default: 1).
        total_iters: the step at which it arrives, an integer > 0 (default: 5).
        last_epoch: the step to resume after; -1 begins anew (default: -1).

    Raises:
        ValueError: a factor is out of range.
        TypeError: ``optimizer`` is no optimizer.
        KeyError: ``last_epoch >= 0`` and a group lacks ``initial_lr``.

    Matches torch: to the bit, at every step.

    Differs from torch: with ``last_epoch=n`` the learning rate becomes that of step n + 1 of a run from ``initial_lr``;
    torch keeps the one it finds. A group added later is multiplied as the others from then on, and ``step(epoch)``
    works with it.

    Example:
        >>> import torch
        >>> from torchpace.optim.lr_scheduler import LinearLR
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> scheduler = LinearLR(optimizer, start_factor=0.25, total_iters=3)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.5]
    """

    _formula = Formula("LinearLR")
    _chainable = True


class PolynomialLR(LRScheduler, lr_scheduler.PolynomialLR):
    r"""Let the learning rate go to 0 as a power of the way that is left.

    .. math::
        \eta_t = \eta_{t-1} \left(\frac{1 - t / T}{1 - (t - 1) / T}\right)^p \text{ for } t \le T

    Args:
        optimizer: whose groups' ``lr`` is set.
        total_iters: the step :math:`T` at which it is 0, an integer > 0 (default: 5).
        power: the exponent :math:`p` (default: 1).
        last_epoch: the step to resume after; -1 begins anew (default: -1).

    Raises:
        TypeError: ``optimizer`` is no optimizer.
        KeyError: ``last_epoch >= 0`` and a group lacks ``initial_lr``.

    Matches torch: to the bit, at every step.

    Differs from torch: with ``last_epoch=n`` the learning rate becomes that of step n + 1 of a run from ``initial_lr``;
    torch keeps the one it finds. A group added later is multiplied as the others from then on, and ``step(epoch)``
    works with it.

    Example:
        >>> import torch
        >>> from torchpace.optim.lr_scheduler import PolynomialLR
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> scheduler = PolynomialLR(optimizer, total_iters=4, power=2)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.5625]
    """

    _formula = Formula("PolynomialLR")
    _chainable = True
