"""Matrices made orthogonal by Newton and Schulz's iteration, many of a shape at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

import torch
from torch import Tensor

from torchpace import _native

Triple: TypeAlias = tuple[float, float, float]

QUINTIC: Triple = (3.4445, -4.7750, 2.0315)
"""The same in each step, as in torch: steep at 0, and ends between 0.7 and 1.2."""

POLAR_EXPRESS: tuple[Triple, ...] = (
    (8.1566, -22.4833, 15.8788),
    (4.0429, -2.8089, 0.5000),
    (3.8917, -2.7725, 0.5061),
    (3.2858, -2.3681, 0.4645),
    (2.3465, -1.7098, 0.4232),
)
"""Amsel et al., 2025: the best for each step, after those before it."""

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}

_ASPECT = 2
"""How many times as wide as high a matrix has to be for the Gram form to be the faster one."""

_STRIDE = {torch.float32: 2, torch.bfloat16: 3}
"""The steps of the Gram form between two looks at the matrix itself, as errors of small singular values grow: after so
many they are about those of the plain form, and far below what the rounding to bfloat16 makes."""


def triples(place: str, group: Mapping[str, Any]) -> tuple[tuple[Triple, ...], bool]:
    """The coefficients of each step, and whether they are those of Polar Express, which also scales its input.

    Raises:
        ValueError: they are neither a triple nor one for each step; or there are too many steps.
        TypeError: one is no number.
    """
    given, steps = group["ns_coefficients"], group["ns_steps"]
    if isinstance(steps, bool) or not hasattr(steps, "__index__"):
        raise TypeError(f"{place}ns_steps is {steps!r}, expected a whole number")
    steps = steps.__index__()
    if steps >= 100:
        raise ValueError("Number of steps must be less than 100 for computational efficiency")
    if isinstance(given, str):
        if given not in ("quintic", "polar_express"):
            raise ValueError(
                f"{place}ns_coefficients is {given!r}, expected 'quintic', 'polar_express', three numbers, or three "
                "for each step"
            )
        chosen: Any = QUINTIC if given == "quintic" else POLAR_EXPRESS
    elif isinstance(given, Sequence) or hasattr(given, "__len__"):
        chosen = given
    else:
        raise TypeError(f"{place}ns_coefficients is of type {type(given).__name__}, expected three numbers")
    if count(chosen, -1) < 0:
        return (_triple(place, chosen),) * steps, False
    listed = tuple(_triple(place, one) for one in chosen)
    if steps != len(listed):
        raise ValueError(f"{place}ns_steps is {steps}, expected {len(listed)} as there are triples in ns_coefficients")
    return listed, given == "polar_express"


def count(coefficients: Any, otherwise: int) -> int:
    """The steps that there are coefficients for, if each has its own."""
    if isinstance(coefficients, str):
        return len(POLAR_EXPRESS) if coefficients == "polar_express" else otherwise
    listed = hasattr(coefficients, "__len__") and len(coefficients) > 0
    return len(coefficients) if listed and hasattr(coefficients[0], "__len__") else otherwise


def _triple(place: str, given: Any) -> Triple:
    if len(given) != 3:
        raise ValueError("Coefficients must be a tuple of exactly 3 values")
    try:
        a, b, c = (_native.number("ns_coefficients", value) for value in given)
    except TypeError as error:
        raise TypeError(f"{place}ns_coefficients is {given!r}, expected three numbers") from error
    return a, b, c


def word(place: str, dtype: Any) -> str:
    """A type of products as groups have it.

    Raises:
        ValueError: it is none of those.
    """
    for name, known in DTYPES.items():
        if dtype is known or (isinstance(dtype, str) and dtype == name):
            return name
    raise ValueError(f"{place}ns_dtype is {dtype!r}, expected torch.bfloat16 or torch.float32")


def orthogonalized(
    matrices: Sequence[Tensor], dtype: torch.dtype, steps: Sequence[Triple], eps: float, express: bool
) -> list[Tensor]:
    """Matrices of one shape once flattened and laid on their side, each with singular values near 1.

    Args:
        matrices: tensors of two or more dimensions, which stay as they are.
        dtype: of the products, and of the result.
        steps: the coefficients of each step.
        eps: the least norm to divide by.
        express: whether Polar Express's scaling is the one.
    """
    flat = [matrix.flatten(1) for matrix in matrices]
    lying = [one.mT if one.shape[0] > one.shape[1] else one for one in flat]
    x = (lying[0].unsqueeze(0) if len(lying) == 1 else torch.stack(lying)).to(dtype)
    norm = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
    x = x / (norm * 1.02 + 1e-6 if express else norm.clamp(min=eps))
    if x.shape[2] > _ASPECT * x.shape[1] and _gram_pays(dtype, x.device):
        x, stride = x.float(), _STRIDE[dtype]
        for at in range(0, len(steps), stride):
            x = _by_gram(x, steps[at : at + stride])
        x = x.to(dtype)
    else:
        for a, b, c in steps:
            gram = torch.bmm(x, x.mT)
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    upright = [one.mT if before.shape[0] > before.shape[1] else one for one, before in zip(x, flat, strict=True)]
    return [one.reshape(matrix.shape) for one, matrix in zip(upright, matrices, strict=True)]


def _gram_pays(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the Gram form, whose products are in float32 as those in bfloat16 would lose all, is the faster one."""
    return device.type == "cpu" and (dtype == torch.float32 or _bfloat16_is_slow())


@cache
def _bfloat16_is_slow() -> bool:
    """Whether products in bfloat16 take longer than in float32, as on Intel's and AMD's processors without AMX."""
    has_tiles: Any = getattr(torch.cpu, "_is_amx_tile_supported", None)
    known = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    return known and has_tiles is not None and not has_tiles()


def _by_gram(x: Tensor, steps: Sequence[Triple]) -> Tensor:
    """Some steps as one product with X, of what they make of X X^T: all others are as small as that."""
    gram, whole = torch.bmm(x, x.mT), None
    for at, (a, b, c) in enumerate(steps):
        step = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        if at + 1 < len(steps):
            half = torch.baddbmm(gram, step, gram, beta=a)
            gram = torch.baddbmm(half, half, step, beta=a)
        if whole is None:
            whole = step
            whole.diagonal(dim1=1, dim2=2).add_(a)
        else:
            whole = torch.baddbmm(whole, whole, step, beta=a)
    return x if whole is None else torch.bmm(whole, x)
