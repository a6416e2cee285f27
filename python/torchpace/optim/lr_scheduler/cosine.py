"""Cosines, once down or with restarts."""

from __future__ import annotations

from typing import Any

from torch.optim import lr_scheduler

from torchpace._native import Formula, advance
from torchpace.optim.lr_scheduler._base import LRScheduler, proportion, shared


class CosineAnnealingLR(LRScheduler, lr_scheduler.CosineAnnealingLR):
    r"""Let the learning rate go to ``eta_min`` along a cosine, and up again after ``T_max`` steps.

    .. math::
        \eta_t = \eta_{\min} + (\eta_{t-1} - \eta_{\min})
        \frac{1 + \cos(\pi t / T_{\max})}{1 + \cos(\pi (t - 1) / T_{\max})}

    and one step after a lowest point, with the group's ``initial_lr`` :math:`\eta_0`:

    .. math::
        \eta_t = \eta_{t-1} + (\eta_0 - \eta_{\min}) (1 - \cos(\pi / T_{\max})) / 2

    Args:
        optimizer: whose groups' ``lr`` is set.
        T_max: steps to the lowest point, an integer > 0.
        eta_min: the lowest learning rate (default: 0).
        last_epoch: the step to resume after; -1 begins anew (default: -1).

    Raises:
        TypeError: ``optimizer`` is no optimizer.
        KeyError: ``last_epoch >= 0`` and a group lacks ``initial_lr``.

    Matches torch: to the bit, at every step.

    Differs from torch: with ``last_epoch=n`` the learning rate becomes that of step n + 1 of a run from ``initial_lr``;
    torch keeps the one it finds. A group added later goes on from its learning rate as the others do, and keeps its
    proportion to the last one above ``eta_min``; torch raises after a lowest point.

    Paper: `SGDR <https://arxiv.org/abs/1608.03983>`_ (without restarts).

    Example:
        >>> import torch
        >>> from torchpace.optim.lr_scheduler import CosineAnnealingLR
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> scheduler = CosineAnnealingLR(optimizer, T_max=2, eta_min=0.5)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.75]
    """

    _formula = Formula("CosineAnnealingLR")
    _chainable = True

    def _first_lr(self, group: dict[str, Any], other: dict[str, Any]) -> Any:
        return above(self.eta_min, group, other, super()._first_lr(group, other))


class CosineAnnealingWarmRestarts(LRScheduler, lr_scheduler.CosineAnnealingWarmRestarts):
    r"""Let the learning rate go to ``eta_min`` along a cosine, begin again, and again.

    With :math:`T_{cur}` steps since the last restart and :math:`T_i` from it to the next:

    .. math::
        \eta_t = \eta_{\min} + (\eta_0 - \eta_{\min}) (1 + \cos(\pi T_{cur} / T_i)) / 2

    Args:
        optimizer: whose groups' ``lr`` is set.
        T_0: steps to the first restart, an integer > 0.
        T_mult: by what each period is longer than the one before, an integer >= 1 (default: 1).
        eta_min: the lowest learning rate (default: 0).
        last_epoch: the step to resume after; -1 begins anew (default: -1).

    Raises:
        ValueError: ``T_0``, ``T_mult`` or ``eta_min`` is out of range or of a wrong type, or ``step`` is given an epoch
            below 0.
        TypeError: ``optimizer`` is no optimizer.
        KeyError: ``last_epoch >= 0`` and a group lacks ``initial_lr``.

    Matches torch: to the bit, at every step; ``step(epoch)`` takes fractions.

    Differs from torch: with ``last_epoch=n`` period and learning rate are those of step n + 1; torch gets the period
    wrong if ``T_mult > 1`` and more than one restart is past. A group added later goes on from its learning rate, and
    keeps its proportion to the last one above ``eta_min``; torch raises.

    Paper: `SGDR <https://arxiv.org/abs/1608.03983>`_.

    Example:
        >>> import torch
        >>> from torchpace.optim.lr_scheduler import CosineAnnealingWarmRestarts
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> scheduler = CosineAnnealingWarmRestarts(optimizer, T_0=2, T_mult=2)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.5]
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [1.0]
    """

    _formula = Formula("CosineAnnealingWarmRestarts")
    _chainable = True

    def _first_lr(self, group: dict[str, Any], other: dict[str, Any]) -> Any:
        return above(self.eta_min, group, other, super()._first_lr(group, other))

    def step(self, epoch: float | None = None) -> None:
        """Set the learning rates of the next step.

        Args:
            epoch: go to this step, >= 0; fractions count (default: None).

        Raises:
            ValueError: ``epoch`` is below 0.
        """
        if epoch is not None or not advance(self):
            self._adopt()
            lr_scheduler.CosineAnnealingWarmRestarts.step(self, epoch)

    def _replay(self) -> None:
        self.T_cur = -1
        super()._replay()
        self._step_count = 0  # which this class does not count


def above(least: Any, group: dict[str, Any], other: dict[str, Any], otherwise: Any) -> Any:
    """What a late group would have begun with, had it always been in its proportion to another above a least rate.

    Where one of the two is not above it, `otherwise`.
    """
    share = proportion(group["lr"] - least, other["lr"] - least)
    if share is None or share <= 0 or other["lr"] < least:
        return otherwise
    return shared(other["initial_lr"] - least, share) + least
