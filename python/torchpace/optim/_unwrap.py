"""Optimizers and schedulers within what holds them: a trainer's wrapper, Lookahead and its like, several in one."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

_T = TypeVar("_T")

_DEPTH = 3
"""How many other objects may lie between a wrapper and what it holds."""

_HANDED_OUT = ("optimizer", "scheduler")
"""What a wrapper gives under these names is within it, wherever it keeps it."""

_NOTHING = frozenset((bool, int, float, str, type(None)))

_CONTENTS = ("state", "param_groups", "defaults")
"""What of an optimizer holds no other, and may be long."""


def parts(optimizer: Any) -> list[Any]:
    """An optimizer, all that it holds, and the objects in which it holds them; the outermost first.

    Held is what is in attributes, and in lists, tuples and dicts there. What lies in other objects counts only if it
    steps on parameters of the whole: a wrapper may know its trainer, and that all optimizers.
    """
    return _walk(optimizer, Optimizer)


def groups(optimizer: Any) -> list[dict[str, Any]]:
    """The parameter groups of all parts, each once."""
    return groups_of(parts(optimizer))


def groups_of(parts: list[Any]) -> list[dict[str, Any]]:
    """The parameter groups of parts, each once."""
    return list({id(group): group for part in parts for group in own_groups(part)}.values())


def params(optimizer: Any) -> list[Tensor]:
    """The parameters in all groups, each once."""
    return params_of(groups(optimizer))


def params_of(groups: list[dict[str, Any]]) -> list[Tensor]:
    """The parameters in groups, each once."""
    return list({id(param): param for group in groups for param in group["params"]}.values())


def innermost(optimizer: Any) -> list[Optimizer]:
    """The optimizers that hold no other."""
    return [part for part in within(optimizer, Optimizer) if len(within(part, Optimizer)) == 1]


def is_optimizer(value: Any) -> bool:
    """Whether it is an optimizer, or something else that steps and holds one."""
    if isinstance(value, Optimizer):
        return True
    return not isinstance(value, type) and callable(attribute(value, "step")) and bool(within(value, Optimizer))


def scaling(optimizer: Any) -> tuple[GradScaler | None, Any]:
    """The GradScaler that a wrapper steps with, and what it steps so; None, and the optimizer, where there is none."""
    for part in reversed(parts(optimizer)):
        inner = parts(part)
        scalers = [scaler for scaler in within(part, GradScaler) if scaler.is_enabled()] if len(inner) > 1 else []
        if scalers:
            return scalers[0], inner[1]
    return None, optimizer


def step_takes(optimizer: Any, *arguments: Any) -> bool:
    """Whether a step can be called with these arguments, so far as it tells."""
    try:
        signature = inspect.signature(optimizer.step)
    except (TypeError, ValueError):
        return True
    parameters = list(signature.parameters.values())
    # A scheduler puts a function in the method's place, which looks as the method does without its object.
    if not inspect.ismethod(optimizer.step) and parameters and parameters[0].name == "self":
        parameters.pop(0)
    try:
        signature.replace(parameters=parameters).bind(*arguments)
    except TypeError:
        return False
    return True


def within(value: Any, kind: type[_T]) -> list[_T]:
    """What a value is and holds of a kind; the outermost first."""
    return [part for part in _walk(value, kind) if isinstance(part, kind)]


def attribute(value: Any, name: str) -> Any:
    """An attribute, or None where there is none or it cannot be read."""
    try:
        return getattr(value, name, None)
    except Exception:  # from a property or a `__getattr__`, which may raise anything
        return None


def own_groups(part: Any) -> list[dict[str, Any]]:
    """The groups of one part; none of what is no optimizer."""
    found = attribute(part, "param_groups")
    return [group for group in found if isinstance(group, dict) and "params" in group] if _is_plain(found) else []


def entries(value: Any) -> dict[str, Any]:
    """What an object itself has, by name: in its ``__dict__`` and its slots."""
    kind: Any = type(value)
    return {**inside(value), **dict(slots(value))} if _slot_names(kind) else inside(value)


def inside(value: Any) -> dict[str, Any]:
    """The ``__dict__`` of an object itself, and not of one that it delegates to."""
    try:
        found: dict[str, Any] = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return found


def slots(value: Any) -> Iterator[tuple[str, Any]]:
    """The slots of an object that are set, by name."""
    kind: Any = type(value)
    for name in _slot_names(kind):
        try:
            yield name, object.__getattribute__(value, name)
        except AttributeError:
            continue


@lru_cache(maxsize=1024)
def _slot_names(kind: type) -> tuple[str, ...]:
    found: list[str] = []
    for base in kind.__mro__:
        names = vars(base).get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if name not in ("__dict__", "__weakref__"):
                private = name.startswith("__") and not name.endswith("__")
                found.append(f"_{base.__name__.lstrip('_')}{name}" if private else name)
    return tuple(found)


def _walk(whole: Any, kind: type[Any]) -> list[Any]:
    found: list[Any] = [whole]
    seen = {id(whole): whole}  # held, so that each id stays its own
    ahead: deque[tuple[Any, tuple[Any, ...]]] = deque([(whole, ())])  # objects, and those between them and a part
    while ahead:
        holder, way = ahead.popleft()
        for value in _flat(_held(holder), seen):
            if isinstance(value, kind):
                if way and kind is Optimizer and _is_foreign(value, whole):
                    continue
                found += [*(one for one in way if all(one is not other for other in found)), value]
                ahead.append((value, ()))
            elif len(way) < _DEPTH and not isinstance(value, (torch.nn.Module, Tensor, LRScheduler)):
                ahead.append((value, (*way, value)))
    return found


def _is_foreign(optimizer: Any, whole: Any) -> bool:
    """Whether both have parameters, and none in common."""
    own, theirs = ({id(param) for group in own_groups(one) for param in group["params"]} for one in (whole, optimizer))
    return bool(own and theirs) and own.isdisjoint(theirs)


def _held(holder: Any) -> list[Any]:
    skipped = _CONTENTS if attribute(holder, "param_groups") is not None else ()
    found = [
        value
        for name, value in entries(holder).items()
        if type(value) not in _NOTHING and name not in skipped and "hooks" not in name
    ]
    if _is_plain(holder):
        found += holder.values() if isinstance(holder, Mapping) else holder
    return found + [attribute(holder, name) for name in _HANDED_OUT]


def _flat(values: Iterable[Any], seen: dict[int, Any]) -> Iterator[Any]:
    """The objects among values and in their containers that were not seen; those of built-in types hold nothing."""
    for value in values:
        if type(value) in _NOTHING or id(value) in seen:
            continue
        if _is_plain(value):
            seen[id(value)] = value
            yield from _flat(value.values() if isinstance(value, Mapping) else value, seen)
        elif type(value).__module__ != "builtins" and not isinstance(value, type):
            seen[id(value)] = value
            yield value


def _is_plain(value: Any) -> bool:
    return isinstance(value, (list, tuple, dict, set, frozenset, deque))
