"""The contents of tensors, copied to memory that is kept from one time to the next."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class Copies:
    """Takes over the contents of tensors, and gives them back in place.

    A tensor is put back into the memory that it had, also where its ``data`` was replaced since. `torch._foreach_copy_`
    does the copying: it is as fast as a bare ``memcpy`` cut over the threads, but for what it spends on each tensor,
    which a forward and backward pass spends many times over.
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
        _copy_all([(one.copy, one.memory) for one in kept.values()])

    def restore(self) -> None:
        """Put all contents back."""
        for one in self._kept.values():
            one.put_memory_back()
        _copy_all([(one.memory, one.copy) for one in self._kept.values()])

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

    __slots__ = ("copy", "device", "dtype", "memory", "nbytes", "place", "requires_grad", "shape", "sparse", "tensor")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor  # held, so that its id stays its own
        local = _local(tensor)
        self.dtype, self.device, self.shape = local.dtype, local.device, local.shape
        self.requires_grad = False
        self.sparse = local.layout != torch.strided
        if self.sparse:
            self.memory = local
            self.copy = local.detach().clone()
            return
        self.place = _place(local)
        # Shares the version counter, so that autograd notices a restore as it does every other write.
        self.memory = local.detach()
        self.nbytes = local.untyped_storage().nbytes()
        if any(stride == 0 and size > 1 for stride, size in zip(local.stride(), local.shape, strict=True)):
            # Several elements in one place cannot be written; the places can.
            span = sum(stride * (size - 1) for stride, size in zip(local.stride(), local.shape, strict=True))
            self.memory = self.memory.as_strided((span + 1,), (1,))
        self.copy = torch.empty_like(self.memory)

    @property
    def contents(self) -> Tensor:
        """The copy, as the tensor would show it."""
        if self.sparse or self.copy.shape == self.shape:
            return self.copy
        return self.copy.as_strided(self.shape, self.place[1])

    def is_in_place(self, tensor: Tensor) -> bool:
        """Whether the tensor is this one, where it was."""
        if tensor is not self.tensor or self.sparse:
            return False
        local = _local(tensor)
        return (
            local.layout == torch.strided
            and _place(local) == self.place
            and local.shape == self.shape
            and local.dtype == self.dtype
            and local.device == self.device
        )

    def put_memory_back(self) -> None:
        """Let the tensor have the memory that it had."""
        tensor = self.tensor
        if not self.sparse:
            storage = self.memory.untyped_storage()
            if storage.nbytes() < self.nbytes:
                storage.resize_(self.nbytes)  # it was freed
            if not self.is_in_place(tensor):
                _, strides, offset = self.place
                _local(tensor).data = self.memory.as_strided(self.shape, strides, offset)
        if tensor.is_leaf and tensor.requires_grad != self.requires_grad:
            tensor.requires_grad_(self.requires_grad)


def _local(tensor: Tensor) -> Tensor:
    """The part of a tensor that is here, where it is spread over several processes."""
    local: Tensor = getattr(tensor, "_local_tensor", tensor)
    return local


def _place(tensor: Tensor) -> tuple[int, tuple[int, ...], int]:
    return tensor.data_ptr(), tensor.stride(), int(tensor.storage_offset())


@torch.no_grad()
def _copy_all(pairs: list[tuple[Tensor, Tensor]]) -> None:
    """Copy the second of each pair to the first."""
    lots: dict[Any, tuple[list[Tensor], list[Tensor]]] = {}
    for to, source in pairs:
        frozen = to.is_inference()  # made under `torch.inference_mode()`, and written under it alone
        plain = to.layout == torch.strided and not any(one.is_conj() or one.is_neg() for one in (to, source))
        targets, sources = lots.setdefault((to.device, to.dtype, plain, frozen), ([], []))
        targets.append(to)
        sources.append(source)
    for (_, _, plain, frozen), (targets, sources) in lots.items():
        with torch.inference_mode(frozen):
            if plain:
                torch._foreach_copy_(targets, sources)
            else:
                for to, source in zip(targets, sources, strict=True):
                    to.copy_(source)
