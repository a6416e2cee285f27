"""Numbers as users give them, of Python, NumPy or torch, or fractions: checked, and made Python's own."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from numbers import Complex, Real
from typing import Any

from torch import Tensor


def real(
    name: str, value: Any, fits: Callable[[float], bool] = math.isfinite, expected: str = "a finite number"
) -> float:
    """An argument as a float.

    Args:
        name: of the argument, for errors.
        value: what was given.
        fits: whether a number is in the argument's range (default: whether it is finite).
        expected: the same in words.

    Raises:
        TypeError: it is no real number.
        ValueError: it does not fit.
    """
    found = _float(name, value)
    if not fits(found):
        raise ValueError(f"{name} is {value}, expected {expected}")
    return found


def number(name: str, value: Any) -> float:
    """An argument as a float, whatever it is, also infinite or NaN.

    Raises:
        TypeError: it is no real number.
    """
    return _float(name, value)


def flag(name: str, value: Any) -> bool:
    """An argument as a bool.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(value, bool) and type(value).__name__ not in ("bool", "bool_"):  # NumPy's
        raise TypeError(f"{name} is {_shown(value)}, expected True or False")
    return bool(value)


def whole(name: str, value: Any, least: int | None = None, expected: str | None = None) -> int:
    """An argument as an int; a float or fraction counts where it is whole.

    Args:
        name: of the argument, for errors.
        value: what was given.
        least: the least that it may be (default: None, any).
        expected: the same in words (default: None).

    Raises:
        TypeError: it is no real number.
        ValueError: it is not whole, or below `least`.
    """
    a_whole = "a whole number" if least is None else f"a whole number >= {least}"
    try:
        found = operator.index(value)
    except TypeError:
        inexact = _float(name, value)
        if not inexact.is_integer():
            raise ValueError(f"{name} is {value}, expected {a_whole}") from None
        found = int(inexact)
    if least is not None and found < least:
        raise ValueError(f"{name} is {value}, expected {expected or a_whole}")
    return found


def _float(name: str, value: Any) -> float:
    is_text = isinstance(value, (str, bytes, bytearray))
    is_complex = isinstance(value, Complex) and not isinstance(value, Real)
    # NumPy turns an array of one number, or a complex one, into a float, with a warning.
    is_array = not isinstance(value, Tensor) and (getattr(value, "shape", ()) != () or _kind(value) == "c")
    try:
        if is_text or is_complex or is_array:
            raise TypeError
        return float(value)
    except OverflowError:
        return -math.inf if value < 0 else math.inf
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name} is {_shown(value)}, expected a number") from None


def _kind(value: Any) -> Any:
    return getattr(getattr(value, "dtype", None), "kind", "")


def _shown(value: Any) -> str:
    """A value and its type in an error; only the type of what may be long."""
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"of type {type(value).__name__} and shape {list(shape)}"
    return f"{value!r}" if isinstance(value, (str, bool, type(None))) else f"of type {type(value).__name__}"
