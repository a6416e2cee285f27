"""AdEMAMix in torch's operators, as `torch.optim` would have it: the way of steps that cannot be fused."""

import math
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

_Loss = TypeVar("_Loss", bound="float | Tensor")


class AdEMAMix(Optimizer):
    """One operator after the other. What is said of `torchpace.optim.AdEMAMix` is true of it, but for clipping."""

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float, float] = (0.9, 0.999, 0.9999),
        alpha: float = 2.0,
        beta3_warmup: int | float | None = None,
        alpha_warmup: int | float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        if not lr >= 0:
            raise ValueError(f"Invalid learning rate: {lr}")
        if not hasattr(betas, "__len__") or len(betas) != 3:
            raise ValueError(f"Invalid betas: {betas}, expected three numbers")
        for index, beta in enumerate(betas):
            if not 0 <= beta < 1:
                raise ValueError(f"Invalid beta parameter at index {index}: {beta}")
        if not alpha >= 0:
            raise ValueError(f"Invalid alpha value: {alpha}")
        if beta3_warmup is not None and not beta3_warmup >= 0:
            raise ValueError(f"Invalid beta3_warmup value: {beta3_warmup}")
        if alpha_warmup is not None and not alpha_warmup >= 0:
            raise ValueError(f"Invalid alpha_warmup value: {alpha_warmup}")
        if not eps >= 0:
            raise ValueError(f"Invalid epsilon value: {eps}")
        if not weight_decay >= 0:
            raise ValueError(f"Invalid weight_decay value: {weight_decay}")
        defaults = {
            "lr": lr,
            "betas": betas,
            "alpha": alpha,
            "beta3_warmup": beta3_warmup,
            "alpha_warmup": alpha_warmup,
            "eps": eps,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
            "capturable": capturable,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a state; of other packages' checkpoints, too, which have other options and numbers for counts."""
        super().__setstate__(state)
        for group in self.param_groups:
            for name in ("beta3_warmup", "alpha_warmup", "foreach", "maximize", "capturable", "differentiable"):
                group.setdefault(name, self.defaults[name])
            for param in group["params"]:
                entries = self.state.get(param, {})
                if "step" in entries and not isinstance(entries["step"], Tensor):
                    entries["step"] = _count(param, group, float(entries["step"]))

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        exp_avgs_fast: list[Tensor],
        exp_avgs_slow: list[Tensor],
        exp_avg_sqs: list[Tensor],
        counts: list[Tensor],
    ) -> bool:
        has_complex = False
        for param in group["params"]:
            if param.grad is None:
                continue
            if param.grad.is_sparse:
                raise RuntimeError("AdEMAMix does not support sparse gradients")
            has_complex |= torch.is_complex(param)
            state = self.state[param]
            if len(state) == 0:
                state["step"] = _count(param, group, 0.0)
                for name in ("exp_avg_fast", "exp_avg_slow", "exp_avg_sq"):
                    state[name] = torch.zeros_like(param, memory_format=torch.preserve_format)
            params.append(param)
            grads.append(param.grad)
            exp_avgs_fast.append(state["exp_avg_fast"])
            exp_avgs_slow.append(state["exp_avg_slow"])
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
            lists: tuple[list[Tensor], ...] = ([], [], [], [], [], [])
            self._init_group(group, *lists)
            for tensors in zip(*lists, strict=True):
                _update(group, *tensors)
        return loss


def _count(param: Tensor, group: dict[str, Any], value: float) -> Tensor:
    dtype = torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32
    return torch.full((), value, dtype=dtype, device=param.device if group["capturable"] else "cpu")


def _update(
    group: dict[str, Any],
    param: Tensor,
    grad: Tensor,
    exp_avg_fast: Tensor,
    exp_avg_slow: Tensor,
    exp_avg_sq: Tensor,
    count: Tensor,
) -> None:
    is_compiling = torch.compiler.is_compiling()
    if group["capturable"] and not is_compiling:
        devices = _get_capturable_supported_devices()
        if not (param.device.type == count.device.type and param.device.type in devices):
            raise AssertionError(f"If capturable=True, params and state_steps must be on supported devices: {devices}.")
    lr, eps = group["lr"], group["eps"]
    beta1, beta2, beta3 = (float(beta) for beta in group["betas"])
    if isinstance(lr, Tensor):
        lr = lr.reshape(())
    grad = -grad if group["maximize"] else grad
    if torch.is_complex(param):
        param, grad, exp_avg_fast, exp_avg_slow, exp_avg_sq = (
            torch.view_as_real(tensor) for tensor in (param, grad, exp_avg_fast, exp_avg_slow, exp_avg_sq)
        )
    count += 1
    # A graph, or a compiled step, reads the count anew each time it runs.
    step: float | Tensor = count.double() if group["capturable"] or is_compiling else count.item()
    beta3 = _rising_beta(step, beta1, beta3, group["beta3_warmup"])
    alpha = group["alpha"] * _share(step, group["alpha_warmup"])
    if group["weight_decay"] != 0:
        param.mul_(1 - lr * group["weight_decay"])
    exp_avg_fast.lerp_(grad, 1 - beta1)
    # Not by lerp, whose weight has to be of the tensors' type.
    exp_avg_slow.add_((grad - exp_avg_slow) * (1 - beta3))
    exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
    # Numbers first, so that a division by zero is Python's error.
    unbias_fast, unbias_sq = 1 / (1 - beta1**step), (1 - beta2**step) ** -0.5
    direction = (exp_avg_fast * unbias_fast + exp_avg_slow * alpha) / (exp_avg_sq.sqrt() * unbias_sq + eps)
    param.sub_(direction * lr)


def _share(step: float | Tensor, warmup: float | None) -> Any:
    """How much of a warmup is done, a number or a 0-dim tensor."""
    if not warmup:
        return 1.0
    share = step / float(warmup)
    return share.clamp(max=1.0) if isinstance(share, Tensor) else min(share, 1.0)


def _rising_beta(step: float | Tensor, first: float, last: float, warmup: float | None) -> Any:
    """The beta of a step, whose half-life rises linearly."""
    if not warmup:
        return last
    share = _share(step, warmup)
    half_life = (1 - share) * _half_life(first) + share * _half_life(last)
    beta = 0.5 ** (1 / (half_life + 1))
    if isinstance(beta, Tensor):
        return torch.where(share < 1, beta, last)
    return beta if share < 1 else last


def _half_life(beta: float) -> float:
    """After how many steps an average has forgotten half, less one.

    The authors add 1e-8, so that a decay of 0 has one too; up to 1, so that one close to 1 has.
    """
    return math.log(0.5) / math.log(min(beta + 1e-8, 1 - 1e-8)) - 1
