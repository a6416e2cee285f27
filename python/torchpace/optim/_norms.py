"""Norms in torch's operators, summed in a wide type."""

from __future__ import annotations

import torch
from torch import Tensor


def norm(tensor: Tensor) -> Tensor:
    """The 2-norm over all elements, real and imaginary parts alike; over all shards of one that is spread."""
    total: Tensor = torch.linalg.vector_norm(tensor, dtype=wide(tensor))
    return total


def wide(tensor: Tensor) -> torch.dtype | None:
    """The type to sum a tensor's squares in; None for its own, on a device that has no wide ones."""
    if tensor.device.type == "mps":
        return None
    return torch.complex128 if tensor.is_complex() else torch.float64
