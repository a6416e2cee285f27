"""What dicts, lists and objects hold, noted down and put back in place."""

from __future__ import annotations

import random
import sys
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

_PLAIN = (int, float, complex, str, bytes, bool, type(None), torch.dtype, torch.device, torch.Size, torch.layout)
_WHOLE = (type, ModuleType, FunctionType, MethodType, BuiltinFunctionType, torch.nn.Module, Optimizer, Enum)
"""Neither is looked into: the first do not change, the others are not a value of whoever holds them."""


class Structure:
    """Which objects dicts, lists and objects hold, and all tensors among them.

    Attributes:
        tensors: those found, some perhaps more than once; their contents are not copied here.
    """

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self._undo: list[Callable[[], object]] = []
        self._seen: dict[int, Any] = {}

    def restore(self) -> None:
        """Let all hold again what they held."""
        for undo in self._undo:
            undo()

    def visit(self, value: Any, objects: int) -> None:
        """Note down a value: containers at any depth, objects by their attributes to the depth `objects`."""
        kind = type(value)
        if kind in _PLAIN:
            return
        if isinstance(value, Tensor):
            self.tensors.append(value)
            return
        if isinstance(value, _WHOLE) or id(value) in self._seen:
            return
        self._seen[id(value)] = value  # held, so that its id stays its own
        if isinstance(value, dict):
            self._visit_dict(value, objects)
        elif isinstance(value, (tuple, frozenset)):
            for item in value:
                self.visit(item, objects)
        elif isinstance(value, (list, deque)):
            items = list(value)
            self._undo.append(partial(_refill_list, value, items))
            for item in items:
                self.visit(item, objects)
        elif isinstance(value, set):
            self._undo.append(partial(_refill_set, value, frozenset(value)))
        else:
            self._visit_object(value, objects)

    def attributes(self, value: Any) -> None:
        """Note down which objects the attributes of an object are, all but hooks, without a look into them."""
        entries = vars(value)
        saved = {name: item for name, item in entries.items() if "hooks" not in name}
        self._undo.append(partial(_refill_attributes, entries, saved))

    def entries(self, value: dict[Any, Any]) -> None:
        """Note down which objects a dict holds, without a look into them."""
        saved = dict(value)
        self._undo.append(partial(_refill_dict, value, saved))

    def _visit_dict(self, value: dict[Any, Any], objects: int) -> None:
        self.entries(value)
        for key, item in list(value.items()):
            if isinstance(key, Tensor):
                self.tensors.append(key)
            if type(item) not in _PLAIN:
                self.visit(item, objects)

    def _visit_object(self, value: Any, objects: int) -> None:
        numpy = sys.modules.get("numpy")
        if isinstance(value, torch.Generator):
            self._undo.append(partial(value.set_state, value.get_state()))
        elif isinstance(value, random.Random):
            self._undo.append(partial(value.setstate, value.getstate()))
        elif numpy is not None and isinstance(value, numpy.ndarray):
            self._undo.append(partial(numpy.copyto, value, value.copy()))
        elif numpy is not None and isinstance(value, numpy.random.RandomState):
            self._undo.append(partial(value.set_state, value.get_state()))
        elif numpy is not None and isinstance(value, numpy.random.Generator):
            bits = value.bit_generator
            self._undo.append(partial(setattr, bits, "state", bits.state))
        elif objects > 0 or isinstance(value, LRScheduler):
            entries = getattr(value, "__dict__", None)
            if isinstance(entries, dict):
                self.attributes(value)
                for item in list(entries.values()):
                    self.visit(item, objects - 1)
            for name in _slots(type(value)):
                if hasattr(value, name):
                    item = getattr(value, name)
                    self._undo.append(partial(_set_slot, value, name, item))
                    self.visit(item, objects - 1)


def _refill_dict(value: dict[Any, Any], saved: dict[Any, Any]) -> None:
    if len(value) == len(saved) and all(
        new is old and item is was for (new, item), (old, was) in zip(value.items(), saved.items(), strict=True)
    ):
        return
    value.clear()
    for key, item in saved.items():
        value[key] = item


def _refill_attributes(entries: dict[str, Any], saved: dict[str, Any]) -> None:
    for name in [name for name in entries if name not in saved and "hooks" not in name]:
        del entries[name]
    for name, item in saved.items():
        if name not in entries or entries[name] is not item:
            entries[name] = item


def _refill_list(value: Any, items: list[Any]) -> None:
    if len(value) != len(items) or any(new is not old for new, old in zip(value, items, strict=True)):
        value.clear()
        value.extend(items)


def _refill_set(value: set[Any], members: frozenset[Any]) -> None:
    value.clear()
    for member in members:
        value.add(member)


def _slots(kind: type) -> Iterable[str]:
    for base in kind.__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__"):
                yield f"_{base.__name__.lstrip('_')}{name}" if name.startswith("__") else name


def _set_slot(value: Any, name: str, item: Any) -> None:
    if getattr(value, name, None) is not item:
        setattr(value, name, item)
