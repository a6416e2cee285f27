"""Trained with all data at once, a network sharpens until the rate is at its bound, and stays there.

Digits, two hidden layers of tanh, squared error, plain descent: the largest eigenvalue of the Hessian rises to about
2 / rate, whatever the rate, and hovers there while the loss goes on falling, though no longer at every step. The rate
sets the sharpness, not the other way round.
"""

import statistics

import torch
from torch import nn

from torchpace import optim
from torchpace.control import max_stable_lr, sharpness
from torchpace.gallery._digits import digits
from torchpace.gallery._page import BLUE, GREEN, ORANGE, Page

RATES = ((0.3, BLUE), (0.4, ORANGE), (0.6, GREEN))
IMAGES, WIDTH = 600, 32


def descend(lr: float, steps: int, every: int) -> tuple[list[float], list[float]]:
    """The loss at every step, and the sharpness at every `every`-th."""
    images, labels, *_ = digits()
    images = images[:IMAGES] - images[:IMAGES].mean(0)
    targets = nn.functional.one_hot(labels[:IMAGES], 10).float()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 10))
    optimizer = optim.SGD(model.parameters(), lr=lr)

    def loss() -> torch.Tensor:
        errors: torch.Tensor = model(images) - targets
        return 0.5 * errors.square().sum(1).mean()

    losses, curvatures = [], []
    for step in range(steps + 1):
        if step % every == 0:
            curvatures.append(sharpness(loss, model, tol=1e-2).value)
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        losses.append(value.item())
        optimizer.step()
    return losses, curvatures


def run(page: Page) -> None:
    """Compute, check and draw."""
    steps, every = (900, 50) if page.quick else (1500, 25)
    rates = RATES[1:] if page.quick else RATES
    above, below = page.axes(2, 1, figsize=(8.4, 8), sharex=True)[:, 0]
    rows = []
    for lr, colour in rates:
        losses, curvatures = descend(lr, steps, every)
        late = curvatures[-len(curvatures) // 5 :]
        # The rate in units of the bound at the present sharpness.
        shares = [lr / max_stable_lr(curvature) for curvature in late]
        rises = sum(after > before for before, after in zip(losses[-301:-1], losses[-300:], strict=True))
        rows.append(
            (f"{lr}", 2 / lr, curvatures[0], statistics.median(late), statistics.median(shares), rises, losses[-1])
        )
        page.holds(f"rate {lr}: sharpness at the start, in units of 2 / rate", lr * curvatures[0] / 2, high=0.95)
        page.holds(f"rate {lr}: median over the last fifth", statistics.median(shares), low=0.95, high=1.1)
        page.holds(f"rate {lr}: steps of the last 300 at which the loss rises", rises, low=10)
        page.holds(f"rate {lr}: the last loss over that of step 300", losses[-1] / losses[300], high=0.8)
        above.plot(range(0, steps + 1, every), curvatures, color=colour, label=f"rate {lr}")
        above.axhline(2 / lr, color=colour, linestyle="--", linewidth=1)
        below.semilogy(losses, color=colour, linewidth=1)
    page.say(f"{IMAGES} digits, {steps} steps of plain descent on all of them")
    page.table(
        ("rate", "2 / rate", "sharpness at first", "late, median", "late rate / bound", "rises in 300", "last loss"),
        rows,
    )
    above.set(ylabel="sharpness (largest eigenvalue)", title="The sharpness rises to 2 / rate (dashed) and stays there")
    above.legend()
    below.set(xlabel="step", ylabel="training loss", title="and the loss falls on, not at every step")
