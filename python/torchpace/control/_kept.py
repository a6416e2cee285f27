"""Data that are gone through so that nobody notices."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import EnumMeta
from functools import partial
from io import IOBase
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch.utils.data.dataloader import _BaseDataLoaderIter

from torchpace.control._copies import Copies
from torchpace.control._functions import globals_of, is_installed, is_users, plain_functions
from torchpace.control._random_states import RandomStates, is_generator
from torchpace.control._stand_ins import is_opaque, stand_in
from torchpace.control._structure import Structure, items_of, run_all
from torchpace.optim import _unwrap

_DEPTH = 8
"""How deep loaders are looked into."""

_OUTER_DEPTH = 2
"""How deep what loaders' functions use and do not hold is looked into."""

_MANY = 1000
"""The length from which a module's variable is data, which are not looked into."""

_DATASETS = ("dataset", "datasets", "data_source")
"""What loaders, samplers and datasets call a dataset."""

_AT_WORK = frozenset(("_thread", "asyncio", "concurrent", "logging", "multiprocessing", "queue", "threading"))
"""Modules whose objects other threads or processes may be at work on."""


@contextmanager
def kept(data: Iterable[Any]) -> Iterator[list[torch.Generator]]:
    """A block after which data give the batches that they would have given; of an iterator, those that are left.

    All that a loader consists of is put back: loaders within it, samplers with their counts of epochs, random
    generators and the global ones, counters and places in files, and what the classes and functions of all that keep in
    their own variables and those of their modules. Of a dataset, which may be large, it is what its attributes are, and
    not what those hold inside.

    Yields:
        torch's random generators among all that.

    Raises:
        TypeError: the block drew from an iterator that is held there and cannot be put back; nothing was drawn.
    """
    if type(data) in (list, tuple) or isinstance(data, Iterator):
        yield []
        return
    structure, orders, random = _Loader(), Copies(), RandomStates()
    random.take(())
    structure.visit(data, _DEPTH)
    orders.take(tensor for tensor in structure.tensors if _is_order(tensor))
    try:
        structure.start()
        yield structure.generators
    finally:
        run_all([structure.restore, orders.restore, random.restore])


class _Loader(Structure):
    """Looks into what a loader consists of, and at a dataset from outside."""

    def __init__(self) -> None:
        super().__init__()
        self._with_workers: list[dict[str, Any]] = []
        self._places: list[tuple[Any, Callable[[Any], object]]] = []

    def start(self) -> None:
        """Let no iterator move that cannot be put back; `restore` ends it."""
        # Workers that stay, and may be in the middle of an epoch: a second epoch would end theirs.
        for inside in self._with_workers:
            inside["_iterator"] = None
        others: dict[int, Any] = {}
        for iterator, put in self._places:
            self._undo.append(partial(put, iterator))
            put(others.setdefault(id(iterator), stand_in(iterator)))

    def visit_one(self, value: Any, objects: int) -> None:
        """Note down a value, if it is part of a loader."""
        numpy = sys.modules.get("numpy")
        if isinstance(value, Dataset):
            self._visit_dataset(value)
        elif isinstance(value, (FunctionType, MethodType)):
            self.later(getattr(value, "__self__", None), objects)
            self._visit_function(value)
        elif isinstance(value, type):
            self._visit_class(value, objects)
        elif isinstance(value, functools.partial):
            for item in (value.func, value.args, value.keywords):
                self.later(item, objects)
        elif isinstance(value, IOBase):
            self._visit_file(value)
        elif numpy is not None and isinstance(value, numpy.ndarray):
            if _is_order(value) and not isinstance(value, numpy.memmap):
                super().visit_one(value, objects)
        elif not _is_left_alone(value):
            super().visit_one(value, objects)

    def look_into(self, value: Any, objects: int) -> None:
        """Note down what an object has."""
        self.attributes(value)
        self._visit_class(type(value), objects)
        inside = _unwrap.inside(value)
        for name, item in _unwrap.entries(value).items():
            if name in _DATASETS:
                self._visit_dataset(item)
            elif name == "_iterator" and isinstance(item, _BaseDataLoaderIter) and "persistent_workers" in inside:
                self._with_workers.append(inside)
            elif is_opaque(item):
                self._places.append((item, _setter(value, name)))
            else:
                self.later(item, objects)

    def entries(self, value: dict[Any, Any]) -> None:
        """Note down which objects a dict holds."""
        super().entries(value)
        self._places += [(item, partial(value.__setitem__, key)) for key, item in value.items() if is_opaque(item)]

    def contents(self, value: Any, objects: int) -> None:
        """Note down what a container is besides what it holds, where it is of a class of its own."""
        if isinstance(value, list):
            self._places += [
                (item, partial(value.__setitem__, at)) for at, item in enumerate(items_of(value)) if is_opaque(item)
            ]
        if type(value).__module__ not in ("builtins", "collections"):
            self.look_into(value, objects)

    def _visit_dataset(self, value: Any) -> None:
        """Note down which objects its attributes are, and its random generators; the same of datasets within."""
        if isinstance(value, (list, tuple)):
            if all(isinstance(item, Dataset) for item in value):
                for item in value:
                    self._visit_dataset(item)
        elif self.is_new(value):
            self.attributes(value)
            self._visit_class(type(value), 0)
            for name, item in _unwrap.entries(value).items():
                if name in _DATASETS or isinstance(item, Dataset):
                    self._visit_dataset(item)
                elif is_generator(item):
                    super().visit_one(item, 0)
                elif is_opaque(item):
                    self._places.append((item, _setter(value, name)))
                elif isinstance(item, IOBase):
                    self._visit_file(item)

    def _visit_class(self, kind: type, objects: int) -> None:
        """Note down the variables of a class and of those that it is of, and what its functions use."""
        for base in kind.__mro__:
            if not is_users(base) or isinstance(base, EnumMeta) or not self._is_first(base):
                continue
            saved = {name: item for name, item in vars(base).items() if _is_variable(name, item)}
            self._undo.append(partial(_refill_class, base, saved))
            for name, item in saved.items():
                self._visit_variable(item, objects, partial(type.__setattr__, base, name))
            for item in vars(base).values():
                for function in plain_functions(item):
                    self._visit_function(function)

    def _visit_function(self, value: Any) -> None:
        """Note down the variables around a function, and those of its module that it uses; so with what it calls."""
        for function in plain_functions(value):
            if is_installed(function.__code__.co_filename) or not is_users(function) or not self._is_first(function):
                continue
            for cell in function.__closure__ or ():
                self._visit_cell(cell)
            self.later(function.__defaults__, _OUTER_DEPTH)
            self.later(function.__kwdefaults__, _OUTER_DEPTH)
            self.entries(vars(function))
            variables = function.__globals__
            written, read = globals_of(function)
            self._visit_entries(variables, written)
            for name in read - written:
                if name in variables and name != "__builtins__":
                    self._visit_variable(variables[name], _OUTER_DEPTH, partial(variables.__setitem__, name))

    def _visit_cell(self, cell: CellType) -> None:
        with suppress(ValueError):  # it is empty
            item = cell.cell_contents
            put = partial(setattr, cell, "cell_contents")
            self._undo.append(partial(put, item))
            self._visit_variable(item, _OUTER_DEPTH, put)

    def _visit_entries(self, variables: dict[str, Any], names: Iterable[str]) -> None:
        """Note down some variables of a module, which may be set or go."""
        for name in names:
            self._undo.append(partial(_refill_entry, variables, name, variables.get(name, _MISSING)))
            if name in variables:
                self._visit_variable(variables[name], _OUTER_DEPTH, partial(variables.__setitem__, name))

    def _visit_variable(self, item: Any, objects: int, put: Callable[[Any], object]) -> None:
        """Note down the value of a variable; of data in one, only which they are."""
        if is_opaque(item):
            self._places.append((item, put))
        elif isinstance(item, ModuleType):
            if is_users(item) and not is_installed(getattr(item, "__file__", None)) and self._is_first(item):
                names = [name for name, one in vars(item).items() if _is_variable(name, one)]
                self._visit_entries(vars(item), names)
        elif isinstance(item, (list, dict, set, tuple)) and len(item) > _MANY:
            self.shallow(item)
        elif not isinstance(item, Tensor):
            self.later(item, objects)

    def _visit_file(self, file: Any) -> None:
        with suppress(OSError, ValueError):  # it has no place, is closed, or is being gone through
            if self.is_new(file) and file.seekable():
                self._undo.append(partial(file.seek, file.tell()))

    def _is_first(self, value: Any) -> bool:
        """Whether a class, function or module was not met yet; it is then."""
        first = id(value) not in self._seen
        self._seen[id(value)] = value
        return first


_MISSING = object()


def _is_left_alone(value: Any) -> bool:
    """Whether it is not looked into: others are at work on it, or it is an iterator that `start` sees to."""
    return type(value).__module__.partition(".")[0] in _AT_WORK or is_opaque(value)


def _is_variable(name: str, value: Any) -> bool:
    """Whether it is one of a class or module, and nothing of the program's."""
    is_special = name.startswith("__") and name.endswith("__")
    is_code = isinstance(value, (type, ModuleType)) or callable(value) or hasattr(type(value), "__get__")
    return not (is_special or name == "_abc_impl" or is_code)


def _setter(holder: Any, name: str) -> Callable[[Any], object]:
    inside = _unwrap.inside(holder)
    return partial(inside.__setitem__, name) if name in inside else partial(setattr, holder, name)


def _refill_class(kind: type, saved: Mapping[str, Any]) -> None:
    for name in [name for name, item in vars(kind).items() if name not in saved and _is_variable(name, item)]:
        type.__delattr__(kind, name)
    for name, item in saved.items():
        if vars(kind).get(name, _MISSING) is not item:
            type.__setattr__(kind, name, item)


def _refill_entry(variables: dict[str, Any], name: str, item: Any) -> None:
    if item is _MISSING:
        variables.pop(name, None)
    elif variables.get(name, _MISSING) is not item:
        variables[name] = item


def _is_order(values: Any) -> bool:
    """Whether an array or tensor may be an order of samples, which is shuffled in place."""
    if isinstance(values, Tensor):
        return values.ndim == 1 and not (values.is_floating_point() or values.is_complex())
    return values.ndim == 1 and values.dtype.kind in "iu"
