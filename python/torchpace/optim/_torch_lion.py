"""Lion in torch's operators, as `torch.optim` would have it: the way of steps that cannot be fused."""

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from torchpace.optim._by_operators import ByOperators, check, parts, rate


class Lion(ByOperators):
    """One operator after the other. What is said of `torchpace.optim.Lion` is true of it, but for clipping."""

    _entries = ("exp_avg",)

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check(lr, betas, weight_decay=weight_decay)
        defaults = {
            "lr": lr,
            "betas": betas,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a state; of other packages' checkpoints, too, which have other options."""
        super().__setstate__(state)
        self._set_missing("foreach", "maximize", "differentiable")

    def _update(self, group: dict[str, Any], param: Tensor, grad: Tensor, *entries: Tensor) -> None:
        lr, (beta1, beta2) = rate(group), group["betas"]
        param, grad, exp_avg = parts(param, -grad if group["maximize"] else grad, *entries)
        if group["weight_decay"] != 0:
            param.mul_(1 - lr * group["weight_decay"])
        param.sub_(torch.lerp(exp_avg, grad, 1 - beta1).sign_() * lr)
        exp_avg.lerp_(grad, 1 - beta2)
