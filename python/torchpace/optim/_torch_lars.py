"""LARS in torch's operators, as `torch.optim` would have it: the way of steps that cannot be fused."""

from collections.abc import Callable
from typing import Any, TypeVar, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT, _use_grad_for_differentiable

from torchpace.optim._norms import norm

_Loss = TypeVar("_Loss", bound="float | Tensor")


class LARS(Optimizer):
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
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        if not lr >= 0:
            raise ValueError(f"Invalid learning rate: {lr}")
        if not momentum >= 0:
            raise ValueError(f"Invalid momentum value: {momentum}")
        if not weight_decay >= 0:
            raise ValueError(f"Invalid weight_decay value: {weight_decay}")
        if trust_coefficient is not None and not trust_coefficient >= 0:
            raise ValueError(f"Invalid trust_coefficient value: {trust_coefficient}")
        if not eps >= 0:
            raise ValueError(f"Invalid epsilon value: {eps}")
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
        for group in self.param_groups:
            for name in ("nesterov", "trust_coefficient", "eps", "foreach", "maximize", "differentiable"):
                group.setdefault(name, self.defaults[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        momentum_buffers: list[Tensor | None],
    ) -> bool:
        for param in group["params"]:
            if param.grad is None:
                continue
            if param.grad.is_sparse:
                raise RuntimeError("LARS does not support sparse gradients")
            params.append(param)
            grads.append(param.grad)
            momentum_buffers.append(self.state[param].get("momentum_buffer") if group["momentum"] != 0 else None)
        return False

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], _Loss]) -> _Loss: ...

    @_use_grad_for_differentiable
    def step(self, closure: Callable[[], _Loss] | None = None) -> _Loss | None:
        """Perform a single optimization step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params: list[Tensor] = []
            grads: list[Tensor] = []
            momentum_buffers: list[Tensor | None] = []
            self._init_group(group, params, grads, momentum_buffers)
            for param, grad, buffer in zip(params, grads, momentum_buffers, strict=True):
                buffer = _update(param, grad, buffer, group)
                if buffer is not None:
                    self.state[param]["momentum_buffer"] = buffer
        return loss


def _update(param: Tensor, grad: Tensor, buffer: Tensor | None, group: dict[str, Any]) -> Tensor | None:
    """Step, and return the momentum buffer."""
    lr, momentum, weight_decay, trust = (group[key] for key in ("lr", "momentum", "weight_decay", "trust_coefficient"))
    if isinstance(lr, Tensor):
        lr = lr.reshape(())
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
        if buffer is None:
            buffer = grad.detach().clone()
        else:
            buffer.mul_(momentum).add_(grad * (1 - group["dampening"]))
        grad = grad + buffer * momentum if group["nesterov"] else buffer
    param.sub_(grad * lr)
    return buffer
