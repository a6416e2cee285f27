"""The rules that torch lacks in torch's operators, for steps that cannot be fused: what they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, _get_capturable_supported_devices, _use_grad_for_differentiable

_Loss = TypeVar("_Loss", bound="float | Tensor")


class ByOperators(Optimizer):
    """One operator after the other, as `torch.optim` would have the rule.

    A class checks its constructor's arguments by `check`, and has `_entries` and `_update`.
    """

    _entries: ClassVar[tuple[str, ...]] = ()
    """The state entries that a parameter has from its first step on, in the order that `_update` takes them."""

    def _update(self, group: dict[str, Any], param: Tensor, grad: Tensor, *entries: Tensor) -> None:
        """Step on one parameter."""
        raise NotImplementedError

    def _new_entry(self, name: str, param: Tensor, group: dict[str, Any]) -> Tensor:
        """What an entry begins as."""
        return (
            new_count(param, group) if name == "step" else torch.zeros_like(param, memory_format=torch.preserve_format)
        )

    def _check_step(self) -> None:
        """Raise RuntimeError where the optimizer is not to step now, be there a closure or not."""

    def _set_missing(self, *names: str) -> None:
        """Give groups of another package's checkpoint the options that they lack."""
        for group in self.param_groups:
            for name in names:
                group.setdefault(name, self.defaults[name])

    def _init_group(self, group: dict[str, Any], *lists: list[Tensor]) -> bool:
        """Add the parameters with a gradient, their gradients and their entries to the lists."""
        has_complex = False
        for param in group["params"]:
            if param.grad is None:
                continue
            if param.grad.is_sparse:
                name = next(cls.__name__ for cls in type(self).__mro__ if cls.__module__.startswith("torchpace."))
                raise RuntimeError(f"{name} does not support sparse gradients")
            has_complex |= torch.is_complex(param)
            state = self.state[param] if self._entries else {}
            if len(state) == 0:
                state.update({name: self._new_entry(name, param, group) for name in self._entries})
            for into, value in zip(lists, (param, param.grad, *(state[name] for name in self._entries)), strict=True):
                into.append(value)
        return has_complex

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], _Loss]) -> _Loss: ...

    @_use_grad_for_differentiable
    def step(self, closure: Callable[[], _Loss] | None = None) -> _Loss | None:
        """Perform a single optimization step."""
        self._check_step()
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            lists: tuple[list[Tensor], ...] = tuple([] for _ in range(2 + len(self._entries)))
            self._init_group(group, *lists)
            for tensors in zip(*lists, strict=True):
                self._update(group, *tensors)
        return loss


_WORDS = {"eps": "epsilon"}
"""What torch's messages call an option."""


def check(lr: float | Tensor, betas: Sequence[float] = (), **others: float | None) -> None:
    """Raise ValueError in torch's words where an argument is out of its range; the others are not to be below 0."""
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError("Tensor lr must be 1-element")
    if not lr >= 0:
        raise ValueError(f"Invalid learning rate: {lr}")
    for index, beta in enumerate(betas):
        if not 0 <= beta < 1:
            raise ValueError(f"Invalid beta parameter at index {index}: {beta}")
    for name, value in others.items():
        if value is not None and not value >= 0:
            raise ValueError(f"Invalid {_WORDS.get(name, name)} value: {value}")


def new_count(param: Tensor, group: dict[str, Any], value: float = 0.0) -> Tensor:
    """A step count as torch makes it."""
    dtype = torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32
    return torch.full((), value, dtype=dtype, device=param.device if group["capturable"] else "cpu")


def advance(group: dict[str, Any], param: Tensor, count: Tensor) -> float | Tensor:
    """Count a step; its number, as a tensor where a graph or a compiled step reads the count anew each time it runs."""
    is_compiling = torch.compiler.is_compiling()
    if group["capturable"] and not is_compiling:
        devices = _get_capturable_supported_devices()
        if not (param.device.type == count.device.type and param.device.type in devices):
            raise AssertionError(f"If capturable=True, params and state_steps must be on supported devices: {devices}.")
    count += 1
    return count.double() if group["capturable"] or is_compiling else count.item()


def rate(group: dict[str, Any]) -> Any:
    """A group's learning rate, 0-dim if it is a tensor."""
    lr = group["lr"]
    return lr.reshape(()) if isinstance(lr, Tensor) else lr


def parts(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors with complex ones by their parts."""
    return tuple(torch.view_as_real(tensor) if tensor.is_complex() else tensor for tensor in tensors)
