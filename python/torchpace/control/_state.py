"""States to go on from, checked before anything is taken over."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from torchpace.control._numbers import real, whole


class State:
    """A `state_dict` that was given, whose entries are read with checks; errors name them."""

    def __init__(self, state_dict: Any, names: Iterable[str]) -> None:
        """Raise where it is no state, or not one with these entries.

        Raises:
            TypeError: it is no dict.
            KeyError: an entry is missing.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"state_dict is of type {type(state_dict).__name__}, expected a dict")
        missing = sorted(set(names) - state_dict.keys())
        if missing:
            raise KeyError(f"state_dict has no {missing[0]!r}, found only {sorted(map(str, state_dict))}")
        self._entries = state_dict

    def __getitem__(self, name: str) -> Any:
        """An entry as it is."""
        return self._entries[name]

    def count(self, name: str) -> int:
        """A whole number that is not negative."""
        return whole(_place(name), self[name], 0)

    def number(self, name: str, *, signed: bool = False, finite: bool = True) -> float:
        """A number."""
        return _number(_place(name), self[name], signed, finite)

    def optional(self, name: str) -> float | None:
        """A finite number that is not negative, or None."""
        return None if self[name] is None else self.number(name)

    def numbers(self, name: str, length: int, *, signed: bool = False, finite: bool = True) -> list[float]:
        """A list of so many numbers."""
        values = self.listed(name)
        if len(values) != length:
            raise ValueError(f"{_place(name)} has {len(values)} entries, expected {length}")
        return [_number(f"{_place(name)}[{at}]", value, signed, finite) for at, value in enumerate(values)]

    def listed(self, name: str) -> list[Any]:
        """A list."""
        if not isinstance(self[name], (list, tuple)):
            raise TypeError(f"{_place(name)} is of type {type(self[name]).__name__}, expected a list")
        return list(self[name])

    def flag(self, name: str) -> bool:
        """True or False."""
        if not isinstance(self[name], bool):
            raise TypeError(f"{_place(name)} is {self[name]!r}, expected True or False")
        return bool(self[name])


def _place(name: str) -> str:
    return f"state_dict[{name!r}]"


def _number(place: str, value: Any, signed: bool, finite: bool) -> float:
    words = ("a finite number" if finite else "a number") + ("" if signed else " >= 0")

    def fits(number: float) -> bool:
        return (not finite or math.isfinite(number)) and (signed or not number < 0)

    return real(place, value, fits, words)
