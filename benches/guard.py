"""What a divergence guard costs: whole training steps under it over plain ones, on the networks of benches/training.py.

Arms take turns, batch by batch; a row is the median of (guarded time / plain time) with the quartiles. Then a snapshot
of AdamW's parameters and state, after it was taken once, against the copy of one tensor of as many bytes.
"""

import argparse
import statistics
import time

import torch

import records
import torchpace
from lists import LISTS
from torchpace.control import DivergenceGuard, Snapshot
from training import TASKS, batches


def arm(task, on):
    """A step on a batch, and the guard."""
    make, name, options = TASKS[task]
    torch.manual_seed(0)
    model = make()
    optimizer = getattr(torchpace.optim, name)(model.parameters(), **options)
    guard = None if on == "plain" else DivergenceGuard(optimizer, model=model, on=on)

    def step(images, labels):
        optimizer.zero_grad()

        def closure():
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            return loss

        (guard or optimizer).step(closure)

    return step, guard


def ratios(values):
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"ratio": f"{middle:.2f}", "low": f"{low:.2f}", "high": f"{high:.2f}"}


def training(seconds):
    rows = []
    for task in TASKS:
        arms = {on: arm(task, on) for on in ("plain", "gradient", "loss")}
        times = {on: [] for on in arms}
        begin = time.perf_counter()
        for images, labels in batches():
            for on, (step, _) in arms.items():
                start = time.perf_counter()
                step(images, labels)
                times[on].append(time.perf_counter() - start)
            if time.perf_counter() - begin > seconds:
                break
        for on in ("gradient", "loss"):
            guard = arms[on][1]
            row = {"what": task, "arm": f"on {on}"}
            row |= ratios([one / plain for one, plain in zip(times[on][5:], times["plain"][5:], strict=True)])
            row |= {"evaluations": f"{guard.evaluations / guard.steps:.2f}", "mb": f"{guard.nbytes / 1e6:.2f}"}
            rows.append(row)
    return rows


def snapshots(seconds):
    rows = []
    for name in ("500 x 16", "MLP", "ResNet-50"):
        params = [torch.nn.Parameter(torch.randn(shape)) for group in LISTS[name]() for shape in group]
        optimizer = torchpace.optim.AdamW(params)
        for param in params:
            param.grad = torch.zeros_like(param)
        optimizer.step()
        snapshot = Snapshot((), optimizer, gradients=False, random=False).take()
        whole = torch.zeros(snapshot.nbytes // 4)
        copy = torch.zeros_like(whole)
        times, begin = [], time.perf_counter()
        while time.perf_counter() - begin < seconds or len(times) < 9:
            start = time.perf_counter()
            snapshot.take()
            between = time.perf_counter()
            copy.copy_(whole)
            times.append((between - start, time.perf_counter() - between))
        row = {"what": f"snapshot of {name}", "arm": f"{statistics.median(one for one, _ in times) * 1e3:.2f} ms"}
        row |= ratios([one / other for one, other in times])
        rows.append(row | {"evaluations": "", "mb": f"{snapshot.nbytes / 1e6:.2f}"})
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10, help="time for each network (default: 10)")
    parser.add_argument("--record", action="store_true", help="write the rows to benches/record/")
    options = parser.parse_args()
    torch.set_num_threads(1)  # so small are the networks
    about = records.about()
    print(f"{about}; torchpace {torchpace.__version__}; {torch.get_num_threads()} threads")
    rows = training(options.seconds) + snapshots(options.seconds / 5)
    for row in rows:
        print(", ".join(f"{name} {value}" for name, value in row.items()))
    if options.record:
        records.write("-guard", about, rows)


if __name__ == "__main__":
    main()
