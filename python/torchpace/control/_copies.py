"""The contents of tensors, copied to memory that is kept from one time to the next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor


class Copies:
    """Takes over the contents of tensors, and gives them back in place.

    A tensor is put back into the memory that it had, also where its ``data`` was replaced since. `torch._foreach_copy_`
    does the copying; on large tensors nothing is faster (benches/guard.py).
    """

    def __init__(self) -> None:
        self._kept: dict[int, _Copy] = {}

    def take(self, tensors: Iterable[Tensor]) -> None:
        """Copy the contents of these tensors; those of the time before are forgotten."""
        kept: dict[int, _Copy] = {}
        for tensor in tensors:
            number = id(tensor)
            if number not in kept:
                known = self._kept.get(number)
                kept[number] = known if known is not None and known.is_in_place(tensor) else _Copy(tensor)
                kept[number].requires_grad = tensor.requires_grad
        self._kept = kept
        _copy_all(kept.values(), back=False)

    def restore(self) -> None:
        """Put all contents back."""
        for one in self._kept.values():
            one.put_memory_back()
        _copy_all(self._kept.values(), back=True)

    def new_of(self, tensor: Tensor) -> Tensor:
        """A new tensor with the contents that were taken of this one."""
        new = torch.empty_like(tensor) if tensor.layout == torch.strided else tensor.detach().clone()
        with torch.no_grad():
            _local(new).copy_(self._kept[id(tensor)].contents)
        return new

    @property
    def nbytes(self) -> int:
        """The memory of the copies."""
        return sum(one.copy.numel() * one.copy.element_size() for one in self._kept.values() if not one.sparse)

    @property
    def devices(self) -> set[torch.device]:
        """Where the tensors are."""
        return {one.memory.device for one in self._kept.values()}


class _Copy:
    """A tensor, its memory, and a copy of that."""

    __slots__ = (
        "copy",
        "dtype",
        "lot",
        "memory",
        "nbytes",
        "offset",
        "pointer",
        "requires_grad",
        "shape",
        "sparse",
        "strides",
        "tensor",
    )

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor  # held, so that its id stays its own
        local = _local(tensor)
        self.dtype, self.shape, self.requires_grad = local.dtype, local.shape, False
        self.sparse = local.layout != torch.strided
        if self.sparse:
            self.memory = local
            self.copy = local.detach().clone()
        else:
            self.pointer, self.strides, self.offset = local.data_ptr(), local.stride(), local.storage_offset()
            self.nbytes = local.untyped_storage().nbytes()
            # Shares the version counter, so that autograd notices a restore as it does every other write.
            self.memory = local.detach()
            if any(stride == 0 and size > 1 for stride, size in zip(self.strides, self.shape, strict=True)):
                # Several elements in one place cannot be written; the places can.
                span = sum(stride * (size - 1) for stride, size in zip(self.strides, self.shape, strict=True))
                self.memory = self.memory.as_strided((span + 1,), (1,))
            self.copy = torch.empty_like(self.memory)
        lazy = local.is_conj() or local.is_neg()
        # What is copied together; what was made under `torch.inference_mode()` is written under it alone.
        self.lot = (local.device, self.dtype, self.sparse or lazy, local.is_inference())

    @property
    def contents(self) -> Tensor:
        """The copy, as the tensor would show it."""
        if self.sparse or self.copy.shape == self.shape:
            return self.copy
        return self.copy.as_strided(self.shape, self.strides)

    def is_in_place(self, tensor: Tensor) -> bool:
        """Whether the tensor is this one, where it was."""
        if tensor is not self.tensor or self.sparse:
            return False
        local = _local(tensor)
        return (
            local.data_ptr() == self.pointer
            and local.shape == self.shape
            and local.stride() == self.strides
            and local.dtype == self.dtype
        )

    def put_memory_back(self) -> None:
        """Let the tensor have the memory that it had."""
        tensor = self.tensor
        if not self.sparse:
            storage = self.memory.untyped_storage()
            if storage.nbytes() < self.nbytes:
                storage.resize_(self.nbytes)  # it was freed
            if not self.is_in_place(tensor):
                _local(tensor).data = self.memory.as_strided(self.shape, self.strides, self.offset)
        if tensor.is_leaf and tensor.requires_grad != self.requires_grad:
            tensor.requires_grad_(self.requires_grad)


def _local(tensor: Tensor) -> Tensor:
    """The part of a tensor that is here, where it is spread over several processes."""
    local: Tensor = getattr(tensor, "_local_tensor", tensor)
    return local


@torch.no_grad()
def _copy_all(kept: Iterable[_Copy], *, back: bool) -> None:
    """Copy all tensors' memory, or copies back to it."""
    lots: dict[Any, tuple[list[Tensor], list[Tensor]]] = defaultdict(lambda: ([], []))
    for one in kept:
        memories, copies = lots[one.lot]
        memories.append(one.memory)
        copies.append(one.copy)
    for (_, _, singly, frozen), (memories, copies) in lots.items():
        targets, sources = (memories, copies) if back else (copies, memories)
        with torch.inference_mode() if frozen else nullcontext():
            if not singly:
                torch._foreach_copy_(targets, sources)
                continue
            for target, source in zip(targets, sources, strict=True):
                target.copy_(source)
