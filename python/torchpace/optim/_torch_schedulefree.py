"""The schedule-free rules in torch's operators, for steps that cannot be fused, and their two modes."""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from torchpace.optim._by_operators import ByOperators, advance, check, new_count, parts

_PLAIN = (Tensor, torch.nn.Parameter)
"""The types whose lists one operator takes at once; of others it takes no mixture."""

_SHARED = ("k", "weight_sum", "lr_max", "scheduled_lr")
"""What the authors' package counts for a whole group, among its options; here each parameter counts its own."""


class _ScheduleFree(ByOperators):
    """What both have. What is said of the classes of `torchpace.optim` is true of them, but for clipping."""

    def _init_checked(self, params: ParamsT, options: dict[str, Any]) -> None:
        names = ("eps", "weight_decay", "warmup_steps", "r", "weight_lr_power")
        check(options["lr"], **{name: options[name] for name in names if name in options})
        super().__init__(params, {**options, "train_mode": True})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, as in torch; it is in the mode that the others are in."""
        mode = {"train_mode": self.param_groups[-1]["train_mode"]} if self.param_groups else {}
        given = isinstance(param_group, dict) and "train_mode" in param_group
        super().add_param_group(param_group)
        if not given:
            self.param_groups[-1].update(mode)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a state, also one of the authors' package, which counts for a whole group."""
        super().__setstate__(state)
        names = ("warmup_steps", "r", "weight_lr_power", "foreach", "maximize", "capturable", "differentiable")
        self._set_missing(*names, "train_mode")
        for group in self.param_groups:
            shared = {name: group.pop(name) for name in _SHARED if name in group}
            for param in group["params"]:
                entries = self.state.get(param, {})
                if "k" in shared and "z" in entries:
                    entries.update(step=shared["k"], weight_sum=shared["weight_sum"], lr_max=shared["lr_max"])
                for name in ("step", "weight_sum", "lr_max"):
                    if name in entries and not isinstance(entries[name], Tensor):
                        new = self._new_entry(name, param, group)
                        entries[name] = new.fill_(float(entries[name]))

    @torch.no_grad()
    def train(self) -> None:
        """Put the points into the parameters at which gradients are taken, for steps to follow."""
        self._switch(True)

    @torch.no_grad()
    def eval(self) -> None:
        """Put the averages into the parameters, which are the result of the training so far."""
        self._switch(False)

    def _switch(self, to_train: bool) -> None:
        moved: dict[float, tuple[list[Tensor], list[Tensor]]] = {}
        changing = [at for at, group in enumerate(self.param_groups) if bool(group["train_mode"]) != to_train]
        for at in changing:
            group = self.param_groups[at]
            beta = self._beta(group)
            if not 0 < beta < 1:
                raise ValueError(f"param_groups[{at}]: {self._beta_name} is {beta}, expected a number > 0 and < 1")
            params, points = moved.setdefault(1 - beta if to_train else 1 - 1 / beta, ([], []))
            for index, param in enumerate(group["params"]):
                z = (self.state.get(param) or {}).get("z")
                if z is None:
                    continue
                if z.shape != param.shape or z.device != param.device:
                    raise RuntimeError(
                        f"param_groups[{at}]['params'][{index}]: z is of shape {list(z.shape)} on {z.device}, expected "
                        f"{list(param.shape)} on {param.device}, as its parameter"
                    )
                params.append(param)
                points.append(z)
        for weight, (params, points) in moved.items():
            _lerp(params, points, weight)
        for at in changing:
            self.param_groups[at]["train_mode"] = to_train

    _beta_name: ClassVar[str]

    def _beta(self, group: dict[str, Any]) -> float:
        """The share of the average in the point where gradients are taken."""
        raise NotImplementedError

    def _check_step(self) -> None:
        check_mode(self.param_groups)

    def _new_entry(self, name: str, param: Tensor, group: dict[str, Any]) -> Tensor:
        if name in ("weight_sum", "lr_max"):
            return new_count(param, group).double()
        if name == "z":
            return torch.clone(param.detach(), memory_format=torch.preserve_format)
        return super()._new_entry(name, param, group)

    def _update(self, group: dict[str, Any], param: Tensor, grad: Tensor, *entries: Tensor) -> None:
        count, weight_sum, lr_max, *slots = entries
        lr, share, step = _average(group, param, count, weight_sum, lr_max)
        param, grad, z, *others = parts(param, -grad if group["maximize"] else grad, *slots)
        direction = self._direction(group, grad, step, *others)
        if group["weight_decay"] != 0:
            direction = direction + param * group["weight_decay"]
        param.add_((z - param) * share).add_(direction * (lr * (self._beta(group) * (1 - share) - 1)))
        z.sub_(direction * lr)

    def _direction(self, group: dict[str, Any], grad: Tensor, step: Any, *slots: Tensor) -> Tensor:
        """What a step is taken against, but for the decay."""
        return grad


class ScheduleFreeSGD(_ScheduleFree):
    """Without a second moment."""

    _entries = ("step", "weight_sum", "lr_max", "z")
    _beta_name = "momentum"

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        warmup_steps: int | float = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        if not 0 < momentum < 1:
            raise ValueError(f"Invalid momentum value: {momentum}, expected a number > 0 and < 1")
        options = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "warmup_steps": warmup_steps,
            "r": r,
            "weight_lr_power": weight_lr_power,
            "foreach": foreach,
            "maximize": maximize,
            "capturable": capturable,
            "differentiable": differentiable,
        }
        self._init_checked(params, options)

    def _beta(self, group: dict[str, Any]) -> float:
        return float(group["momentum"])


class ScheduleFreeAdamW(_ScheduleFree):
    """With the second moment of Adam."""

    _entries = ("step", "weight_sum", "lr_max", "z", "exp_avg_sq")
    _beta_name = "betas[0]"

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.0025,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        warmup_steps: int | float = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        if not hasattr(betas, "__len__") or len(betas) != 2:
            raise ValueError(f"Invalid betas: {betas}, expected two numbers")
        if not 0 < betas[0] < 1:
            raise ValueError(f"Invalid beta parameter at index 0: {betas[0]}, expected a number > 0 and < 1")
        if not 0 <= betas[1] < 1:
            raise ValueError(f"Invalid beta parameter at index 1: {betas[1]}")
        options = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "warmup_steps": warmup_steps,
            "r": r,
            "weight_lr_power": weight_lr_power,
            "foreach": foreach,
            "maximize": maximize,
            "capturable": capturable,
            "differentiable": differentiable,
        }
        self._init_checked(params, options)

    def _beta(self, group: dict[str, Any]) -> float:
        return float(group["betas"][0])

    def _direction(self, group: dict[str, Any], grad: Tensor, step: Any, *slots: Tensor) -> Tensor:
        (exp_avg_sq,) = slots
        beta2 = float(group["betas"][1])
        exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        # A number first, so that a division by zero is Python's error.
        unbias = (1 - beta2**step) ** -0.5
        root: Tensor = exp_avg_sq.sqrt() * unbias + group["eps"]
        return grad / root


def check_mode(groups: list[dict[str, Any]]) -> None:
    """Raise RuntimeError where a step would begin at the averages."""
    for at, group in enumerate(groups):
        if not group["train_mode"]:
            raise RuntimeError(
                f"param_groups[{at}] is in eval mode, its parameters are averages: call optimizer.train() before step, "
                "and before the loss whose gradients it is to use"
            )


def _average(
    group: dict[str, Any], param: Tensor, count: Tensor, weight_sum: Tensor, lr_max: Tensor
) -> tuple[Any, Any, Any]:
    """Count, and enter the weight of this step; its rate, its share of the average and its number."""
    lr, warmup_steps = group["lr"], group["warmup_steps"]
    r, power = float(group["r"]), float(group["weight_lr_power"])
    step = advance(group, param, count)
    if not isinstance(step, Tensor):
        lr = lr.item() if isinstance(lr, Tensor) and not lr.requires_grad else lr
        if step < warmup_steps:
            lr = lr * (step / warmup_steps)
        rate = lr.item() if isinstance(lr, Tensor) else float(lr)
        largest = max(lr_max.item(), rate)
        weight = step**r * largest**power
        total = weight_sum.item() + weight
        weight_sum.fill_(total)
        lr_max.fill_(largest)
        return (lr.reshape(()) if isinstance(lr, Tensor) else lr), weight / total if total != 0 else 0.0, step
    lr = lr.reshape(()).double() if isinstance(lr, Tensor) else torch.full_like(step, lr)
    if warmup_steps > 0:
        lr = lr * (step / warmup_steps).clamp(max=1)
    lr_max.copy_(torch.maximum(lr_max, lr.detach()))
    weight = step**r * lr_max**power
    weight_sum.add_(weight)
    return lr, torch.where(weight_sum == 0, 0.0, weight / weight_sum), step


def _lerp(params: list[Tensor], points: list[Tensor], weight: float) -> None:
    """Move parameters towards points in place, by this share of the way; complex ones by their parts."""
    plain: tuple[list[Tensor], list[Tensor]] = ([], [])
    for param, point in zip(params, points, strict=True):
        if param.is_complex() and point.is_complex():
            param, point = torch.view_as_real(param), torch.view_as_real(point)
        if param.dtype != point.dtype:
            wide = torch.promote_types(param.dtype, point.dtype)
            param.copy_(param.to(wide).lerp(point.to(wide), weight))
        elif type(param) in _PLAIN and type(point) in _PLAIN:
            plain[0].append(param)
            plain[1].append(point)
        else:
            param.lerp_(point, weight)
    if plain[0]:
        torch._foreach_lerp_(*plain, weight)
