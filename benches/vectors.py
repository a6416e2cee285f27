"""Lists of tensors as vectors, ours against torch's operators: medians of ratios over interleaved rounds.

The operations of a Lanczos step: an inner product, a norm, y += a x, and y = a x. torch's arm is the usual one: for the
product `torch._foreach_mul` and the sums, for the norm `torch._foreach_norm`, for the rest `torch._foreach_add_` and
`torch._foreach_mul_`. Ours sums in float64, torch in the tensors' type. Arms take turns within a round; a row's figure
is the median over the rounds of (torch's time / our time), with the quartiles, so above 1 ours is faster, and losses
have a star. With `--record` the rows are written to benches/record/<machine>/<date>-vectors.csv. The column "others"
tells what share of a core other processes used during a row.
"""

import argparse
import statistics
import time

import torch

import records
import torchpace
from lists import LISTS
from torchpace.control import _vectors

ROUNDS = 9  # at the least
TURN = 0.02  # seconds

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


def torch_dot(x, y):
    return torch.stack([product.sum() for product in torch._foreach_mul(x, y)]).sum().item()


def torch_norm(x):
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(x))).item()


OPERATIONS = {
    "dot": (_vectors.dot, torch_dot),
    "norm": (lambda x, y: _vectors.norm(x), lambda x, y: torch_norm(x)),
    "y += a x": (lambda x, y: _vectors.axpy_(1e-3, x, y), lambda x, y: torch._foreach_add_(y, x, alpha=1e-3)),
    "y *= a": (lambda x, y: _vectors.scale_(0.999, y, y), lambda x, y: torch._foreach_mul_(y, 0.999)),
}


def tensors(shapes, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).to(dtype) for group in shapes for shape in group]


def clock(operation, x, y, turns):
    begin = time.perf_counter()
    for _ in range(turns):
        operation(x, y)
    return (time.perf_counter() - begin) / turns


def check(name, ours, theirs, x, y, dtype):
    """Both arms answer alike."""
    left, right = [t.clone() for t in y], [t.clone() for t in y]
    a, b = ours(x, left), theirs(x, right)
    if a is not None and b is not None and not isinstance(b, (list, tuple)):
        size = _vectors.norm(x) * _vectors.norm(y)
        good = abs(a - b) <= 100 * torch.finfo(dtype).eps * size
    else:
        eps = torch.finfo(dtype).eps
        good = all(torch.allclose(one, other, 2 * eps, 2 * eps) for one, other in zip(left, right, strict=True))
    if not good:
        raise SystemExit(f"{name}: the results differ")


def measure(arms, x, y, budget):
    """Seconds a call of each arm, round by round, until `budget` seconds are spent; and others' share of a core."""
    slowest = max(clock(operation, x, y, 2) for operation in arms.values())
    turns = max(1, int(TURN / slowest))
    begin, others = time.perf_counter(), records.others()
    names, rounds = list(arms), []
    while len(rounds) < ROUNDS or time.perf_counter() - begin < budget:
        names.reverse()
        rounds.append({name: clock(arms[name], x, y, turns) for name in names})
    return rounds, (records.others() - others) / (time.perf_counter() - begin)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lists", nargs="+", default=["500 x 16", "ResNet-50"], choices=list(LISTS))
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES), choices=list(DTYPES))
    parser.add_argument("--threads", nargs="+", type=int, default=[torch.get_num_threads()])
    parser.add_argument("--seconds", type=float, default=1, help="a row's time (default: 1)")
    parser.add_argument("--record", action="store_true", help="write the rows to benches/record/")
    options = parser.parse_args()
    about = records.about()
    print(f"{about}; torchpace {torchpace.__version__}")
    print("us: median. Ratio: torch's time / ours, median (quartiles); above 1 ours is faster, * a loss.\n")
    head = f"{'list':12}{'type':10}{'threads':>8} {'operation':10}"
    print(f"{head}{'ours us':>10}{'torch us':>10}{'others':>8}{'ratio':>22}")
    rows = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        for name in options.lists:
            for dtype in options.dtypes:
                x, y = (tensors(LISTS[name](), DTYPES[dtype], seed) for seed in (0, 1))
                for operation, (ours, theirs) in OPERATIONS.items():
                    check(operation, ours, theirs, x, y, DTYPES[dtype])
                    rounds, others = measure({"ours": ours, "torch": theirs}, x, y, options.seconds)
                    micros = {arm: statistics.median(one[arm] for one in rounds) * 1e6 for arm in ("ours", "torch")}
                    low, median, high = statistics.quantiles([one["torch"] / one["ours"] for one in rounds], n=4)
                    ratio = f"{'* ' * (median < 1)}{median:.2f} ({low:.2f}-{high:.2f})"
                    times = f"{micros['ours']:10.1f}{micros['torch']:10.1f}{others:8.0%}"
                    print(f"{name:12}{dtype:10}{threads:8} {operation:10}{times}{ratio:>22}", flush=True)
                    rows.append(
                        {
                            "list": name,
                            "dtype": dtype,
                            "threads": threads,
                            "operation": operation,
                            "ours_us": f"{micros['ours']:.2f}",
                            "torch_us": f"{micros['torch']:.2f}",
                            "ratio": f"{median:.3f}",
                            "low": f"{low:.3f}",
                            "high": f"{high:.3f}",
                            "rounds": len(rounds),
                            "others": f"{others:.2f}",
                        }
                    )
    if options.record:
        records.write("-vectors", about, rows)


if __name__ == "__main__":
    main()
