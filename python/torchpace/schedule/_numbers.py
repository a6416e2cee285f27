"""Numbers of any type: Python's, NumPy's, fractions, arrays and tensors of one element."""

from __future__ import annotations

import math
from typing import Any

from torchpace import _native


def number(value: Any) -> float | None:
    """The number that a value is; None if it is none. Flags are none."""
    found = _own(value)
    return None if found is None else float(found)


def real(name: str, value: Any) -> float:
    """The number that an argument is.

    Raises:
        TypeError: it is none.
        OverflowError: no float holds it.
    """
    found = _own(value)
    if found is None:
        raise TypeError(f"{name} is {value!r}, expected a number")
    return _native.number(name, found)


def not_negative(name: str, value: Any) -> float:
    """The finite number >= 0 that an argument is: an int where it is whole, as a loop over steps has it.

    Raises:
        TypeError: it is no number.
        OverflowError: no float holds it.
        ValueError: it is out of this range.
    """
    found = real(name, value)
    if not (math.isfinite(found) and found >= 0):
        raise ValueError(f"{name} is {value}, expected a finite number >= 0")
    return as_int(found)


def whole(name: str, value: Any, least: int) -> int:
    """The whole number that an argument is.

    Raises:
        TypeError: it is no number.
        OverflowError: no float holds it.
        ValueError: it is not whole, or too small.
    """
    found = real(name, value)
    if not (found.is_integer() and found >= least):
        raise ValueError(f"{name} is {value}, expected a whole number >= {least}")
    return int(found)


def as_int(value: float) -> float:
    """An int in the place of a float that is whole."""
    return int(value) if value.is_integer() else value


def _own(value: Any) -> Any:
    """A number, not in an array or a tensor; None where there is none."""
    if hasattr(value, "item"):
        # NumPy's and torch's way out; not theirs alone.
        try:
            value = value.item()
        except (TypeError, ValueError, RuntimeError):
            return None
    is_number = hasattr(value, "__float__") or hasattr(value, "__index__")
    return value if is_number and not isinstance(value, (bool, str, bytes, type)) else None
