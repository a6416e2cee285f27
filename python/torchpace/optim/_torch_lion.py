"""Lion in torch's operators, as `torch.optim` would have it: the way of steps that cannot be fused."""

from collections.abc import Callable
from typing import Any, TypeVar, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT, _use_grad_for_differentiable

_Loss = TypeVar("_Loss", bound="float | Tensor")


class Lion(Optimizer):
    """One operator after the other. What is said of `torchpace.optim.Lion` is true of it, but for clipping."""

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
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        if not lr >= 0:
            raise ValueError(f"Invalid learning rate: {lr}")
        for index, beta in enumerate(betas):
            if not 0 <= beta < 1:
                raise ValueError(f"Invalid beta parameter at index {index}: {beta}")
        if not weight_decay >= 0:
            raise ValueError(f"Invalid weight_decay value: {weight_decay}")
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
        for group in self.param_groups:
            for name in ("foreach", "maximize", "differentiable"):
                group.setdefault(name, self.defaults[name])

    def _init_group(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], exp_avgs: list[Tensor]
    ) -> bool:
        has_complex = False
        for param in group["params"]:
            if param.grad is None:
                continue
            if param.grad.is_sparse:
                raise RuntimeError("Lion does not support sparse gradients")
            has_complex |= torch.is_complex(param)
            state = self.state[param]
            if len(state) == 0:
                state["exp_avg"] = torch.zeros_like(param, memory_format=torch.preserve_format)
            params.append(param)
            grads.append(param.grad)
            exp_avgs.append(state["exp_avg"])
        return has_complex

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
            exp_avgs: list[Tensor] = []
            self._init_group(group, params, grads, exp_avgs)
            for param, grad, exp_avg in zip(params, grads, exp_avgs, strict=True):
                _update(param, grad, exp_avg, group)
        return loss


def _update(param: Tensor, grad: Tensor, exp_avg: Tensor, group: dict[str, Any]) -> None:
    lr, (beta1, beta2) = group["lr"], group["betas"]
    if isinstance(lr, Tensor):
        lr = lr.reshape(())
    grad = -grad if group["maximize"] else grad
    if torch.is_complex(param):
        param, grad, exp_avg = (torch.view_as_real(tensor) for tensor in (param, grad, exp_avg))
    if group["weight_decay"] != 0:
        param.mul_(1 - lr * group["weight_decay"])
    param.sub_(torch.lerp(exp_avg, grad, 1 - beta1).sign_() * lr)
    exp_avg.lerp_(grad, 1 - beta2)
