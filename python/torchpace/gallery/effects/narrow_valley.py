"""In a narrow valley plain descent zigzags, momentum damps it, and Adam rescales it if the valley lies along an axis.

A quadratic of condition number 100 from (1, 1): steps until the loss stays below 1e-6, each optimizer at its best rate
of a grid of 60. Along the axes Adam scales each direction by itself and goes straight; in a valley turned by 45 degrees
it cannot, yet at a rate of its own it needs hardly more steps.
"""

import math
from typing import Any

import torch
from torch import Tensor

from torchpace import optim
from torchpace.gallery import landscapes
from torchpace.gallery._page import BLUE, GREEN, ORANGE, Page

CURVATURES = torch.tensor([1.0, 100.0], dtype=torch.float64)
TURN = torch.tensor([[1.0, -1.0], [1.0, 1.0]], dtype=torch.float64) / math.sqrt(2)
GOAL, STEPS = 1e-6, 2000
FORMS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any], float, float]] = {
    "plain descent": (optim.SGD, {}, 1e-3, 0.0199),
    "momentum 0.9": (optim.SGD, {"momentum": 0.9}, 1e-3, 0.0379),
    "Adam": (optim.Adam, {}, 1e-3, 1.0),
}


def race(name: str, turned: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The rates, the steps that each needed, and the path at the best."""
    cls, options, low, high = FORMS[name]
    rates = torch.logspace(math.log10(low), math.log10(high), 60, dtype=torch.float64)
    basis = TURN if turned else torch.eye(2, dtype=torch.float64)
    weights = [torch.nn.Parameter(basis @ torch.ones(2, dtype=torch.float64)) for _ in rates]
    # One group a rate: one fused step for all.
    groups = [{"params": [weight], "lr": float(rate)} for weight, rate in zip(weights, rates, strict=True)]
    optimizer = cls(groups, **options)
    paths = torch.empty(STEPS + 1, len(rates), 2, dtype=torch.float64)
    for step in range(STEPS + 1):
        now = torch.stack([weight.detach() for weight in weights]) @ basis
        paths[step] = now
        for weight, gradient in zip(weights, landscapes.quadratic_gradient(now, CURVATURES) @ basis.T, strict=True):
            weight.grad = gradient
        optimizer.step()
    high_losses = landscapes.quadratic(paths, CURVATURES) > GOAL
    last = torch.where(high_losses.any(0), STEPS - high_losses.flip(0).to(torch.int).argmax(0), -1)
    needed = last + 1
    return rates, needed, paths[:, int(needed.argmin())]


def plain(rate: float) -> int:
    """What plain descent needs, by its closed form (1 - rate lambda)^t; it never rises again."""
    for step in range(STEPS):
        if sum(0.5 * k * (1 - rate * k) ** (2 * step) for k in (1.0, 100.0)) <= GOAL:
            return step
    return STEPS + 1


def run(page: Page) -> None:
    """Compute, check and draw."""
    axes = page.axes(1, 3, figsize=(16, 4.8))[0]
    rows, best = [], {}
    for axis, (name, colour) in zip(axes, zip(FORMS, (BLUE, ORANGE, GREEN), strict=True), strict=True):
        rates, needed, path = race(name, turned=False)
        _, turned, _ = race(name, turned=True)
        best[name] = (int(needed.min()), int(turned.min()))
        rate = float(rates[int(needed.argmin())])
        rows.append((name, rate, best[name][0], float(rates[int(turned.argmin())]), best[name][1]))
        x, y = torch.meshgrid(torch.linspace(-0.5, 1.1, 100), torch.linspace(-1.1, 1.1, 100), indexing="xy")
        height = landscapes.quadratic(torch.stack([x, y], -1).double(), CURVATURES)
        axis.contour(x, y, height, levels=[0.05, 0.5, 2, 8, 20, 40], colors="0.8", linewidths=0.8)
        drawn = path[: best[name][0] + 1]
        axis.plot(drawn[:, 0], drawn[:, 1], "o-", color=colour, linewidth=1, markersize=3)
        axis.set(
            xlabel="along the valley (curvature 1)",
            ylabel="across it (curvature 100)",
            xlim=(-0.5, 1.15),
            ylim=(-1.15, 1.15),
            title=f"{name}, rate {rate:.2g}: {best[name][0]} steps",
        )
        if name == "plain descent":
            page.check("plain descent: steps by the closed form", best[name][0], min(plain(float(r)) for r in rates))
    page.table(("optimizer", "best rate", "steps", "best rate, turned", "steps, turned"), rows)
    page.check("plain descent: turning the valley changes nothing", best["plain descent"][1], best["plain descent"][0])
    page.holds("momentum against plain descent, steps", best["momentum 0.9"][0] / best["plain descent"][0], high=0.5)
    page.holds("Adam against plain descent, steps", best["Adam"][0] / best["plain descent"][0], high=0.5)
    page.holds("Adam: a turned valley against one along the axes, steps", best["Adam"][1] / best["Adam"][0], low=1.0)
