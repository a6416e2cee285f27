"""The optimizer inside what accelerate, Fabric and Lightning hand out for it."""

from __future__ import annotations

from typing import Any


def unwrap(optimizer: Any) -> Any:
    """The innermost of wrappers that each hold the next one, or the optimizer, as ``optimizer``."""
    return layers(optimizer)[-1]


def layers(optimizer: Any) -> list[Any]:
    """The wrappers from the outside in, and what is inside of all; that alone where there are none."""
    found = [optimizer]
    while True:
        inner = getattr(found[-1], "optimizer", None)
        if not hasattr(inner, "param_groups") or any(inner is known for known in found):
            return found
        found.append(inner)
