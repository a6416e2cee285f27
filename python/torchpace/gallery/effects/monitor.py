"""Stuck is not flat: the monitor tells oscillation from a critical point, from progress and from the noise floor.

Runs whose state is known, of seeds and kinds that the monitor's thresholds were not chosen on, are judged over a window
of 50 steps. Rows are what a run is, columns what the monitor says.
"""

import math
from collections import Counter

import torch

from torchpace.control import Monitor
from torchpace.gallery import labelled
from torchpace.gallery._page import Page


def run(page: Page) -> None:
    """Compute, check and draw."""
    seeds = 2 if page.quick else 12
    first = labelled.FIRST_HELD_OUT_SEED
    counts: Counter[tuple[str, str]] = Counter()
    kinds: Counter[tuple[str, str]] = Counter()
    examples: dict[str, Monitor] = {}
    for label, kind, monitor in labelled.runs(labelled.HELD_OUT, range(first, first + seeds)):
        verdict = str(monitor.verdict)
        counts[label, verdict] += 1
        kinds[kind, verdict] += 1
        examples.setdefault(label, monitor)
    words = [*labelled.LABELS, "unclear"]
    page.table(("is \\ said", *words), [(label, *(counts[label, word] for word in words)) for label in labelled.LABELS])
    page.say("")
    for label, those in labelled.HELD_OUT.items():
        for name in (kind.__name__ for kind in those):
            page.say(f"{label}, {name}: {kinds[name, label]} of {seeds}")
    page.say("")
    for label in labelled.LABELS:
        page.say(examples[label].explain())
    for label in labelled.LABELS:
        total = seeds * len(labelled.HELD_OUT[label])
        # Of few runs, one that is told wrong is within what three binomial errors allow.
        least = 0.9 - (3 * math.sqrt(0.9 * 0.1 / total) if page.quick else 0.0)
        page.holds(f"{label}: share told right", counts[label, label] / total, low=least)

    axes = page.one_axes()
    table = torch.tensor([[counts[label, word] for word in words] for label in labelled.LABELS], dtype=torch.float64)
    shares = table / table.sum(1, keepdim=True)
    axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, label in enumerate(labelled.LABELS):
        for column, word in enumerate(words):
            dark = bool(shares[row, column] > 0.5)
            axes.text(
                column, row, str(counts[label, word]), ha="center", va="center", color="white" if dark else "black"
            )
    axes.set_xticks(range(len(words)), words)
    axes.set_yticks(range(len(labelled.LABELS)), labelled.LABELS)
    axes.grid(visible=False)
    axes.set(
        xlabel="what the monitor says", ylabel="what the run is", title="Stuck is not flat: verdicts on runs held out"
    )
