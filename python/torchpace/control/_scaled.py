"""Learning rates that are another within an optimizer's step, and nowhere else."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from torchpace.optim import _unwrap


class Scaled:
    """Multiplies all learning rates of an optimizer, and of those within it, by a factor within its step.

    Only the step itself sees the product: hooks before and after it find the rates as they were, and a scheduler that
    works from the rate of the step before never compounds the factor. Where a wrapper runs no hooks, it is the steps
    of the optimizers within; where those run none either, the whole time from `start` to `stop`.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._hosts: list[_Host] = []

    def start(self, factor: float) -> None:
        """Scale within the steps from here on."""
        if factor == 1:
            return
        covered: set[int] = set()
        for part in _unwrap.parts(self._optimizer):
            if id(part) not in covered and _runs_hooks(part):
                covered.update(map(id, _unwrap.parts(part)))
                self._hosts.append(_Host(part, factor))
        if self._hosts:
            for host in self._hosts:
                host.hook()
        else:
            self._hosts.append(_Host(self._optimizer, factor))
            self._hosts[0].scale()

    def stop(self) -> None:
        """No longer scale; may be called at any time, and again where it was interrupted."""
        while self._hosts:
            self._hosts[-1].stop()
            self._hosts.pop()


class _Host:
    """An optimizer whose step is that in which rates are scaled."""

    def __init__(self, optimizer: Any, factor: float) -> None:
        self._optimizer, self._factor = optimizer, factor
        self._rates: list[tuple[dict[str, Any], Any]] = []
        self._values: list[tuple[Tensor, Tensor]] = []
        self._first, self._last = self.scale, self._unscale

    def hook(self) -> None:
        """Scale in the steps from here on: as the last of the hooks before them, and the first of those after."""
        self._optimizer.register_step_pre_hook(self._first)
        last = self._optimizer.register_step_post_hook(self._last)
        self._optimizer._optimizer_step_post_hooks.move_to_end(last.id, last=False)

    def stop(self) -> None:
        """Let all be as before."""
        # Not by the hooks' handles, which an interrupt may have kept from coming back.
        inside = _unwrap.inside(self._optimizer)
        for name, own in (
            ("_optimizer_step_pre_hooks", self._first),
            ("_optimizer_step_post_hooks", self._last),
        ):
            hooks = inside.get(name, {})
            for number in [number for number, hook in hooks.items() if hook is own]:
                del hooks[number]
        self._unscale()

    def scale(self, *_: Any) -> None:
        """Multiply the rates."""
        shared = set()
        for group in _unwrap.groups(self._optimizer):
            if "lr" not in group:
                continue
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


def _runs_hooks(part: Any) -> bool:
    """Whether it has hooks of a step itself, and torch's code around the step that calls them."""
    inside = _unwrap.inside(part)
    has = "_optimizer_step_pre_hooks" in inside and "_optimizer_step_post_hooks" in inside
    return has and bool(getattr(_unwrap.attribute(part, "step"), "hooked", False))
