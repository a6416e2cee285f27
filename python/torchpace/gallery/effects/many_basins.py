"""Among many basins a small rate stays in the first, a large one bounces over the best, a cycle finds it and settles.

A wide valley overlaid with ripples, gradient noise of standard deviation 0.5, walkers begun outside of all dips.
Success is to end in the best dip, with a loss below a tenth of the ripples' height. Triangular cycles against the best
of 20 constant rates at equal budget; a single cosine decay is shown too, and does better still.
"""

import math

import torch

from torchpace.gallery import landscapes
from torchpace.gallery._page import BLUE, GREEN, ORANGE, Page
from torchpace.gallery._walk import walk
from torchpace.schedule import Schedule, cosine, cyclic

STEPS, NOISE, LOW, HIGH = 2000, 0.5, 0.01, 0.5
RATES: list[float] = torch.logspace(math.log10(LOW), 0, 20, dtype=torch.float64).tolist()
SETTLED = 0.1 * 2 * landscapes.RIPPLE


def run(page: Page) -> None:
    """Compute, check and draw."""
    walkers = page.seeds(1000, 200)
    start = 3 + 2 * torch.rand(walkers, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def ends(lr: float, rate: Schedule | None, seed: int) -> torch.Tensor:
        return walk(start, landscapes.many_basins_gradient, lr, STEPS, rate=rate, noise=NOISE, seed=seed)

    def share(end: torch.Tensor) -> float:
        return float((landscapes.many_basins(end) < SETTLED).double().mean())

    constants = [ends(lr, None, seed) for seed, lr in enumerate(RATES)]
    shares = [share(end) for end in constants]
    best = max(range(len(RATES)), key=shares.__getitem__)
    cycled = ends(HIGH, cyclic(250, low=LOW / HIGH), 20)
    decayed = ends(HIGH, cosine(STEPS, floor=LOW / HIGH), 21)
    forms = (("cycle", cycled), ("cosine decay", decayed))
    rows = [(f"constant {lr:.3g}", f"{found:.1%}") for lr, found in zip(RATES, shares, strict=True)]
    page.say(f"{walkers} walkers, {STEPS} steps; cycle and decay between {LOW} and {HIGH}")
    page.table(("rate", "success"), rows + [(name, f"{share(end):.1%}") for name, end in forms])

    lead = share(cycled) - shares[best]
    error = math.sqrt(sum(value * (1 - value) / walkers for value in (share(cycled), shares[best])))
    page.say(f"the cycle leads the best constant rate by {lead:.1%}, with a standard error of {error:.1%}")
    page.holds("the cycle's lead over the best constant rate, less three standard errors", lead - 3 * error, low=0.0)
    page.check("smallest rate: success", shares[0], 0.0)
    # It stays where the first dip is, one that is not the best.
    page.holds("smallest rate: share in another dip", float((constants[0].abs() > 0.5).double().mean()), low=0.99)
    page.holds("largest rate: success", shares[-1], high=0.2)

    left, right = page.axes(1, 2, figsize=(12.8, 5))[0]
    w = torch.linspace(-4, 4.5, 800, dtype=torch.float64)
    left.plot(w, landscapes.many_basins(w), color="0.4")
    height = left.twinx()
    bins = torch.linspace(-4, 4.5, 86).tolist()
    for name, end, colour in (
        (f"constant {RATES[0]:.2g}", constants[0], GREEN),
        ("constant 1", constants[-1], BLUE),
        ("cycle", cycled, ORANGE),
    ):
        height.hist(end.clamp(-4, 4.5).numpy(), bins=bins, color=colour, alpha=0.55, label=name)
    height.set(ylabel="walkers at the end")
    height.grid(visible=False)
    height.legend(loc="upper left")
    left.set(xlabel="w", ylabel="loss", title="Where walkers end")
    right.semilogx(RATES, [100 * found for found in shares], "o-", color=BLUE, label="constant rate")
    right.axhline(100 * share(cycled), color=ORANGE, label=f"cycle, {LOW} to {HIGH}")
    right.axhline(100 * share(decayed), color=GREEN, linestyle="--", label=f"cosine decay, {HIGH} to {LOW}")
    right.set(
        xlabel="constant learning rate",
        ylabel="success (%)",
        ylim=(-3, 103),
        title="Found the best dip and settled in it",
    )
    right.legend(loc="center left")
