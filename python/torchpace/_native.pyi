from collections.abc import Callable
from typing import Any

from torch import Tensor

__all__ = ["__version__", "step"]

__version__: str

def step(
    rule: str,
    param_groups: list[dict[str, Any]],
    state: dict[Any, Any],
    new_state: Callable[[Tensor, dict[str, Any], list[str]], dict[str, Tensor]],
    threads: int,
) -> str | None: ...
