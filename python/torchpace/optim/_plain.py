"""The arguments of constructors: numbers of any type where torch asks for Python's, and named where they are none."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from torch import Tensor

from torchpace import _native

_NUMBERS = (
    *("lr", "lr_decay", "momentum", "momentum_decay", "alpha", "rho", "eps", "weight_decay", "lambd", "t0"),
    *("initial_accumulator_value", "warmup_steps", "r", "weight_lr_power", "beta2_decay", "d"),
    *("d0", "d_coef", "growth_rate"),
)
_OPTIONAL = ("beta3", "beta3_warmup", "alpha_warmup", "trust_coefficient")
_LISTS = ("betas", "etas", "step_sizes")
_WORDS = {2: "two numbers", 3: "three numbers"}


def construct(construct: Callable[[dict[str, Any]], None], arguments: dict[str, Any]) -> None:
    """Call what constructs an optimizer of a constructor's arguments.

    Raises:
        TypeError, ValueError, RuntimeError, LookupError: as it does; where it stumbles over what is no number, with the
            argument's name before its words.
    """
    try:
        construct(_converted(arguments))
    except (TypeError, ValueError, RuntimeError, LookupError) as error:
        name, expected = _culprit(arguments)
        if name is None or re.search(rf"\b{name}\b", str(error)):
            raise
        raise type(error)(f"{name} is {_shown(arguments[name])}, expected {expected}: {error}") from error


def _converted(arguments: dict[str, Any]) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for name in _LISTS:
        given = arguments.get(name)
        if isinstance(given, (tuple, list)) and not any(isinstance(one, Tensor) for one in given):
            numbers = [_number(one) for one in given]
            if None not in numbers and not all(type(one) in (int, float) for one in given):
                changed[name] = tuple(numbers)
    if _has_two_eps(arguments) and isinstance(arguments["eps"], (tuple, list)):
        pair = [None if one is None else _number(one) for one in arguments["eps"]]
        is_number = all(one is not None or was is None for one, was in zip(pair, arguments["eps"], strict=True))
        if is_number and not all(one is None or type(one) in (int, float) for one in arguments["eps"]):
            changed["eps"] = tuple(pair)
    initial = arguments.get("initial_accumulator_value")
    if type(initial) not in (int, float) and not isinstance(initial, Tensor):
        value = _number(initial)
        if value is not None:
            changed["initial_accumulator_value"] = value
    return {**arguments, **changed}


def _number(value: Any) -> float | None:
    try:
        return _native.number("value", value)
    except (TypeError, OverflowError):
        return None


def _culprit(arguments: dict[str, Any]) -> tuple[str | None, str]:
    """The first argument that cannot be compared with a number, as torch compares it, and what it should be."""
    params = arguments["params"]
    if not hasattr(params, "__iter__") and not hasattr(params, "__getitem__"):
        return "params", "parameters, named parameters or groups"
    for name in _NUMBERS:
        if name == "eps" and _has_two_eps(arguments):
            if not all(_compares(lambda at=at: _eps(arguments, at)) for at in range(2)):  # type: ignore[misc]
                return name, "None or a number, and a number"
        elif not _compares(lambda name=name: arguments.get(name, 0.0)):  # type: ignore[misc]
            return name, "a number"
    for name in _OPTIONAL:
        if arguments.get(name) is not None and not _compares(lambda name=name: arguments[name]):  # type: ignore[misc]
            return name, "None or a number"
    for name in _LISTS:
        count = 3 if "beta3_warmup" in arguments else 2
        if not all(_compares(lambda name=name, at=at: arguments.get(name, (0.0,) * 3)[at]) for at in range(count)):  # type: ignore[misc]
            return name, _WORDS[count]
    return None, ""


def _has_two_eps(arguments: dict[str, Any]) -> bool:
    return "beta2_decay" in arguments


def _eps(arguments: dict[str, Any], at: int) -> Any:
    value = arguments["eps"][at]
    return 0.0 if value is None and at == 0 else value


def _compares(value: Callable[[], Any]) -> bool:
    try:
        bool(value() >= 0.0)
    except (TypeError, ValueError, RuntimeError, LookupError):
        return False
    return True


def _shown(value: Any) -> str:
    is_long = hasattr(value, "shape") or isinstance(value, type)
    return f"of type {type(value).__name__}" if is_long else repr(value)
