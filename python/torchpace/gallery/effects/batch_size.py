"""The rate and the batch: the square-root rule keeps a step's variance, the linear rule the progress for each sample.

A quadratic of curvature 1 with gradient noise of variance 1 / B. Under a rate that grows as B the mean of x over
samples seen is nearly one curve, as long as rate times curvature is small; at B = 64 it is 0.64, and the curve is
another.
"""

import math

import torch
from torch import Tensor

from torchpace import control
from torchpace.gallery import landscapes
from torchpace.gallery._page import BLUE, COLOURS, GREEN, ORANGE, Page
from torchpace.gallery._walk import walk

BATCHES = (1, 8, 64)
EXPECTED = {1: 3.4e-5, 8: 2.3e-5, 64: 8e-8}
SAMPLES, RATE, NOISE = 1024, 0.01, 1.0


class Mean:
    """The mean of the walkers at each step."""

    def __init__(self) -> None:
        self.means: list[float] = []

    def __call__(self, step: int, w: Tensor) -> None:
        """Keep it."""
        self.means.append(float(w.mean()))


def first_step(lr: float, batch: int, walkers: int) -> float:
    """The variance of one step: the walkers' after one, all having begun at 0."""
    start = torch.zeros(walkers, dtype=torch.float64)
    end = walk(
        start, lambda w: landscapes.quadratic_gradient(w, 1.0), lr, 1, noise=NOISE / math.sqrt(batch), seed=batch
    )
    return float(end.var())


def run(page: Page) -> None:
    """Compute, check and draw."""
    walkers = page.seeds(20_000, 5000)
    rows = []
    for batch in BATCHES:
        same, root, linear = (
            first_step(lr, batch, walkers)
            for lr in (RATE, control.scale_lr(RATE, 1, batch, "sqrt"), control.scale_lr(RATE, 1, batch))
        )
        rows.append((batch, same / RATE**2, root / RATE**2, linear / RATE**2))
        # The variance of a variance of normal numbers is 2 / (n - 1) of its square.
        error = 3 * math.sqrt(2 / (walkers - 1))
        for name, found, expected in (
            ("same rate", same, 1 / batch),
            ("square root", root, 1.0),
            ("linear", linear, batch),
        ):
            page.check(f"B = {batch}, {name}: variance of a step", found / RATE**2, expected, error * expected)
    page.say(f"variance of a step, in units of that at B = 1; {walkers} walkers")
    page.table(("B", "same rate", "rate ~ sqrt(B)", "rate ~ B"), rows)

    left, right = page.axes(1, 2, figsize=(12.8, 5))[0]
    for place, (name, colour) in enumerate((("same rate", GREEN), ("rate ~ √B", BLUE), ("rate ~ B", ORANGE)), 1):
        left.loglog(BATCHES, [row[place] for row in rows], "o-", color=colour, label=name)
    left.set(
        xlabel="batch size B", ylabel="variance of a step (1 at B = 1)", title="The square-root rule keeps the variance"
    )
    left.legend()

    means = []
    for batch, colour in zip(BATCHES, COLOURS, strict=False):
        mean = Mean()
        start = torch.ones(1, dtype=torch.float64)
        walk(start, lambda w: landscapes.quadratic_gradient(w, 1.0), RATE * batch, SAMPLES // batch, each=mean)
        few = torch.ones(page.seeds(2000, 500), dtype=torch.float64)
        spread = NOISE / math.sqrt(batch)
        early = walk(few, lambda w: landscapes.quadratic_gradient(w, 1.0), RATE * batch, 64 // batch, noise=spread)
        error = 3 * float(early.std()) / math.sqrt(len(early))
        means.append((batch, RATE * batch, float(early.mean()), mean.means[64 // batch], mean.means[-1]))
        page.check(f"B = {batch}: mean x after 1,024 samples", mean.means[-1], EXPECTED[batch], EXPECTED[batch] * 0.1)
        page.check(
            f"B = {batch}: mean x of noisy walkers after 64 samples",
            float(early.mean()),
            mean.means[64 // batch],
            error,
        )
        seen = [batch * step for step in range(len(mean.means))]
        right.semilogy(
            seen, mean.means, "o-" if batch == 64 else "-", color=colour, label=f"B = {batch}, rate {RATE * batch:g}"
        )
    page.say("")
    page.say("mean of x over samples seen, from 1")
    page.table(("B", "rate", "with noise, 64 samples", "without", "after 1,024 samples"), means)
    right.set(
        xlabel="samples seen",
        ylabel="mean of x",
        title="The linear rule keeps the progress,\nwhile rate times curvature is small",
    )
    right.legend()
