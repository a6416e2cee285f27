"""Learning rates that are another within an optimizer's step, and nowhere else."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.optim import Optimizer


class Scaled:
    """Multiplies all learning rates of an optimizer by a factor within its step.

    Only the step itself sees the product: hooks before and after it find the rates as they were, and a scheduler that
    works from the rate of the step before never compounds the factor.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._factor = 1.0
        self._rates: list[tuple[dict[str, Any], Any]] = []
        self._values: list[tuple[Tensor, Tensor]] = []
        self._first, self._last = self._scale, self._unscale

    def start(self, factor: float) -> None:
        """Scale within the steps from here on."""
        if factor == 1:
            return
        self._factor = factor
        # The last of the hooks before the step, and the first of those after it.
        self._optimizer.register_step_pre_hook(self._first)
        last = self._optimizer.register_step_post_hook(self._last)
        hooks: Any = self._optimizer._optimizer_step_post_hooks
        hooks.move_to_end(last.id, last=False)

    def stop(self) -> None:
        """No longer scale; may be called at any time, and again where it was interrupted."""
        optimizer = self._optimizer
        # Not by their handles, which an interrupt may have kept from coming back.
        for hooks, own in (
            (optimizer._optimizer_step_pre_hooks, self._first),
            (optimizer._optimizer_step_post_hooks, self._last),
        ):
            for name in [name for name, hook in hooks.items() if hook is own]:
                del hooks[name]
        self._unscale()

    def _scale(self, *_: Any) -> None:
        shared = set()
        for group in self._optimizer.param_groups:
            rate = group["lr"]
            self._rates.append((group, rate))
            if not isinstance(rate, Tensor):
                group["lr"] = rate * self._factor
            elif id(rate) not in shared:
                shared.add(id(rate))
                self._values.append((rate, rate.clone()))
                rate.mul_(self._factor)

    def _unscale(self, *_: Any) -> None:
        while self._values:
            rate, value = self._values[-1]
            rate.copy_(value)
            self._values.pop()
        while self._rates:
            group, rate = self._rates[-1]
            group["lr"] = rate
            self._rates.pop()
