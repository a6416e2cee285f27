"""To a rate of its own, for stochastic weight averaging."""

from __future__ import annotations

from typing import Any

from torch.optim import swa_utils

from torchpace._native import Formula
from torchpace.optim.lr_scheduler._base import LRScheduler, shared


class SWALR(LRScheduler, swa_utils.SWALR):
    r"""Let the learning rate go to a value of its own, for stochastic weight averaging.

    With the share :math:`a_t` of the way that is over, along a cosine or in a straight line:

    .. math::
        \eta_t = s \, a_t + \frac{\eta_{t-1} - a_{t-1} s}{1 - a_{t-1}} (1 - a_t)

    and :math:`\eta_t = s` once it is there.

    Args:
        optimizer: whose groups' ``lr`` is set.
        swa_lr: the learning rate :math:`s` to go to, one or a list of one for each group.
        anneal_epochs: steps until it is there, an integer >= 0 (default: 10).
        anneal_strategy: ``"cos"`` or ``"linear"`` (default: ``"cos"``).
        last_epoch: the step to resume after; -1 begins anew (default: -1).

    Raises:
        ValueError: ``anneal_strategy`` is unknown, ``anneal_epochs`` is below 0 or no integer, or ``swa_lr`` has
            another length than there are groups.
        TypeError: ``optimizer`` is no optimizer.
        KeyError: ``last_epoch >= 0`` and a group lacks ``initial_lr``.

    Matches torch: to the bit, at every step.

    Differs from torch: with ``last_epoch=n`` learning rate and count are those of step n + 1 of a run from
    ``initial_lr``; torch keeps the learning rate it finds and begins the way anew. A group added later keeps the
    proportion to the last one that its learning rate has when it comes, and goes to its share of that group's
    ``swa_lr``; torch raises.

    Paper: `Averaging weights leads to wider optima <https://arxiv.org/abs/1803.05407>`_.

    Example:
        >>> import torch
        >>> from torchpace.optim.swa_utils import SWALR
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> scheduler = SWALR(optimizer, swa_lr=0.5, anneal_epochs=2, anneal_strategy="linear")
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.75]
    """

    _formula = Formula("SWALR")
    _chainable = True

    def _replay(self) -> None:
        steps = self.last_epoch + 1
        super()._replay()
        self._step_count = steps + 1  # by which the class knows how far it is

    def _adopt_group(self, group: dict[str, Any], last: int, share: Any) -> None:
        if "swa_lr" not in group:
            group["swa_lr"] = shared(self.optimizer.param_groups[last]["swa_lr"], share)
