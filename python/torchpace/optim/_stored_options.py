"""The options of a group as JSON has them, and back."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from torchpace import _native


def plain(place: str, default: Any, value: Any) -> Any:
    """An option as JSON has it; numbers that JSON lacks as strings.

    Raises:
        TypeError: it is neither None, a number, a flag, a word nor a list of those.
    """
    if value is None or isinstance(value, str):
        return value
    found = _number(value)
    if found is None and isinstance(value, (list, tuple)):
        return [plain(place, None, item) for item in value]
    if found is None and hasattr(value, "tolist") and hasattr(value, "shape") and len(value.shape) > 0:
        return plain(place, None, value.tolist())
    if found is None:
        kind = type(value).__qualname__
        raise TypeError(f"{place} is of type {kind}, expected None, a number, a flag, a word or a list")
    if isinstance(default, bool):
        return bool(found)  # a step asks no more than whether it is true
    return found if isinstance(found, int) or math.isfinite(found) else repr(found)


def number_of(value: Any) -> Any:
    """What JSON has, its strings for numbers as numbers."""
    if isinstance(value, list):
        return [number_of(item) for item in value]
    return float(value) if value in ("inf", "-inf", "nan") else value


def like(place: str, old: Any, value: Any) -> Any:
    """A value of the type that the option has; None is for `check_ranges` to judge.

    Raises:
        ValueError: it is of another type.
    """
    if value is None:
        return None
    if isinstance(old, bool):
        if not isinstance(value, bool):
            raise ValueError(f"{place} is {value!r}, expected a flag")
        return value
    if _number(old) is not None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{place} is {value!r}, expected a number")
        return torch.full_like(old, value) if isinstance(old, Tensor) else value
    if isinstance(old, tuple) or hasattr(old, "shape"):
        if not isinstance(value, list) or len(value) != len(old):
            raise ValueError(f"{place} is {value!r}, expected a list of {len(old)}")
        return tuple(like(place, before, item) for before, item in zip(old, value, strict=True))
    return value


def check_ranges(place: str, optimizer: Optimizer, options: dict[str, Any]) -> None:
    """That a new optimizer takes the options: the constructor has the checks.

    Raises:
        ValueError: it does not.
    """
    own = next(base for base in type(optimizer).__mro__ if base.__module__.startswith("torchpace.optim."))
    taken = inspect.signature(own).parameters
    known = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    try:
        own([torch.empty(0)], **{name: value for name, value in known.items() if name in taken})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: {error}") from error


def _number(value: Any) -> float | None:
    """A number of any type as one of Python's, an `int` or a `bool` as that; None for what is no number."""
    if hasattr(value, "item") and math.prod(getattr(value, "shape", (2,))) == 1:
        value = value.item()  # also of a complex number, whose `float` would be its real part
    if isinstance(value, (int, float)):
        return value
    try:
        return None if isinstance(value, complex) else _native.number("value", value)
    except (TypeError, OverflowError):
        return None
