"""An optimizer's state in a safetensors file, which `torchpace::tch` in Rust reads and writes too.

Needs the package ``safetensors`` (``pip install 'torchpace[checkpoint]'``). The file holds the tensors
``<parameter>.<entry>``, with torch's names of the entries and complex numbers as pairs in a last dimension; and the
groups' options as JSON in its metadata. Parameters go by their names where the optimizer was made of
``named_parameters()``, else by their places. Weights are none of it.
"""

from __future__ import annotations

import inspect
import json
import math
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from torchpace.optim._base import Fused

_FORMAT = {"format": "torchpace.optimizer", "version": "1"}

# What the file says of itself, and options that change nothing in the numbers or belong to the program.
_NOT_WRITTEN = ("params", "param_names", "foreach", "fused", "capturable", "differentiable")


def save(optimizer: Optimizer, path: str | os.PathLike[str]) -> None:
    """Write the state and the options of an optimizer of `torchpace.optim`.

    Args:
        optimizer: SGD, RMSprop, Adagrad, Adam or AdamW of `torchpace.optim`.
        path: the file; what was there stays until the new one is whole.

    Raises:
        TypeError: it is another optimizer, or an option is of a type that has no place in the file.
        OSError: the file cannot be written.
        ImportError: safetensors is missing.

    Example:
        >>> import tempfile, torch
        >>> from torchpace import optim
        >>> from torchpace.optim import checkpoint
        >>> layer = torch.nn.Linear(4, 1)
        >>> optimizer = optim.Adam(layer.named_parameters(), lr=1e-3)
        >>> layer(torch.ones(4)).backward()
        >>> optimizer.step()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     checkpoint.save(optimizer, f"{folder}/adam.safetensors")
        ...     again = optim.Adam(layer.named_parameters(), lr=0.5)
        ...     checkpoint.load(again, f"{folder}/adam.safetensors")
        >>> again.param_groups[0]["lr"]
        0.001
    """
    rule = _rule(optimizer)
    safetensors = _safetensors()
    from safetensors import SafetensorError

    names = _names(optimizer)
    tensors, groups = {}, []
    for index, group in enumerate(optimizer.param_groups):
        options = {
            name: _plain(f"param_groups[{index}][{name!r}]", value)
            for name, value in group.items()
            if name not in _NOT_WRITTEN
        }
        groups.append({**options, "params": [names[id(param)] for param in group["params"]]})
        for param in group["params"]:
            for entry, value in optimizer.state.get(param, {}).items():
                if isinstance(value, Tensor):
                    tensors[f"{names[id(param)]}.{entry}"] = _parts(value.detach()).contiguous()
    beside = Path(f"{os.fspath(path)}.{os.getpid()}.part")
    try:
        safetensors.save_file(tensors, beside, {**_FORMAT, "rule": rule, "param_groups": json.dumps(groups)})
        beside.replace(path)
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from error
    finally:
        beside.unlink(missing_ok=True)


def load(optimizer: Optimizer, path: str | os.PathLike[str]) -> None:
    """Go on from a file of `save` or of `torchpace::tch::Optimizer::save`, through the optimizer's `load_state_dict`.

    Parameters are found by name; where the file or the optimizer has none, by their order in each group. Options that
    the file lacks stay; state that it lacks is missed by the next step.

    Args:
        optimizer: of the same class, with the same groups.
        path: the file.

    Raises:
        TypeError: it is no optimizer of `torchpace.optim`.
        ValueError: the file is of another optimizer, other groups, parameters or shapes, or an option is of another
            type or out of its range; nothing has changed then.
        OSError: the file cannot be read.
        ImportError: safetensors is missing.
    """
    rule = _rule(optimizer)
    metadata, tensors = _read(path)
    for key, expected in {**_FORMAT, "rule": rule}.items():
        if metadata.get(key) != expected:
            raise ValueError(f"{path}: {key} is {metadata.get(key)!r}, expected {expected!r}")
    groups = _groups(path, metadata, len(optimizer.param_groups))
    entries: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        param, _, entry = key.rpartition(".")
        entries.setdefault(param, {})[entry] = tensor
    state_dict = optimizer.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for index, (group, old, new) in enumerate(
        zip(optimizer.param_groups, state_dict["param_groups"], groups, strict=True)
    ):
        at = f"{path}: group {index}"
        listed = _listed(at, group, new.pop("params"))
        for place, param, name in zip(old["params"], group["params"], listed, strict=True):
            found = entries.pop(str(name), None)
            if found is not None:
                state[place] = {
                    entry: _whole(f"{path}: {name}.{entry}", entry, value, param) for entry, value in found.items()
                }
        new = {name: _number(value) for name, value in new.items()}
        read = {name: _like(f"{at}: {name}", old.get(name), value) for name, value in new.items()}
        _check_ranges(at, optimizer, new)
        old.update(read)
    if entries:
        raise ValueError(f"{path}: there is state of {sorted(entries)}, expected that of parameters in its groups")
    optimizer.load_state_dict({**state_dict, "state": state})


def _rule(optimizer: Optimizer) -> str:
    if not isinstance(optimizer, Fused):
        raise TypeError(f"optimizer is a {type(optimizer).__qualname__}, expected one of torchpace.optim's own")
    return optimizer._rule


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "safetensors":
            raise
        raise ImportError("a checkpoint needs safetensors: pip install 'torchpace[checkpoint]'") from error
    return safetensors.torch


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, str], dict[str, Tensor]]:
    _safetensors()
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            return file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file: {error}") from error


def _groups(path: str | os.PathLike[str], metadata: dict[str, str], count: int) -> list[dict[str, Any]]:
    """The file's groups, each with a list of parameters."""
    try:
        groups = json.loads(metadata.get("param_groups", ""))
    except ValueError as error:
        raise ValueError(f"{path}: param_groups is no JSON: {error}") from error
    if not isinstance(groups, list):
        raise ValueError(f"{path}: param_groups is of type {type(groups).__name__}, expected a list")
    if len(groups) != count:
        raise ValueError(f"{path}: there are {len(groups)} groups, expected {count}")
    for index, group in enumerate(groups):
        if not isinstance(group, dict) or not isinstance(group.get("params"), list):
            raise ValueError(f"{path}: group {index} is {group!r}, expected options and a list of params")
    return groups


def _names(optimizer: Optimizer) -> dict[int, str | int]:
    """The name of each parameter, or its place among all, which is torch's number for it."""
    names: dict[int, str | int] = {}
    for group in optimizer.param_groups:
        for place, param in enumerate(group["params"]):
            names[id(param)] = group["param_names"][place] if "param_names" in group else len(names)
    return names


def _listed(place: str, group: dict[str, Any], listed: list[str | int]) -> list[str | int]:
    """The file's name of each parameter of a group, in the group's order."""
    if len(listed) != len(group["params"]):
        raise ValueError(f"{place} has {len(listed)} parameters, expected {len(group['params'])}")
    own = group.get("param_names")
    if own is None or any(isinstance(name, int) for name in listed):
        return listed
    if sorted(map(str, listed)) != sorted(own):
        raise ValueError(f"{place} has the parameters {sorted(map(str, listed))}, expected {sorted(own)}")
    return list(own)


def _parts(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _whole(place: str, entry: str, value: Tensor, param: Tensor) -> Tensor:
    if entry != "step" and param.is_complex():
        # In memory of its own: the file's is not aligned as complex numbers have to be.
        value = torch.view_as_complex(value.clone())
    expected = torch.Size() if entry == "step" else param.shape
    if value.shape != expected:
        raise ValueError(f"{place} has shape {list(value.shape)}, expected {list(expected)}")
    if entry == "step":
        return value.clone()  # the file's own memory stays with the file
    # Laid out like the parameter, as the state is when it is made.
    return torch.zeros_like(param, dtype=value.dtype, memory_format=torch.preserve_format).copy_(value).detach()


def _plain(place: str, value: Any) -> Any:
    """An option as JSON has it; numbers that JSON lacks as strings."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return [_plain(place, item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{place} is of type {type(value).__qualname__}, expected None, a number, a flag, a word or a list")


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return [_number(item) for item in value]
    return float(value) if value in ("inf", "-inf", "nan") else value


def _like(place: str, old: Any, value: Any) -> Any:
    """A value of the type that the option has; None is for `_check_ranges` to judge."""
    if value is None:
        return None
    if isinstance(old, tuple):
        if not isinstance(value, list) or len(value) != len(old):
            raise ValueError(f"{place} is {value!r}, expected a list of {len(old)}")
        return tuple(_like(place, before, item) for before, item in zip(old, value, strict=True))
    number = isinstance(old, (int, float, Tensor)) and not isinstance(old, bool)
    if number and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise ValueError(f"{place} is {value!r}, expected a number")
    if isinstance(old, bool) and not isinstance(value, bool):
        raise ValueError(f"{place} is {value!r}, expected a flag")
    return torch.full_like(old, value) if isinstance(old, Tensor) else value


def _check_ranges(place: str, optimizer: Optimizer, options: dict[str, Any]) -> None:
    """That a new optimizer takes the options: the constructor has the checks."""
    own = next(base for base in type(optimizer).__mro__ if base.__module__.startswith("torchpace.optim."))
    taken = inspect.signature(own).parameters
    known = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    try:
        own([torch.empty(0)], **{name: value for name, value in known.items() if name in taken})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: {error}") from error
