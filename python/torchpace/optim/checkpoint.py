"""An optimizer's state in a safetensors file, which `torchpace::tch` in Rust reads and writes too.

Needs the package ``safetensors`` (``pip install 'torchpace[checkpoint]'``). The file holds the tensors
``<parameter>.<entry>``, with torch's names of the entries and complex numbers as pairs in a last dimension; and the
groups' options as JSON in its metadata. There a group's ``params`` say what its parameters go by: their names where the
optimizer was made of ``named_parameters()``, else their places. A name that is there twice has its group before it,
as in ``1/weight``, and ``param_names`` then has the names themselves. Weights are none of it.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchpace.optim import _stored_options
from torchpace.optim._base import Fused

_FORMAT = {"format": "torchpace.optimizer", "version": "1"}

# What the file says of itself, and options that change nothing in the numbers or belong to the program.
_NOT_WRITTEN = ("params", "param_names", "foreach", "fused", "capturable", "differentiable")


def save(optimizer: Any, path: str | os.PathLike[str] | bytes) -> None:
    """Write the state and the options of an optimizer of `torchpace.optim`.

    Args:
        optimizer: one of `torchpace.optim` with a fused step, or what accelerate, Fabric or Lightning made of it.
        path: the file; what was there stays until the new one is whole.

    Raises:
        TypeError: it is another optimizer; or an option or an entry of the state is of a type that has no place in the
            file, which then is not written.
        ValueError: there is state of what is no parameter, or an entry's name is none that the file can have.
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
    own, path = _own(optimizer), _file(path)
    safetensors = _safetensors()
    from safetensors import SafetensorError

    metadata = {**_FORMAT, "rule": own._rule, "param_groups": json.dumps(_groups(own))}
    tensors = _tensors(own)
    _check_file(path)
    beside = Path(f"{path}.{os.getpid()}.part")
    try:
        safetensors.save_file(tensors, beside, metadata)
        beside.replace(path)
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from error
    finally:
        beside.unlink(missing_ok=True)


def load(optimizer: Any, path: str | os.PathLike[str] | bytes) -> None:
    """Go on from a file of `save` or of `torchpace::tch::Optimizer::save`, through the optimizer's `load_state_dict`.

    In each group parameters are found by name; where the file or the optimizer has none, by their order. Options that
    the file lacks stay; state that it lacks is missed by the next step.

    Args:
        optimizer: of the same class, with the same groups; or what accelerate, Fabric or Lightning made of it.
        path: the file.

    Raises:
        TypeError: it is no optimizer of `torchpace.optim`.
        ValueError: the file is of another optimizer, other groups, parameters or shapes, or an option is of another
            type or out of its range; nothing has changed then.
        OSError: the file cannot be read.
        ImportError: safetensors is missing.
    """
    own, path = _own(optimizer), _file(path)
    metadata, tensors = _read(path)
    for key, expected in {**_FORMAT, "rule": own._rule}.items():
        if metadata.get(key) != expected:
            raise ValueError(f"{path}: {key} is {metadata.get(key)!r}, expected {expected!r}")
    groups = _read_groups(path, metadata, len(own.param_groups))
    entries: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        param, _, entry = key.rpartition(".")
        entries.setdefault(param, {})[entry] = tensor
    state_dict, flags = own.state_dict(), _stored_options.flags(own)
    state: dict[int, dict[str, Tensor]] = {}
    known = set()
    for index, (group, old, new) in enumerate(zip(own.param_groups, state_dict["param_groups"], groups, strict=True)):
        at = f"{path}: group {index}"
        keys = _keys_in_order(at, group, new.pop("params"), new.pop("param_names", None))
        for place, param, key in zip(old["params"], group["params"], keys, strict=True):
            if str(key) in known:
                raise ValueError(f"{at}: {key!r} is there twice, and its state once, expected it once for each")
            found = entries.pop(str(key), None)
            if found is not None:
                known.add(str(key))
                state[place] = {
                    entry: _whole(f"{path}: {key}.{entry}", value, param, _shape(own, entry, param))
                    for entry, value in found.items()
                }
        read = {
            name: _stored_options.like(f"{at}: {name}", flags.get(name), old.get(name), value)
            for name, value in new.items()
        }
        _stored_options.check_ranges(at, own, {name: _stored_options.number_of(value) for name, value in new.items()})
        old.update(read)
    if entries:
        raise ValueError(f"{path}: there is state of {sorted(entries)}, expected that of parameters in its groups")
    own.load_state_dict({**state_dict, "state": state})


def _own(optimizer: Any) -> Fused:
    """The optimizer that is wrapped, all of whose state is its own."""
    own, wrappers = optimizer, []
    while hasattr(inner := getattr(own, "optimizer", None), "param_groups") and inner not in wrappers:
        wrappers.append(own)
        own = inner
    if not isinstance(own, Fused):
        raise TypeError(f"optimizer is a {type(own).__qualname__}, expected one of torchpace.optim's own")
    for wrapper in wrappers:
        for param, entries in getattr(wrapper, "__dict__", {}).get("state", {}).items():
            if not entries.keys() <= own.state.get(param, {}).keys():
                kind = type(wrapper).__qualname__
                raise TypeError(f"optimizer is a {kind} with state of its own, expected one of torchpace.optim's own")
    return own


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "safetensors":
            raise
        raise ImportError("a checkpoint needs safetensors: pip install 'torchpace[checkpoint]'") from error
    return safetensors.torch


def _file(path: Any) -> str:
    try:
        name = os.fsdecode(path)
    except TypeError:
        raise TypeError(f"path is of type {type(path).__name__}, expected that of a file") from None
    if not name:
        raise FileNotFoundError("path is empty, expected that of a file")
    return name


def _check_file(path: str) -> None:
    if os.path.isdir(path):
        raise IsADirectoryError(f"path is {path}, a directory, expected that of a file")


def _read(path: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    _safetensors()
    from safetensors import SafetensorError, safe_open

    _check_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file: {error}") from error


def _read_groups(path: str, metadata: dict[str, str], count: int) -> list[dict[str, Any]]:
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
        names = group.get("param_names", group["params"])
        if not isinstance(names, list) or len(names) != len(group["params"]):
            raise ValueError(
                f"{path}: group {index} has the param_names {names!r}, expected one for each of its params"
            )
    return groups


def _groups(optimizer: Fused) -> list[dict[str, Any]]:
    """The groups as the file has them."""
    keys, groups, flags = _keys(optimizer), [], _stored_options.flags(optimizer)
    for index, group in enumerate(optimizer.param_groups):
        for name in group:
            if not isinstance(name, str):
                raise TypeError(f"param_groups[{index}] has an option {name!r}, expected a word")
        options = {
            name: _stored_options.plain(f"param_groups[{index}][{name!r}]", flags.get(name), value)
            for name, value in group.items()
            if name not in _NOT_WRITTEN
        }
        options["params"] = own = [keys[id(param)] for param in group["params"]]
        if group.get("param_names", own) != own:
            options["param_names"] = list(group["param_names"])
        groups.append(options)
    return groups


def _tensors(optimizer: Fused) -> dict[str, Tensor]:
    """The state as the file has it."""
    keys, tensors, memory = _keys(optimizer), {}, set()
    for param, entries in optimizer.state.items():
        if id(param) not in keys:
            if entries:
                raise ValueError(f"there is state of {param!r}, which is no parameter of the optimizer")
            continue
        key = keys[id(param)]
        for entry, value in entries.items():
            if value is None:
                continue  # as torch has it where there is nothing
            if not isinstance(entry, str) or "." in entry:
                raise ValueError(f"state of {key!r}: the name of an entry is {entry!r}, expected a word without dots")
            whole = _plain(f"state {entry!r} of {key!r}", value, param, _shape(optimizer, entry, param))
            if whole.untyped_storage().data_ptr() in memory:
                whole = whole.clone()  # the file has no tensors that share memory
            memory.add(whole.untyped_storage().data_ptr())
            tensors[f"{key}.{entry}"] = whole
    return tensors


def _keys(optimizer: Fused) -> dict[int, str | int]:
    """What each parameter goes by in the file, by its `id`: no two by the same."""
    keys: dict[int, str | int] = {}
    named: list[tuple[int, int, str]] = []
    for index, group in enumerate(optimizer.param_groups):
        for place, param in enumerate(group["params"]):
            if "param_names" in group:
                named.append((index, id(param), str(group["param_names"][place])))
            else:
                keys[id(param)] = len(keys) + len(named)  # torch's number for it
    taken = Counter([str(key) for key in keys.values()] + [name for _, _, name in named])
    for index, param, name in named:
        key = name
        if taken[name] > 1:
            key = f"{index}/{name}"
            while key in taken:
                key += "'"
            taken[key] = 1
        keys[param] = key
    return keys


def _keys_in_order(place: str, group: dict[str, Any], keys: list[Any], names: list[Any] | None) -> list[Any]:
    """What each parameter of a group goes by in the file, in the group's order."""
    if len(keys) != len(group["params"]):
        raise ValueError(f"{place} has {len(keys)} parameters, expected {len(group['params'])}")
    if "param_names" not in group or any(isinstance(key, int) for key in keys):
        return keys
    own, listed = ([str(name) for name in given] for given in (group["param_names"], names or keys))
    if sorted(listed) != sorted(own):
        raise ValueError(f"{place} has the parameters {sorted(listed)}, expected {sorted(own)}")
    of_name: dict[str, list[Any]] = {}
    for name, key in zip(listed, keys, strict=True):
        of_name.setdefault(name, []).append(key)
    return [of_name[name].pop(0) for name in own]


def _shape(optimizer: Fused, entry: str, param: Tensor) -> torch.Size | None:
    """The shape of an entry of the state; None if it is one number."""
    return None if entry == "step" or entry in optimizer._scalars else optimizer._shape_of(entry, param)


def _plain(place: str, value: Any, param: Tensor, shape: torch.Size | None) -> Tensor:
    """A tensor of the state, so that its memory is what it says."""
    if type(value) not in (Tensor, torch.nn.Parameter):
        raise TypeError(f"{place} is of type {type(value).__qualname__}, expected a tensor")
    if value.layout != torch.strided or value.is_meta:
        raise TypeError(f"{place} is {value.layout} on {value.device}, expected a dense tensor with memory")
    whole: Tensor = value.detach().resolve_conj().resolve_neg()
    if shape is None and whole.numel() == 1:
        return whole.reshape(())
    expected = param.shape if shape is None else shape
    if whole.shape != expected or whole.is_complex() != param.is_complex():
        found = f"{whole.dtype} of shape {list(whole.shape)}"
        like = f"it to be as its parameter, {param.dtype} of shape {list(expected)}"
        raise ValueError(f"{place} is {found}, expected {like}")
    return _parts(whole).contiguous()


def _parts(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _whole(place: str, value: Tensor, param: Tensor, shape: torch.Size | None) -> Tensor:
    """A tensor of the file as state of this parameter; the shape is None for one number."""
    if shape is not None and param.is_complex():
        # In memory of its own: the file's is not aligned as complex numbers have to be.
        value = torch.view_as_complex(value.clone())
    expected = torch.Size() if shape is None else shape
    if value.shape != expected:
        raise ValueError(f"{place} has shape {list(value.shape)}, expected {list(expected)}")
    if shape is None or shape != param.shape:
        return value.clone()  # the file's own memory stays with the file
    # Laid out like the parameter, as the state is when it is made.
    return torch.zeros_like(param, dtype=value.dtype, memory_format=torch.preserve_format).copy_(value).detach()
