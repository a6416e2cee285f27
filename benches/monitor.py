"""What a monitor costs: the share of a training step (forward, backward, optimizer, observe) that `observe` takes.

The networks are those of networks.py, and one of wide layers, on scikit-learn's digits; medians over the batches, with
the quartiles.
"""

import argparse
import statistics
import time

import torch
from torch import nn

import records
import torchpace
from networks import TRAININGS, batches
from torchpace.control import Monitor


def wide():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 2048), nn.ReLU(), nn.Linear(2048, 2048), nn.ReLU(), nn.Linear(2048, 10)
    )


NETWORKS = {**TRAININGS, "wide layers": (wide, "SGD", {"lr": 0.05, "momentum": 0.9})}


def shares(task, seconds):
    """Of each batch: the share, and the seconds that `observe` took."""
    make, name, options = NETWORKS[task]
    torch.manual_seed(0)
    model = make()
    optimizer = getattr(torchpace.optim, name)(model.parameters(), **options)
    monitor, found, start = Monitor(model.parameters()), [], time.perf_counter()
    for images, labels in batches():
        begin = time.perf_counter()
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        before = time.perf_counter()
        monitor.observe(loss)
        after = time.perf_counter()
        optimizer.step()
        end = time.perf_counter()
        found.append(((after - before) / (end - begin), after - before))
        if end - start > seconds and len(found) > 30:
            return found[5:], sum(param.numel() for param in model.parameters())


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="a task's time (default: 10)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--record", action="store_true", help="write the rows to benches/record/")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    about = records.about()
    print(f"{about}; torchpace {torchpace.__version__}")
    print(f"{'task':13}{'parameters':>12}{'observe us':>12}{'share of a step':>28}")
    rows = []
    for task in NETWORKS:
        found, size = shares(task, options.seconds)
        micros = statistics.median(seconds for _, seconds in found) * 1e6
        low, middle, high = statistics.quantiles([share for share, _ in found], n=4)
        print(f"{task:13}{size:12,}{micros:12.0f}{f'{middle:.1%} ({low:.1%} to {high:.1%})':>28}", flush=True)
        rows.append(
            {
                "task": task,
                "parameters": size,
                "threads": options.threads,
                "us": f"{micros:.1f}",
                "share": f"{middle:.4f}",
                "low": f"{low:.4f}",
                "high": f"{high:.4f}",
                "batches": len(found),
            }
        )
    if options.record:
        records.write("-monitor", about, rows)


if __name__ == "__main__":
    main()
