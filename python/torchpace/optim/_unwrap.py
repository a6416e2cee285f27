"""Optimizers and schedulers within what holds them: a trainer's wrapper, Lookahead and its like, several in one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

_T = TypeVar("_T")

_DEPTH = 3
"""How many other objects may lie between a wrapper and what it holds."""

_HANDED_OUT = ("optimizer", "scheduler")
"""What a wrapper gives under these names is within it, wherever it keeps it."""

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
    found = {id(group): group for part in parts(optimizer) for group in own_groups(part)}
    return list(found.values())


def params(optimizer: Any) -> list[Tensor]:
    """The parameters in all groups, each once."""
    found = {id(param): param for group in groups(optimizer) for param in group["params"]}
    return list(found.values())


def innermost(optimizer: Any) -> list[Optimizer]:
    """The optimizers that hold no other."""
    return [part for part in within(optimizer, Optimizer) if len(within(part, Optimizer)) == 1]


def is_optimizer(value: Any) -> bool:
    """Whether it is an optimizer, or something else that steps and holds one."""
    if isinstance(value, Optimizer):
        return True
    return not isinstance(value, type) and callable(attribute(value, "step")) and bool(within(value, Optimizer))


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
    return {**inside(value), **dict(slots(value))}


def inside(value: Any) -> dict[str, Any]:
    """The ``__dict__`` of an object itself, and not of one that it delegates to."""
    try:
        found: dict[str, Any] = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return found


def slots(value: Any) -> Iterator[tuple[str, Any]]:
    """The slots of an object that are set, by name."""
    for base in type(value).__mro__:
        names = vars(base).get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            inner = f"_{base.__name__.lstrip('_')}{name}" if name[:2] == "__" != name[-2:] else name
            try:
                yield inner, object.__getattribute__(value, inner)
            except AttributeError:
                continue


def _walk(whole: Any, kind: type[Any]) -> list[Any]:
    found: list[Any] = [whole]
    seen = {id(whole): whole}  # held, so that each id stays its own
    ahead: deque[tuple[Any, tuple[Any, ...]]] = deque([(whole, ())])  # objects, and those between them and a part
    own = {id(param) for group in own_groups(whole) for param in group["params"]}
    while ahead:
        holder, way = ahead.popleft()
        for value in _flat(_held(holder), seen):
            if isinstance(value, kind):
                theirs = [id(param) for group in own_groups(value) for param in group["params"]]
                if way and own and theirs and own.isdisjoint(theirs):
                    continue
                found += [*(one for one in way if all(one is not other for other in found)), value]
                ahead.append((value, ()))
            elif len(way) < _DEPTH and not isinstance(value, (torch.nn.Module, Tensor, LRScheduler)):
                ahead.append((value, (*way, value)))
    return found


def _held(holder: Any) -> Iterator[Any]:
    if _is_plain(holder):
        yield from holder.values() if isinstance(holder, Mapping) else holder
    is_optimizer = bool(own_groups(holder))
    for name, value in entries(holder).items():
        if "hooks" not in name and not (is_optimizer and name in _CONTENTS):
            yield value
    for name in _HANDED_OUT:
        yield attribute(holder, name)


def _flat(values: Iterable[Any], seen: dict[int, Any]) -> Iterator[Any]:
    """The objects among values and in their containers that were not seen; those of built-in types hold nothing."""
    for value in values:
        if _is_plain(value):
            if id(value) not in seen:
                seen[id(value)] = value
                yield from _flat(value.values() if isinstance(value, Mapping) else value, seen)
        elif type(value).__module__ != "builtins" and not isinstance(value, type) and id(value) not in seen:
            seen[id(value)] = value
            yield value


def _is_plain(value: Any) -> bool:
    return isinstance(value, (list, tuple, dict, set, frozenset, deque))
