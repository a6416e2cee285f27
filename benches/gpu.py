"""A step of ours against torch's foreach (its default), fused and single-tensor on a CUDA device: device and host time.

What torch lacks is against AdamW, ours and torch's fused one, and Muon is on matrices alone. All arms step the same
parameters, gradients and state. In every round each arm makes a few steps in turn: the device's time is between two
events around them, the host's until the last of them is queued. Where the host is the slower, as with small tensors,
the device waits for it, and both are the host's time. A figure is the median over the rounds of (torch's time / our
time), with the quartiles, so above 1 ours is faster; losses are marked. "of copy" is the share of the device-to-device
copy's bandwidth, measured beside the row, that the bytes which a step has to move reach in our step. In the row "graph"
all arms replay captured steps. `--record` writes the rows to benches/record/<GPU>/<date>-gpu.csv. `--device cpu` is to
see that the program runs: it measures by the clock, and records nothing.
"""

import argparse
import gc
import itertools
import math
import statistics
import time

import torch

import records
import torchpace
from against import columns, compare, contenders, missing, text, turn
from lists import LISTS
from step import CASES, arms, lists_of, tensors

LISTS = LISTS | {"1 x 1G": lambda: [[(1 << 30,)]]}
ROUNDS = 7
LARGE = 1 << 24
"""Elements from which a list is bound by memory."""

NAMES = {"default": "single"}
"""What torch's arms are called here, where foreach is the default."""

COPIES = 8
"""How many times the parameters' memory a row takes at the most: gradients, state, and what torch's code works with."""

MORE_IN_GRAPHS = 4
"""And how many times more where each arm's graph has memory of its own."""


class Clock:
    """Seconds that steps take on the device and on the host."""

    def __init__(self, device):
        self.device = device

    def wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def __call__(self, step, repeat):
        if self.device.type != "cuda":
            begin = time.perf_counter()
            for _ in range(repeat):
                step()
            spent = (time.perf_counter() - begin) / repeat
            return {"device": spent, "host": spent}
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        self.wait()
        begin = time.perf_counter()
        events[0].record()
        for _ in range(repeat):
            step()
        events[1].record()
        host = (time.perf_counter() - begin) / repeat
        self.wait()
        return {"device": events[0].elapsed_time(events[1]) / 1e3 / repeat, "host": host}


def measure(steps, seconds, clock):
    """Of each arm both times, round by round."""
    repeat = {}
    for name, step in steps.items():
        clock(step, 3)
        # So few that the queue of the device, of about a thousand launches, does not fill up.
        repeat[name] = max(1, min(20, int(5e-3 / clock(step, 1)["host"])))
    begin, rounds = time.perf_counter(), []
    while len(rounds) < ROUNDS or time.perf_counter() - begin < seconds:
        rounds.append({name: clock(steps[name], repeat[name]) for name in turn(steps, len(rounds))})
    return rounds


def captured(step, device):
    """The replay of a step in a graph, if there are graphs."""
    if device.type != "cuda":
        return step
    step()
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        step()

    def replay():
        # `step` is that of an optimizer whose counts the graph writes to.
        return graph.replay(), step

    return replay


def has_fused(name, device):
    """Whether torch has a fused step, which some of its releases refuse on some devices."""
    if not hasattr(torch.optim, name):
        return False
    param = torch.ones(1, device=device)
    param.grad = torch.ones_like(param)
    try:
        getattr(torch.optim, name)([param], fused=True).step()
    except (RuntimeError, TypeError):
        return False
    return True


def room(device):
    """The bytes of memory that are free."""
    return torch.cuda.mem_get_info()[0] if device.type == "cuda" else float("inf")


def moved(optimizer):
    """The bytes that a step has to read and write; gradients once more for their norm."""
    total = 0
    for group in optimizer.param_groups:
        reads = 2 if group.get("max_grad_norm") else 1
        for param in group["params"]:
            slots = [value for value in optimizer.state[param].values() if value.shape == param.shape]
            written = sum(value.numel() * value.element_size() for value in [param, *slots])
            total += 2 * written + reads * param.grad.numel() * param.grad.element_size()
    return total


def copy_bandwidth(device, clock):
    """Bytes a second that a copy within the device reads and writes."""
    # Larger than any cache.
    size = 1 << (30 if device.type == "cuda" else 24)
    source, target = (torch.zeros(size, dtype=torch.uint8, device=device) for _ in range(2))
    clock(lambda: target.copy_(source), 3)
    times = [clock(lambda: target.copy_(source), 5)["device"] for _ in range(9)]
    return 2 * size / statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lists", nargs="+", choices=list(LISTS), help="default: those each optimizer is for")
    parser.add_argument("--optimizers", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--seconds", type=float, default=1, help="a row's time (default: 1)")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--record", action="store_true", help="write the rows to benches/record/")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device, which this benchmark is about")
    if options.record and options.device != "cuda":
        raise SystemExit("--record needs --device cuda")
    device = torch.device(options.device)
    machine = torch.cuda.get_device_name() if device.type == "cuda" else records.machine()
    about, clock = records.about(machine), Clock(device)
    print(f"{about}; torchpace {torchpace.__version__}; copy {copy_bandwidth(device, clock) / 2**30:.0f} GiB/s")
    print("us: our median step. Ratios: torch's time / ours, median (quartiles); above 1 ours is faster, * a loss.\n")
    cases = {name: CASES[name] for name in options.optimizers}
    cases["graph"] = ("Adam", {"capturable": True} if device.type == "cuda" else {})
    shown = [name for name in columns(cases.values()) if name != "compiled"]
    head = [f"{NAMES.get(name, name):>24}" for name in shown]
    print(f"{'list':13}{'optimizer':18}{'type':10}{'time':8}{'us':>9}{'of copy':>9}", *head)
    rows = []
    for list_name, dtype, optimizer in itertools.product(LISTS, options.dtypes, cases):
        if list_name not in lists_of(optimizer, options.lists, LISTS):
            continue
        name, settings = cases[optimizer]
        names = [one for one in shown if one in contenders(name, settings)]
        if not has_fused(name, device):
            names = [one for one in names if one != "fused"]
        shapes, kind = LISTS[list_name](), getattr(torch, dtype)
        elements = sum(math.prod(shape) for group in shapes for shape in group)
        copies = COPIES + MORE_IN_GRAPHS * (optimizer == "graph")
        if copies * elements * kind.itemsize > room(device):
            print(f"{list_name:13}{optimizer:18}{dtype:10}left out: the device has no room for it")
            continue
        groups = tensors(shapes, kind, device)
        ours, steps = arms(name, settings, groups, names)
        if optimizer == "graph":
            steps = {arm: captured(step, device) for arm, step in steps.items()}
        bandwidth = copy_bandwidth(device, clock) if elements >= LARGE else None
        rounds = measure(steps, options.seconds, clock)
        if ours.last_path != "fused":
            raise SystemExit(f"our step was not fused: {ours.last_path}")
        for which in ("device", "host"):
            times = [{arm: both[which] for arm, both in one.items()} for one in rounds]
            micros = statistics.median(one["ours"] for one in times) * 1e6
            share = moved(ours) / (micros * 1e-6) / bandwidth if which == "device" and bandwidth else None
            ratios = compare(times)
            cells = [text(*ratios[arm]) if arm in ratios else missing(arm, cases[optimizer]) for arm in shown]
            of_copy = "" if share is None else f"{share:.0%}"
            line = f"{list_name:13}{optimizer:18}{dtype:10}{which:8}{micros:9.1f}{of_copy:>9}"
            print(line, *(f"{cell:>24}" for cell in cells), flush=True)
            for against, (low, median, high) in ratios.items():
                row = {"list": list_name, "optimizer": optimizer, "dtype": dtype, "time": which}
                row |= {"against": NAMES.get(against, against)}
                row |= {"ours_us": f"{micros:.1f}", "of_copy": "" if share is None else f"{share:.3f}"}
                row |= {"ratio": f"{median:.3f}", "low": f"{low:.3f}", "high": f"{high:.3f}", "rounds": len(rounds)}
                rows.append(row)
        del ours, steps, groups  # the next arms need the memory
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    if options.record and rows:
        records.write("-gpu", about, rows)


if __name__ == "__main__":
    main()
