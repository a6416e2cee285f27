"""Under a rate that falls, do the features move early and the last layer late? Linear CKA over training, on digits.

A network trained with a cosine schedule from a high rate. For each quarter of the training: how far (1 - CKA) each
layer's activations on a fixed batch moved. The claim is that the high rate moves the features early and the low rate
the last layer late; the table tells what came out.
"""

import statistics

import torch

from torchpace.control import CKARecorder
from torchpace.gallery._digits import accuracy_of, digits, network, train
from torchpace.gallery._page import BLUE, GREEN, ORANGE, Page
from torchpace.schedule import cosine

LAYERS = {"1": "first hidden layer", "3": "second hidden layer", "4": "last layer (logits)"}
QUARTERS = 4


def run(page: Page) -> None:
    """Compute, check and draw."""
    images, labels, test_images, test_labels = digits()
    seeds, steps = (2, 400) if page.quick else (5, 1600)
    every = steps // 16
    moved: dict[str, list[list[float]]] = {name: [[] for _ in range(QUARTERS)] for name in LAYERS}
    to_end: dict[str, list[torch.Tensor]] = {name: [] for name in LAYERS}
    accuracies = []
    for seed in range(seeds):
        model = network(seed)
        with CKARecorder(model, list(LAYERS), test_images) as recorder:

            def look(step: int, recorder=recorder) -> None:  # type: ignore[no-untyped-def]
                if step % every == 0:
                    recorder.record(step)

            train(images, labels, model, 0.5, steps, rate=cosine(steps), seed=seed, each=look)
            look(steps)
        accuracies.append(accuracy_of(model, test_images, test_labels))
        for name in LAYERS:
            for quarter in range(QUARTERS):
                first, last = quarter * steps // QUARTERS, (quarter + 1) * steps // QUARTERS
                moved[name][quarter].append(1 - recorder.similarity(name, first, last))
            to_end[name].append(recorder.matrix(name)[-1])
    page.say(
        f"{seeds} seeds, {steps} steps of 32 images, cosine from 0.5; accuracy {statistics.median(accuracies):.1%}"
    )
    page.say("1 - CKA between the ends of each quarter of the training, median")
    head = ("layer", *(f"quarter {quarter + 1}" for quarter in range(QUARTERS)))
    middle = {name: [statistics.median(those) for those in quarters] for name, quarters in moved.items()}
    page.table(head, [(LAYERS[name], *middle[name]) for name in LAYERS])
    late = {name: sum(quarters[1:]) / sum(quarters) for name, quarters in middle.items()}
    for name, title in LAYERS.items():
        page.say(f"{title}: {late[name]:.1%} of its way after the first quarter")
    supported = late["4"] > max(late["1"], late["3"])
    page.say(
        "the last layer moves later than the features: "
        + ("so it came out" if supported else "not so; it moved no later")
    )
    # What is certain, whichever way the claim goes: most of the way is gone early, and the ends meet.
    for name, title in LAYERS.items():
        page.holds(
            f"{title}: the first quarter moves it furthest, its share", middle[name][0] / sum(middle[name]), low=0.5
        )
        page.check(f"{title}: CKA of the end with itself", float(to_end[name][0][-1]), 1.0, 1e-9)

    left, right = page.axes(1, 2, figsize=(12.8, 5))[0]
    for (name, title), colour in zip(LAYERS.items(), (BLUE, GREEN, ORANGE), strict=True):
        curve = torch.stack(to_end[name]).median(0).values
        left.plot([every * place for place in range(len(curve))], curve, "o-", color=colour, label=title)
        right.semilogy(range(1, QUARTERS + 1), middle[name], "o-", color=colour, label=title)
    left.set(xlabel="step", ylabel="CKA with the end of training", title="How soon a layer is what it will be")
    left.legend()
    right.set(
        xlabel="quarter of the training",
        ylabel="1 - CKA over the quarter (median)",
        title="How far it moves, while the rate falls",
    )
    right.set_xticks(range(1, QUARTERS + 1))
