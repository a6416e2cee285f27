"""LAMB in torch's operators, as `torch.optim` would have it: the way of steps that cannot be fused."""

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from torchpace.optim._by_operators import ByOperators, advance, check, new_count, parts, rate
from torchpace.optim._norms import norm


class LAMB(ByOperators):
    """One operator after the other. What is said of `torchpace.optim.LAMB` is true of it, but for clipping."""

    _entries = ("step", "exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        *,
        bias_correction: bool = True,
        trust_clip: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        check(lr, betas, eps=eps, weight_decay=weight_decay)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "bias_correction": bias_correction,
            "trust_clip": trust_clip,
            "foreach": foreach,
            "maximize": maximize,
            "capturable": capturable,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a state; of other packages' checkpoints, too, which lack options and count once for a group."""
        super().__setstate__(state)
        self._set_missing("bias_correction", "trust_clip", "foreach", "maximize", "capturable", "differentiable")
        for group in self.param_groups:
            of_all = group.pop("step", 0)
            for param in group["params"]:
                entries = self.state.get(param, {})
                count = entries.get("step", of_all)
                if entries and not ("step" in entries and isinstance(count, Tensor)):
                    entries["step"] = new_count(param, group, float(count))

    def _update(self, group: dict[str, Any], param: Tensor, grad: Tensor, *entries: Tensor) -> None:
        lr, (beta1, beta2) = rate(group), (float(beta) for beta in group["betas"])
        count, *averages = entries
        step = advance(group, param, count)
        param, grad, exp_avg, exp_avg_sq = parts(param, -grad if group["maximize"] else grad, *averages)
        exp_avg.lerp_(grad, 1 - beta1)
        exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        unbias, unbias_sq = (1 / (1 - beta1**step), (1 - beta2**step) ** -0.5) if group["bias_correction"] else (1, 1)
        direction = (exp_avg * unbias) / (exp_avg_sq.sqrt() * unbias_sq + group["eps"])
        if group["weight_decay"] != 0:
            direction = direction + param * group["weight_decay"]
        # Autograd would miss what the norm is of once that has changed.
        quotient = _quotient(norm(param.clone() if group["differentiable"] else param), norm(direction))
        if group["trust_clip"]:
            quotient = quotient.clamp(max=1.0)
        param.sub_(direction * (quotient * lr))


def _quotient(length: Tensor, of_direction: Tensor) -> Tensor:
    """The parameter's norm by that of its update; 1 where one is 0, which the host need not know."""
    is_none, one = (length == 0) | (of_direction == 0), torch.ones_like(length)
    return torch.where(is_none, one, length / torch.where(is_none, one, of_direction))
