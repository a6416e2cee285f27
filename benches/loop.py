"""The step where training happens: inside whole loops, ours against torch's default, foreach and fused.

An optimizer that torch lacks is against AdamW, ours and torch's fused one. Beside Muon's matrices AdamW steps on the
rest, in one optimizer in ours, in a second one, fused, in torch's arm; Muon trains networks without convolutions.

Each row trains a network on scikit-learn's digits. Every arm has its own copy of it, from the same seed and on the same
batches, and they take turns iteration by iteration: zero_grad(), forward, backward, step. So each step meets gradients
that are new objects, and caches in which forward and backward have been; benches/step.py makes the same step again and
again instead. Of each iteration the step alone and the whole are timed; a figure is the median over the rounds of
(torch's time / our time), with the quartiles, so above 1 ours is faster. All rows are printed, also those that ours
loses, which have a star. Below them is each arm's mean loss, which tells whether they did the same (torch's fused SGD
does not in bfloat16: tests/optim/test_torch_faults.py).

In the loop "clip" the norm of the gradients is clipped, by `max_grad_norm` in ours and by `clip_grad_norm_` before
torch's step, and timed with it; in "LambdaLR, EMA" a scheduler follows the step, and a moving average of the weights.
Under bfloat16 the parameters are of that type. `--record` takes all loops, types and numbers of threads, and writes the
rows to benches/record/<machine>/<date>-loop.csv. Nothing else may run meanwhile: torch's threads spin while they wait
for one that has lost its core. The column "others" tells what share of a core other processes used during a row.
"""

import argparse
import copy
import functools
import gc
import itertools
import statistics
import time
from typing import NamedTuple

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import networks
import records
import torchpace
from against import BEYOND, EVERY, MATRICES, MORE, OPTIMIZERS, columns, compare, contenders, missing, text, turn

WARM_UP = 5  # rounds that are not counted; in the first, the state is made
ROUNDS = 9  # at the least
DISTURBED = 0.2  # the share of a core that others may use before a row is measured once more
MAX_NORM = 1.0

# The network, and the images in a batch.
TASKS = {
    "250 layers": (networks.layers, 32),
    "depthwise": (networks.depthwise, 32),
    "LSTM": (networks.LSTM, 32),
    "transformer": (functools.partial(networks.Transformer, 128, 512), 32),
    "ResNet-18": (networks.resnet18, 8),
}

LOOPS = ["plain", "clip", "LambdaLR, EMA"]
# All that is recorded of the optimizers fewer train with, and of those of matrices.
BRIEF = dict.fromkeys(MORE | BEYOND, ("250 layers", "plain")) | dict.fromkeys(MATRICES, ("transformer", "plain"))
ONLY_MATRICES = ["250 layers", "LSTM", "transformer"]  # tasks without convolutions

# So low that no arm's training becomes chaotic, and losses can be compared.
RATES = {
    "SGD momentum": 1e-3,
    "RMSprop": 1e-5,
    "Adagrad": 1e-4,
    "Adam": 1e-4,
    "AdamW": 1e-4,
    "Adadelta": 1e-2,
    "Adafactor": 1e-3,
    "Adamax": 1e-4,
    "ASGD": 1e-3,
    "NAdam": 1e-4,
    "RAdam": 1e-4,
    "Rprop": 1e-6,
    "Muon": 1e-4,
    "Lion": 1e-5,
    "AdEMAMix": 1e-5,
    "LAMB": 1e-4,
    "LARS momentum": 1e-2,
    "Prodigy": 1.0,
    "ScheduleFreeAdamW": 1e-4,
    "ScheduleFreeSGD": 1e-3,
    "AdamW cautious": 1e-4,
}


class Iteration(NamedTuple):
    """Seconds of an iteration and of its step, and the loss."""

    whole: float
    step: float
    loss: float


def optimizers(contender, model, lr):
    """What steps on the model."""
    if contender.kind not in MATRICES:
        return [contender.on(model.parameters(), lr=lr)]
    groups = torchpace.optim.muon_groups(model, lr=lr, adamw={"lr": RATES["AdamW"]})
    if contender.is_ours():
        return [contender.on(groups)]
    matrices, others = groups
    return [contender.on(matrices["params"], lr=lr), torch.optim.AdamW(others["params"], lr=others["lr"], fused=True)]


class Arm:
    """An optimizer at work on its own copy of the network."""

    def __init__(self, contender, model, lr, loop):
        self.model = copy.deepcopy(model)
        self.params = list(self.model.parameters())
        self.optimizers = optimizers(contender, self.model, lr)
        self.clips = loop == "clip" and not contender.is_ours()
        self.schedulers, self.average = [], None
        if loop == "LambdaLR, EMA":
            schedule = contender.module.lr_scheduler.LambdaLR
            self.schedulers = [schedule(one, lambda step: min(1.0, (step + 1) / 100)) for one in self.optimizers]
            self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(0.999))

    def iterate(self, images, labels):
        begin = time.perf_counter()
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(images).float(), labels)
        loss.backward()
        before = time.perf_counter()
        if self.clips:
            nn.utils.clip_grad_norm_(self.params, MAX_NORM, foreach=True)  # the faster way
        for optimizer in self.optimizers:
            optimizer.step()
        after = time.perf_counter()
        for scheduler in self.schedulers:
            scheduler.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return Iteration(time.perf_counter() - begin, after - before, loss.item())


def train(task, loop, optimizer, dtype, seconds):
    """The iterations of all arms, round by round; and others' share of a core."""
    network, size = TASKS[task]
    torch.manual_seed(0)
    model = network().to(dtype)
    kind, options = EVERY[optimizer]
    if loop == "clip":
        options = options | {"max_grad_norm": MAX_NORM}
    arms = {
        name: Arm(one, model, RATES["AdamW" if name.endswith("AdamW") else optimizer], loop)
        for name, one in contenders(kind, options).items()
        if name != "compiled"
    }
    rounds, begin, others = [], time.perf_counter(), 0.0
    for count, (images, labels) in enumerate(networks.batches(size)):
        if count == WARM_UP:
            begin, others = time.perf_counter(), records.others()
        images = images.to(dtype)
        done = {name: arms[name].iterate(images, labels) for name in turn(arms, count)}
        if count >= WARM_UP:
            rounds.append(done)
            if len(rounds) >= ROUNDS and time.perf_counter() - begin > seconds:
                break
    (ours,) = arms["ours"].optimizers
    if ours.last_path != "fused":
        raise SystemExit(f"our step was not fused: {ours.last_path}")
    return rounds, (records.others() - others) / (time.perf_counter() - begin)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    note = "default: those most used; with --record the others too, on one network"
    parser.add_argument("--optimizers", nargs="+", choices=list(EVERY), help=note)
    parser.add_argument("--loops", nargs="+", choices=LOOPS, help="default: plain; all with --record")
    parser.add_argument("--dtypes", nargs="+", help="default: float32; bfloat16 too with --record")
    parser.add_argument("--threads", nargs="+", type=int, help="default: 1; as many as torch takes too with --record")
    parser.add_argument("--seconds", type=float, default=3, help="a row's time (default: 3)")
    parser.add_argument("--record", action="store_true", help="write the rows to benches/record/")
    parser.set_defaults(optimizers=list(OPTIMIZERS), loops=["plain"], dtypes=["float32"], threads=[1])
    if parser.parse_args().record:
        every = sorted({1, torch.get_num_threads()})
        parser.set_defaults(optimizers=list(EVERY), loops=LOOPS, dtypes=["float32", "bfloat16"], threads=every)
    options = parser.parse_args()
    about = records.about()
    print(f"{about}; torchpace {torchpace.__version__}")
    print("us: ours, median. Ratios: torch's time / ours, median (quartiles); above 1 ours is faster, * a loss.\n")
    shown = [name for name in columns(EVERY[name] for name in options.optimizers) if name != "compiled"]
    head = f"{'task':12}{'loop':15}{'optimizer':18}{'type':10}threads  {'time':7}{'us':>9}{'others':>8}"
    print(head + "".join(f"{name:>22}" for name in shown))
    rows = []
    every = itertools.product(options.tasks, options.loops, options.optimizers, options.dtypes, options.threads)
    for task, loop, optimizer, dtype, threads in every:
        if options.record and BRIEF.get(optimizer, (task, loop)) != (task, loop):
            continue
        if optimizer in MATRICES and task not in ONLY_MATRICES:
            continue
        torch.set_num_threads(threads)
        runs = []
        while len(runs) < 3 and (not runs or runs[-1][1] > DISTURBED):
            runs.append(train(task, loop, optimizer, getattr(torch, dtype), options.seconds))
        rounds, others = min(runs, key=lambda run: run[1])
        losses = {name: statistics.mean(one[name].loss for one in rounds) for name in rounds[0]}
        label = f"{task:12}{loop:15}{optimizer:18}{dtype:10}{threads:7}  "
        for which in ("step", "whole"):
            times = [{name: getattr(done, which) for name, done in one.items()} for one in rounds]
            micros = statistics.median(one["ours"] for one in times) * 1e6
            ratios = compare(times)
            cells = [text(*ratios[name]) if name in ratios else missing(name, EVERY[optimizer]) for name in shown]
            line = f"{label}{which:7}{micros:9.1f}{others:8.0%}"
            print(line + "".join(f"{cell:>22}" for cell in cells), flush=True)
            for variant, (low, median, high) in ratios.items():
                row = {"task": task, "loop": loop, "optimizer": optimizer, "dtype": dtype, "threads": threads}
                row |= {"time": which, "against": variant, "ours_us": f"{micros:.1f}"}
                row |= {"ratio": f"{median:.3f}", "low": f"{low:.3f}", "high": f"{high:.3f}"}
                row |= {"our_loss": f"{losses['ours']:.6f}", "loss": f"{losses[variant]:.6f}"}
                rows.append(row | {"rounds": len(rounds), "others": f"{others:.2f}"})
        cells = [f"{losses[name]:.6f}" if name in losses else "" for name in shown]
        print(f"{label}{'loss':7}{losses['ours']:9.6f}{'':8}" + "".join(f"{cell:>22}" for cell in cells), flush=True)
        gc.collect()  # the next arms need the memory
    if options.record:
        records.write("-loop", about, rows)


if __name__ == "__main__":
    main()
