"""A guard that looks ahead saves descent at any rate above the bound, and lets a steep but good step pass.

On x^2/2 from x = 1, whose bound is 2: without it all of the rates diverge, with it all converge. Near the saddle of the
double well a step may let the gradient grow by more than the ratio while the loss falls: that is progress.
"""

from collections.abc import Callable

import torch

from torchpace import optim
from torchpace.control import DivergenceGuard
from torchpace.gallery import landscapes
from torchpace.gallery._page import BLUE, COLOURS, RED, Page

RATES = (2.1, 2.4, 4.8, 8.0)
STEPS = 60
SADDLE_RATE, SADDLE_START = 0.3, 1e-2


def guarded(
    loss: Callable[[torch.Tensor], torch.Tensor], start: float, lr: float, steps: int
) -> tuple[list[float], DivergenceGuard]:
    """The iterates under a guard."""
    x = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer = optim.SGD([x], lr=lr)
    guard = DivergenceGuard(optimizer)
    iterates = [start]

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(x)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    for _ in range(steps):
        guard.step(closure)
        iterates.append(float(x.detach()))
    return iterates, guard


def run(page: Page) -> None:
    """Compute, check and draw."""
    left, right = page.axes(1, 2, figsize=(12.8, 5))[0]
    rows = []
    for lr, colour in zip(RATES, COLOURS, strict=False):
        bare = [(1 - lr) ** step for step in range(STEPS + 1)]
        iterates, guard = guarded(lambda x: x**2 / 2, 1.0, lr, STEPS)
        end = abs(iterates[-1])
        rows.append((f"{lr}", abs(bare[-1]), end, guard.rejections, guard.lr_factor, guard.evaluations))
        page.holds(f"rate {lr}: |x| after {STEPS} steps without the guard", abs(bare[-1]), low=100.0)
        page.holds(f"rate {lr}: with it", end, high=1e-6)
        left.semilogy([abs(x) for x in bare], "--", color=colour, linewidth=1)
        left.semilogy([abs(x) for x in iterates], color=colour, label=f"rate {lr}")
    page.say(f"x^2/2 from x = 1, {STEPS} steps, bound 2")
    page.table(("rate", "|x| without", "|x| with", "taken back", "factor", "evaluations"), rows)
    left.set(
        xlabel="step",
        ylabel="|x|",
        ylim=(1e-18, 1e12),
        title="Above the bound, without (dashed) and with the guard",
    )
    left.legend()

    iterates, guard = guarded(landscapes.double_well, SADDLE_START, SADDLE_RATE, 40)
    slopes = landscapes.double_well_gradient(torch.tensor(iterates, dtype=torch.float64)).abs()
    growth = (slopes[1:] / slopes[:-1]).tolist()
    page.say("")
    page.say(f"double well from {SADDLE_START}, rate {SADDLE_RATE}: largest growth of the gradient {max(growth):.3f}")
    page.check("largest growth of the gradient near the saddle", max(growth), 1.54, 0.005)
    page.check("steps taken back on the way", guard.rejections, 0)
    page.check("where it ends", iterates[-1], landscapes.WELL, 1e-6)
    right.plot(growth, "o-", color=BLUE, markersize=4, label="gradient after / before the step")
    right.axhline(guard.judge.ratio, color=RED, linestyle="--", label=f"the guard's ratio, {guard.judge.ratio}")
    right.set(
        xlabel="step",
        ylabel="growth of the gradient norm",
        title="From the saddle of the double well: steep, but downhill",
    )
    right.legend()
