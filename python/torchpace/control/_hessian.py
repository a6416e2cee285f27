"""The Hessian of a loss as an operator on vectors."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from torchpace.control._graph import check_shows_all, check_twice
from torchpace.control._untouched import Untouched
from torchpace.control._vectors import Vector, axpy_, norm, scale_

Method = Literal["auto", "exact", "difference"]

# What torch says where it cannot differentiate twice.
_NOT_TWICE = re.compile(r"derivative .*not implemented|differentiate twice|double.?backward", re.IGNORECASE)


class Hessian:
    """The Hessian of the mean of ``loss(batch)`` over batches, with respect to leaf tensors.

    Every evaluation of the loss begins with the same random numbers and buffers. Where there is one batch, the graph of
    its gradient is kept from product to product.
    """

    products = 0
    """How many products were made."""

    def __init__(
        self,
        loss: Callable[..., Tensor],
        params: Sequence[Tensor],
        batches: Sequence[Any] | None,
        untouched: Untouched,
        method: Method,
        difference_step: float | None,
    ) -> None:
        self._calls: list[tuple[Any, ...]] = [()] if batches is None else [(batch,) for batch in batches]
        self._loss, self._params, self._untouched = loss, list(params), untouched
        self._kept: Vector | None = None
        self._step = difference_step
        self.method = method

    def __call__(self, vector: Vector) -> list[Tensor]:
        """The product with a vector, in tensors of its own."""
        self.products += 1
        if self.method != "difference":
            try:
                return self._exact(vector)
            except RuntimeError as error:
                if self.method == "exact" or not _NOT_TWICE.search(str(error)):
                    raise
            self._kept, self.method = None, "difference"
        return self._difference(vector)

    def _exact(self, vector: Vector) -> list[Tensor]:
        total = _zeros(vector)
        for call in self._calls:
            keeps = len(self._calls) == 1
            gradient = self._kept or self._gradient(call, twice=True)
            if self.products == 1:
                check_twice(one.grad_fn for one in gradient)
            if keeps:
                self._kept = gradient
            # A parameter that the loss does not use has a gradient without a graph.
            pairs = [(one, at) for one, at in zip(gradient, vector, strict=True) if one.requires_grad]
            outputs = [at.to(one.dtype) for one, at in pairs]
            product = torch.autograd.grad(
                [one for one, _ in pairs], self._params, outputs, retain_graph=keeps, materialize_grads=True
            )
            axpy_(1 / len(self._calls), _dense(product), total)
        return total

    def _difference(self, vector: Vector) -> list[Tensor]:
        r"""The central difference of the gradient, :math:`(g(\theta + h v) - g(\theta - h v)) / 2 h`."""
        length = norm(vector)
        total = _zeros(vector)
        if length == 0:
            return total
        step = self._length() / length
        before = [param.detach().clone() for param in self._params]
        try:
            for sign in (1, -1):
                with torch.no_grad():
                    torch._foreach_copy_(self._params, before)
                    axpy_(sign * step, vector, [param.detach() for param in self._params])
                for call in self._calls:
                    gradient = _dense(self._gradient(call, twice=False))
                    axpy_(sign / (2 * step * len(self._calls)), gradient, total)
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self._params, before)
        return total

    def _length(self) -> float:
        """How far to go: the cube root of the precision, where rounding and curvature of the gradient meet."""
        if self._step is not None:
            return self._step
        precision = max(torch.finfo(param.dtype).eps for param in self._params)
        count = sum(param.numel() for param in self._params)
        root_mean_square: float = norm([param.detach() for param in self._params]) / count**0.5
        return float(precision ** (1 / 3) * max(1.0, root_mean_square))

    def _gradient(self, call: tuple[Any, ...], *, twice: bool) -> Vector:
        self._untouched.reset()
        with torch.enable_grad():
            value = self._loss(*call)
            if not isinstance(value, Tensor):
                raise TypeError(f"loss returned {type(value).__name__}, expected a tensor of one element")
            if value.numel() != 1 or value.is_complex():
                raise ValueError(
                    f"loss returned shape {list(value.shape)}, {value.dtype}, expected a tensor of one real element"
                )
            if not value.requires_grad:
                raise RuntimeError("the loss depends on no parameter: it was computed without autograd, or detached")
            if not value.isfinite():
                raise RuntimeError(f"the loss is not finite: it is {value.item()}, expected a finite number")
            if self.products <= 1:
                check_shows_all(value.grad_fn)
            # With an outer gradient that itself has a graph, torch marks all that cannot be differentiated twice.
            outer = torch.ones_like(value, requires_grad=twice)
            try:
                gradient = torch.autograd.grad(value, self._params, outer, create_graph=twice, allow_unused=True)
            except RuntimeError as error:
                if "fabric.backward" in str(error):
                    raise RuntimeError(
                        "the loss calls a model that Fabric prepared for mixed precision, which can be differentiated "
                        "by fabric.backward alone: expected the module within it, model.module, under fabric.autocast()"
                    ) from error
                raise
        if any(param.grad is not None for param in self._params):
            raise RuntimeError("the loss, or a function in it, calls backward, which hides what it adds to gradients")
        if all(one is None for one in gradient):
            raise RuntimeError("the loss depends on none of the parameters that are not held fixed")
        return [
            torch.zeros_like(param) if one is None else one for one, param in zip(gradient, self._params, strict=True)
        ]


def _zeros(vector: Vector) -> list[Tensor]:
    return [torch.zeros_like(tensor) for tensor in vector]


def _dense(vector: Vector) -> list[Tensor]:
    return [tensor if tensor.layout == torch.strided else tensor.to_dense() for tensor in vector]


def copied(vector: Vector) -> list[Tensor]:
    """A copy, without gaps."""
    copies = [torch.empty_like(tensor) for tensor in vector]
    scale_(1.0, vector, copies)
    return copies
