"""Momentum multiplies the rate: its effective value is rate / (1 - momentum).

Under a constant gradient g the velocity tends to g / (1 - momentum): 10 g at 0.9, 100 g at 0.99. Keeping
rate / (1 - momentum) while the momentum changes keeps the steady step; keeping rate times (1 - momentum) does not.
"""

import torch
from torch import Tensor

from torchpace import control
from torchpace.gallery import landscapes
from torchpace.gallery._page import BLUE, GREEN, ORANGE, RED, Page
from torchpace.gallery._walk import Path, walk


def steps_of(lr: float, momentum: float, count: int) -> Tensor:
    """The length of each step down a slope of 1."""
    path = Path()
    walk(torch.zeros(1, dtype=torch.float64), torch.ones_like, lr, count, momentum=momentum, each=path)
    return -path.all[:, 0].diff()


def run(page: Page) -> None:
    """Compute, check and draw."""
    rows = []
    for momentum, expected in ((0.0, 1.0), (0.9, 10.0), (0.99, 100.0)):
        velocity = float(steps_of(1.0, momentum, 3000)[-1])
        effective = control.effective_lr(0.1, momentum)
        rows.append((momentum, velocity, 0.1, effective))
        page.check(f"momentum {momentum}: velocity under a gradient of 1", velocity, expected, 1e-9 * expected)
        page.check(f"momentum {momentum}: effective rate of 0.1", effective, 0.1 * expected, 1e-12 * expected)
    page.table(("momentum", "velocity / g", "rate", "effective rate"), rows)

    lr = 0.1
    kept, wrong = control.retune(lr, 0.9, 0.99), lr * (1 - 0.9) / (1 - 0.99)
    runs = {
        "rate 0.1, momentum 0.9": (lr, 0.9, BLUE),
        f"momentum 0.99, rate / (1 - momentum) kept: {kept:g}": (kept, 0.99, GREEN),
        "momentum 0.99, rate as it was": (lr, 0.99, ORANGE),
        f"momentum 0.99, rate x (1 - momentum) kept: {wrong:g}": (wrong, 0.99, RED),
    }
    page.check("rate 0.1 retuned from momentum 0.9 to 0.99", kept, 0.01, 1e-12)
    left, right = page.axes(1, 2, figsize=(13.6, 5.2))[0]
    steady = []
    for name, (rate, momentum, colour) in runs.items():
        steps = steps_of(rate, momentum, 1500)
        steady.append((name, float(steps[-1])))
        left.semilogy(steps, color=colour, label=name)
        path = Path()
        start = torch.ones(1, dtype=torch.float64)
        walk(start, lambda w: landscapes.quadratic_gradient(w, 0.002), rate, 1500, momentum=momentum, each=path)
        right.plot(path.all[:, 0], color=colour)
    page.say("")
    page.table(("run", "steady step"), steady)
    page.check("the steady step is kept", steady[1][1], steady[0][1], 1e-6)
    page.check("with the rate as it was it is 10 times as long", steady[2][1] / steady[0][1], 10.0, 1e-4)
    page.check("with rate x (1 - momentum) kept, 100 times", steady[3][1] / steady[0][1], 100.0, 1e-3)
    left.set(
        xlabel="step",
        ylabel="length of a step (parameter units)",
        ylim=(5e-3, 3e5),
        title="Steps down a constant slope of 1",
    )
    left.legend(loc="upper left", fontsize=9)
    right.set(
        xlabel="step",
        ylabel="x",
        title="On a gentle bowl (curvature 0.002) the kept\nratio follows nearly the same curve",
    )
