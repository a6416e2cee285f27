"""Muon's step on its matrices: all of them looked at, then each batch of a shape stepped on."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor

from torchpace import _native
from torchpace.optim import _newton_schulz

_T = TypeVar("_T")

_BATCH = 64 * 2**20
"""The bytes that a batch's matrices may have in the type of the products, if it is more than one matrix. About as much
again is needed four times while it is at work."""

_KINDS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Options:
    """What a group says, as numbers."""

    lr: float
    weight_decay: float
    momentum: float
    nesterov: bool
    maximize: bool
    cautious: bool
    clip_value: float | None
    adjust_lr_fn: Any
    steps: tuple[_newton_schulz.Triple, ...]
    express: bool
    eps: float
    dtype: torch.dtype

    def scaled_lr(self, rows: int, columns: int) -> float:
        """The learning rate of a matrix of this shape."""
        if self.adjust_lr_fn in (None, "original"):
            return self.lr * math.sqrt(max(1, rows / columns))
        if self.adjust_lr_fn == "match_rms_adamw":
            return self.lr * (0.2 * math.sqrt(max(rows, columns)))
        return self.lr * math.sqrt(rows / columns)


@dataclass(frozen=True)
class Matrix:
    """A parameter to step on. Its entries are those of the state, or will be."""

    param: Tensor
    grad: Tensor
    entries: dict[str, Any]
    options: Options

    def anew(self) -> Matrix:
        """With the gradient that the parameter has now."""
        assert self.param.grad is not None
        return replace(self, grad=self.param.grad)

    @property
    def shape(self) -> tuple[int, int]:
        """Flattened to two dimensions."""
        rows = self.param.shape[0]
        return rows, math.prod(self.param.shape[1:])


def options_of(place: str, group: dict[str, Any]) -> Options:
    """A group's options.

    Raises:
        KeyError: one is missing.
        TypeError, ValueError: one is of a wrong type or out of its range.
    """

    def value(name: str) -> Any:
        if name not in group:
            raise KeyError(f'{place}: option "{name}" is missing')
        return group[name]

    def number(name: str) -> float:
        given = value(name)
        try:
            found = _native.number(name, given)
        except TypeError as error:
            raise TypeError(f'{place}: option "{name}" is of type {type(given).__name__}, expected a number') from error
        if not math.isfinite(found):
            raise ValueError(f'{place}: option "{name}" is {found}, expected a finite number')
        return found

    def flag(name: str, found: Any) -> bool:
        try:
            return bool(found)
        except (TypeError, ValueError, RuntimeError) as error:
            kind = type(found).__name__
            raise TypeError(f'{place}: option "{name}" is of type {kind}, expected True or False') from error

    for name in ("ns_coefficients", "ns_steps"):
        value(name)
    steps, express = _newton_schulz.triples(f"{place}: ", group)
    rows = value("adjust_lr_fn")
    if rows not in (None, "original", "match_rms_adamw", "spectral_unclamped"):
        raise ValueError(f'{place}: option "adjust_lr_fn" is {rows!r}, expected a rule that torch has')
    return Options(
        lr=number("lr"),
        weight_decay=number("weight_decay"),
        momentum=number("momentum"),
        nesterov=flag("nesterov", value("nesterov")),
        maximize=flag("maximize", group.get("maximize", False)),
        cautious=flag("cautious_weight_decay", group.get("cautious_weight_decay", False)),
        clip_value=None if group.get("clip_value") is None else number("clip_value"),
        adjust_lr_fn=rows,
        steps=steps,
        express=express,
        eps=number("eps"),
        dtype=_newton_schulz.DTYPES[_newton_schulz.word(f"{place}: ", group.get("ns_dtype", "bfloat16"))],
    )


def collect(groups: Iterable[tuple[int, dict[str, Any]]], state: Any) -> list[Matrix] | str:
    """The parameters with a gradient of these groups, by their places, looked at; or why torch has to step on them.

    Raises:
        RuntimeError, KeyError, TypeError, ValueError: a tensor or an option is such that nobody can step.
    """
    found: list[Matrix] = []
    odd = None
    for index, group in groups:
        options = None
        for at, param in enumerate(group["params"]):
            if param.grad is None:
                continue
            options = options or options_of(f"param_groups[{index}]", group)
            name = f" ({group['param_names'][at]})" if "param_names" in group else ""
            place = f"param_groups[{index}]['params'][{at}]{name}"
            entries = state.get(param, {}) if isinstance(param, Tensor) else {}
            if not isinstance(entries, dict):
                raise TypeError(f"{place}: state is {entries!r} (of type {type(entries).__name__}), expected a dict")
            reason = _look(place, param, param.grad, entries)
            odd = odd or reason
            found.append(Matrix(param, param.grad, entries, options))
    return odd or found


def _look(place: str, param: Tensor, grad: Tensor, entries: dict[str, Any]) -> str | None:
    """Why only torch can step on a parameter, if so."""
    if param.is_complex() or grad.is_complex():
        raise RuntimeError(f"Muon does not support complex parameters: {place} is {param.dtype}")
    if grad.layout != torch.strided:
        raise RuntimeError(f"Muon does not support sparse gradients: that of {place} is {grad.layout}")
    tensors = {"param": param, "grad": grad}
    if "momentum_buffer" in entries:
        tensors["momentum_buffer"] = buffer = entries["momentum_buffer"]
        if not isinstance(buffer, Tensor):
            raise TypeError(f'{place}: state "momentum_buffer" is of type {type(buffer).__name__}, expected a tensor')
    reason = None
    for name, tensor in tensors.items():
        if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__ or tensor.layout != torch.strided:
            reason = reason or f"{name} of {place} is a {type(tensor).__name__}"
        if tensor.shape != param.shape:
            raise RuntimeError(f"{place}: {name} has shape {list(tensor.shape)}, expected {list(param.shape)}")
        if tensor.device != param.device:
            raise RuntimeError(f"{place}: {name} is on device {tensor.device}, expected {param.device}")
        if tensor.dtype not in _KINDS:
            raise RuntimeError(f"{place}: {name} is {tensor.dtype}, expected one of {', '.join(map(str, _KINDS))}")
        if reason is None and tensor.numel() > 0 and tensor.untyped_storage().nbytes() == 0 and not _unseen(tensor):
            raise RuntimeError(f"{place}: {name} has {tensor.numel()} elements and its storage is empty")
        if reason is None and name != "grad" and not tensor.is_contiguous() and _meets_itself(tensor):
            raise RuntimeError(
                f"{place}: {name} of shape {list(tensor.shape)} and strides {list(tensor.stride())} has more than one "
                "element in one place; clone it"
            )
    return reason


def shares_memory(matrices: Iterable[Matrix]) -> bool:
    """Whether what a step writes meets what it writes or reads elsewhere."""
    written: list[tuple[int, int]] = []
    read: list[tuple[int, int]] = []
    for one in matrices:
        written.append(_span(one.param))
        read.append(_span(one.grad))
        if "momentum_buffer" in one.entries:
            written.append(_span(one.entries["momentum_buffer"]))
    written = sorted(span for span in written if span[0] < span[1])
    if any(left[1] > right[0] for left, right in pairwise(written)):
        return True
    for start, end in read:
        # The last that begins before this one ends.
        at = bisect_left(written, (end, 0))
        if start < end and at > 0 and written[at - 1][1] > start:
            return True
    return False


def step(matrices: Sequence[Matrix], state: Any, factor: float) -> None:
    """Step on all; the gradients count so many times."""
    for one in matrices:
        state.setdefault(one.param, one.entries)
    for same in _by(matrices, lambda one: (*sorted(one.shape), one.param.device, _products(one.options))):
        rows, columns = same[0].shape
        size = rows * columns * same[0].options.dtype.itemsize
        most = max(1, _BATCH // max(size, 1))
        for at in range(0, len(same), most):
            _step(same[at : at + most], factor)


def _products(options: Options) -> Hashable:
    return options.dtype, options.steps, options.eps, options.express


def _step(batch: Sequence[Matrix], factor: float) -> None:
    updates = _updates(batch, factor)
    if 0 in batch[0].shape:
        return
    options = batch[0].options
    directions = _newton_schulz.orthogonalized(updates, options.dtype, options.steps, options.eps, options.express)

    def decay_and_rate(one: Matrix) -> tuple[float, float, bool]:
        options = one.options
        return 1 - options.lr * options.weight_decay, options.scaled_lr(*one.shape), options.cautious

    pairs = list(zip(batch, directions, strict=True))
    for some in _by(pairs, lambda pair: decay_and_rate(pair[0])):
        decay, rate, cautious = decay_and_rate(some[0][0])
        params, wide = _widened([one.param for one, _ in some])
        moves = [direction for _, direction in some]
        if cautious:
            for param, move in zip(wide, moves, strict=True):
                param.mul_(torch.where(move * param >= 0, decay, 1.0))
        else:
            torch._foreach_mul_(wide, decay)
        torch._foreach_add_(wide, moves, alpha=-rate)
        _write(params, wide)


def _updates(batch: Sequence[Matrix], factor: float) -> list[Tensor]:
    """What is to be made orthogonal, of each matrix; the momentum is written."""
    updates: dict[int, Tensor] = {}
    places = {id(one): at for at, one in enumerate(batch)}
    for some in _by(batch, lambda one: (one.options.momentum, one.options.nesterov)):
        momentum, nesterov = some[0].options.momentum, some[0].options.nesterov
        for one in some:
            if "momentum_buffer" not in one.entries:
                one.entries["momentum_buffer"] = torch.zeros_like(one.grad, memory_format=torch.preserve_format)
        buffers, wide = _widened([one.entries["momentum_buffer"] for one in some])
        grads = [_grad(one, factor, buffer.dtype) for one, buffer in zip(some, wide, strict=True)]
        torch._foreach_lerp_(wide, grads, 1 - momentum)
        _write(buffers, wide)
        found = torch._foreach_lerp(grads, wide, momentum) if nesterov else wide
        updates.update({places[id(one)]: update for one, update in zip(some, found, strict=True)})
    return [updates[at] for at in range(len(batch))]


def _grad(one: Matrix, factor: float, dtype: torch.dtype) -> Tensor:
    """A gradient as the step takes it."""
    grad = one.grad.to(dtype)
    if factor != 1.0:
        grad = grad * factor
    if one.options.clip_value is not None:
        grad = grad.clamp(-one.options.clip_value, one.options.clip_value)
    return -grad if one.options.maximize else grad


def _widened(tensors: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Tensors, and the same in float32 where they are narrow: the arithmetic is in that, and rounds once."""
    narrow = (torch.bfloat16, torch.float16)
    return tensors, [tensor.float() if tensor.dtype in narrow else tensor for tensor in tensors]


def _write(tensors: list[Tensor], wide: list[Tensor]) -> None:
    for tensor, value in zip(tensors, wide, strict=True):
        if tensor is not value:
            tensor.copy_(value)


def _by(items: Iterable[_T], key: Callable[[_T], Hashable]) -> list[list[_T]]:
    """What has the same key together, in the order of the first."""
    found: dict[Hashable, list[_T]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return list(found.values())


def _unseen(tensor: Tensor) -> bool:
    return tensor.is_meta or torch._C._len_torch_dispatch_stack() > 0


def _span(tensor: Tensor) -> tuple[int, int]:
    """Its addresses; none, if it has no memory to look at."""
    if tensor.numel() == 0 or _unseen(tensor):
        return 0, 0
    length = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)) + 1
    start = tensor.data_ptr()
    return start, start + length * tensor.element_size()


def _meets_itself(tensor: Tensor) -> bool:
    """Whether two of its elements are in one place."""
    reach = 0
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1 and stride <= reach:
            break
        reach += (size - 1) * stride
    else:
        return False
    if tensor.numel() == 0:
        return False
    places = torch.zeros(1, dtype=torch.int64)
    for stride, size in zip(tensor.stride(), tensor.shape, strict=True):
        places = (places[:, None] + torch.arange(size) * stride).flatten()
    return len(set(places.tolist())) < places.numel()
