"""A rate measured on line: a share of the bound at the present curvature, for each optimizer its own.

On a valley that gets ten times narrower half way, a fixed rate that suits the first half diverges in the second, one
that suits the second is slow in the first; the measured one follows. Under momentum the same measurement gives a rate
1.9 times as high. On digits, where the curvature follows the rate (see edge_of_stability), a greedy rate need not beat
the best fixed one: the table says what comes out.
"""

import math

import torch
from torch import nn

from torchpace import optim
from torchpace.control import CurvatureLR, max_stable_lr
from torchpace.gallery._digits import digits, loss_of, network
from torchpace.gallery._page import BLACK, BLUE, GREEN, ORANGE, RED, Page
from torchpace.schedule import warmup

STEPS, TURN = 120, 60
WIDE = torch.tensor([1.0, 0.1], dtype=torch.float64)
NARROW = torch.tensor([10.0, 0.1], dtype=torch.float64)
SAFETY = 0.9


def through_the_valley(lr: float | None, momentum: float = 0.0) -> tuple[list[float], list[float]]:
    """Losses and rates, at a fixed rate, or at the measured one."""
    weight = nn.Parameter(torch.ones(2, dtype=torch.float64))
    curvatures = WIDE
    optimizer = optim.SGD([weight], lr=lr or 1.0, momentum=momentum)

    def loss() -> torch.Tensor:
        return (0.5 * curvatures * weight.square()).sum()

    scheduler = None if lr else CurvatureLR(optimizer, loss, safety=SAFETY, every=1)
    losses, rates = [], []
    for step in range(STEPS):
        if step == TURN:
            curvatures = NARROW
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        losses.append(value.item())
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return losses, rates


def on_digits(lr: float | None, steps: int) -> tuple[float, float]:
    """The training loss at a fixed or measured rate, with all data; and the share of the time that measuring took."""
    images, labels, *_ = digits()
    model = network(0)
    optimizer = optim.SGD(model.parameters(), lr=lr or 0.1)

    def loss() -> torch.Tensor:
        return nn.functional.cross_entropy(model(images), labels)

    scheduler = None if lr else CurvatureLR(optimizer, loss, safety=0.9, every=5, warmup=warmup(40), model=model)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return loss_of(model, images, labels), scheduler.cost.share if scheduler is not None else 0.0


def run(page: Page) -> None:
    """Compute, check and draw."""
    left, right = page.axes(1, 2, figsize=(12.8, 5))[0]
    fits_wide, fits_narrow = (SAFETY * max_stable_lr(float(form.max())) for form in (WIDE, NARROW))
    arms = {
        f"fixed {fits_wide:g}, right for the first half": (fits_wide, 0.0, ORANGE),
        f"fixed {fits_narrow:g}, right for the second": (fits_narrow, 0.0, GREEN),
        "measured": (None, 0.0, BLUE),
        "measured, momentum 0.9": (None, 0.9, BLACK),
    }
    rows, ends = [], {}
    for name, (lr, momentum, colour) in arms.items():
        losses, rates = through_the_valley(lr, momentum)
        ends[name] = losses[-1]
        rows.append((name, losses[TURN], losses[-1], rates[TURN - 1], rates[-1]))
        left.semilogy([min(value, 1e6) for value in losses], color=colour, label=name)
        if lr is None:
            bound = [SAFETY * max_stable_lr(float(form.max()), momentum) for form in (WIDE, NARROW)]
            page.check(f"{name}: the rate in the first half", rates[TURN - 1], bound[0], 1e-2 * bound[0])
            page.check(f"{name}: and in the second", rates[-1], bound[1], 1e-2 * bound[1])
    page.say(f"a valley of curvatures 1 and 0.1, from step {TURN} on 10 and 0.1; {SAFETY:g} of the bound")
    page.table(("rate", f"loss at {TURN}", f"at {STEPS - 1}", "rate before", "rate after"), rows)
    fixed_wide, fixed_narrow, measured, _ = ends.values()
    page.holds("the fixed rate of the first half: loss at the end", fixed_wide, low=1e6)
    page.holds(
        "the measured rate's loss over that of the fixed one that suits the second half",
        measured / fixed_narrow,
        high=0.5,
    )
    left.axvline(TURN, color="0.5", linestyle=":")
    left.set(xlabel="step", ylabel="loss (cut at 1e6)", title=f"A valley that narrows tenfold at step {TURN}")
    left.legend(loc="upper left")

    steps = 150 if page.quick else 400
    grid = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
    losses_of = {lr: on_digits(lr, steps)[0] for lr in grid}
    found, share = on_digits(None, steps)
    best = min(value for value in losses_of.values() if math.isfinite(value))
    page.say("")
    page.say(f"digits, all data, {steps} steps: training loss")
    page.table(("rate", "loss"), [*((f"{lr:g}", value) for lr, value in losses_of.items()), ("measured", found)])
    page.say(
        f"the measured rate's loss is {found / best:.2f} of the best fixed one's; it takes {share:.0%} of the time"
    )
    slowest = losses_of[grid[0]]
    page.holds("digits: the measured rate's loss over the slowest fixed rate's", found / slowest, high=0.5)
    right.loglog(grid, list(losses_of.values()), "o-", color=ORANGE, label="fixed rate")
    right.axhline(found, color=BLUE, label="measured: 0.9 of the bound, warmed up")
    right.axhline(best, color=RED, linestyle=":", label="best of the grid")
    right.set(
        xlabel="fixed learning rate", ylabel=f"training loss after {steps} steps", title="Digits, all data at once"
    )
    right.legend()
