"""Descent of many independent walkers at once, by our optimizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torchpace import optim
from torchpace.schedule import Schedule


def walk(
    start: Tensor,
    gradient: Callable[[Tensor], Tensor],
    lr: float,
    steps: int,
    *,
    rate: Schedule | None = None,
    noise: float = 0.0,
    seed: int = 0,
    each: Callable[[int, Tensor], None] | None = None,
    optimizer: Callable[..., torch.optim.Optimizer] = optim.SGD,
    **options: Any,
) -> Tensor:
    """Where the walkers, elements of one parameter, are after some steps.

    Args:
        start: the walkers.
        gradient: of all of them.
        lr: the learning rate; the base of `rate`.
        steps: how many.
        rate: a schedule for it (default: none).
        noise: the standard deviation of what is added to the gradient of each (default: 0).
        seed: of the noise (default: 0).
        each: called with every step from 0 and the walkers before it; and with the number of steps and the end.
        optimizer: the class (default: SGD).
        options: of the optimizer.
    """
    weight = torch.nn.Parameter(start.clone())
    made = optimizer([weight], lr=lr, **options)
    scheduler = None if rate is None else rate.on(made)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        now = weight.detach()
        if each is not None:
            each(step, now)
        weight.grad = gradient(now)
        if noise:
            weight.grad.add_(torch.randn(now.shape, dtype=now.dtype, generator=generator), alpha=noise)
        made.step()
        if scheduler is not None:
            scheduler.step()
    if each is not None:
        each(steps, weight.detach())
    return weight.detach()


class Path:
    """Keeps the walkers at every step; to be given as `each`."""

    def __init__(self) -> None:
        self._kept: list[Tensor] = []

    def __call__(self, step: int, walkers: Tensor) -> None:
        """Keep them."""
        self._kept.append(walkers.clone())

    @property
    def all(self) -> Tensor:
        """Of shape (steps + 1, walkers)."""
        return torch.stack(self._kept)
