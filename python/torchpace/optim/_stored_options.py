"""The options of a group as JSON has them, and back."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from torchpace import _native


def flags(optimizer: Optimizer) -> dict[str, bool]:
    """The options that the optimizer's constructor has, and whether each is a flag."""
    return {
        name: isinstance(one.default, bool) for name, one in inspect.signature(_own_class(optimizer)).parameters.items()
    }


def plain(place: str, is_flag: bool | None, value: Any) -> Any:
    """An option as JSON has it; numbers that JSON lacks as strings.

    Args:
        place: of the option, for errors.
        is_flag: whether it is True or False; None where that is not known.
        value: what it is.

    Raises:
        TypeError: it is neither None, a number, a flag, a word nor a list of those.
    """
    if is_flag:
        return _truth(place, value)
    if value is None or isinstance(value, str):
        return value
    found = _number(value)
    if found is None and isinstance(value, (list, tuple)):
        return [plain(place, is_flag, item) for item in value]
    if found is None and hasattr(value, "tolist") and hasattr(value, "shape") and len(value.shape) > 0:
        return plain(place, is_flag, value.tolist())
    if found is None:
        kind = type(value).__qualname__
        raise TypeError(f"{place} is of type {kind}, expected None, a number, a flag, a word or a list")
    if isinstance(found, bool) and is_flag is False:
        return int(found)
    return found if isinstance(found, int) or math.isfinite(found) else repr(found)


def number_of(value: Any) -> Any:
    """What JSON has, its strings for numbers as numbers."""
    if isinstance(value, list):
        return [number_of(item) for item in value]
    return float(value) if value in ("inf", "-inf", "nan") else value


def like(place: str, is_flag: bool | None, old: Any, value: Any) -> Any:
    """A value of JSON's, of the type that the option has; None is for `check_ranges` to judge.

    Raises:
        ValueError: it is of another type.
    """
    if value is None or isinstance(old, str):
        return value
    value, number = number_of(value), _number(old)
    if is_flag or (is_flag is None and isinstance(number, bool)):
        if not isinstance(value, bool):
            raise ValueError(f"{place} is {value!r}, expected a flag")
        return value
    if number is not None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{place} is {value!r}, expected a number")
        return torch.full_like(old, value) if isinstance(old, Tensor) else value
    if hasattr(old, "tolist") and hasattr(old, "shape"):
        return _array_like(place, old, value)
    if isinstance(old, tuple):
        if not isinstance(value, list) or len(value) != len(old):
            raise ValueError(f"{place} is {value!r}, expected a list of {len(old)}")
        return tuple(like(place, is_flag, before, item) for before, item in zip(old, value, strict=True))
    return value


def _array_like(place: str, old: Any, value: Any) -> Any:
    """A tensor or an array of NumPy's with other numbers."""
    try:
        found = torch.tensor(value, dtype=torch.float64)
    except (TypeError, ValueError):
        found = None
    if found is None or found.shape != tuple(old.shape):
        raise ValueError(f"{place} is {value!r}, expected numbers of shape {list(old.shape)}")
    return found.to(old) if isinstance(old, Tensor) else found.numpy().astype(old.dtype)


def check_ranges(place: str, optimizer: Optimizer, options: dict[str, Any]) -> None:
    """That a new optimizer takes the options: the constructor has the checks.

    Raises:
        ValueError: it does not.
    """
    own = _own_class(optimizer)
    taken = inspect.signature(own).parameters
    known = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    try:
        # Also as a group's, of which Muon's may have another rule.
        own([{"params": [torch.empty(0, 0)], **known}], **{name: known[name] for name in known if name in taken})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: {error}") from error


def _own_class(optimizer: Optimizer) -> Any:
    return next(base for base in type(optimizer).__mro__ if base.__module__.startswith("torchpace.optim."))


def _truth(place: str, value: Any) -> bool:
    try:
        return bool(value)  # a step asks no more than whether it is true
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{place} is of type {type(value).__qualname__}, expected a flag") from error


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
