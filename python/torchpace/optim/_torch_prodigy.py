"""Prodigy in torch's operators, for steps that cannot be fused."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, overload

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from torchpace.optim._by_operators import ByOperators, check, parts

_Loss = TypeVar("_Loss", bound="float | Tensor")

_LEARNED = ("d", "d_max", "d_hat", "d_numerator", "d_denom", "k")
"""What a step writes into all groups."""

_SHARED = ("betas", "beta3", "use_bias_correction", "safeguard_warmup", "d0", "d_coef", "growth_rate", *_LEARNED)
"""Options that are one for all groups."""


class Prodigy(ByOperators):
    """One operator after the other. What is said of `torchpace.optim.Prodigy` is true of it, but for clipping."""

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        beta3: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decouple: bool = True,
        use_bias_correction: bool = False,
        safeguard_warmup: bool = False,
        d0: float = 1e-6,
        d_coef: float = 1.0,
        growth_rate: float = math.inf,
        fsdp_in_use: bool = False,
        slice_p: int = 1,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ) -> None:
        check(lr, betas, beta3=beta3, weight_decay=weight_decay, d_coef=d_coef)
        if not growth_rate >= 1:
            raise ValueError(f"Invalid growth_rate value: {growth_rate}")
        for name, value in (("epsilon", eps), ("d0", d0)):
            if not value > 0:
                raise ValueError(f"Invalid {name} value: {value}")
        if not (isinstance(slice_p, int) and slice_p >= 1):
            raise ValueError(f"Invalid slice_p value: {slice_p}")
        defaults = {
            "lr": lr,
            "betas": betas,
            "beta3": beta3,
            "eps": eps,
            "weight_decay": weight_decay,
            "d": d0,
            "d0": d0,
            "d_max": d0,
            "d_numerator": 0.0,
            "d_coef": d_coef,
            "k": 0,
            "growth_rate": growth_rate,
            "use_bias_correction": use_bias_correction,
            "decouple": decouple,
            "safeguard_warmup": safeguard_warmup,
            "fsdp_in_use": fsdp_in_use,
            "slice_p": slice_p,
            "foreach": foreach,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, as in torch; the estimate is that of the others."""
        known = self.param_groups[0] if self.param_groups else {}
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        group.update({name: known[name] for name in _LEARNED if name in known})
        if any(hasattr(param, "_fsdp_flattened") for param in group["params"]):
            group["fsdp_in_use"] = True

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a state, also one of the authors' package, which keeps ``s`` and ``p0`` flat."""
        super().__setstate__(state)
        self._set_missing("foreach", "maximize")
        for group in self.param_groups:
            for param in group["params"]:
                entries = self.state.get(param, {})
                entries.pop("step", None)
                for name in ("s", "p0"):
                    if name in entries and group["slice_p"] == 1 and entries[name].shape != param.shape:
                        shaped = torch.zeros_like(param, memory_format=torch.preserve_format)
                        # A parameter that began as zeros has one for all.
                        flat = entries[name].expand(param.numel()) if entries[name].ndim == 0 else entries[name]
                        entries[name] = shaped.copy_(flat.reshape(param.shape))

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], _Loss]) -> _Loss: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], _Loss] | None = None) -> _Loss | None:
        """Perform a single optimization step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._check_shared()
        members = [(group, *tensors) for group in self.param_groups for tensors in self._members(group)]
        # A process that has none still waits for the others' sums.
        if members or any(group["fsdp_in_use"] for group in self.param_groups):
            found = self._estimate(members)
            for group, param, _, entries in members:
                if found["d_denom"] != 0:
                    self._move(group, param, entries, found["d"])
            for group in self.param_groups:
                group.update(found)
        return loss

    def _check_shared(self) -> None:
        first = _shared(max(self.param_groups, key=lambda group: float(group["lr"]) != 0))
        for at, group in enumerate(self.param_groups):
            for name, found in _shared(group).items():
                if found != first[name] and not (name == "lr" and float(found) == 0):
                    raise ValueError(f"param_groups[{at}] has {name}={found}, expected {first[name]} as in all groups")

    def _members(self, group: dict[str, Any]) -> Iterator[tuple[Tensor, Tensor, dict[str, Tensor]]]:
        """The parameters of a group that move, their gradients and their state, all by their parts."""
        lists: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._init_group(group, *lists)
        for param, grad in zip(*lists, strict=True):
            if float(group["lr"]) == 0:
                continue
            state = self.state[param]
            if len(state) == 0:
                flat = param.detach().clone(memory_format=torch.preserve_format)
                first = flat if group["slice_p"] == 1 else flat.flatten()[:: group["slice_p"]].clone()
                state["s"] = torch.zeros_like(first, memory_format=torch.preserve_format)
                state["p0"] = first
                names = ("exp_avg", "exp_avg_sq") if group["betas"][0] > 0 else ("exp_avg_sq",)
                for name in names:
                    state[name] = torch.zeros_like(param, memory_format=torch.preserve_format)
            entries = {name: parts(entry)[0] for name, entry in state.items()}
            param, grad = parts(param, -grad if group["maximize"] else grad)
            if group["weight_decay"] != 0 and not group["decouple"]:
                grad = grad + param * group["weight_decay"]
            entries["grad"] = grad
            yield param, grad, entries

    def _estimate(self, members: list[tuple[dict[str, Any], Tensor, Tensor, dict[str, Tensor]]]) -> dict[str, Any]:
        """Take the gradients into the state; what all groups then keep."""
        group = self.param_groups[0]
        d, d0, (beta1, beta2) = group["d"], group["d0"], group["betas"]
        beta3 = beta2**0.5 if group["beta3"] is None else group["beta3"]
        gained: list[Tensor] = []
        sizes: list[Tensor] = []
        for group, param, grad, entries in members:
            share = d / d0 * _rate(group)
            stride = group["slice_p"]
            of = (grad, param) if stride == 1 else (grad.flatten()[::stride], param.flatten()[::stride])
            gained.append(share * _sum(of[0] * (entries["p0"] - of[1])))
            if "exp_avg" in entries:
                entries["exp_avg"].mul_(beta1).add_(grad, alpha=d * (1 - beta1))
            entries["exp_avg_sq"].mul_(beta2).addcmul_(grad, grad, value=d * d * (1 - beta2))
            entries["s"].mul_(beta3).add_(of[0], alpha=d / d0 * d if group["safeguard_warmup"] else share)
            sizes.append(_sum(entries["s"].abs()))
        home = next(param.device for group in self.param_groups for param in group["params"])
        none = torch.zeros((), dtype=gained[0].dtype if gained else torch.float64, device=home)
        sums = torch.stack([sum((one.to(home) for one in all_of), none) for all_of in (gained, sizes)])
        if any(group["fsdp_in_use"] for group in self.param_groups):
            torch.distributed.all_reduce(sums)
        return _learned(self.param_groups[0], beta3, *sums.tolist())

    def _move(self, group: dict[str, Any], param: Tensor, entries: dict[str, Tensor], d: float) -> None:
        rate = _rate(group)
        mean = entries["exp_avg"] if "exp_avg" in entries else entries["grad"] * group["d"]
        direction = mean / (entries["exp_avg_sq"].sqrt() + d * group["eps"])
        change = direction * rate
        if group["weight_decay"] != 0 and group["decouple"]:
            # Not as a factor: beside 1 the rates of the first steps would be lost.
            change.add_(param, alpha=rate * group["weight_decay"])
        param.sub_(change)


def _shared(group: dict[str, Any]) -> dict[str, Any]:
    """What is to be the same in all groups; the rate where it is not 0."""
    return {name: tuple(group[name]) if name == "betas" else group.get(name) for name in ("lr", *_SHARED)}


def _rate(group: dict[str, Any]) -> float:
    """A group's learning rate with the estimate in it."""
    (beta1, beta2), steps = group["betas"], group["k"] + 1
    bias = (1 - beta2**steps) ** 0.5 / (1 - beta1**steps) if group["use_bias_correction"] else 1.0
    rate: float = group["d"] * float(group["lr"]) * bias
    return rate


def _sum(tensor: Tensor) -> Tensor:
    """The sum over all elements, of all shards of a tensor that is spread."""
    total = tensor.sum(dtype=None if tensor.device.type == "mps" else torch.float64)
    full: Callable[[], Tensor] | None = getattr(total, "full_tensor", None)
    return total if full is None else full()


def _learned(group: dict[str, Any], beta3: float, gained: float, size: float) -> dict[str, Any]:
    """What comes of the sums."""
    d, d_max, k = group["d"], group["d_max"], group["k"]
    numerator = beta3 * group["d_numerator"] + gained
    d_hat = group["d_coef"] * numerator / size if size != 0 else math.nan
    if not math.isfinite(d_hat):
        # Of gradients that are 0, infinite or NaN nothing is learnt.
        return {"d_hat": d, "d_denom": size, "k": k if size == 0 else k + 1, "d": d, "d_max": d_max}
    d = max(d, d_hat) if d == group["d0"] else d
    d_max = max(d_max, d_hat)
    d = min(d_max, d * group["growth_rate"])
    return {"d": d, "d_max": d_max, "d_hat": d_hat, "d_numerator": numerator, "d_denom": size, "k": k + 1}
