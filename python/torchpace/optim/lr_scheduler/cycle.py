"""Cycles: many, or one."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor
from torch.optim import Optimizer, lr_scheduler

from torchpace._native import Formula
from torchpace.optim.lr_scheduler._base import LRScheduler, shared
from torchpace.optim.lr_scheduler._resume import copied

_PAST_END = ("raise", "hold", "extend")


class CyclicLR(LRScheduler, lr_scheduler.CyclicLR):
    r"""Let the learning rate go up and down between two values, and momentum the other way.

    With height :math:`h` in the cycle, from 0 at its ends to 1 at its peak, and the scale :math:`s`: 1 for
    ``"triangular"``, half as much from cycle to cycle for ``"triangular2"``, ``gamma`` to the power of the step for
    ``"exp_range"``:

    .. math::
        \eta_t = \eta_{base} + (\eta_{max} - \eta_{base}) h s, \quad m_t = m_{max} - (m_{max} - m_{base}) h s

    Args:
        optimizer: whose groups' ``lr`` is set.
        base_lr: the lowest learning rate, one or a list of one for each group; ``initial_lr`` is this.
        max_lr: the highest, one or a list.
        step_size_up: steps up, > 0 (default: 2000).
        step_size_down: steps down, >= 0; None is as many as up (default: None).
        mode: ``"triangular"``, ``"triangular2"`` or ``"exp_range"`` (default: ``"triangular"``).
        gamma: the factor of a step in ``"exp_range"`` (default: 1).
        scale_fn: a function for the scale in place of ``mode`` (default: None).
        scale_mode: what it is given: ``"cycle"``, the number of the cycle from 1, or ``"iterations"``, the step
            (default: ``"cycle"``).
        cycle_momentum: cycle ``momentum``, or the first of the ``betas``, too (default: True).
        base_momentum: the lowest momentum, one or a list (default: 0.8).
        max_momentum: the highest, one or a list (default: 0.9).
        last_epoch: the step to resume after; -1 begins anew (default: -1).

    Raises:
        ValueError: ``mode`` is unknown, a list has another length than there are groups, or ``cycle_momentum`` is set
            and the optimizer has none.
        TypeError: ``optimizer`` is no optimizer.
        KeyError: ``last_epoch >= 0`` and a group lacks ``initial_lr``.

    Matches torch: to the bit, at every step. A ``scale_fn`` that is a function stays out of ``state_dict``.

    Differs from torch: a group added later has its share of the last group's rates, in the proportion that its learning
    rate has when it comes, and the last group's momentum; where the last group is at 0, its learning rate is its lowest
    one. torch raises.

    Paper: `Cyclical learning rates <https://arxiv.org/abs/1506.01186>`_.

    Example:
        >>> import torch
        >>> from torchpace.optim.lr_scheduler import CyclicLR
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9)
        >>> scheduler = CyclicLR(optimizer, base_lr=0.0, max_lr=1.0, step_size_up=4)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.25]
    """

    _formula = Formula("CyclicLR")

    max_lrs: list[float | Tensor]
    base_momentums: list[float]
    max_momentums: list[float]

    def _adopt_group(self, group: dict[str, Any], last: int, share: Any) -> None:
        if share is not None:
            # Which `initial_lr` need not be: that is of the first scheduler.
            self.base_lrs[-1] = shared(self.base_lrs[last], share)
        self.max_lrs = [*self.max_lrs, shared(self.max_lrs[last], share)]
        if self.cycle_momentum:
            self.base_momentums = [*self.base_momentums, copied(self.base_momentums[last])]
            self.max_momentums = [*self.max_momentums, copied(self.max_momentums[last])]
            group.setdefault("max_momentum", copied(self.max_momentums[last]))
            group.setdefault("base_momentum", copied(self.base_momentums[last]))


class OneCycleLR(LRScheduler, lr_scheduler.OneCycleLR):
    r"""Let the learning rate go up once and then far down, and momentum the other way.

    Each phase goes from one value to another, by the share :math:`p` of it that is over: for ``"cos"``
    :math:`b + (a - b) (1 + \cos \pi p) / 2`, for ``"linear"`` :math:`a + (b - a) p`. The first goes from
    ``max_lr / div_factor`` to ``max_lr`` in ``pct_start`` of all steps; the second to
    ``max_lr / div_factor / final_div_factor`` in the rest, or, with ``three_phase``, back in as many steps, and a third
    one down.

    Args:
        optimizer: whose groups' ``lr`` is set.
        max_lr: the highest learning rate, one or a list of one for each group.
        total_steps: all steps, an integer > 0; None is ``epochs * steps_per_epoch`` (default: None).
        epochs: an integer > 0 (default: None).
        steps_per_epoch: an integer > 0 (default: None).
        pct_start: the share of the steps that go up, a float in [0, 1] (default: 0.3).
        anneal_strategy: ``"cos"`` or ``"linear"`` (default: ``"cos"``).
        cycle_momentum: cycle ``momentum``, or the first of the ``betas``, too (default: True).
        base_momentum: the lowest momentum, one or a list (default: 0.85).
        max_momentum: the highest, one or a list (default: 0.95).
        div_factor: ``max_lr`` to ``initial_lr`` (default: 25).
        final_div_factor: ``initial_lr`` to the last one (default: 1e4).
        three_phase: go back as one came, then down (default: False).
        last_epoch: the step to resume after; -1 begins anew (default: -1).
        past_end: what step ``total_steps + 1`` and later ones do: ``"raise"`` is an error, as in torch; ``"hold"``
            keeps what step ``total_steps - 1``, the last of the cycle, has set, from step ``total_steps`` on;
            ``"extend"`` goes on by the last phase's formula, never below 0, with the momentum of the cycle's last step.
            A keyword only, and in ``state_dict`` only if not ``"raise"`` (default: ``"raise"``).

    Raises:
        ValueError: an argument is out of range, a list has another length than there are groups, ``cycle_momentum`` is
            set and the optimizer has none, or a step is past the end under ``past_end="raise"``.
        TypeError: ``optimizer`` is no optimizer.
        KeyError: ``last_epoch >= 0`` and a group lacks ``initial_lr``.

    Matches torch: to the bit, at every step; also in step ``total_steps``, where torch's formula has gone past its end
    already and gives a higher (``"cos"``) or lower (``"linear"``) learning rate than the last one.

    Differs from torch: ``past_end``. A group added later has its share of the last group's rates, in the proportion
    that its learning rate has when it comes, and the last group's momentum. torch raises.

    Paper: `Super-convergence <https://arxiv.org/abs/1708.07120>`_.

    Example:
        >>> import torch
        >>> from torchpace.optim.lr_scheduler import OneCycleLR
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9)
        >>> scheduler = OneCycleLR(optimizer, max_lr=1.0, total_steps=10, past_end="hold")
        >>> optimizer.step()
        >>> for _ in range(100):
        ...     scheduler.step()
        >>> print(f"{scheduler.get_last_lr()[0]:.1e}")
        4.0e-06
    """

    _formula = Formula("OneCycleLR")

    last_epoch: int
    total_steps: int

    past_end: Literal["raise", "hold", "extend"] = "raise"

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: Literal["cos", "linear"] = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
        *,
        past_end: Literal["raise", "hold", "extend"] = "raise",
    ) -> None:
        if past_end not in _PAST_END:
            raise ValueError(f"past_end is {past_end!r}, expected one of {', '.join(map(repr, _PAST_END))}")
        if past_end != "raise":
            self.past_end = past_end
        super().__init__(
            optimizer,
            max_lr,
            total_steps,
            epochs,
            steps_per_epoch,
            pct_start,
            anneal_strategy,
            cycle_momentum,
            base_momentum,
            max_momentum,
            div_factor,
            final_div_factor,
            three_phase,
            last_epoch,
        )

    def get_lr(self) -> list[float | Tensor]:
        """Work out the learning rates of step `last_epoch`, as in torch; sets the momentum too."""
        step, total = self.last_epoch, self.total_steps
        if self.past_end == "raise" or step < total or (self.past_end == "extend" and step == total):
            return super().get_lr()
        try:
            if self.past_end == "extend":
                self.total_steps = step  # which torch only compares with
                lrs = super().get_lr()
                self.total_steps = total
            # Sets the last momentum.
            self.last_epoch = total - 1
            last = super().get_lr()
        finally:
            self.last_epoch, self.total_steps = step, total
        if self.past_end == "hold":
            return last
        return [lr.clamp(min=0) if isinstance(lr, Tensor) else max(lr, 0.0) for lr in lrs]

    def _adopt_group(self, group: dict[str, Any], last: int, share: Any) -> None:
        other = self.optimizer.param_groups[last]
        for key in ("max_lr", "min_lr"):
            group.setdefault(key, shared(other[key], share))
        if self.cycle_momentum:
            for key in ("max_momentum", "base_momentum"):
                group.setdefault(key, copied(other[key]))
