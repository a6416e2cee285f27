"""Every rule of torchpace.optim goes down the same ill-conditioned valley, each at its best rate of a grid.

A quadratic of condition number 100, without weight decay. What counts is the highest loss of the last 20 of 200 steps,
so that no rule wins by swinging through the minimum just then, and a run whose loss rises to ten times the first is
lost. The parameter is a matrix of two points, (1, 0.6) and (1, -0.6), so that Muon has singular values to make equal;
the loss is their mean. Schedule-free rules are measured at their average, in eval mode.

Look at what a turn by 30 degrees does. Along the axes each coordinate has a curvature of its own, and a rule that
scales coordinates has two problems of condition number 1; turned, it has the valley. Rules that know no axes (plain
descent, momentum, LARS, schedule-free SGD) do the same in both. Lion and Muon step by about their rate to the last, and
end some rates away: they need one that falls.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torchpace import optim
from torchpace.gallery import landscapes
from torchpace.gallery._page import BLUE, COLOURS, ORANGE, Page

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOW, HIGH = 1.0, 100.0
CURVATURES = torch.tensor([LOW, HIGH], dtype=torch.float64)
# Coordinates of unlike size, so that no first step of the rate's length in each lands at the minimum.
START = torch.tensor([[1.0, 0.6], [1.0, -0.6]], dtype=torch.float64)
STEPS, LAST = 200, 20
MOMENTUM = 0.9
# One for all rules: six rates a decade, and as many again from one beside the best to the other.
GRID = torch.logspace(-4, 3, 43, dtype=torch.float64)
FINE = 25
AWAY = 10.0  # how many times the first loss no training comes back from, though a quadratic lets it
FLOOR = 1e-20  # what is below is drawn there

# What a rule needs beside its defaults, to be what people call by its name.
OPTIONS: dict[str, dict[str, Any]] = {"SGD": {"momentum": MOMENTUM}, "LARS": {"momentum": MOMENTUM}}
# Rules that estimate one number from all groups: the rates cannot be groups of one optimizer.
APART = frozenset({"Prodigy"})
# To these all directions are alike.
WITHOUT_AXES = ("plain descent", "SGD", "ASGD", "ScheduleFreeSGD")
# These scale each coordinate by its own gradients, and nothing else.
BY_COORDINATE = ("Adadelta", "Adagrad", "Adam", "Adamax", "AdEMAMix", "NAdam", "RMSprop", "Rprop", "ScheduleFreeAdamW")


def basis(degrees: float) -> Tensor:
    """The valley's own axes, as columns."""
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)


FORMS = {"along the axes": basis(0), "turned": basis(30)}


def turn(points: Tensor, axes: Tensor) -> Tensor:
    """``points @ axes``, rounded the same way however many points there are."""
    return points[..., :1] * axes[0] + points[..., 1:] * axes[1]


@dataclass
class Rule:
    """A class of torchpace.optim with its options."""

    name: str
    cls: type[torch.optim.Optimizer]
    options: dict[str, Any] = field(default_factory=dict)

    def optimizers(self, params: Sequence[Tensor], rates: Tensor) -> list[torch.optim.Optimizer]:
        """Each parameter at its rate: one fused step for all, if that can be."""
        options = dict(self.options)
        # It would pull to 0, where the minimum is.
        if "weight_decay" in inspect.signature(self.cls).parameters:
            options["weight_decay"] = 0.0
        groups = [{"params": [param], "lr": rate} for param, rate in zip(params, rates.tolist(), strict=True)]
        make: Any = self.cls
        if self.name in APART:
            return [make([group], lr=group["lr"], **options) for group in groups]
        return [make(groups, **options)]


def rules() -> list[Rule]:
    """Plain descent, and all classes of the package's own."""
    found = {
        name: cls
        for name, cls in vars(optim).items()
        if isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer) and cls.__module__.startswith("torchpace.")
    }
    ours = [Rule(name, found[name], OPTIONS.get(name, {})) for name in sorted(found, key=str.lower)]
    return [Rule("plain descent", optim.SGD), *ours]


def descend(rule: Rule, rates: Tensor, axes: Tensor) -> Tensor:
    """Where both points are after every step at each rate, in the valley's own axes."""
    weights = turn(START, axes.T).repeat(len(rates), 1, 1)
    gradients = torch.empty_like(weights)
    params = [torch.nn.Parameter(weight) for weight in weights]  # views, which the steps write to
    for param, gradient in zip(params, gradients, strict=True):
        param.grad = gradient
    optimizers = rule.optimizers(params, rates)
    path = torch.empty(STEPS + 1, *weights.shape, dtype=torch.float64)
    path[0] = START
    for step in range(STEPS):
        gradients.copy_(turn(landscapes.quadratic_gradient(turn(weights, axes), CURVATURES), axes.T))
        for optimizer in optimizers:
            optimizer.step()
            if hasattr(optimizer, "eval"):
                optimizer.eval()
        path[step + 1] = turn(weights, axes)
        for optimizer in optimizers:
            if hasattr(optimizer, "train"):
                optimizer.train()
    return path


def losses(path: Tensor) -> Tensor:
    """At every step, the mean of the points."""
    return landscapes.quadratic(path, CURVATURES).mean(-1)


def settled(path: Tensor) -> Tensor:
    """The highest loss of the last steps; infinite for what has been away."""
    found = losses(path)
    return found[-LAST:].amax(0).where(found.amax(0) <= AWAY * found[0], math.inf)


@dataclass
class Best:
    """The best rate of a grid, its path, and how many coarse rates lie on that side of it where fewer do."""

    rate: float
    loss: float
    path: Tensor
    inside: int


def best(rule: Rule, axes: Tensor) -> Best:
    """Of the coarse grid, and then of a fine one about the best there."""
    coarse = descend(rule, GRID, axes)
    place = int(settled(coarse).argmin())
    inside = min(place, len(GRID) - 1 - place)
    low, high = (GRID.log10()[max(0, min(len(GRID) - 1, place + side))].item() for side in (-1, 1))
    fine = torch.logspace(low, high, FINE, dtype=torch.float64)
    rates = torch.cat([GRID, fine])
    paths = torch.cat([coarse, descend(rule, fine, axes)], 1)
    found = settled(paths)
    place = int(found.argmin())
    return Best(float(rates[place]), float(found[place]), paths[:, place], inside)


def by_recurrence(rate: float, momentum: float) -> float:
    """What gradient descent settles at, by the powers of its matrix: (v, x) -> (m v + k x, x - rate (m v + k x))."""
    total = torch.zeros(LAST, dtype=torch.float64)
    for k, start in zip((LOW, HIGH), START[0], strict=True):
        step = torch.tensor([[momentum, k], [-rate * momentum, 1 - rate * k]], dtype=torch.float64)
        ends = [torch.linalg.matrix_power(step, t)[1, 1] for t in range(STEPS - LAST + 1, STEPS + 1)]
        total += 0.5 * k * (start * torch.stack(ends)).square()
    return float(total.max())


def check_descent(page: Page, plain: Best, momentum: Best) -> None:
    """Plain descent and momentum against theory."""
    rate, contraction = 2 / (HIGH + LOW), (HIGH - LOW) / (HIGH + LOW)
    page.check("plain descent: best rate over 2 / (L + mu)", plain.rate / rate, 1.0, 0.03)
    lengths = torch.linalg.vector_norm(plain.path[:, 0], dim=-1)
    lost = 1 - float(lengths[-1] / lengths[-1 - LAST]) ** (1 / LAST)
    page.check("plain descent: distance lost a step, over 1 - (L - mu) / (L + mu)", lost / (1 - contraction), 1.0, 0.03)
    path = descend(Rule("plain descent", optim.SGD), torch.tensor([rate], dtype=torch.float64), FORMS["turned"])
    lengths = torch.linalg.vector_norm(path[:, 0, 0], dim=-1)
    page.check("at 2 / (L + mu) itself: distance kept a step", float(lengths[1] / lengths[0]), contraction, 1e-12)
    page.check("and over all", float(lengths[-1] / lengths[0]) ** (1 / STEPS), contraction, 1e-12)
    for name, found, beta in (("plain descent", plain, 0.0), ("SGD", momentum, MOMENTUM)):
        page.check(f"{name}: loss over that of its recurrence", found.loss / by_recurrence(found.rate, beta), 1.0, 1e-9)


def check_rule(page: Page, rule: Rule, straight: Best, turned: Best) -> None:
    """The grid, and what holds for all rules."""
    alone = settled(descend(rule, torch.tensor([turned.rate], dtype=torch.float64), FORMS["turned"]))
    # Muon's products are torch's, in bfloat16, which may round otherwise for one matrix than for many.
    tolerance = turned.loss / 2 if rule.name == "Muon" else 0.0
    page.check(f"{rule.name}: alone at its best rate, the least loss of the grid", float(alone), turned.loss, tolerance)
    page.holds(f"{rule.name}: rates of the grid beyond its best ones", min(turned.inside, straight.inside), low=1)
    apart = straight.path[:, 0] - straight.path[:, 1] * torch.tensor([1.0, -1.0])
    page.check(f"{rule.name}: the points' paths along the axes, apart once mirrored", float(apart.abs().max()), 0.0)


def check_each_other(page: Page, straight: dict[str, Best], turned: dict[str, Best]) -> None:
    """The rules against each other, and against themselves in the other valley."""
    for name in WITHOUT_AXES:
        page.check(f"{name}: loss turned over along the axes", turned[name].loss / straight[name].loss, 1.0, 1e-6)
    # Its quotient magnifies roundings.
    page.holds("LARS: loss turned over along the axes", turned["LARS"].loss / straight["LARS"].loss, 0.5, 2.0)
    for name in BY_COORDINATE:
        page.holds(f"{name}: loss turned less that along the axes", turned[name].loss - straight[name].loss, low=0.0)
    page.check("AdamW without decay: its loss, Adam's", turned["AdamW"].loss, turned["Adam"].loss)
    over = turned["ASGD"].loss / turned["plain descent"].loss
    page.check("ASGD, which has not begun to average: loss over plain descent's", over, 1.0, 0.1)
    for name in ("Lion", "Muon"):
        away = float(torch.linalg.vector_norm(turned[name].path[-LAST:, 0], dim=-1).max())
        page.holds(f"{name}: furthest from the minimum in the last steps, in rates", away / turned[name].rate, 0.5, 50)


def draw_path(axis: Axes, name: str, one: Best, colour: str) -> None:
    """The first point's way down the turned valley."""
    axes = FORMS["turned"]
    x, y = torch.meshgrid(*[torch.linspace(-1.6, 1.6, 80, dtype=torch.float64)] * 2, indexing="xy")
    height = landscapes.quadratic(turn(torch.stack([x, y], -1), axes), CURVATURES)
    axis.contour(x, y, height, levels=[0.2, 2, 8, 20, 50], colors="0.8", linewidths=0.6)
    points = turn(one.path[:, 0], axes.T)
    axis.plot(points[:, 0], points[:, 1], "o-", color=colour, linewidth=0.8, markersize=2)
    axis.set(xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), xticks=[], yticks=[])
    axis.set_title(f"{name}, {one.rate:.2g}", fontsize=10)


def draw(page: Page, found: dict[str, dict[str, Best]], order: Sequence[str]) -> None:
    """Losses by step, losses at the end, and a path of each rule."""
    columns, above = 7, 3
    rows = above + math.ceil(len(order) / columns)
    axes = page.axes(rows, columns, figsize=(17, 2.8 * rows))
    grid = axes[0, 0].get_gridspec()
    for axis in [*axes[:above].flat, *axes[above:].flat[len(order) :]]:
        axis.remove()
    assert page.figure is not None
    curves = page.figure.add_subplot(grid[:above, : columns // 2 + 1])
    ends = page.figure.add_subplot(grid[:above, columns // 2 + 1 :])
    turned = found["turned"]
    for place, (name, axis) in enumerate(zip(order, axes[above:].flat, strict=False)):
        colour, line = COLOURS[place % len(COLOURS)], ("-", "--", ":", "-.")[place // len(COLOURS)]
        curves.semilogy(losses(turned[name].path), line, color=colour, linewidth=1.2, label=name)
        draw_path(axis, name, turned[name], colour)
    curves.set(xlabel="step", ylabel="loss", title="In the turned valley, each at its best rate")
    curves.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=5)
    looks: tuple[dict[str, Any], ...] = ({"color": BLUE, "mfc": "none", "ms": 10}, {"color": ORANGE})
    for (form, those), look in zip(found.items(), looks, strict=True):
        ends.semilogx([max(those[name].loss, FLOOR) for name in order], range(len(order)), "o", label=form, **look)
    ends.set_yticks(range(len(order)), order)
    ends.invert_yaxis()
    ends.yaxis.tick_right()
    ends.set(xlabel=f"highest loss of the last {LAST} of {STEPS} steps (cut at {FLOOR:g})", title="What the turn costs")
    ends.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)


def run(page: Page) -> None:
    """Compute, check and draw."""
    every = rules()
    found = {form: {rule.name: best(rule, axes) for rule in every} for form, axes in FORMS.items()}
    straight, turned = found["along the axes"], found["turned"]
    order = sorted(turned, key=lambda name: turned[name].loss)
    page.say(f"highest loss of the last {LAST} of {STEPS} steps, the best of rates from {GRID[0]:g} to {GRID[-1]:g}")
    page.table(
        ("rule", "best rate", "loss", "best rate, turned", "loss, turned"),
        [(name, straight[name].rate, straight[name].loss, turned[name].rate, turned[name].loss) for name in order],
    )
    check_descent(page, turned["plain descent"], turned["SGD"])
    for rule in every:
        check_rule(page, rule, straight[rule.name], turned[rule.name])
    check_each_other(page, straight, turned)
    draw(page, found, order)
