"""Descent on a quadratic converges below rate 2 / lambda, circles for ever at it, and diverges above.

At curvature 4 from x = 1: rates just below, at and above the bound 0.5. Momentum moves the bound: heavy ball to
2 (1 + beta) / ((1 - dampening) lambda), Nesterov to 2 (1 + beta) / ((1 + 2 beta) lambda).
"""

from typing import Any

import torch

from torchpace import control
from torchpace.gallery import landscapes
from torchpace.gallery._page import BLACK, BLUE, GREEN, ORANGE, RED, Page
from torchpace.gallery._walk import Path, walk

CURVATURE = 4.0
RATES = ((0.49, 0.1299, BLUE), (0.50, 1.0, ORANGE), (0.51, 7.107, RED))
# The bound at curvature 1, how `max_stable_lr` is told, and how the optimizer is.
FORMS: dict[str, tuple[float, dict[str, Any], dict[str, Any]]] = {
    "plain descent": (2.0, {}, {}),
    "heavy ball, 0.9": (3.8, {"momentum": 0.9}, {"momentum": 0.9}),
    "averaged, 0.9": (38.0, {"momentum": 0.9, "dampening": 0.9}, {"momentum": 0.9, "dampening": 0.9}),
    "Nesterov, 0.9": (1.357, {"momentum": 0.9, "nesterov": True}, {"momentum": 0.9, "nesterov": True}),
    "weight decay 0.25": (1.6, {"weight_decay": 0.25}, {"weight_decay": 0.25}),
}
SHARES = (0.97, 0.98, 0.985, 0.99, 0.995, 1.005, 1.01, 1.015, 1.02, 1.03)
STYLES = ((BLUE, "o-"), (ORANGE, "s-"), (GREEN, "^--"), (RED, "o-"), (BLACK, "x:"))


def path(lr: float, curvature: float, steps: int, **options: Any) -> torch.Tensor:
    """The iterates from 1."""
    kept = Path()
    start = torch.ones(1, dtype=torch.float64)
    walk(start, lambda w: landscapes.quadratic_gradient(w, curvature), lr, steps, each=kept, **options)
    return kept.all[:, 0]


def run(page: Page) -> None:
    """Compute, check and draw."""
    left, right = page.axes(1, 2, figsize=(12.8, 5))[0]
    rows = []
    for lr, expected, colour in RATES:
        iterates = path(lr, CURVATURE, 50)
        found = abs(float(iterates[-1]))
        page.check(f"rate {lr}: |x| after 50 steps", found, expected, 5e-4 * max(1.0, expected))
        rows.append((lr, lr * CURVATURE / 2, found))
        left.plot(iterates, "o-", color=colour, linewidth=1, markersize=3, label=f"rate {lr}")
    page.say(f"curvature {CURVATURE:g}, from x = 1")
    page.table(("rate", "of the bound", "|x| after 50 steps"), rows)
    page.check("the bound at curvature 4", control.max_stable_lr(CURVATURE), 0.5, 1e-12)
    left.set(xlabel="step", ylabel="x", title="Below, at and above the bound (curvature 4)")
    left.legend(loc="upper left")

    page.say("")
    bounds = []
    for (name, (bound, told, options)), (colour, style) in zip(FORMS.items(), STYLES, strict=True):
        found = control.max_stable_lr(1.0, **told)
        page.check(f"{name}: the bound at curvature 1", found, bound, 5e-4)
        ends = [float(path(share * found, 1.0, 2000, **options)[-50:].abs().max()) for share in SHARES]
        below, above = ends[SHARES.index(0.995)], ends[SHARES.index(1.005)]
        bounds.append((name, found, below, above))
        page.holds(f"{name}: at 0.995 of the bound, |x| after 2,000 steps", below, high=0.1)
        page.holds(f"{name}: at 1.005 of the bound", above, low=10.0)
        kept = [min(max(end, 1e-20), 1e20) for end in ends]
        right.semilogy(SHARES, kept, style, color=colour, label=name, markersize=6)
    page.table(("form", "bound", "|x| at 0.995 of it", "at 1.005"), bounds)
    right.axvline(1, color="0.5", linestyle="--")
    right.set(
        xlabel="rate, in units of the form's own bound",
        ylabel="|x| after 2,000 steps (cut at 1e±20)",
        title="Every form turns at its own bound",
    )
    right.legend(loc="upper left")
