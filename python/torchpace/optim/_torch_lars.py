"""LARS in torch's operators, as `torch.optim` would have it: the way of steps that cannot be fused."""

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from torchpace.optim._by_operators import ByOperators, check, rate
from torchpace.optim._norms import norm

_NUMBERS = ("momentum", "weight_decay", "trust_coefficient")


class LARS(ByOperators):
    """One operator after the other. What is said of `torchpace.optim.LARS` is true of it, but for clipping."""

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.0,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        trust_coefficient: float | None = 0.001,
        eps: float = 1e-8,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check(lr, momentum=momentum, weight_decay=weight_decay, trust_coefficient=trust_coefficient, eps=eps)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "trust_coefficient": trust_coefficient,
            "eps": eps,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a state; of other packages' checkpoints, too, which have other options."""
        super().__setstate__(state)
        self._set_missing("nesterov", "trust_coefficient", "eps", "foreach", "maximize", "differentiable")

    def _update(self, group: dict[str, Any], param: Tensor, grad: Tensor, *entries: Tensor) -> None:
        lr, momentum, weight_decay, trust = rate(group), *(group[key] for key in _NUMBERS)
        grad = -grad if group["maximize"] else grad
        quotient = None
        if trust is not None:
            # Autograd would miss what the norm is of once that has changed.
            length, slope = norm(param.clone() if group["differentiable"] else param), norm(grad)
            # Which the host need not know.
            is_none, one = (length == 0) | (slope == 0), torch.ones_like(length)
            divisor = torch.where(is_none, one, slope + length * weight_decay + group["eps"])
            quotient = torch.where(is_none, one, length * trust / divisor)
        if weight_decay != 0:
            grad = grad + param * weight_decay
        if quotient is not None:
            # A 0-dim gradient would become as wide as the quotient.
            grad = (grad * quotient).to(grad.dtype)
        if momentum != 0:
            state = self.state[param]
            buffer = state.get("momentum_buffer")
            if buffer is None:
                buffer = state["momentum_buffer"] = grad.detach().clone()
            else:
                buffer.mul_(momentum).add_(grad * (1 - group["dampening"]))
            grad = grad + buffer * momentum if group["nesterov"] else buffer
        param.sub_(grad * lr)
