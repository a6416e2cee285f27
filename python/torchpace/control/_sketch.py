"""A short vector in place of all gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Sketch:
    """A fixed random linear map of all gradients to a short vector; inner products are kept on average.

    A tensor of at most `width` elements is kept as it is. A larger one is cut into rows of `width` elements, which are
    added up with random signs: a count sketch (Charikar, Chen and Farach-Colton 2002) whose buckets need no table, one
    product of a vector and a matrix. The signs are 1 / `width` of the gradients' memory.
    """

    def __init__(self, params: Sequence[Tensor], width: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._params, self._width = params, width
        self._home = params[0].device
        self._signs = [
            (torch.randint(0, 2, (_real_numel(param) // width + 1,), generator=generator) * 2 - 1).to(
                param.device, _real_type(param.dtype)
            )
            if _real_numel(param) > width
            else None
            for param in params
        ]

    @torch.no_grad()
    def __call__(self) -> Tensor:
        """The sketch of the present gradients, in float32 (float64 if a gradient has it); a missing one counts as 0."""
        pieces = [self._piece(param, signs) for param, signs in zip(self._params, self._signs, strict=True)]
        types = {piece.dtype for piece in pieces}
        if len(types) > 1:
            pieces = [piece.to(torch.float64) for piece in pieces]
        return torch.cat(pieces)

    def empty(self) -> Tensor:
        """The sketch of no gradients."""
        types = {_real_type(param.dtype) for param in self._params}
        size = sum(min(_real_numel(param), self._width) for param in self._params)
        return torch.zeros(size, dtype=max(types, key=lambda kind: kind.itemsize), device=self._home)

    def _piece(self, param: Tensor, signs: Tensor | None) -> Tensor:
        grad = param.grad
        if grad is None:
            size = min(_real_numel(param), self._width)
            return torch.zeros(size, dtype=_real_type(param.dtype), device=self._home)
        if grad.layout != torch.strided:
            raise TypeError(f"a gradient of shape {list(grad.shape)} is {grad.layout}, expected a strided one")
        flat = (torch.view_as_real(grad) if grad.is_complex() else grad).reshape(-1)
        if signs is not None:
            rows = len(signs) - 1
            flat = _as(flat, signs.device, signs.dtype)
            rest = len(flat) - rows * self._width
            whole = flat if rest == 0 else flat[:-rest]
            added = signs[:rows] @ whole.view(rows, self._width)
            if rest:
                added[:rest].addcmul_(flat[-rest:], signs[rows])
            flat = added
        return _as(flat, self._home, _real_type(param.dtype))


def _as(flat: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    # Asking costs less than a call of `to` that has nothing to do.
    return flat if flat.dtype == dtype and flat.device == device else flat.to(device, dtype)


def _real_numel(param: Tensor) -> int:
    return param.numel() * (2 if param.is_complex() else 1)


def _real_type(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype in (torch.float64, torch.complex128) else torch.float32
