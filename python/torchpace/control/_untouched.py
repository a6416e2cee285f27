"""What a measurement must leave as it was: gradients, random numbers, buffers, and training or evaluation mode."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class Untouched:
    """A block at whose end, however it ends, torch's random numbers and a model's buffers and modes are as before it.

    `reset` brings them there in between, so that a loss which draws or counts does so alike in every evaluation. So are
    the parameters' gradients; within the block they have none, and what adds to them shows.
    """

    def __init__(self, params: Iterable[Tensor], model: torch.nn.Module | None) -> None:
        self._params = list(params)
        self._devices = sorted({param.device.index for param in self._params if param.device.type == "cuda"})
        self._model = model

    def __enter__(self) -> Untouched:
        self._gradients = [param.grad for param in self._params]
        for param in self._params:
            param.grad = None
        self._random = torch.get_rng_state()
        self._random_of = [(device, torch.cuda.get_rng_state(device)) for device in self._devices]
        self._modes: list[tuple[torch.nn.Module, bool]] = []
        self._buffers: list[tuple[dict[str, Any], str, _Buffer]] = []
        for module in () if self._model is None else self._model.modules():
            self._modes.append((module, module.training))
            self._buffers += [(module._buffers, name, _Buffer(buffer)) for name, buffer in module._buffers.items()]
        return self

    def __exit__(self, *exception: object) -> None:
        for param, gradient in zip(self._params, self._gradients, strict=True):
            param.grad = gradient
        self.reset()

    def reset(self) -> None:
        """Bring all to where it was."""
        torch.set_rng_state(self._random)
        for device, state in self._random_of:
            torch.cuda.set_rng_state(state, device)
        for module, training in self._modes:
            module.training = training
        for buffers, name, buffer in self._buffers:
            buffers[name] = buffer.as_it_was()


class _Buffer:
    """A buffer, and a copy of what is in it."""

    def __init__(self, buffer: Tensor | None) -> None:
        self._buffer = buffer
        self._copy = None if buffer is None else buffer.detach().clone()

    def as_it_was(self) -> Tensor | None:
        """The buffer with its values, written back only where they differ: a graph of the user's may have saved it.

        Its version does not tell, for torch's BatchNorm writes to its buffers without a new one.
        """
        if self._buffer is not None and self._copy is not None and not torch.equal(self._buffer, self._copy):
            with torch.no_grad():
                self._buffer.copy_(self._copy)
        return self._buffer
