"""The guard rescues training over a grid of rates: digits, a small network, batches of 64.

Rates up to hundreds of times the greatest that works: without the guard the network is lost, with it the rate ends
where it can be and the network learns. The price is in the table's last column: a second evaluation of every step.
"""

import math
import statistics

import torch
from torch import nn

from torchpace import optim
from torchpace.control import DivergenceError, DivergenceGuard
from torchpace.gallery._digits import accuracy_of, digits, network
from torchpace.gallery._page import BLUE, ORANGE, Page

RATES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
LOST = 0.5  # an accuracy


def train(lr: float, seed: int, epochs: int, *, guarded: bool) -> tuple[float, float]:
    """The test accuracy, and the evaluations for each step."""
    images, labels, test_images, test_labels = digits()
    model = network(seed)
    optimizer = optim.SGD(model.parameters(), lr=lr)
    guard = DivergenceGuard(optimizer)
    generator = torch.Generator().manual_seed(seed)
    try:
        for _ in range(epochs):
            for some in torch.randperm(len(labels), generator=generator).split(64):  # type: ignore[no-untyped-call]

                def closure(some: torch.Tensor = some) -> torch.Tensor:
                    optimizer.zero_grad()
                    loss = nn.functional.cross_entropy(model(images[some]), labels[some])
                    loss.backward()  # type: ignore[no-untyped-call]
                    return loss

                if guarded:
                    guard.step(closure)
                else:
                    closure()
                    optimizer.step()
    except DivergenceError:
        pass  # as it was before the step that nothing could save
    accuracy = accuracy_of(model, test_images, test_labels)
    return accuracy if math.isfinite(accuracy) else 0.0, guard.evaluations / max(guard.steps, 1)


def run(page: Page) -> None:
    """Compute, check and draw."""
    seeds, epochs, least = (2, 4, 0.7) if page.quick else (5, 8, 0.8)
    rows, found = [], {}
    for lr in RATES:
        bare = [train(lr, seed, epochs, guarded=False)[0] for seed in range(seeds)]
        both = [train(lr, seed, epochs, guarded=True) for seed in range(seeds)]
        kept = [accuracy for accuracy, _ in both]
        found[lr] = (bare, kept)
        cost = statistics.mean(evaluations for _, evaluations in both)
        rows.append((f"{lr:g}", statistics.median(bare), min(bare), statistics.median(kept), min(kept), cost))
    page.say(f"test accuracy after {epochs} epochs, {seeds} seeds; evaluations a step with the guard")
    page.table(("rate", "without, median", "least", "with, median", "least", "evaluations"), rows)
    lost = [lr for lr, (bare, _) in found.items() if lr >= 1 and statistics.median(bare) < LOST]
    page.holds("rates of the grid at which the network is lost without the guard", len(lost), low=3)
    page.holds("the least accuracy that it has there with the guard", min(min(found[lr][1]) for lr in lost), low=least)
    best = max(statistics.median(bare) for bare, _ in found.values())
    worst = min(statistics.median(found[lr][1]) for lr in lost)
    page.say(
        f"the best median without the guard is {best:.1%}; with it the worst median of the lost rates is {worst:.1%}"
    )

    axes = page.one_axes()
    for place, (label, colour) in enumerate((("without the guard", ORANGE), ("with it", BLUE))):
        middle = [statistics.median(found[lr][place]) for lr in RATES]
        low = [value - min(found[lr][place]) for value, lr in zip(middle, RATES, strict=True)]
        high = [max(found[lr][place]) - value for value, lr in zip(middle, RATES, strict=True)]
        axes.errorbar(RATES, middle, yerr=[low, high], fmt="o-", color=colour, capsize=4, label=label)
    axes.axhline(0.1, color="0.5", linestyle=":", label="chance")
    axes.set(
        xscale="log",
        xlabel="learning rate that was asked for",
        ylabel=f"test accuracy after {epochs} epochs",
        ylim=(0, 1.02),
        title="Digits: runs that diverge are rescued\n(median, lowest and highest of the seeds)",
    )
    axes.legend(loc="center right")
