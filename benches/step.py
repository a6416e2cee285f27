"""A step of ours against torch's default, foreach and fused: medians of ratios over interleaved rounds.

Each row is an optimizer on a list of tensors. In every round each arm makes a few steps in turn, so that all meet the
same state of a noisy machine; a row's figure is the median over the rounds of (torch's time / our time), with the
quartiles, so above 1 ours is faster. All rows are printed, losses too, and written to
benches/record/<machine>/<date>.csv with `--record`.
"""

import argparse
import csv
import datetime
import os
import platform
import statistics
import subprocess
import time
from pathlib import Path

import torch

import torchpace

ROOT = Path(__file__).parents[1]


def gpt2_small():
    """The parameters of GPT-2 small: 148 tensors, 124 million elements."""
    width = 768
    block = [
        *[(width,), (width,)] * 2,
        *[(width, 3 * width), (3 * width,), (width, width), (width,)],
        *[(width, 4 * width), (4 * width,), (4 * width, width), (width,)],
    ]
    return [(50257, width), (1024, width), *block * 12, (width,), (width,)]


def mlp():
    """The parameters of the demo's MLP: 6 tensors, 26 thousand elements."""
    return [(128, 64), (128,), (128, 128), (128,), (10, 128), (10,)]


LISTS = {
    "500 x 16": lambda: [(16,)] * 500,
    "MLP 26k": mlp,
    "100 x 100k": lambda: [(100_000,)] * 100,
    "GPT-2 small": gpt2_small,
}

OPTIMIZERS = {
    "SGD momentum": ("SGD", {"lr": 1e-4, "momentum": 0.9}),
    "RMSprop": ("RMSprop", {"lr": 1e-4}),
    "Adagrad": ("Adagrad", {"lr": 1e-4}),
    "Adam": ("Adam", {"lr": 1e-4}),
    "AdamW": ("AdamW", {"lr": 1e-4}),
}

TORCHS = {"default": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}


def make(module, name, options, shapes):
    params = [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes]
    for param in params:
        param.grad = torch.full_like(param, 0.5)
    return getattr(module, name)(params, **options)


def arms(name, options, shapes):
    made = {"ours": make(torchpace.optim, name, options, shapes)}
    for variant, extra in TORCHS.items():
        if name != "RMSprop" or variant != "fused":  # torch has no fused RMSprop
            made[variant] = make(torch.optim, name, options | extra, shapes)
    return made


def measure(optimizers, budget):
    """Seconds a step of each arm, round by round, until `budget` seconds are spent (5 rounds at the least)."""
    begin = time.perf_counter()
    for optimizer in optimizers.values():
        optimizer.step()
        optimizer.step()
    # As many steps a turn as make it last a few milliseconds, and the clock's grain vanish.
    repeat = max(1, int(3e-3 * 2 * len(optimizers) / (time.perf_counter() - begin)))
    names, rounds = list(optimizers), []
    while len(rounds) < 5 or time.perf_counter() - begin < budget:
        seconds = {}
        shift = len(rounds) % len(names)
        for name in names[shift:] + names[:shift]:
            before = time.perf_counter()
            for _ in range(repeat):
                optimizers[name].step()
            seconds[name] = (time.perf_counter() - before) / repeat
        rounds.append(seconds)
    if optimizers["ours"].last_path != "fused":
        raise SystemExit(f"our step was not fused: {optimizers['ours'].last_path}")
    return rounds


def machine():
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        model = models[0].partition(":")[2].strip() if models else model
    return f"{model}, {os.cpu_count()} cores"


def commit():
    run = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return run.stdout.strip() or "unknown"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lists", nargs="+", default=list(LISTS), choices=list(LISTS))
    parser.add_argument("--optimizers", nargs="+", default=list(OPTIMIZERS), choices=list(OPTIMIZERS))
    parser.add_argument("--threads", nargs="+", type=int, default=sorted({1, torch.get_num_threads()}))
    parser.add_argument("--seconds", type=float, default=2.0, help="a row's time (default: 2)")
    parser.add_argument("--record", action="store_true", help="write the rows to benches/record/")
    options = parser.parse_args()
    print(f"{machine()}; torch {torch.__version__}, torchpace {torchpace.__version__} at {commit()}, float32, CPU")
    print("us: our median step. Ratios: torch's time / ours, median (quartiles); above 1 ours is faster, * a loss.\n")
    print(f"{'list':14}{'optimizer':14}{'threads':>8}{'us':>10}" + "".join(f"{name:>22}" for name in TORCHS))
    rows = []
    for list_name in options.lists:
        for optimizer_name in options.optimizers:
            optimizers = arms(*OPTIMIZERS[optimizer_name], LISTS[list_name]())
            for threads in options.threads:
                torch.set_num_threads(threads)
                rounds = measure(optimizers, options.seconds)
                micros = statistics.median(seconds["ours"] for seconds in rounds) * 1e6
                cells = ""
                for variant in TORCHS:
                    if variant not in optimizers:
                        cells += f"{'none in torch':>22}"
                        continue
                    low, median, high = statistics.quantiles([row[variant] / row["ours"] for row in rounds], n=4)
                    cells += f"{'*' * (median < 1):>6}{median:6.2f} ({low:.2f}-{high:.2f})".rjust(22)
                    rows.append(
                        {
                            "list": list_name,
                            "optimizer": optimizer_name,
                            "threads": threads,
                            "against": variant,
                            "ours_us": f"{micros:.1f}",
                            "ratio": f"{median:.3f}",
                            "low": f"{low:.3f}",
                            "high": f"{high:.3f}",
                            "rounds": len(rounds),
                        }
                    )
                print(f"{list_name:14}{optimizer_name:14}{threads:8}{micros:10.0f}{cells}", flush=True)
            del optimizers
    if options.record:
        folder = ROOT / "benches" / "record" / "".join(c if c.isalnum() else "-" for c in machine()).strip("-").lower()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{datetime.date.today():%Y-%m-%d}.csv"
        with path.open("w", newline="") as file:
            command = "python benches/step.py --record"
            file.write(f"# {machine()}; torch {torch.__version__}; commit {commit()}; {command}\n")
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        print(f"\nrecorded in {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
