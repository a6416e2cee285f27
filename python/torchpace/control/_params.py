"""Parameters as users give them: tensors, named tensors, groups of an optimizer, or a module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

Params: TypeAlias = torch.nn.Module | Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]]
"""What torch's optimizers take, or a module."""


def listed(params: Any) -> list[Tensor]:
    """The parameters, each there once.

    Raises:
        TypeError: they are a tensor and not several, or one is no tensor.
        ValueError: one is of integers, or there twice.
    """
    found: list[Tensor] = []
    places: dict[int, str] = {}
    for place, param in _flat("params", params):
        if not isinstance(param, Tensor):
            raise TypeError(f"{place} is of type {type(param).__name__}, expected a tensor")
        if not (param.is_floating_point() or param.is_complex()):
            raise ValueError(f"{place} is {param.dtype}, expected a floating-point or complex type")
        if places.setdefault(id(param), place) != place:
            raise ValueError(f"{place} is {places[id(param)]} again, expected each parameter once")
        found.append(param)
    return found


def _flat(place: str, params: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(params, torch.nn.Module):
        yield from _flat(place, params.parameters())
        return
    if isinstance(params, Tensor) or not isinstance(params, Iterable) or isinstance(params, (str, Mapping)):
        raise TypeError(
            f"{place} is of type {type(params).__name__}, expected a module, or tensors, named tensors or groups"
        )
    for at, item in enumerate(params):
        if isinstance(item, Mapping) and "params" in item:
            inner = item["params"]
            inside = f"{place}[{at}]['params']"
            yield from [(inside, inner)] if isinstance(inner, Tensor) else _flat(inside, inner)
        elif isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str):
            yield f"{place}[{at}] ({item[0]})", item[1]
        else:
            yield f"{place}[{at}]", item
