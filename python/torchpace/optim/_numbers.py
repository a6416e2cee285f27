"""What is a number among the options of an optimizer."""

from __future__ import annotations

import math
import operator
from typing import Any


def number(value: Any) -> float | None:
    """A number of any library's as Python's own: also a fraction, or a tensor or an array of one element.

    An `int` or a `bool` stays one. None for what is no number.
    """
    if hasattr(value, "item") and hasattr(value, "shape"):
        if math.prod(value.shape) != 1 or getattr(value, "is_meta", False):
            return None
        value = value.item()  # `float(value)` warns of a tensor that requires a gradient
    if isinstance(value, (int, float)):
        return value
    if hasattr(value, "__index__"):
        return operator.index(value)
    return float(value) if hasattr(value, "__float__") else None
