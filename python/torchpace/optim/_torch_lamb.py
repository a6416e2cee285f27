"""LAMB in torch's operators, as `torch.optim` would have it: the way of steps that cannot be fused."""

from collections.abc import Callable
from typing import Any, TypeVar, overload

import torch
from torch import Tensor
from torch.optim.optimizer import (
    Optimizer,
    ParamsT,
    _get_capturable_supported_devices,
    _use_grad_for_differentiable,
)

from torchpace.optim._norms import norm

_Loss = TypeVar("_Loss", bound="float | Tensor")


class LAMB(Optimizer):
    """One operator after the other. What is said of `torchpace.optim.LAMB` is true of it, but for clipping."""

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
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        if not lr >= 0:
            raise ValueError(f"Invalid learning rate: {lr}")
        for index, beta in enumerate(betas):
            if not 0 <= beta < 1:
                raise ValueError(f"Invalid beta parameter at index {index}: {beta}")
        if not eps >= 0:
            raise ValueError(f"Invalid epsilon value: {eps}")
        if not weight_decay >= 0:
            raise ValueError(f"Invalid weight_decay value: {weight_decay}")
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
        for group in self.param_groups:
            for name in ("bias_correction", "trust_clip", "foreach", "maximize", "capturable", "differentiable"):
                group.setdefault(name, self.defaults[name])
            of_all = group.pop("step", 0)
            for param in group["params"]:
                entries = self.state.get(param, {})
                count = entries.get("step", of_all)
                if entries and not ("step" in entries and isinstance(count, Tensor)):
                    entries["step"] = _count(param, group, float(count))

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        exp_avgs: list[Tensor],
        exp_avg_sqs: list[Tensor],
        counts: list[Tensor],
    ) -> bool:
        has_complex = False
        for param in group["params"]:
            if param.grad is None:
                continue
            if param.grad.is_sparse:
                raise RuntimeError("LAMB does not support sparse gradients")
            has_complex |= torch.is_complex(param)
            state = self.state[param]
            if len(state) == 0:
                state["step"] = _count(param, group, 0.0)
                for name in ("exp_avg", "exp_avg_sq"):
                    state[name] = torch.zeros_like(param, memory_format=torch.preserve_format)
            params.append(param)
            grads.append(param.grad)
            exp_avgs.append(state["exp_avg"])
            exp_avg_sqs.append(state["exp_avg_sq"])
            counts.append(state["step"])
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
            lists: tuple[list[Tensor], ...] = ([], [], [], [], [])
            self._init_group(group, *lists)
            for tensors in zip(*lists, strict=True):
                _update(group, *tensors)
        return loss


def _count(param: Tensor, group: dict[str, Any], value: float) -> Tensor:
    dtype = torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32
    return torch.full((), value, dtype=dtype, device=param.device if group["capturable"] else "cpu")


def _update(
    group: dict[str, Any], param: Tensor, grad: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, count: Tensor
) -> None:
    is_compiling = torch.compiler.is_compiling()
    if group["capturable"] and not is_compiling:
        devices = _get_capturable_supported_devices()
        if not (param.device.type == count.device.type and param.device.type in devices):
            raise AssertionError(f"If capturable=True, params and state_steps must be on supported devices: {devices}.")
    lr, (beta1, beta2) = group["lr"], (float(beta) for beta in group["betas"])
    if isinstance(lr, Tensor):
        lr = lr.reshape(())
    grad = -grad if group["maximize"] else grad
    if torch.is_complex(param):
        param, grad, exp_avg, exp_avg_sq = (torch.view_as_real(tensor) for tensor in (param, grad, exp_avg, exp_avg_sq))
    count += 1
    # A graph, or a compiled step, reads the count anew each time it runs.
    step: float | Tensor = count.double() if group["capturable"] or is_compiling else count.item()
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
