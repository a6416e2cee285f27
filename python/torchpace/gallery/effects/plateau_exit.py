"""Lost on a plateau with one exit: triangular cycles against cosine restarts, at equal budget and equal range.

On the plateau there is only gradient noise, and the iterate diffuses: how far depends on the sum of the squared rates.
A cosine spends more time near the ends of its range than a triangle, so its mean square is larger, 3/8 of the range's
square against 1/3, and it finds the exit more often. A constant rate of the same mean square finds it as often.
"""

import math

import torch
from torch import Tensor

from torchpace.gallery import landscapes
from torchpace.gallery._page import BLACK, BLUE, ORANGE, SKY, Page
from torchpace.gallery._walk import walk
from torchpace.schedule import Schedule, constant, cyclic, warm_restarts

STEPS, NOISE, LOW, HIGH, PERIOD = 1000, 0.7, 0.005, 0.2, 200
FORMS: dict[str, tuple[Schedule, str]] = {
    "triangular cycles": (cyclic(PERIOD / 2, low=LOW / HIGH), BLUE),
    "cosine restarts": (warm_restarts(PERIOD, floor=LOW / HIGH), ORANGE),
    "constant, as triangular": (constant(), SKY),
    "constant, as cosine": (constant(), BLACK),
}
ALIKE = {"constant, as triangular": "triangular cycles", "constant, as cosine": "cosine restarts"}


class Found:
    """The share of the walkers that have left, at each step."""

    def __init__(self) -> None:
        self.shares: list[float] = []

    def __call__(self, step: int, w: Tensor) -> None:
        """Count them."""
        self.shares.append(float((w > landscapes.EXIT).double().mean()))


def run(page: Page) -> None:
    """Compute, check and draw."""
    walkers = page.seeds(10_000, 1000)
    start = torch.full((walkers,), landscapes.WALL, dtype=torch.float64)
    left, right = page.axes(1, 2, figsize=(12.8, 5))[0]
    rows, shares = [], {}
    squares: list[float] = []
    for seed, (name, (rate, colour)) in enumerate(FORMS.items()):
        if name in ALIKE:
            # Of the same mean square as the one before last.
            rate = constant(math.sqrt(squares[-2]) / HIGH)
        rates = rate.values(0, STEPS, base=HIGH)
        squares.append(float((rates**2).mean()))
        found = Found()
        end = walk(start, landscapes.plateau_gradient, HIGH, STEPS, rate=rate, noise=NOISE, seed=seed, each=found)
        gone = end > landscapes.EXIT
        shares[name] = int(gone.sum()) / walkers
        error = math.sqrt(shares[name] * (1 - shares[name]) / walkers)
        excess = float((landscapes.plateau(end[gone]) + 2).mean())
        rows.append((name, squares[-1], f"{shares[name]:.1%} ± {error:.1%}", excess))
        left.plot(found.shares, "--" if name in ALIKE else "-", color=colour, label=name)
        right.plot(rates, "--" if name in ALIKE else "-", color=colour, linewidth=1.2)
    page.say(f"{walkers} walkers, {STEPS} steps from the wall, rates from {LOW} to {HIGH}, noise {NOISE}")
    page.table(("rate", "mean square rate", "left", "excess loss of those"), rows)

    def lead(first: str, second: str) -> tuple[float, float]:
        both = math.sqrt(sum(shares[name] * (1 - shares[name]) / walkers for name in (first, second)))
        return shares[first] - shares[second], 3 * both

    ahead, errors = lead("cosine restarts", "triangular cycles")
    page.say(f"cosine restarts lead by {ahead:.1%}, three standard errors are {errors:.1%}")
    page.check("cosine restarts' lead", ahead, 0.044, errors)
    for name, like in ALIKE.items():
        apart, errors = lead(like, name)
        page.check(f"{like}: lead over a constant rate of the same mean square", apart, 0.0, errors)

    left.set(
        xlabel="step",
        ylabel="share of walkers that have left",
        title="The larger mean square rate finds the exit first",
    )
    left.legend()
    right.set(xlabel="step", ylabel="learning rate", title="The same range and the same number of steps")
