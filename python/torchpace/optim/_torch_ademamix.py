"""AdEMAMix in torch's operators, as `torch.optim` would have it: the way of steps that cannot be fused."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from torchpace.optim._by_operators import ByOperators, advance, check, new_count, parts, rate


class AdEMAMix(ByOperators):
    """One operator after the other. What is said of `torchpace.optim.AdEMAMix` is true of it, but for clipping."""

    _entries = ("step", "exp_avg_fast", "exp_avg_slow", "exp_avg_sq")

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
        if not hasattr(betas, "__len__") or len(betas) != 3:
            raise ValueError(f"Invalid betas: {betas}, expected three numbers")
        warmups = {"beta3_warmup": beta3_warmup, "alpha_warmup": alpha_warmup}
        check(lr, betas, alpha=alpha, **warmups, eps=eps, weight_decay=weight_decay)
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
        self._set_missing("beta3_warmup", "alpha_warmup", "foreach", "maximize", "capturable", "differentiable")
        for group in self.param_groups:
            for param in group["params"]:
                entries = self.state.get(param, {})
                if "step" in entries and not isinstance(entries["step"], Tensor):
                    entries["step"] = new_count(param, group, float(entries["step"]))

    def _update(self, group: dict[str, Any], param: Tensor, grad: Tensor, *entries: Tensor) -> None:
        lr, (beta1, beta2, beta3) = rate(group), (float(beta) for beta in group["betas"])
        count, *averages = entries
        step = advance(group, param, count)
        param, grad, fast, slow, exp_avg_sq = parts(param, -grad if group["maximize"] else grad, *averages)
        beta3 = _rising_beta(step, beta1, beta3, group["beta3_warmup"])
        alpha = group["alpha"] * _share(step, group["alpha_warmup"])
        if group["weight_decay"] != 0:
            param.mul_(1 - lr * group["weight_decay"])
        fast.lerp_(grad, 1 - beta1)
        # Not by lerp, whose weight has to be of the tensors' type.
        slow.add_((grad - slow) * (1 - beta3))
        exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        # Numbers first, so that a division by zero is Python's error.
        unbias_fast, unbias_sq = 1 / (1 - beta1**step), (1 - beta2**step) ** -0.5
        direction = (fast * unbias_fast + slow * alpha) / (exp_avg_sq.sqrt() * unbias_sq + group["eps"])
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
