"""A cyclical rate needs no search for the best fixed one: digits, a small network, equal budgets, several seeds.

A triangular cycle over a range of rates against fixed rates over that range, and beyond it. Medians, with the lowest
and highest of the seeds. What is checked is that the cycle, untuned, comes near the best fixed rate of the grid and is
better than most of it; that it beats the best one is not claimed.
"""

import statistics

from torchpace.gallery._digits import accuracy_of, digits, loss_of, network, train
from torchpace.gallery._page import BLUE, ORANGE, Page
from torchpace.schedule import cyclic

RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
LOW, HIGH = 0.01, 0.6


def run(page: Page) -> None:
    """Compute, check and draw."""
    images, labels, test_images, test_labels = digits()
    seeds, steps = (2, 300) if page.quick else (5, 600)
    cycle = cyclic(steps / 4, low=LOW / HIGH)
    found: dict[str, tuple[list[float], list[float]]] = {}
    for name in [*map(str, RATES), "cycle"]:
        losses, accuracies = [], []
        for seed in range(seeds):
            model = network(seed)
            lr, rate = (HIGH, cycle) if name == "cycle" else (float(name), None)
            train(images, labels, model, lr, steps, rate=rate, seed=seed)
            losses.append(loss_of(model, test_images, test_labels))
            accuracies.append(accuracy_of(model, test_images, test_labels))
        found[name] = (losses, accuracies)
    page.say(f"{steps} steps of 32 images, {seeds} seeds; the cycle is triangular, {LOW} to {HIGH}, two periods")
    rows = [
        (name, statistics.median(losses), min(losses), max(losses), f"{statistics.median(right):.1%}")
        for name, (losses, right) in found.items()
    ]
    page.table(("rate", "test loss, median", "lowest", "highest", "accuracy, median"), rows)
    medians = {name: median for name, median, *_ in rows}
    fixed = sorted(medians[str(rate)] for rate in RATES)
    better = sum(medians["cycle"] < median for median in fixed)
    ratio = medians["cycle"] / fixed[0]
    page.say(f"the cycle's median loss is {ratio:.2f} of the best fixed rate's, and below that of {better} of 6")
    page.holds("the cycle's median test loss over the best fixed rate's", ratio, high=1.25)
    page.holds("fixed rates that the cycle beats, of 6", better, low=3)

    axes = page.one_axes()
    middle = [medians[str(rate)] for rate in RATES]
    spans = [
        [medians[str(rate)] - min(found[str(rate)][0]) for rate in RATES],
        [max(found[str(rate)][0]) - medians[str(rate)] for rate in RATES],
    ]
    axes.errorbar(RATES, middle, yerr=spans, fmt="o-", color=BLUE, capsize=4, label="fixed rate")
    axes.axhspan(min(found["cycle"][0]), max(found["cycle"][0]), color=ORANGE, alpha=0.25)
    axes.axhline(medians["cycle"], color=ORANGE, label=f"cycle from {LOW} to {HIGH}")
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="fixed learning rate",
        ylabel=f"test loss after {steps} steps",
        title="Digits: one untuned cycle against a grid of fixed rates\n(median, lowest and highest of the seeds)",
    )
    axes.legend()
