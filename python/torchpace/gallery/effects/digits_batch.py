"""The linear batch rule on digits: over samples seen, rate c B gives nearly one curve, until the rate is too large.

A small network, plain descent, batches of 8 to 512 at rates 0.04 to 2.56: medians over seeds of the training loss
after equally many samples.
"""

import statistics

from torchpace.gallery._digits import digits, loss_of, network, train
from torchpace.gallery._page import COLOURS, Page

BATCHES, PER_SAMPLE = (8, 32, 128, 512), 0.005


def run(page: Page) -> None:
    """Compute, check and draw."""
    images, labels, *_ = digits()
    seeds, samples = (2, 8192) if page.quick else (5, 16_384)
    marks = [samples * part // 6 for part in range(7)]
    curves: dict[int, list[float]] = {}
    for batch in BATCHES:
        losses: list[list[float]] = [[] for _ in marks]
        for seed in range(seeds):
            model = network(seed)
            places = {mark // batch: place for place, mark in enumerate(marks)}

            def look(step: int, model=model, places=places, losses=losses) -> None:  # type: ignore[no-untyped-def]
                if step in places:
                    losses[places[step]].append(loss_of(model, images, labels))

            steps = samples // batch
            train(images, labels, model, PER_SAMPLE * batch, steps, batch=batch, seed=seed, each=look)
            look(steps)
        curves[batch] = [statistics.median(those) for those in losses]
    page.say(f"training loss, median of {seeds} seeds, at rate {PER_SAMPLE} B")
    head = ("samples seen", *(f"B = {batch}" for batch in BATCHES))
    page.table(head, [(mark, *(curves[batch][place] for batch in BATCHES)) for place, mark in enumerate(marks)])
    ratio = curves[32][-1] / curves[8][-1]
    page.holds("B = 32 against 8: final loss", ratio, 0.8, 1.25)
    page.holds("B = 512 against 8: final loss, another curve", curves[512][-1] / curves[8][-1], low=1.25)

    axes = page.one_axes()
    for batch, colour in zip(BATCHES, COLOURS, strict=False):
        axes.semilogy(marks, curves[batch], "o-", color=colour, label=f"B = {batch}, rate {PER_SAMPLE * batch:g}")
    axes.set(
        xlabel="samples seen", ylabel="training loss (median)", title="Digits: the linear batch rule, over samples seen"
    )
    axes.legend()
