"""Iterators that cannot be put back: counts and the like get copies in their places for a while, others a refusal."""

from __future__ import annotations

import ast
import copy
import inspect
import itertools
from collections.abc import Iterator
from io import IOBase
from types import FunctionType, GeneratorType
from typing import Any

from torch.utils.data.dataloader import _BaseDataLoaderIter

_COPIED = tuple(
    type(one) for one in (iter([]), iter(()), iter(range(0)), iter(range(2**99)), iter(""), iter(b""), reversed([]))
)
"""Iterators over what has places, whose copies go on by themselves."""


def is_opaque(value: Any) -> bool:
    """Whether it is an iterator, not used up, that holds its place where nobody can set it."""
    if not isinstance(value, Iterator) or isinstance(value, (IOBase, Refusal)):
        return False
    if isinstance(value, GeneratorType):
        return value.gi_frame is not None
    is_python = isinstance(inspect.getattr_static(type(value), "__next__", None), FunctionType)
    return not is_python or isinstance(value, _BaseDataLoaderIter)


def stand_in(value: Any) -> Any:
    """What takes an opaque iterator's place while it must not move."""
    if isinstance(value, _COPIED):
        return copy.copy(value)
    if type(value) is itertools.count:
        try:
            return itertools.count(*ast.literal_eval(repr(value).removeprefix("count").replace(")", ",)")))
        except (ValueError, SyntaxError):  # of numbers that are neither int nor float
            pass
    return Refusal(value)


class Refusal:
    """Raises when the next item is asked for, before anything is drawn."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __iter__(self) -> Refusal:
        return self

    def __next__(self) -> Any:
        raise TypeError(
            f"data holds a {type(self._value).__name__} and draws from it, which cannot be put back, so later batches "
            "would change: expected a loader that begins anew, or a list of batches"
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._value, name)
