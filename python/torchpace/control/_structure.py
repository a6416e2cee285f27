"""What dicts, lists and objects hold, noted down and put back in place."""

from __future__ import annotations

import random
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from torchpace.optim import _unwrap

_PLAIN = (int, float, complex, str, bytes, bool, type(None), torch.dtype, torch.device, torch.Size, torch.layout)
_WHOLE = (type, ModuleType, FunctionType, MethodType, BuiltinFunctionType, torch.nn.Module, Optimizer, Enum)
"""Neither is looked into: the first do not change, the others are not a value of whoever holds them."""

_ALWAYS = (LRScheduler, GradScaler)
"""Looked into at any depth."""


class Structure:
    """Which objects dicts, lists and objects hold, and all tensors among them.

    Attributes:
        tensors: those found, some perhaps more than once; their contents are not copied here.
        generators: torch's random generators among them, whose states are noted down.
    """

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.generators: list[torch.Generator] = []
        self._undo: list[Callable[[], object]] = []
        self._seen: dict[int, Any] = {}
        self._ahead: deque[tuple[Any, int]] = deque()

    def restore(self) -> None:
        """Let all hold again what they held; where something cannot be put back, the rest is."""
        run_all(self._undo)

    def visit(self, value: Any, objects: int) -> None:
        """Note down a value: containers at any depth, objects by their attributes to the depth `objects`."""
        # What is nearest comes first, so that whatever is met on several ways is met with the most depth left.
        self._ahead.append((value, objects))
        while self._ahead:
            self.visit_one(*self._ahead.popleft())

    def later(self, value: Any, objects: int) -> None:
        """Visit a value when all that is nearer has been."""
        if type(value) not in _PLAIN:
            self._ahead.append((value, objects))

    def is_new(self, value: Any) -> bool:
        """Whether a value was not met yet; it is then."""
        if type(value) in _PLAIN or isinstance(value, _WHOLE) or id(value) in self._seen:
            return False
        self._seen[id(value)] = value  # held, so that its id stays its own
        return True

    def visit_one(self, value: Any, objects: int) -> None:
        """Note down one value; what is in it waits for its turn."""
        if isinstance(value, Tensor):
            self.tensors.append(value)
        elif not self.is_new(value):
            return
        elif isinstance(value, (dict, tuple, frozenset, list, deque, set)):
            self.shallow(value)
            self.contents(value, objects)
            if isinstance(value, dict):
                self.tensors += [key for key in value if isinstance(key, Tensor)]
                self._at_once(value.values(), objects)
            elif not isinstance(value, set):
                self._at_once(items_of(value), objects)
        else:
            self._visit_object(value, objects)

    def shallow(self, value: Any) -> None:
        """Note down which objects a container holds, without a look into them."""
        if isinstance(value, dict):
            self.entries(value)
        elif isinstance(value, (list, deque)):
            self._undo.append(partial(_refill_list, value, list(items_of(value))))
        elif isinstance(value, set):
            self._undo.append(partial(_refill_set, value, frozenset(value)))

    def contents(self, value: Any, objects: int) -> None:
        """Note down what a container is besides what it holds: nothing here."""

    def _at_once(self, container: Iterable[Any], objects: int) -> None:
        self._ahead.extendleft((item, objects) for item in container if type(item) not in _PLAIN)

    def look_into(self, value: Any, objects: int) -> None:
        """Note down what an object has, to the depth `objects`."""
        self.attributes(value)
        for item in _unwrap.entries(value).values():
            self.later(item, objects)

    def attributes(self, value: Any) -> None:
        """Note down which objects the attributes of an object are, all but hooks, without a look into them."""
        inside = _unwrap.inside(value)
        saved = {name: item for name, item in inside.items() if "hooks" not in name}
        self._undo.append(partial(_refill_attributes, inside, saved))
        for name, item in _unwrap.slots(value):
            self._undo.append(partial(_set_slot, value, name, item))

    def entries(self, value: dict[Any, Any]) -> None:
        """Note down which objects a dict holds, without a look into them."""
        saved = dict(value)
        self._undo.append(partial(_refill_dict, value, saved))

    def _visit_object(self, value: Any, objects: int) -> None:
        numpy = sys.modules.get("numpy")
        if isinstance(value, torch.Generator):
            self.generators.append(value)
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
        elif objects > 0 or isinstance(value, _ALWAYS):
            self.look_into(value, objects - 1)
        else:
            del self._seen[id(value)]  # it may be met again with more depth left


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
    if len(value) != len(items) or any(new is not old for new, old in zip(items_of(value), items, strict=True)):
        value.clear()
        value.extend(items)


def items_of(value: Any) -> Iterator[Any]:
    """The items of a container; it may be of a class whose own `__iter__` does something else."""
    base: Any = next(kind for kind in (list, deque, tuple, frozenset) if isinstance(value, kind))
    items: Iterator[Any] = base.__iter__(value)
    return items


def _refill_set(value: set[Any], members: frozenset[Any]) -> None:
    value.clear()
    for member in members:
        value.add(member)


def _set_slot(value: Any, name: str, item: Any) -> None:
    if getattr(value, name, None) is not item:
        setattr(value, name, item)


def run_all(calls: Iterable[Callable[[], object]]) -> None:
    """Make all calls, and raise the first error of any; an interrupt at once."""
    first: Exception | None = None
    for call in calls:
        try:
            call()
        except Exception as error:
            first = first or error
    if first is not None:
        raise first
