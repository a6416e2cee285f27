"""Numbers of any type, as Python has them: torch's formulas go wrong on some types, and its checks refuse others."""

from __future__ import annotations

import operator
from decimal import Decimal
from fractions import Fraction
from typing import Any

from torch import Tensor

_WHOLE = (
    *("T_0", "T_max", "T_mult", "anneal_epochs", "cooldown", "epochs", "last_epoch", "patience"),
    *("step_size", "steps_per_epoch", "total_iters", "total_steps"),
)
_ANY = (
    *("div_factor", "end_factor", "eps", "eta_min", "factor", "final_div_factor", "gamma", "pct_start", "power"),
    *("start_factor", "step_size_down", "step_size_up", "threshold"),
)
_SEVERAL = ("base_lr", "base_momentum", "max_lr", "max_momentum", "milestones", "min_lr", "swa_lr")
"""One for all groups, or a list of one for each; milestones are several alone."""


def plain(name: str, value: Any) -> Any:
    """An argument of a scheduler: a number of another type than Python's as one of these, and so in lists.

    Raises:
        TypeError: it is no number, and has to be one.
    """
    if type(value) in (int, float, bool, type(None)) or name not in (*_WHOLE, *_ANY, *_SEVERAL):
        return value
    if name in _SEVERAL and len(getattr(value, "shape", ())) > 0:
        value = value.tolist()  # of an array or a tensor
    if name in _SEVERAL and isinstance(value, (list, tuple)):
        items = [_number(item) for item in value]
        for at, item in enumerate(items):
            if item is None:
                raise TypeError(f"{name}[{at}] is {value[at]!r}, expected a number")
        return value if all(new is old for new, old in zip(items, value, strict=True)) else type(value)(items)
    if name == "milestones":
        return value  # another iterable, or none at all, which torch says
    found = _number(value)
    if found is None:
        raise TypeError(f"{name} is {value!r}, expected a number")
    if name in _WHOLE and isinstance(found, float) and found.is_integer():
        return int(found)
    return float(found) if name == "pct_start" else found


def _number(value: Any) -> Any:
    """One of Python's; None for what is no number."""
    if type(value) in (int, float, bool):
        return value
    if hasattr(value, "item"):
        if not isinstance(value, Tensor) and getattr(value, "shape", ()) != ():
            return None  # an array of one number, which NumPy no longer takes for that
        try:
            value = value.item()
        except (TypeError, ValueError, RuntimeError):
            return None
    if isinstance(value, (int, float)):
        return value
    if hasattr(value, "__index__"):
        return operator.index(value)
    return float(value) if isinstance(value, (Decimal, Fraction)) or _is_real(value) else None


def _is_real(value: Any) -> bool:
    return hasattr(value, "__float__") and not isinstance(value, (str, bytes, type))
