"""The parameters of a step of Adafactor, collected for Rust."""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torchpace.optim.adafactor import Adafactor

_PLAIN = (Tensor, torch.nn.Parameter)


class Collected(NamedTuple):
    """The parameters of a step."""

    places: list[tuple[int, int]]
    """Where each is: its group, and its place in that."""

    tensors: list[tuple[Tensor, ...]]
    """Each with its gradient, step count and moments."""

    fresh: list[tuple[Tensor, dict[str, Tensor]]]
    """Those that have no state, and what is to be that."""


def collect(optimizer: Adafactor, left: Set[tuple[int, int]]) -> Collected:
    """The parameters with a gradient, but those at the places `left`.

    Raises:
        KeyError: a state entry is missing.
        TypeError: an entry is no tensor.
    """
    found = Collected([], [], [])
    state = optimizer.state
    for index, group in enumerate(optimizer.param_groups):
        for at, param in enumerate(group["params"]):
            grad = param.grad
            if grad is None or (left and (index, at) in left):
                continue
            entries = state.get(param)
            if not entries:
                if type(param) not in _PLAIN or type(grad) not in _PLAIN or grad.layout != torch.strided:
                    found.places.append((index, at))
                    found.tensors.append((param, grad))
                    continue
                entries = new_state(optimizer, group, param, grad)
                found.fresh.append((param, entries))
            try:
                tensors: tuple[Any, ...]
                if grad.ndim > 1:
                    tensors = (param, grad, entries["step"], entries["row_var"], entries["col_var"])
                else:
                    tensors = (param, grad, entries["step"], entries["variance"])
            except (KeyError, TypeError):
                _complain(_place(index, at, group), entries, grad.ndim > 1)
                raise
            for entry in tensors[2:]:
                if not isinstance(entry, Tensor):
                    _complain(_place(index, at, group), entries, grad.ndim > 1)
            found.places.append((index, at))
            found.tensors.append(tensors)
    return found


def new_state(optimizer: Adafactor, group: dict[str, Any], param: Tensor, grad: Tensor) -> dict[str, Tensor]:
    """State as torch's class makes it."""
    step = optimizer._new_step_count(param, group)
    if grad.ndim > 1:
        return {"step": step, **{name: grad.new_zeros(shape_of(name, grad)) for name in ("row_var", "col_var")}}
    return {"step": step, "variance": torch.zeros_like(grad, memory_format=torch.preserve_format)}


def shape_of(name: str, param: Tensor) -> torch.Size:
    """The shape of a state entry that is no count."""
    if param.ndim < 2:
        return param.shape
    *others, rows, columns = param.shape
    return torch.Size([*others, rows, 1] if name == "row_var" else [*others, 1, columns])


def _complain(place: str, entries: Any, is_matrix: bool) -> None:
    """Raise where a parameter's state is not what it should be."""
    if not isinstance(entries, dict):
        raise TypeError(f"{place}: state is {entries!r} (of type {type(entries).__name__}), expected a dict")
    for name in ("step", "row_var", "col_var") if is_matrix else ("step", "variance"):
        if name not in entries:
            raise KeyError(f"{place}: state has no {name!r}, found only {sorted(entries)}")
        if not isinstance(entries[name], Tensor):
            kind = type(entries[name]).__name__
            raise TypeError(f'{place}: state "{name}" is of type {kind}, expected a tensor')


def _place(index: int, at: int, group: dict[str, Any]) -> str:
    name = f" ({group['param_names'][at]})" if "param_names" in group else ""
    return f"param_groups[{index}]['params'][{at}]{name}"
