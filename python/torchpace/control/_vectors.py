"""Lists of tensors as vectors: in Rust where all are plain memory on the CPU, else by torch's operators."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from torchpace import _native

Vector = Sequence[Tensor]


def dot(x: Vector, y: Vector) -> float:
    """The real inner product of all elements, summed in float64; a complex number counts as two, its parts."""
    found = None if _is_traced() else _native.dot(x, y, torch.get_num_threads())
    if found is not None:
        return found
    _check(x, y)
    with torch.no_grad():
        sums = [product.sum() for product in torch._foreach_mul(_wide(x), _wide(y))]
        # Of tensors on several devices too.
        return math.fsum(sum.item() for sum in sums)


def norm(x: Vector) -> float:
    """The 2-norm of all elements."""
    return math.sqrt(dot(x, x))


def axpy_(a: float, x: Vector, y: Vector) -> None:
    """``y += a * x``, in place."""
    if _is_traced() or not _native.axpy(a, x, y, torch.get_num_threads()):
        _check(x, y)
        with torch.no_grad():
            torch._foreach_add_(list(y), list(x), alpha=a)


def scale_(a: float, x: Vector, y: Vector) -> None:
    """``y = a * x``, in place; `x` may be `y`."""
    if _is_traced() or not _native.scale(a, x, y, torch.get_num_threads()):
        _check(x, y)
        with torch.no_grad():
            torch._foreach_copy_(list(y), torch._foreach_mul(list(x), a))


def _is_traced() -> bool:
    """Whether a mode of torch's has to see the operators."""
    return torch._C._len_torch_dispatch_stack() > 0


def _check(x: Vector, y: Vector) -> None:
    """Raise where torch's operators would broadcast."""
    if len(x) != len(y):
        raise RuntimeError(f"x has {len(x)} tensors, expected {len(y)}")
    for at, (one, other) in enumerate(zip(x, y, strict=True)):
        if one.shape != other.shape:
            raise RuntimeError(f"tensors[{at}]: x has shape {list(one.shape)}, expected {list(other.shape)}")


def _wide(x: Vector) -> list[Tensor]:
    parts = [torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor for tensor in x]
    # A device that has no float64 sums in its own type.
    return [part if part.device.type == "mps" else part.double() for part in parts]
