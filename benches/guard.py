"""What a divergence guard costs: whole training steps under it over plain ones, on the networks of benches/networks.py.

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
from networks import TRAININGS, batches
from torchpace.control import DivergenceGuard, Snapshot


def arm(task, on):
    """A step on a batch, and the guard."""
    make, name, options = TRAININGS[task]
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


def row(pairs, size):
    """The columns for times of ours and of what they are compared with."""
    low, middle, high = statistics.quantiles([ours / other for ours, other in pairs], n=4, method="inclusive")
    milliseconds = statistics.median(ours for ours, _ in pairs) * 1e3
    columns = {"ms": milliseconds, "ratio": middle, "low": low, "high": high, "mb": size / 1e6}
    return {name: f"{value:.2f}" for name, value in columns.items()}


def training(seconds):
    rows = []
    for task in TRAININGS:
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
            evaluations = f"{guard.evaluations / guard.steps:.2f}"
            pairs = list(zip(times[on], times["plain"], strict=True))[5:]  # the first are warm-up
            rows.append({"what": f"step of {task}", "on": on, "evaluations": evaluations} | row(pairs, guard.nbytes))
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
        rows.append({"what": f"snapshot of {name}", "on": "", "evaluations": ""} | row(times, snapshot.nbytes))
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
    for one in rows:
        print(", ".join(f"{name} {value}" for name, value in one.items()))
    if options.record:
        records.write("-guard", about, rows)


if __name__ == "__main__":
    main()
