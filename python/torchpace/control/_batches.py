"""Batches for a range test, drawn so that nobody notices."""

from __future__ import annotations

import random
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from torchpace.control._kept import kept


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
        self._generators: list[torch.Generator] = []

    def of_repeat(self, seed: int, repeat: int) -> Generator[Any, None, None]:
        """The batches of a repeat: of a list in its own order first, then in random ones.

        Raises:
            ValueError: there are none.
        """
        for number, generator in enumerate(self._generators):
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
        with kept(self._data) as self._generators:
            yield
