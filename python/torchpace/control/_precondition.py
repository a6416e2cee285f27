"""What an optimizer's step divides the gradient by, and how its momentum bounds the learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from torchpace.control._theory import max_stable_lr, max_stable_lr_adam, max_stable_lr_rmsprop
from torchpace.optim import _unwrap

_KNOWN = (torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adagrad, torch.optim.Adam)


@dataclass(frozen=True)
class Preconditioner:
    r"""How an optimizer steps on a parameter: :math:`\theta \leftarrow \theta - \eta P^{-1} u`, with momentum in u."""

    index: int
    """The parameter group, of its optimizer."""
    divisor: Tensor | float
    """:math:`P`; of a complex parameter its parts, along a last dimension."""
    bound: float
    r"""The largest stable learning rate where :math:`P^{-1} H` is 1."""
    coupled: float
    """The weight decay that is added to the gradient."""
    decoupled: float
    """The weight decay beside the gradient."""


def known(optimizer: Any) -> list[Optimizer]:
    """The optimizers that step, in one that may have been prepared by a trainer or be of several.

    Raises:
        TypeError: it is not known how one steps.
        ValueError: a group's updates are cautious, which no step bounds.
    """
    found = _unwrap.innermost(optimizer) if _unwrap.is_optimizer(optimizer) else [optimizer]
    for one in found:
        if not isinstance(one, _KNOWN):
            raise TypeError(f"optimizer is {type(one).__name__}, expected SGD, RMSprop, Adagrad, Adam or AdamW")
        for index, group in enumerate(one.param_groups):
            if group.get("cautious"):
                raise ValueError(
                    f"param_groups[{index}]: cautious is True, expected False: how far a cautious update goes depends "
                    "on how many elements agree with the gradient"
                )
    return found


def known_one(optimizer: Any) -> Optimizer:
    """The one optimizer that steps.

    Raises:
        TypeError: it is not known how it steps, or there are several.
    """
    found = known(optimizer)
    if len(found) > 1:
        raise TypeError(f"optimizer is {type(optimizer).__name__}, which holds {len(found)} optimizers, expected one")
    return found[0]


def preconditioners(optimizer: Any, params: Sequence[Tensor]) -> list[Preconditioner | None]:
    """One for each parameter; None for those that the optimizer has not stepped on, if it keeps a state.

    Raises:
        TypeError: the optimizer is none that is known.
        ValueError: a parameter is not the optimizer's.
        RuntimeError: the optimizer keeps a state and has none of any of them yet.
    """
    place_of = {
        id(param): (one, index)
        for one in known(optimizer)
        for index, group in enumerate(one.param_groups)
        for param in group["params"]
    }
    found: list[Preconditioner | None] = []
    for at, param in enumerate(params):
        if id(param) not in place_of:
            raise ValueError(f"params[{at}] is not among the optimizer's parameters")
        one, index = place_of[id(param)]
        group, state = one.param_groups[index], one.state.get(param, {})
        if not isinstance(one, torch.optim.SGD) and not _has_stepped(one, state):
            found.append(None)
            continue
        weight_decay, decouples = float(group["weight_decay"]), _decouples(one, group)
        found.append(
            Preconditioner(
                index,
                _divisor(one, group, state),
                _bound(one, group),
                0.0 if decouples else weight_decay,
                weight_decay if decouples else 0.0,
            )
        )
    if not any(found):
        raise RuntimeError(
            f"{type(optimizer).__name__} has no state of these parameters yet, and divides by it: step at least once"
        )
    return found


def _has_stepped(optimizer: Optimizer, state: dict[str, Any]) -> bool:
    # Adagrad makes its state when it is made.
    return "step" in state and float(state["step"]) > 0


def _decouples(optimizer: Optimizer, group: dict[str, Any]) -> bool:
    return bool(group.get("decoupled_weight_decay", isinstance(optimizer, torch.optim.AdamW)))


def _bound(optimizer: Optimizer, group: dict[str, Any]) -> float:
    if isinstance(optimizer, torch.optim.SGD):
        momentum = float(group["momentum"])
        if not group.get("averaged"):
            return max_stable_lr(1.0, momentum, float(group["dampening"]), group["nesterov"])
        if not group["nesterov"]:
            return max_stable_lr(1.0, momentum, dampening=momentum)
        # Looks ahead along an averaged momentum, which torch does not have.
        return 2 * (1 + momentum) / (1 + 2 * momentum - momentum**2)
    if isinstance(optimizer, torch.optim.RMSprop):
        return max_stable_lr_rmsprop(1.0, float(group["momentum"]))
    if isinstance(optimizer, torch.optim.Adagrad):
        return max_stable_lr_rmsprop(1.0)
    return max_stable_lr_adam(1.0, float(group["betas"][0]))


def _divisor(optimizer: Optimizer, group: dict[str, Any], state: dict[str, Any]) -> Tensor | float:
    if isinstance(optimizer, torch.optim.SGD):
        return 1.0
    step = float(state["step"])
    if isinstance(optimizer, torch.optim.RMSprop):
        square = _wide(state["square_avg"])
        if group["centered"]:
            square = (square - _wide(state["grad_avg"]).square()).clamp(min=0)
        return _root(square, group)
    if isinstance(optimizer, torch.optim.Adagrad):
        square = _wide(state["sum"]) / (step if group.get("mean") else 1.0)
        return _root(square, group) * (1 + (step - 1) * float(group["lr_decay"]))
    first, second = (float(beta) for beta in group["betas"])
    square = _wide(state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"])
    return _root(square / (1 - math.pow(second, step)), group) * (1 - math.pow(first, step))


def _wide(tensor: Tensor) -> Tensor:
    """In float32 at the least; the parts of complex numbers, each of which is divided by its own."""
    tensor = as_real(tensor.detach())
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _root(square: Tensor, group: dict[str, Any]) -> Tensor:
    eps = float(group["eps"])
    return (square + eps).sqrt() if group.get("eps_inside") else square.sqrt() + eps


def as_real(tensor: Tensor) -> Tensor:
    """The parts of complex numbers, along a dimension of their own."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
