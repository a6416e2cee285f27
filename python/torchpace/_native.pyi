from collections.abc import Callable
from typing import Any, final

from torch import Tensor

__all__ = ["Formula", "Plan", "__version__", "advance", "observe"]

__version__: str

def advance(scheduler: Any) -> bool: ...
def observe(scheduler: Any, metrics: Any) -> bool: ...

@final
class Formula:
    def __new__(cls, name: str) -> Formula: ...

@final
class Plan:
    def __new__(cls, rule: str) -> Plan: ...
    def step(
        self,
        param_groups: list[dict[str, Any]],
        state: dict[Any, Any],
        new_state: Callable[[Tensor, dict[str, Any], list[str]], dict[str, Tensor]],
        threads: int,
        unscale: float | None = None,
        norm: float | None = None,
    ) -> tuple[str, float | None]: ...
    def __reduce__(self) -> tuple[type[Plan], tuple[str]]: ...
