"""Gradient clipping hides an unstable rate: nothing diverges, and nothing converges.

On x^2/2 with the gradient clipped to 1, rates above the bound 2 end in an orbit of two points, one clipped step apart.
"""

import torch

from torchpace.gallery import landscapes
from torchpace.gallery._page import BLUE, ORANGE, RED, Page
from torchpace.gallery._walk import Path, walk

START, CLIP = 5.3, 1.0
ORBITS = {2.5: (-1.0125, 1.4875), 3.0: (-1.6, 1.4)}


def path(lr: float, clip: float | None, steps: int) -> torch.Tensor:
    """The iterates."""
    kept = Path()
    start = torch.tensor([START], dtype=torch.float64)
    walk(start, lambda w: landscapes.quadratic_gradient(w, 1.0), lr, steps, each=kept, max_grad_norm=clip)
    return kept.all[:, 0]


def run(page: Page) -> None:
    """Compute, check and draw."""
    left, right = page.axes(1, 2, figsize=(12.8, 5))[0]
    rows = []
    for lr, colour in ((1.5, BLUE), (2.5, ORANGE), (3.0, RED)):
        clipped, free = path(lr, CLIP, 200), path(lr, None, 40)
        low, high = sorted(clipped[-2:].tolist())
        rows.append((lr, low, high, high - low, f"{abs(float(free[-1])):.2g}"))
        left.plot(clipped[:41], "o-", color=colour, linewidth=1, markersize=4, label=f"rate {lr}")
        right.semilogy(free.abs(), color=colour, label=f"rate {lr}")
        if lr in ORBITS:
            # The clipping's factor, as torch's, is 1 / (norm + 1e-6).
            for name, found, expected in zip(("lower", "upper"), (low, high), ORBITS[lr], strict=True):
                page.check(f"rate {lr}: the orbit's {name} point", found, expected, 1e-4)
            page.check(f"rate {lr}: the points are apart", high - low, lr * CLIP, 1e-4)
            page.holds(f"rate {lr} without clipping: |x| after 40 steps", abs(float(free[-1])), low=1e6)
        else:
            page.check(f"rate {lr}: ends at", float(clipped[-1]), 0.0, 1e-12)
    page.table(("rate", "lower point", "upper point", "apart", "unclipped after 40"), rows)
    left.set(xlabel="step (the first 40 of 200)", ylabel="x", title="Clipped to a norm of 1: an orbit hides it")
    left.legend()
    right.set(xlabel="step", ylabel="|x|", title="Without clipping the same rates diverge")
    right.legend()
