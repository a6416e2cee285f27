"""Learning rates that are another within an optimizer's step, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.optim import Optimizer


@contextmanager
def scaled(optimizer: Optimizer, factor: float) -> Iterator[None]:
    """Multiply all learning rates by a factor within the optimizer's step.

    Only the step itself sees the product: hooks before and after it find the rates as they were, and a scheduler that
    works from the rate of the step before never compounds the factor.
    """
    if factor == 1:
        yield
        return
    before: list[tuple[dict[str, Any], Any]] = []
    values: list[tuple[Tensor, Tensor]] = []

    def scale(*_: Any) -> None:
        shared = set()
        for group in optimizer.param_groups:
            rate = group["lr"]
            before.append((group, rate))
            if not isinstance(rate, Tensor):
                group["lr"] = rate * factor
            elif id(rate) not in shared:
                shared.add(id(rate))
                values.append((rate, rate.clone()))
                rate.mul_(factor)

    def unscale(*_: Any) -> None:
        while values:
            rate, value = values[-1]
            rate.copy_(value)
            values.pop()
        while before:
            group, rate = before[-1]
            group["lr"] = rate
            before.pop()

    # The last of the hooks before the step, and the first of those after it.
    first = optimizer.register_step_pre_hook(scale)
    last = optimizer.register_step_post_hook(unscale)
    hooks: Any = optimizer._optimizer_step_post_hooks
    hooks.move_to_end(last.id, last=False)
    try:
        yield
    finally:
        first.remove()
        last.remove()
        unscale()
