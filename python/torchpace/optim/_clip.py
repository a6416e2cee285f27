"""Clipping of gradients around a step of torch's own, and the options for it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

OFF: dict[str, Any] = {"max_grad_norm": None, "clip_value": None, "nonfinite_norm": "propagate"}
"""The options, and what each is where nothing is clipped."""


def check(group: dict[str, Any]) -> None:
    """Raise ValueError where a clipping option of a group is out of its range."""
    for name in ("max_grad_norm", "clip_value"):
        value = group.get(name)
        if value is not None and not (isinstance(value, (int, float)) and value >= 0 and not math.isnan(value)):
            raise ValueError(f"Invalid {name} value: {value!r}, expected None or a number >= 0")
    value = group.get("nonfinite_norm", "propagate")
    if value not in ("propagate", "skip", "raise"):
        raise ValueError(f"Invalid nonfinite_norm value: {value!r}, expected 'propagate', 'skip' or 'raise'")


def total_norm(grads: list[Tensor]) -> Tensor:
    """The 2-norm of all gradients together; those spread over several processes are reduced over their mesh."""
    spread: dict[Any, list[Tensor]] = {}
    for grad in grads:
        spread.setdefault(getattr(grad, "device_mesh", None), []).append(grad)
    norms = []
    for same in spread.values():
        norm = torch.nn.utils.get_total_norm(same)
        norms.append(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
    return torch.linalg.vector_norm(torch.stack([norm.float() for norm in norms])) if norms else torch.zeros(())


def unscale(params: list[Tensor], grad_scale: Tensor) -> None:
    """Multiply the gradients by the reciprocal of a GradScaler's scale."""
    factor = grad_scale.double().reciprocal().float()
    done = set()
    for param in params:
        grad = param.grad
        if grad is None or id(grad) in done:
            continue
        if any(stride == 0 and size > 1 for stride, size in zip(_strides(grad), grad.shape, strict=False)):
            param.grad = grad * factor  # an expanded one has no place for each element
        else:
            grad.mul_(factor)
        done.add(id(param.grad))


@contextmanager
def clipped(groups: list[dict[str, Any]], grad_scale: Tensor | None) -> Iterator[Tensor | None]:
    """Put clipped copies in the place of the gradients, for a step of torch's own."""
    params = [param for group in groups for param in group["params"] if param.grad is not None]
    grads = [param.grad for param in params]
    scale = 1.0 if grad_scale is None else grad_scale
    max_norm, nonfinite = (groups[0].get(name, OFF[name]) for name in ("max_grad_norm", "nonfinite_norm"))
    norm, factor = None, None
    with torch.no_grad():
        if max_norm is not None:
            norm = total_norm(grads) / scale
            if nonfinite == "raise" and not norm.isfinite():
                raise RuntimeError(
                    f"the total norm of the gradients is {norm.item()}, so they cannot be clipped to max_grad_norm; "
                    "expected a finite norm"
                )
            factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        try:
            if norm is not None and nonfinite == "skip" and not norm.isfinite():
                for param in params:
                    param.grad = None
            else:
                for group in groups:
                    for param in group["params"]:
                        if param.grad is not None:
                            param.grad = _clip(param.grad, factor, group.get("clip_value"), scale)
            yield norm
        finally:
            for param, grad in zip(params, grads, strict=True):
                param.grad = grad


def _clip(grad: Tensor, factor: Tensor | None, value: float | None, scale: float | Tensor) -> Tensor:
    if factor is not None:
        grad = grad * factor.to(grad.dtype)
    return grad if value is None else grad.clamp(-value * scale, value * scale)


def _strides(tensor: Tensor) -> tuple[int, ...]:
    return tensor.stride() if tensor.layout == torch.strided else ()
