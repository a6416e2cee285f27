"""The whole training step (forward, backward, optimizer, zero_grad) of two small networks, with each optimizer.

The networks are a conv net under SGD with momentum and a transformer under AdamW, on scikit-learn's 1,797 digits of
8 x 8 pixels. All arms start from the same weights, see the same batches and take turns, batch by batch. Ratios are the
medians over the batches of (torch's time / our time), with the quartiles.
"""

import argparse
import copy
import itertools
import statistics
import time
from typing import NamedTuple

import torch
from sklearn.datasets import load_digits
from torch import nn

import records
import torchpace
from step import TORCHS, compare, text

BATCH = 64


def conv_net():
    def block(inputs, outputs):
        return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    layers = [*block(1, 16), *block(16, 16), nn.MaxPool2d(2), *block(16, 32), *block(32, 32), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 2 * 2, 10))


class Transformer(nn.Module):
    """An encoder that reads each row of the image as a word."""

    def __init__(self, width=32, layers=4):
        super().__init__()
        self.rows = nn.Linear(8, width)
        self.positions = nn.Parameter(torch.zeros(8, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, images):
        return self.head(self.encoder(self.rows(images.squeeze(1)) + self.positions).mean(1))


TASKS = {
    "conv net": (conv_net, "SGD", {"lr": 0.05, "momentum": 0.9}),
    "transformer": (Transformer, "AdamW", {"lr": 1e-3}),
}

ARMS = {"ours": {}} | {name: extra for name, extra in TORCHS.items() if name != "compiled"}


def batches():
    """Batches of all images in an order given by a fixed seed, epoch after epoch."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    generator = torch.Generator().manual_seed(0)
    while True:
        order = torch.randperm(len(labels), generator=generator)
        for some in order[: len(order) // BATCH * BATCH].split(BATCH):
            yield images[some], labels[some]


class Step(NamedTuple):
    seconds: float  # in all
    optimizer: float  # of them in the optimizer
    loss: float


class Arm:
    """One optimizer at work on its own copy of the network."""

    def __init__(self, model, optimizer):
        self.model, self.optimizer = model, optimizer

    def step(self, images, labels):
        begin = time.perf_counter()
        loss = nn.functional.cross_entropy(self.model(images), labels)
        loss.backward()
        before = time.perf_counter()
        self.optimizer.step()
        after = time.perf_counter()
        self.optimizer.zero_grad()
        return Step(time.perf_counter() - begin, after - before, loss.item())


def arms(task):
    model, name, options = TASKS[task]
    torch.manual_seed(0)
    start = model()
    made = {}
    for arm, extra in ARMS.items():
        module, own = torchpace.optim if arm == "ours" else torch.optim, copy.deepcopy(start)
        made[arm] = Arm(own, getattr(module, name)(own.parameters(), **options, **extra))
    return made


def train(runners, seconds):
    """What each arm's step gave, batch by batch."""
    names, rounds, begin = list(runners), [], time.perf_counter()
    for count, batch in enumerate(batches()):
        shift = count % len(names)
        rounds.append({name: runners[name].step(*batch) for name in names[shift:] + names[:shift]})
        if time.perf_counter() - begin > seconds and count > 30:
            return rounds[5:]  # the first are warm-up


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--threads", nargs="+", type=int, default=sorted({1, torch.get_num_threads()}))
    parser.add_argument("--seconds", type=float, default=20.0, help="a task's time (default: 20)")
    parser.add_argument("--record", action="store_true", help="write the rows to benches/record/")
    options = parser.parse_args()
    about = records.about()
    print(f"{about}; torchpace {torchpace.__version__}")
    print("ms: median training step. Ratio: torch's time / ours, median (quartiles); above 1 ours is faster, * a loss.")
    print(f"\n{'task':13}{'optimizer':10}threads  {'arm':10}{'ms':>8}{'optimizer':>11}{'final loss':>12}{'ratio':>22}")
    rows = []
    for task, threads in itertools.product(options.tasks, options.threads):
        torch.set_num_threads(threads)
        runners = arms(task)
        rounds = train(runners, options.seconds)
        if runners["ours"].optimizer.last_path != "fused":
            raise SystemExit(f"our step was not fused: {runners['ours'].optimizer.last_path}")
        ratios = compare([{name: step.seconds for name, step in batch.items()} for batch in rounds], runners)
        for arm, (low, median, high) in ratios.items():
            steps = [batch[arm] for batch in rounds]
            millis = statistics.median(step.seconds for step in steps) * 1e3
            share = statistics.median(step.optimizer / step.seconds for step in steps)
            loss = statistics.median(step.loss for step in steps[-20:])
            shown = "" if arm == "ours" else text(low, median, high)
            line = f"{task:13}{TASKS[task][1]:10}{threads:7}  {arm:10}{millis:8.2f}{share:11.1%}{loss:12.4f}{shown:>22}"
            print(line, flush=True)
            rows.append(
                {
                    "task": task,
                    "optimizer": TASKS[task][1],
                    "threads": threads,
                    "arm": arm,
                    "ms": f"{millis:.3f}",
                    "optimizer_share": f"{share:.4f}",
                    "ratio": f"{median:.3f}",
                    "low": f"{low:.3f}",
                    "high": f"{high:.3f}",
                    "batches": len(rounds),
                }
            )
    if options.record:
        records.write("-training", about, rows)


if __name__ == "__main__":
    main()
