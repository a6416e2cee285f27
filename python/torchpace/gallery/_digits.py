"""scikit-learn's 1,797 digits of 8 x 8 pixels, and a small network for them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from torchpace import optim
from torchpace.gallery._page import MissingExtraError
from torchpace.schedule import Schedule


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and labels, and a fifth held back as the test set.

    Raises:
        MissingExtraError: there is no scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise MissingExtraError("the digits need scikit-learn") from error
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(data.images, dtype=torch.float32).flatten(1)[order] / 16
    labels = torch.tensor(data.target)[order]
    held = len(order) // 5
    return images[held:], labels[held:], images[:held], labels[:held]


def network(seed: int) -> nn.Sequential:
    """Two hidden layers of 64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def train(
    images: Tensor,
    labels: Tensor,
    model: nn.Module,
    lr: float,
    steps: int,
    *,
    batch: int = 32,
    rate: Schedule | None = None,
    seed: int = 0,
    momentum: float = 0.0,
    each: Callable[[int], None] | None = None,
) -> None:
    """Train on batches in an order given by a seed, each image once an epoch; `each` is called before every step."""
    optimizer = optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    scheduler = None if rate is None else rate.on(optimizer)
    generator = torch.Generator().manual_seed(seed)
    left = torch.empty(0, dtype=torch.int64)
    for step in range(steps):
        if each is not None:
            each(step)
        if len(left) < batch:
            left = torch.randperm(len(labels), generator=generator)
        some, left = left[:batch], left[batch:]
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[some]), labels[some]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if scheduler is not None:
            scheduler.step()


@torch.no_grad()
def loss_of(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The mean cross entropy."""
    return float(nn.functional.cross_entropy(model(images), labels))


@torch.no_grad()
def accuracy_of(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share told right."""
    return float((model(images).argmax(1) == labels).double().mean())
