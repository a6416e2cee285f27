"""A rate above a sharp minimum's bound leaves it for a flat one of the same depth; not everywhere.

Two parabolas of curvature 10 and 1 have equal minima at -1 and 1; their bounds are 0.2 and 2. From beside the sharp
one, rate 0.15 stays and 0.5 leaves. In the double well, though, at 0.6 and above the bound 0.556, the iterate stays on
an orbit about its minimum.
"""

import torch

from torchpace.gallery import landscapes
from torchpace.gallery._page import BLUE, GREEN, ORANGE, RED, Page
from torchpace.gallery._walk import Path, walk

RUNS = (
    ("from -1.01 at 0.15", -1.01, 0.15, BLUE),
    ("from -1.01 at 0.5", -1.01, 0.5, ORANGE),
    ("from 1.2 at 0.5", 1.2, 0.5, GREEN),
)


def run(page: Page) -> None:
    """Compute, check and draw."""
    paths = {}
    for name, start, lr, _ in RUNS:
        path = Path()
        walk(torch.tensor([start], dtype=torch.float64), landscapes.sharp_and_flat_gradient, lr, 60, each=path)
        paths[name] = path.all[:, 0]
    page.table(("run", "after 24 steps", "after 60"), [(n, float(p[24]), float(p[60])) for n, p in paths.items()])
    page.check("from -1.01 at 0.15: ends at", float(paths["from -1.01 at 0.15"][60]), -1.0, 1e-6)
    page.check("from -1.01 at 0.5: after 24 steps", float(paths["from -1.01 at 0.5"][24]), 1.0, 1e-6)
    page.holds("from 1.2 at 0.5: never below", float(paths["from 1.2 at 0.5"].min()), 1.0)
    page.check("from 1.2 at 0.5: ends at", float(paths["from 1.2 at 0.5"][60]), 1.0, 1e-6)

    orbit = Path()
    walk(torch.tensor([2.9], dtype=torch.float64), landscapes.double_well_gradient, 0.6, 400, each=orbit)
    low, high = sorted(orbit.all[-2:, 0].tolist())
    page.check("double well at 0.6: the orbit's lower point", low, 2.507, 5e-4)
    page.check("double well at 0.6: the orbit's upper point", high, 3.324, 5e-4)

    left, right = page.axes(1, 2, figsize=(12.8, 5))[0]
    w = torch.linspace(-2.2, 2.8, 500, dtype=torch.float64)
    left.plot(w, landscapes.sharp_and_flat(w), color="0.6")
    for name, _, _, colour in RUNS:
        w = paths[name]
        left.plot(w, landscapes.sharp_and_flat(w), "o-", color=colour, linewidth=1, markersize=4, label=name)
    left.set(
        xlabel="w", ylabel="loss", ylim=(-0.1, 3), xlim=(-2.2, 2.8), title="The high rate leaves the sharp minimum"
    )
    left.legend(loc="upper right")
    right.plot(orbit.all[:60, 0], "o-", color=RED, linewidth=1, markersize=4)
    right.axhline(3, color="0.5", linestyle="--", linewidth=1)
    right.annotate("minimum", (50, 3), ha="center", va="center", bbox={"facecolor": "white", "edgecolor": "0.5"})
    right.set(
        xlabel="step (the first 60 of 400)",
        ylabel="w",
        title="Double well at 0.6, above its bound 0.556:\nan orbit, and no way out",
    )
