"""A scheduler's step of ours against torch's: medians of ratios over interleaved rounds.

Each row is a class, with one group and with ten. In every round both arms make some steps in turn, so that both meet
the same state of a noisy machine; a row's figure is the median over the rounds of (torch's time / our time), with the
quartiles, so above 1 ours is faster. All rows are printed, losses too. A run takes about a minute and a half on two
cores; with `--record` its rows are written to benches/record/<machine>/<date>-schedulers.csv. The column "others" tells
what share of a core other processes used during a row.
"""

import argparse
import math
import statistics
import time
import warnings
from types import SimpleNamespace

import torch

import records
import torchpace
from torchpace import schedule
from torchpace.optim import lr_scheduler, swa_utils

ROUNDS = 9  # at the least
STEPS = 300  # a turn
MANY = 10**9  # more than any run makes

OURS = SimpleNamespace(**vars(lr_scheduler), SWALR=swa_utils.SWALR)
TORCHS = SimpleNamespace(**vars(torch.optim.lr_scheduler), SWALR=torch.optim.swa_utils.SWALR)


def shrink(step):
    return 0.9999


SCHEDULERS = {
    "StepLR": lambda m, o: m.StepLR(o, 100, 0.99),
    "MultiStepLR": lambda m, o: m.MultiStepLR(o, [30, 80]),
    "ConstantLR": lambda m, o: m.ConstantLR(o, 0.5, 100),
    "LinearLR": lambda m, o: m.LinearLR(o, 0.1, total_iters=MANY),
    "ExponentialLR": lambda m, o: m.ExponentialLR(o, 0.999999),
    "PolynomialLR": lambda m, o: m.PolynomialLR(o, MANY, 0.9),
    "CosineAnnealingLR": lambda m, o: m.CosineAnnealingLR(o, 1000),
    "CosineAnnealingWarmRestarts": lambda m, o: m.CosineAnnealingWarmRestarts(o, 100, 2),
    "CyclicLR triangular": lambda m, o: m.CyclicLR(o, 0.01, 0.1, 2000),
    "CyclicLR triangular2": lambda m, o: m.CyclicLR(o, 0.01, 0.1, MANY, mode="triangular2"),
    "CyclicLR exp_range": lambda m, o: m.CyclicLR(o, 0.01, 0.1, 2000, mode="exp_range", gamma=0.99999),
    "OneCycleLR": lambda m, o: m.OneCycleLR(o, 0.1, MANY),
    "SWALR": lambda m, o: m.SWALR(o, 0.05, MANY),
    "SequentialLR": lambda m, o: m.SequentialLR(
        o, [m.LinearLR(o, 0.1, total_iters=5), m.CosineAnnealingLR(o, 1000)], [5]
    ),
    "ChainedScheduler": lambda m, o: m.ChainedScheduler([m.ConstantLR(o, 0.1), m.ExponentialLR(o, 0.999999)]),
    "LambdaLR": lambda m, o: m.LambdaLR(o, shrink),
    "MultiplicativeLR": lambda m, o: m.MultiplicativeLR(o, shrink),
    "ReduceLROnPlateau": lambda m, o: m.ReduceLROnPlateau(o),
    # Composable ones against those of torch that give the same rates, to rounding.
    "schedule.cosine": lambda m, o: schedule.cosine(MANY).on(o) if m is OURS else m.CosineAnnealingLR(o, MANY),
    "schedule.warmup, cosine": lambda m, o: (
        schedule.warmup(5, start=0.1).then(schedule.cosine(MANY)).on(o)
        if m is OURS
        else m.SequentialLR(o, [m.LinearLR(o, 0.1, total_iters=5), m.CosineAnnealingLR(o, MANY)], [5])
    ),
}


def make(build, library, groups):
    """The step of a scheduler with this many groups."""
    params = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.1 * 0.9**at} for at in range(groups)]
    optimizer = torch.optim.SGD(params, lr=0.1, momentum=0.9)
    scheduler = build(library, optimizer)
    if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        return scheduler, lambda: scheduler.step(1.0)
    return scheduler, scheduler.step


def clock(step):
    begin = time.perf_counter()
    for _ in range(STEPS):
        step()
    return (time.perf_counter() - begin) / STEPS


def measure(steps, budget):
    """Seconds a step of each arm, round by round, until `budget` seconds are spent; and others' share of a core."""
    for step in steps.values():
        clock(step)
    begin, others = time.perf_counter(), records.others()
    names, rounds = list(steps), []
    while len(rounds) < ROUNDS or time.perf_counter() - begin < budget:
        names.reverse()
        rounds.append({name: clock(steps[name]) for name in names})
    return rounds, (records.others() - others) / (time.perf_counter() - begin)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--schedulers", nargs="+", default=list(SCHEDULERS), choices=list(SCHEDULERS))
    parser.add_argument("--groups", nargs="+", type=int, default=[1, 10])
    parser.add_argument("--seconds", type=float, default=2, help="a row's time (default: 2)")
    parser.add_argument("--record", action="store_true", help="write the rows to benches/record/")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", "Detected call of", UserWarning)
    about = records.about()
    print(f"{about}; torchpace {torchpace.__version__}")
    print("us: median step. Ratio: torch's time / ours, median (quartiles); above 1 ours is faster, * a loss.\n")
    print(f"{'scheduler':30}{'groups':>6}{'ours us':>10}{'torch us':>10}{'others':>8}{'ratio':>22}")
    rows = []
    for name in options.schedulers:
        for groups in options.groups:
            made = {
                arm: make(SCHEDULERS[name], library, groups) for arm, library in (("ours", OURS), ("torch", TORCHS))
            }
            rounds, others = measure({arm: step for arm, (_, step) in made.items()}, options.seconds)
            ours, torchs = (scheduler.get_last_lr() for scheduler, _ in made.values())
            exact = "schedule." not in name
            if ours != torchs if exact else not math.isclose(ours[0], torchs[0], rel_tol=1e-6):
                raise SystemExit(f"{name}: the learning rates differ")
            micros = {arm: statistics.median(seconds[arm] for seconds in rounds) * 1e6 for arm in made}
            low, median, high = statistics.quantiles([one["torch"] / one["ours"] for one in rounds], n=4)
            ratio = f"{'* ' * (median < 1)}{median:.2f} ({low:.2f}-{high:.2f})"
            print(
                f"{name:30}{groups:6}{micros['ours']:10.2f}{micros['torch']:10.2f}{others:8.0%}{ratio:>22}", flush=True
            )
            rows.append(
                {
                    "scheduler": name,
                    "groups": groups,
                    "ours_us": f"{micros['ours']:.3f}",
                    "torch_us": f"{micros['torch']:.3f}",
                    "ratio": f"{median:.3f}",
                    "low": f"{low:.3f}",
                    "high": f"{high:.3f}",
                    "rounds": len(rounds),
                    "others": f"{others:.2f}",
                }
            )
    if options.record:
        records.write("-schedulers", about, rows)


if __name__ == "__main__":
    main()
