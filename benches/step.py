"""A step of ours against torch's default, foreach, fused and compiled: medians of ratios over interleaved rounds.

Each row is an optimizer on a list of tensors; one that torch lacks is against AdamW, ours and torch's fused one, so
that 0.8 says that it takes 1.25 times as long as AdamW, and is by default on two lists; Muon is on lists of matrices.
All arms step the same parameters, gradients and state, as far as their rules have the same: where a tensor lies in
memory makes a step faster or slower by a fifth. In every round each arm makes a few steps in turn, so that all meet the
same state of a noisy machine; a row's figure is the median over the rounds of (torch's time / our time), with the
quartiles, so above 1 ours is faster. All rows are printed, losses too. A run takes about 8 minutes on two cores, and
`--record`, with bfloat16 and the compiled step, about 30; its rows are written to benches/record/<machine>/<date>.csv.
Nothing else may run meanwhile: torch's threads spin while they wait for one that has lost its core, and rows of several
threads become absurd. The column "others" tells what share of a core other processes used during a row.
"""

import argparse
import gc
import inspect
import itertools
import statistics
import time

import torch

import records
import torchpace
from against import BEYOND, EVERY, MATRICES, columns, compare, contenders, missing, text, turn
from lists import LISTS, OF_MATRICES

ROUNDS = 5  # at the least

CASES = EVERY | {"AdamW clip": ("AdamW", {"max_grad_norm": 1.0})}  # torch's arms: clip_grad_norm_, then the step

BRIEF = ["500 x 16", "GPT-2 small"]  # for what torch lacks

# Where compiling a step takes seconds: about a third of a second a tensor.
COMPILED = ["MLP", "1 x 124M"]


def tensors(groups, dtype, device="cpu"):
    """Groups of parameters with gradients, and a lower learning rate from group to group."""
    made = []
    for depth, shapes in enumerate(groups):
        params = [torch.nn.Parameter(torch.zeros(shape, dtype=dtype, device=device)) for shape in shapes]
        for param in params:
            param.grad = torch.full_like(param, 0.5)
        made.append({"params": params, "lr": 1e-4 * 0.99**depth})
    return made


def clipping(optimizer, step, max_norm):
    """Clip in place, then step. After the first time the norm is about 1 and nothing changes, but the work is the same:
    clip_grad_norm_ multiplies always."""
    params = [param for group in optimizer.param_groups for param in group["params"]]

    def clipped():
        torch.nn.utils.clip_grad_norm_(params, max_norm, foreach=True)
        step()

    return clipped


def share(made):
    """Let all have the state of the same rule, and ours of another rule what it has in common with AdamW."""
    ours, first = made["ours"], made.get("our AdamW", made["ours"])
    for optimizer in (ours, first):
        optimizer.step()  # makes the state
    for param, state in first.state.items():
        own = ours.state[param]
        own.update({slot: value for slot, value in state.items() if slot in own})
        for name, optimizer in made.items():
            if optimizer is ours or optimizer is first:
                continue
            optimizer.state[param] = dict(state)
            if "step" in state and name.startswith("fused"):
                # Where torch's fused step has it; on the CPU it is the same tensor.
                optimizer.state[param]["step"] = state["step"].to(param.device)


def arms(kind, options, groups, names):
    """Our optimizer, and the step of each arm."""
    every = contenders(kind, options)
    made = {name: every[name].on([dict(group) for group in groups]) for name in ("ours", *names)}
    share(made)
    steps, max_norm = {}, options.get("max_grad_norm")
    for name, optimizer in made.items():
        # The learning rate stays, so compiling it in does no harm; foreach takes none as a tensor here.
        step = torch.compile(optimizer.step) if name == "compiled" else optimizer.step
        clips = max_norm is not None and not every[name].is_ours()
        steps[name] = clipping(optimizer, step, max_norm) if clips else step
    return made["ours"], steps


def clock(step, repeat):
    begin = time.perf_counter()
    for _ in range(repeat):
        step()
    return (time.perf_counter() - begin) / repeat


def measure(steps, budget):
    """Seconds a step of each arm, round by round, until `budget` seconds are spent; and others' share of a core."""
    for step in steps.values():
        clock(step, 2)  # compiles
    begin, others = time.perf_counter(), records.others()
    # As many steps a turn as last a few milliseconds.
    repeat = {name: max(1, int(5e-3 / clock(step, 1))) for name, step in steps.items()}
    rounds = []
    while len(rounds) < ROUNDS or time.perf_counter() - begin < budget:
        rounds.append({name: clock(steps[name], repeat[name]) for name in turn(steps, len(rounds))})
    return rounds, (records.others() - others) / (time.perf_counter() - begin)


def lists_of(optimizer, asked, every=LISTS):
    """Those asked for that it steps on, or those it is for."""
    if optimizer in MATRICES:
        return [name for name in asked or OF_MATRICES if name in OF_MATRICES]
    return asked or (BRIEF if optimizer in BEYOND else [name for name in every if name not in OF_MATRICES])


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lists", nargs="+", choices=list(LISTS), help="default: those each optimizer is for")
    parser.add_argument("--optimizers", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--dtypes", nargs="+", help="default: float32; bfloat16 too with --record")
    parser.add_argument("--threads", nargs="+", type=int, default=sorted({1, torch.get_num_threads()}))
    note = f"lists to compile torch's step for, too (default: none; {COMPILED} with --record)"
    parser.add_argument("--compiled", nargs="*", choices=list(LISTS), help=note)
    parser.add_argument("--seconds", type=float, help="a row's time (default: 1; 3 with --record)")
    parser.add_argument("--record", action="store_true", help="write the rows to benches/record/")
    parser.set_defaults(dtypes=["float32"], compiled=[], seconds=1)
    if parser.parse_args().record:
        parser.set_defaults(dtypes=["float32", "bfloat16"], compiled=COMPILED, seconds=3)
    options = parser.parse_args()
    shown = columns(CASES[name] for name in options.optimizers)
    if not options.compiled:
        shown = [name for name in shown if name != "compiled"]
    about = records.about()
    print(f"{about}; torchpace {torchpace.__version__}")
    print("us: our median step. Ratios: torch's time / ours, median (quartiles); above 1 ours is faster, * a loss.\n")
    line = f"{'list':13}{'optimizer':18}{'type':10}threads{'us':>8}{'others':>8}"
    print(line + "".join(f"{name:>24}" for name in shown))
    if "max_grad_norm" not in inspect.signature(torchpace.optim.AdamW).parameters:
        print("AdamW clip: left out, this torchpace has no max_grad_norm")
        options.optimizers = [name for name in options.optimizers if name != "AdamW clip"]
    rows = []
    for list_name, dtype, optimizer in itertools.product(LISTS, options.dtypes, options.optimizers):
        if list_name not in lists_of(optimizer, options.lists):
            continue
        names = contenders(*CASES[optimizer]).keys() & set(shown)
        names = [name for name in shown if name in names and (name != "compiled" or list_name in options.compiled)]
        groups = tensors(LISTS[list_name](), getattr(torch, dtype))
        ours, steps = arms(*CASES[optimizer], groups, names)
        for threads in options.threads:
            torch.set_num_threads(threads)
            torch.compiler.reset()  # after some recompilations, as for another number of threads, it would give up
            rounds, others = measure(steps, options.seconds)
            if ours.last_path != "fused":
                raise SystemExit(f"our step was not fused: {ours.last_path}")
            micros = statistics.median(times["ours"] for times in rounds) * 1e6
            ratios = compare(rounds)
            cells = [text(*ratios[name]) if name in ratios else missing(name, CASES[optimizer]) for name in shown]
            line = f"{list_name:13}{optimizer:18}{dtype:10}{threads:7}{micros:8.0f}{others:8.0%}"
            print(line + "".join(f"{cell:>24}" for cell in cells), flush=True)
            for variant, (low, median, high) in ratios.items():
                rows.append(
                    {
                        "list": list_name,
                        "optimizer": optimizer,
                        "dtype": dtype,
                        "threads": threads,
                        "against": variant,
                        "ours_us": f"{micros:.1f}",
                        "ratio": f"{median:.3f}",
                        "low": f"{low:.3f}",
                        "high": f"{high:.3f}",
                        "rounds": len(rounds),
                        "others": f"{others:.2f}",
                    }
                )
        del ours, steps, groups  # the next arms need the memory
        torch.compiler.reset()
        gc.collect()
    if options.record:
        records.write("", about, rows)


if __name__ == "__main__":
    main()
