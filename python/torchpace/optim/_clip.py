"""Clipping and skipping by the gradients around a step of torch's own, and the options for it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from torchpace import _native
from torchpace.optim._norms import norm as norm_of

Nonfinite: TypeAlias = Literal["propagate", "skip", "raise"]
"""What a norm that is not finite does."""

OFF: dict[str, Any] = {
    "max_grad_norm": None,
    "clip_value": None,
    "skip_grad_norm": None,
    "nonfinite_norm": "propagate",
}
"""The options, and what each is where nothing is clipped or skipped."""


class ByNorm(NamedTuple):
    """The options that are one for all groups: what the norm of all gradients does."""

    max_grad_norm: float | None = None
    skip_grad_norm: float | None = None
    nonfinite_norm: str = "propagate"

    def is_off(self) -> bool:
        """Whether nothing depends on the norm."""
        return self == ByNorm()

    def decides(self) -> bool:
        """Whether it depends on the norm if there is a step."""
        return self._replace(max_grad_norm=None) != ByNorm()

    def skips(self, norm: float) -> str | None:
        """Why a step with this norm is left out, if it is.

        Raises:
            RuntimeError: the norm is not finite, and that is to be an error.
        """
        found = f"the norm of the gradients is {norm}"
        if not math.isfinite(norm) and self.nonfinite_norm == "raise":
            clips = "" if self.max_grad_norm is None else ", so they cannot be clipped to max_grad_norm"
            raise RuntimeError(
                f'the total norm of the gradients is {norm}{clips}; expected a finite norm under nonfinite_norm="raise"'
            )
        if not math.isfinite(norm) and self.nonfinite_norm == "skip":
            return found
        if self.skip_grad_norm is None or norm <= self.skip_grad_norm:
            return None
        return f"{found}, above skip_grad_norm ({self.skip_grad_norm})" if math.isfinite(norm) else found


def check(group: dict[str, Any]) -> None:
    """Raise ValueError where an option of ours is out of its range in a group."""
    for name in ("max_grad_norm", "clip_value", "skip_grad_norm"):
        value = group.get(name)
        if value is None:
            continue
        found, least = _number(value), ">" if name == "skip_grad_norm" else ">="
        if not (found > 0 or (found == 0 and least == ">=")):
            raise ValueError(f"Invalid {name} value: {value!r}, expected None or a number {least} 0")
    value = group.get("nonfinite_norm", "propagate")
    if not (isinstance(value, str) and value in ("propagate", "skip", "raise")):
        raise ValueError(f"Invalid nonfinite_norm value: {value!r}, expected 'propagate', 'skip' or 'raise'")


def is_on(name: str, value: Any, off: Any) -> bool:
    """Whether an option is another than where it is off: None, False or a word."""
    if off is None:
        return value is not None
    if off is not False:
        return not isinstance(value, str) or value != off
    try:
        return bool(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} is of type {type(value).__name__}, expected True or False") from error


def plain(value: Any) -> Any:
    """An option as every checkpoint takes it: a number is one of Python's. A tensor stays: it may change in place."""
    if value is None or type(value) in (bool, int, float, str) or isinstance(value, Tensor):
        return value
    return str(value) if isinstance(value, str) else _number(value)


def _number(value: Any) -> float:
    """A number of any type, NumPy's and fractions too, as a float; NaN, if it is none."""
    try:
        return _native.number("value", value)
    except (TypeError, OverflowError):
        return math.nan


def of_all(groups: list[dict[str, Any]]) -> ByNorm:
    """What the norm does in the groups with gradients.

    Raises:
        ValueError: they differ in it, or an option is out of its range.
    """
    first = None
    for index, group in enumerate(groups):
        if all(param.grad is None for param in group["params"]):
            continue
        check(group)
        bounds = [group.get(name) for name in ("max_grad_norm", "skip_grad_norm")]
        largest, skips = (None if bound is None else _number(bound) for bound in bounds)
        found = ByNorm(largest, skips, group.get("nonfinite_norm", "propagate"))
        first = first or found
        for name, value, expected in zip(ByNorm._fields, found, first, strict=True):
            if value != expected:
                raise ValueError(
                    f'param_groups[{index}]: option "{name}" is {value}, expected {expected} as in the groups '
                    "before: there is one for all"
                )
    return first or ByNorm()


def total_norm(grads: list[Tensor]) -> Tensor:
    """The 2-norm of all gradients together; those spread over several processes are reduced over their mesh."""
    spread: dict[Any, list[Tensor]] = {}
    norms: list[Tensor] = []
    for grad in grads:
        if hasattr(grad, "device_mesh"):
            spread.setdefault(grad.device_mesh, []).append(grad)
        else:
            values = grad.coalesce().values() if grad.layout == torch.sparse_coo else grad
            norms.append(norm_of(values))
    for same in spread.values():
        norm: Any = torch.nn.utils.get_total_norm(same)
        norms.append(norm.full_tensor())
    if not norms:
        return torch.zeros(())
    total: Tensor = torch.linalg.vector_norm(torch.stack([norm.to(norms[0]) for norm in norms]))
    return total


def unscale(params: list[Tensor], grad_scale: Tensor) -> None:
    """Multiply the gradients by the reciprocal of a GradScaler's scale."""
    factor = grad_scale.double().reciprocal().float()
    done = set()
    for param in params:
        grad = param.grad
        if grad is None or id(grad) in done:
            continue
        if any(stride == 0 and size > 1 for stride, size in zip(_strides(grad), grad.shape, strict=False)):
            param.grad = grad * factor  # an expanded one has no place for each element
        else:
            grad.mul_(factor)
        done.add(id(param.grad))


@contextmanager
def clipped(groups: list[dict[str, Any]], max_norm: float | None, norm: Tensor | None) -> Iterator[None]:
    """Put clipped copies in the place of the gradients, for a step of torch's own."""
    factor = None if max_norm is None or norm is None else (max_norm / (norm + 1e-6)).clamp(max=1.0)
    before = [(param, param.grad) for group in groups for param in group["params"]]
    try:
        for group in groups:
            value = group.get("clip_value")
            value = None if value is None else _number(value)
            with torch.set_grad_enabled(bool(group.get("differentiable"))):
                for param in group["params"]:
                    if param.grad is not None:
                        param.grad = _clip(param.grad, factor, value)
        yield
    finally:
        for param, grad in before:
            param.grad = grad


def _clip(grad: Tensor, factor: Tensor | None, value: float | None) -> Tensor:
    if grad.layout == torch.sparse_coo:
        grad = grad.coalesce()
        values = _clip(grad.values(), factor, value)
        if values.requires_grad:
            indices, shape = grad.indices(), grad.shape
            return torch.sparse_coo_tensor(indices, values, shape, is_coalesced=True, check_invariants=False)
        # Not made anew, of which torch 2.11 warns whatever it is told of checks.
        grad = grad.clone()
        grad._values().copy_(values)
        return grad
    if factor is not None:
        grad = (grad * factor.to(grad.device)).to(grad.dtype)
    if value is None:
        return grad
    if grad.is_complex():
        return torch.view_as_complex(torch.view_as_real(grad.resolve_conj()).clamp(-value, value))
    return grad.clamp(-value, value)


def _strides(tensor: Tensor) -> tuple[int, ...]:
    return tensor.stride() if tensor.layout == torch.strided else ()
