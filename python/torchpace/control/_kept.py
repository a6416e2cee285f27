"""Data that are gone through so that nobody notices."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch.utils.data.dataloader import _BaseDataLoaderIter

from torchpace.control._copies import Copies
from torchpace.control._random_states import is_generator
from torchpace.control._structure import Structure
from torchpace.optim import _unwrap

_DEPTH = 8
"""How deep loaders are looked into."""

_DATASETS = ("dataset", "datasets", "data_source")
"""What loaders, samplers and datasets call a dataset."""

_AT_WORK = frozenset(("_thread", "asyncio", "concurrent", "multiprocessing", "queue", "threading"))
"""Modules whose objects other threads or processes may be at work on."""


@contextmanager
def kept(data: Iterable[Any]) -> Iterator[list[torch.Generator]]:
    """A block after which data give the batches that they would have given; of an iterator, those that are left.

    All that a loader consists of is put back: loaders within it, samplers with their counts of epochs, and random
    generators. Of a dataset, which may be large, it is what its attributes are, and not what those hold inside.

    Yields:
        torch's random generators among all that.
    """
    if isinstance(data, (list, tuple, Iterator)):
        yield []
        return
    structure, orders = _Loader(), Copies()
    structure.visit(data, _DEPTH)
    orders.take(tensor for tensor in structure.tensors if _is_order(tensor))
    try:
        # Workers that stay, and may be in the middle of an epoch: a second epoch would end theirs.
        for inside in structure.with_workers:
            inside["_iterator"] = None
        yield structure.generators
    finally:
        structure.restore()
        orders.restore()


class _Loader(Structure):
    """Looks into what a loader consists of, and at a dataset from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.with_workers: list[dict[str, Any]] = []

    def visit_one(self, value: Any, objects: int) -> None:
        """Note down a value, if it is part of a loader."""
        numpy = sys.modules.get("numpy")
        if isinstance(value, Dataset):
            self._visit_dataset(value)
        elif numpy is not None and isinstance(value, numpy.ndarray):
            if _is_order(value) and not isinstance(value, numpy.memmap):
                super().visit_one(value, objects)
        elif not isinstance(value, _BaseDataLoaderIter) and type(value).__module__.partition(".")[0] not in _AT_WORK:
            super().visit_one(value, objects)

    def look_into(self, value: Any, objects: int) -> None:
        """Note down what an object has."""
        self.attributes(value)
        inside = _unwrap.inside(value)
        if inside.get("_iterator") is not None:
            self.with_workers.append(inside)
        for name, item in _unwrap.entries(value).items():
            if name in _DATASETS:
                self._visit_dataset(item)
            else:
                self.later(item, objects)

    def _visit_dataset(self, value: Any) -> None:
        """Note down which objects its attributes are, and its random generators; the same of datasets within."""
        if isinstance(value, (list, tuple)):
            if all(isinstance(item, Dataset) for item in value):
                for item in value:
                    self._visit_dataset(item)
        elif self.is_new(value):
            self.attributes(value)
            for name, item in _unwrap.entries(value).items():
                if name in _DATASETS or isinstance(item, Dataset):
                    self._visit_dataset(item)
                elif is_generator(item):
                    super().visit_one(item, 0)


def _is_order(values: Any) -> bool:
    """Whether an array or tensor may be an order of samples, which is shuffled in place."""
    if isinstance(values, Tensor):
        return values.ndim == 1 and not (values.is_floating_point() or values.is_complex())
    return values.ndim == 1 and values.dtype.kind in "iu"
