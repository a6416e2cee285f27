"""Lost on a plateau with one exit: triangular cycles against cosine restarts, at equal budget and equal range.

On the plateau there is only gradient noise, and the iterate diffuses: how far depends on the sum of the squared rates. A
cosine spends more time near the ends of its range than a triangle, so its mean square is larger, 3/8 of the range's
square against 1/3, and it finds the exit more often.
"""

import math

import numpy as np
import torch
from torch import Tensor

from torchpace.gallery import landscapes
from torchpace.gallery._page import BLUE, GREEN, ORANGE, Page
from torchpace.gallery._walk import walk
from torchpace.schedule import Schedule, constant, cyclic, warm_restarts

STEPS, NOISE, LOW, HIGH, PERIOD = 1000, 0.7, 0.005, 0.2, 200
FORMS: dict[str, tuple[Schedule, str]] = {
    "triangular cycles": (cyclic(PERIOD / 2, low=LOW / HIGH), BLUE),
    "cosine restarts": (warm_restarts(PERIOD, floor=LOW / HIGH), ORANGE),
    "their mean, constant": (constant((LOW + HIGH) / 2 / HIGH), GREEN),
}


class Found:
    """The share of the walkers that have left, at each step."""

    def __init__(self) -> None:
        self.shares: list[float] = []

    def __call__(self, step: int, w: Tensor) -> None:
        """Count them."""
        self.shares.append(float((w > landscapes.EXIT).double().mean()))


def diffusion(rates: np.ndarray) -> float:
    """The share that has left by the end, of a Brownian motion with a wall and an exit, begun at the wall.

    Steps that are not small overshoot: they see an exit 0.5826 of a step further away (Chernoff 1965), the root mean
    square of the steps taken for all.
    """
    step = NOISE * math.sqrt(float((rates**2).mean()))
    width = landscapes.EXIT - landscapes.WALL + 0.5826 * step
    time = len(rates) * step**2 / 2
    inside = 0.0
    for n in range(200):
        k = (n + 0.5) * math.pi
        inside += 2 * (-1) ** n / k * math.exp(-((k / width) ** 2) * time)
    return 1 - inside


def run(page: Page) -> None:
    """Compute, check and draw."""
    walkers = page.seeds(10_000, 1000)
    start = torch.full((walkers,), landscapes.WALL, dtype=torch.float64)
    left, right = page.axes(1, 2, figsize=(12.8, 5))[0]
    rows, shares = [], {}
    for seed, (name, (rate, colour)) in enumerate(FORMS.items()):
        found = Found()
        end = walk(start, landscapes.plateau_gradient, HIGH, STEPS, rate=rate, noise=NOISE, seed=seed, each=found)
        out = int((end > landscapes.EXIT).sum())
        shares[name] = out / walkers
        error = math.sqrt(shares[name] * (1 - shares[name]) / walkers)
        rates = rate.values(0, STEPS, base=HIGH)
        predicted = diffusion(rates)
        settled = landscapes.plateau(end[end > landscapes.EXIT]) + 2
        rows.append((name, float((rates**2).mean()), f"{shares[name]:.1%} ± {error:.1%}", f"{predicted:.1%}", float(settled.mean())))
        page.holds(f"{name}: share that left, against diffusion's {predicted:.3f}", shares[name] - predicted, -0.04, 0.04)
        left.plot(found.shares, color=colour, label=name)
        right.plot(rate.values(0, STEPS, base=HIGH), color=colour, label=name, linewidth=1.2)
    page.say(f"{walkers} walkers, {STEPS} steps from the wall, rates from {LOW} to {HIGH}, noise {NOISE}")
    page.table(("rate", "mean square rate", "left", "diffusion says", "excess loss of those"), rows)
    tri, cos, flat = (shares[name] for name in FORMS)
    both = math.sqrt(sum(share * (1 - share) / walkers for share in (tri, cos)))
    page.say(f"cosine restarts lead by {cos - tri:.1%}, with a standard error of {both:.1%}")
    page.holds("cosine restarts' lead, plus three standard errors", cos - tri + 3 * both, low=0.0)
    page.holds("cycles' lead over their mean, plus three standard errors", tri - flat + 3 * both, low=0.0)
    left.set(xlabel="step", ylabel="share of walkers that have left", title="The larger mean square rate finds the exit first")
    left.legend()
    right.set(xlabel="step", ylabel="learning rate", title="The same range and the same number of steps")
