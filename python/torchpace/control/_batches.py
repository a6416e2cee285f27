"""Batches for a range test, drawn so that nobody notices."""

from __future__ import annotations

import random
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader

from torchpace.control._structure import Structure


class Batches:
    """The batches of a DataLoader, a list or another iterable, over and over.

    Args:
        data: what can be gone through more than once.

    Raises:
        TypeError: it cannot.
    """

    def __init__(self, data: Iterable[Any]) -> None:
        if isinstance(data, Iterator):
            raise TypeError(
                f"data is a {type(data).__name__}, which the test would use up: expected a DataLoader, a list of "
                "batches, or anything else that can be gone through more than once"
            )
        if not isinstance(data, Iterable):
            raise TypeError(f"data is a {type(data).__name__}, expected batches")
        self._data = data

    def of_repeat(self, seed: int, repeat: int) -> Generator[Any, None, None]:
        """The batches of a repeat: of a list in its own order first, then in random ones.

        Raises:
            ValueError: there are none.
        """
        for number, generator in enumerate(self._generators()):
            generator.manual_seed(seed + repeat + number)
        data = self._data
        if repeat > 0 and isinstance(data, (list, tuple)):
            data = random.Random(seed + repeat).sample(data, len(data))
        while True:
            some = False
            for batch in data:
                some = True
                yield batch
            if not some:
                raise ValueError("data has no batches")

    @contextmanager
    def kept(self) -> Iterator[None]:
        """A block after which the data are as before it."""
        structure = Structure()
        for sampler in self._samplers():
            structure.attributes(sampler)
        for generator in self._generators():
            structure.visit(generator, 0)
        workers = vars(self._data) if isinstance(self._data, DataLoader) else {}
        # Workers that stay, and may be in the middle of an epoch: a second epoch would end theirs.
        busy = workers.get("_iterator")
        try:
            if busy is not None:
                workers["_iterator"] = None
            yield
        finally:
            if "_iterator" in workers:
                workers["_iterator"] = busy
            structure.restore()

    def _samplers(self) -> list[Any]:
        if not isinstance(self._data, DataLoader):
            return []
        found = [self._data.sampler, self._data.batch_sampler, getattr(self._data.batch_sampler, "sampler", None)]
        return [sampler for sampler in found if hasattr(sampler, "__dict__")]

    def _generators(self) -> list[torch.Generator]:
        owners = [self._data, *self._samplers()] if isinstance(self._data, DataLoader) else []
        found = [getattr(owner, "generator", None) for owner in owners]
        return list({id(one): one for one in found if isinstance(one, torch.Generator)}.values())
