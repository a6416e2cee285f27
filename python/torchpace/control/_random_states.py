"""The states of all global random generators."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable
from typing import Any

import torch


class RandomStates:
    """Those of Python, of NumPy if it is imported, and of torch on the CPU and other devices."""

    def __init__(self) -> None:
        self._python: Any = None
        self._numpy: Any = None
        self._devices: dict[torch.device, Any] = {}

    def take(self, devices: Iterable[torch.device]) -> None:
        """Note down the states; of torch those of the CPU and of these devices."""
        self._python = random.getstate()
        numpy = sys.modules.get("numpy")
        self._numpy = None if numpy is None else numpy.random.get_state()
        self._devices = {torch.device("cpu"): torch.get_rng_state()}
        for device in devices:
            module = _module(device)
            if module is not None:
                self._devices[device] = module.get_rng_state(device)

    def restore(self) -> None:
        """Set the states that were noted down."""
        random.setstate(self._python)
        if self._numpy is not None:
            sys.modules["numpy"].random.set_state(self._numpy)
        for device, state in self._devices.items():
            module = _module(device)
            if module is None:
                torch.set_rng_state(state)
            else:
                module.set_rng_state(state, device)

    def seed(self, number: int) -> None:
        """Seed the generators whose states were noted down."""
        random.seed(number)
        if self._numpy is not None:
            sys.modules["numpy"].random.seed(number)
        for device in self._devices:
            module = _module(device)
            if module is None:
                torch.default_generator.manual_seed(number)
            else:
                with module.device(device):
                    module.manual_seed(number)


def is_generator(value: Any) -> bool:
    """Whether it is a random generator, of torch, Python or NumPy."""
    numpy = sys.modules.get("numpy")
    theirs = () if numpy is None else (numpy.random.Generator, numpy.random.RandomState)
    return isinstance(value, (torch.Generator, random.Random, *theirs))


def _module(device: torch.device) -> Any:
    """The module of torch for a device with a generator of its own."""
    if device.type in ("cpu", "meta"):
        return None
    module = getattr(torch, device.type, None)
    return module if hasattr(module, "get_rng_state") else None
