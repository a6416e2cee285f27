"""How good the rates are that a range test suggests: final losses at them over that of the best rate of a grid.

24 tasks: four networks on scikit-learn's digits under six optimizers, five epochs of batches of 32, the loss on all
digits in the mean over two seeds. The grid has 19 rates from 1e-5 to 10; a range test has five sweeps, of which rules
get the median. Rules: the rate of the least smoothed loss over some number, the rate at which the smoothed loss falls
most steeply against the rate's logarithm, and two triangular cycles up to the rate of the least over some number. Takes
about five minutes; with `--record` the rows are written to benches/record/<machine>/<date>-range-test.csv.
"""

import argparse
import math

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

import records
import torchpace
from torchpace import optim, schedule
from torchpace.control import lr_range_test

DIGITS = load_digits()
INPUTS, TARGETS = torch.tensor(DIGITS.data, dtype=torch.float32) / 16, torch.tensor(DIGITS.target)
EPOCHS, BATCH, SEEDS = 5, 32, 2
STEPS = EPOCHS * math.ceil(len(INPUTS) / BATCH)
HUGE = 150.0  # in the place of a loss that is not finite

LINEAR, RELU, TANH = torch.nn.Linear, torch.nn.ReLU, torch.nn.Tanh
NETWORKS = {
    "linear": lambda: [LINEAR(64, 10)],
    "one hidden": lambda: [LINEAR(64, 64), RELU(), LINEAR(64, 10)],
    "batch norm": lambda: [
        *(LINEAR(64, 64), torch.nn.BatchNorm1d(64), RELU(), torch.nn.Dropout(0.1)),
        *(LINEAR(64, 64), RELU(), LINEAR(64, 10)),
    ],
    "three tanh": lambda: [*(LINEAR(64, 64), TANH()) * 3, LINEAR(64, 10)],
}
OPTIMIZERS = {
    "SGD": (optim.SGD, {}),
    "SGD momentum": (optim.SGD, {"momentum": 0.9}),
    "Adam": (optim.Adam, {}),
    "AdamW": (optim.AdamW, {}),
    "RMSprop": (optim.RMSprop, {}),
    "Adagrad": (optim.Adagrad, {}),
}


def make(network, optimizer, lr, seed):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(*NETWORKS[network]())
    cls, options = OPTIMIZERS[optimizer]
    return model, cls(model.parameters(), lr=lr, **options)


def entropy(model, batch):
    return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])


def trained(network, optimizer, lr, rate=None):
    """The loss on all digits after a training, in the mean over the seeds."""
    losses = []
    for seed in range(SEEDS):
        model, stepper = make(network, optimizer, lr, seed)
        scheduler = None if rate is None else rate.on(stepper)
        order = torch.Generator().manual_seed(seed + 10)
        for _ in range(EPOCHS):
            for some in torch.randperm(len(INPUTS), generator=order).split(BATCH):
                stepper.zero_grad()
                entropy(model, (INPUTS[some], TARGETS[some])).backward()
                stepper.step()
                if scheduler is not None:
                    scheduler.step()
        model.eval()
        with torch.no_grad():
            loss = entropy(model, (INPUTS, TARGETS)).item()
        losses.append(loss if math.isfinite(loss) else HUGE)
    return sum(losses) / len(losses)


def median(values):
    return float(np.exp(np.median(np.log(values))))


def rates(found):
    """What each rule makes of a range test: a rate, or the two ends of a cycle."""
    leasts = [int(np.argmin(smoothed)) for smoothed in found.smoothed]
    least = median([found.lrs[index] for index in leasts])
    steepest = []
    for smoothed, index in zip(found.smoothed, leasts, strict=True):
        slopes = np.gradient(smoothed, np.log(found.lrs[: len(smoothed)]))
        steepest.append(found.lrs[int(np.argmin(slopes[: index + 1]))])
    yield "suggestion", found.suggestion
    for below in (4, 10):
        yield f"least / {below}", least / below
    yield "steepest", median(steepest)
    yield "cycle", found.range
    for below in (1.5, 2):
        yield f"cycle to least / {below}", (min(found.range[0], least / below / 3), least / below)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--record", action="store_true", help="write the rows to benches/record/")
    options = parser.parse_args()
    about = records.about()
    print(f"{about}; torchpace {torchpace.__version__}")
    torch.set_num_threads(1)  # so small are the networks
    data = DataLoader(TensorDataset(INPUTS, TARGETS), batch_size=BATCH, shuffle=True)
    rows = []
    for network in NETWORKS:
        for optimizer in OPTIMIZERS:
            best = min(trained(network, optimizer, lr) for lr in np.geomspace(1e-5, 10, 19).tolist())
            model, stepper = make(network, optimizer, 1.0, 0)
            found = lr_range_test(model, stepper, entropy, data, repeats=5, progress=False)
            row = {"network": network, "optimizer": optimizer, "spread": f"{found.spread:.2f}", "best": f"{best:.4f}"}
            for rule, rate in rates(found):
                if isinstance(rate, tuple):
                    cycle = schedule.cyclic(STEPS / 4, low=rate[0], high=rate[1]).rebase(1.0)
                    loss = trained(network, optimizer, rate[1], cycle)
                else:
                    loss = trained(network, optimizer, rate)
                row[rule] = f"{loss / best:.3f}"
            rows.append(row)
            print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    print("\ngeometric mean and worst of all tasks:")
    for rule in list(rows[0])[4:]:
        factors = np.array([float(row[rule]) for row in rows])
        print(f"{rule:22}{np.exp(np.log(factors).mean()):8.2f}{factors.max():8.1f}")
    if options.record:
        records.write("-range-test", about, rows)


if __name__ == "__main__":
    main()
