"""A cycle crosses into the other well and settles there; no constant rate does both.

The double well has minima at -3 and 3 and a saddle at 0. Walkers start at 3, with gradient noise of standard deviation
2. A small constant rate never crosses, a large one crosses and never settles; the triangular cycle does both.
"""

import math

import torch
from torch import Tensor

from torchpace.gallery import landscapes
from torchpace.gallery._page import BLUE, ORANGE, RED, Page
from torchpace.gallery._walk import walk
from torchpace.schedule import Schedule, cyclic

STEPS, NOISE, HIGH = 4000, 2.0, 0.3
OFF_SCALE = 3.0  # where the figure has a mean that is beyond it
CYCLE = cyclic(100, low=0.01 / HIGH)
# The rate, the share that crosses (lowest, highest), and the mean excess loss at the end (lowest, highest).
FIGURES: dict[str, tuple[float, Schedule | None, tuple[float, float], tuple[float, float] | None]] = {
    "constant 0.01": (0.01, None, (0.0, 0.0), None),
    "constant 0.05": (0.05, None, (0.0, 0.0), (0.056, 0.056)),
    "constant 0.155": (0.155, None, (0.001, 0.001), (0.22, 0.22)),
    "constant 0.2": (0.2, None, (0.026, 0.026), None),
    "cycle 0.01 to 0.3": (HIGH, CYCLE, (0.31, 0.32), (0.031, 0.031)),
    "constant 0.3": (0.3, None, (0.995, 0.995), (0.74, 0.78)),
    "constant 0.4": (0.4, None, (1.0, 1.0), None),
}


class Watch:
    """Which walkers were ever below 0, and the path of some."""

    def __init__(self, walkers: int) -> None:
        self.crossed: Tensor = torch.zeros(walkers, dtype=torch.bool)
        self.some: list[Tensor] = []

    def __call__(self, step: int, w: Tensor) -> None:
        """Look at a step."""
        self.crossed |= w < 0
        self.some.append(w[:40].clone())


def run(page: Page) -> None:
    """Compute, check and draw."""
    walkers = page.seeds(2000, 300)
    start = torch.full((walkers,), landscapes.WELL, dtype=torch.float64)
    rows, drawn = [], {}
    for seed, (name, (lr, rate, crossing, excess)) in enumerate(FIGURES.items()):
        watch = Watch(walkers)
        end = walk(start, landscapes.double_well_gradient, lr, STEPS, rate=rate, noise=NOISE, seed=seed, each=watch)
        crossed, gone = int(watch.crossed.sum()), int((~(end.abs() <= 1000)).sum())
        losses = landscapes.double_well(end) - landscapes.WELL_LOSS
        mean = float(losses.mean()) if gone == 0 else math.inf
        rows.append((name, f"{crossed / walkers:.1%}", f"{gone / walkers:.1%}", mean))
        page.rate(f"{name}: crossing", crossed, walkers, *crossing)
        if excess is not None:
            # Three standard errors of the mean, and the last digit of the figures.
            error = 3 * float(losses.std()) / math.sqrt(walkers) + 10.0 ** math.floor(math.log10(excess[0]) - 1) / 2
            page.holds(f"{name}: mean excess loss", mean, excess[0] - error, excess[1] + error)
        if lr == 0.4:
            page.rate(f"{name}: beyond 1,000", gone, walkers, 0.38)
        drawn[name] = (watch, losses, gone)
    page.say(f"{walkers} walkers, {STEPS} steps from w = 3, gradient noise of standard deviation {NOISE:g}")
    page.table(("rate", "crossed", "beyond 1,000", "mean excess loss"), rows)

    left, right = page.axes(1, 2, figsize=(12.8, 5))[0]
    for name, colour in (("constant 0.05", BLUE), ("constant 0.3", RED), ("cycle 0.01 to 0.3", ORANGE)):
        paths = torch.stack(drawn[name][0].some)
        shown = next((i for i in range(paths.shape[1]) if (paths[:, i] < 0).any()), 0)  # one that crosses, if any
        left.plot(paths[-1001:, shown], color=colour, linewidth=1.2, label=name)
    left.set(
        xlabel="step (the last 1,000)",
        ylabel="w of one walker",
        ylim=(-6, 7),
        title="Where a walker is: wells at -3 and 3",
    )
    left.legend(loc="upper center", ncols=3)
    for name, (watch, losses, gone) in drawn.items():
        share = float(watch.crossed.double().mean())
        # Where some are beyond 1,000 the mean says nothing: it is off the scale.
        mean = float(losses.mean()) if gone == 0 else OFF_SCALE
        colour = ORANGE if name.startswith("cycle") else BLUE if gone == 0 else RED
        right.scatter(100 * share, mean, color=colour, s=70, zorder=3, marker="o" if gone == 0 else "^")
        label = name if gone == 0 else f"{name}: {gone / walkers:.0%} are gone"
        beside = (-8, 8) if share > 0.9 else (8, -14) if name == "constant 0.155" else (8, 6)
        right.annotate(
            label, (100 * share, mean), xytext=beside, textcoords="offset points", ha="right" if share > 0.9 else "left"
        )
    right.set(
        xlabel="walkers that crossed (%)",
        ylabel="mean excess loss at the end",
        yscale="log",
        title="Only the cycle crosses and settles",
    )
    right.margins(0.12, 0.15)
