"""Runs whose state is known, to score a monitor on: each is a label, a name and what to train, drawn from a seed.

Those of `TUNING` were there when the monitor's thresholds were chosen; those of `HELD_OUT` are of other seeds, and some
of other kinds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from torchpace import optim
from torchpace.control import Monitor

LABELS = ("oscillation", "critical point", "progress", "noise floor")


@dataclass
class Case:
    """A task and how it is trained; `wait` steps are observed before the window that is judged."""

    loss: Callable[[Tensor], Tensor]
    start: Tensor
    lr: float
    momentum: float = 0.0
    nesterov: bool = False
    noise: float = 0.0
    wait: int = 0


Kind = Callable[[torch.Generator], Case]


def uniform(generator: torch.Generator, low: float, high: float) -> float:
    """A number between two."""
    return low + (high - low) * float(torch.rand((), dtype=torch.float64, generator=generator))


def spread(generator: torch.Generator, low: float, high: float) -> float:
    """A number between two, uniform in its logarithm."""
    return math.exp(uniform(generator, math.log(low), math.log(high)))


def choose(generator: torch.Generator, *options: float) -> float:
    """One of some numbers."""
    return options[int(torch.randint(len(options), (), generator=generator))]


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def bowl(generator: torch.Generator, condition: float, dim: int) -> Callable[[Tensor], Tensor]:
    """A rotated quadratic of largest eigenvalue 1 and smallest 1 / condition, the others between."""
    exponents = torch.rand(dim, dtype=torch.float64, generator=generator)
    exponents[0] = 0.0
    if dim > 1:
        exponents[-1] = 1.0
    basis = torch.linalg.qr(normal(generator, dim, dim)).Q
    root = condition ** (-exponents / 2).unsqueeze(1) * basis.T
    return lambda x: 0.5 * (root @ x).square().sum()


def bound(momentum: float, nesterov: bool) -> float:
    """The greatest stable rate at curvature 1."""
    return 2 * (1 + momentum) / (1 + 2 * momentum if nesterov else 1)


def on_a_bowl(
    generator: torch.Generator,
    share: float,
    condition: float,
    *,
    momenta: tuple[float, ...] = (0.0, 0.5, 0.9),
    noise: float = 0.0,
    wait: int = 0,
    scale: float = 1.0,
) -> Case:
    """Descent on a quadratic at a share of its bound."""
    dim = int(choose(generator, 1, 2, 10, 100))
    momentum = choose(generator, *momenta)
    nesterov = momentum > 0 and choose(generator, 0, 1) == 1
    loss = bowl(generator, condition if dim > 1 else 1.0, dim)
    start = scale * normal(generator, dim)
    return Case(loss, start, share * bound(momentum, nesterov), momentum, nesterov, noise, wait)


# Oscillation.
def near_the_bound(g: torch.Generator) -> Case:
    """A quadratic at 0.99 to 1 of its bound."""
    return on_a_bowl(g, uniform(g, 0.99, 1.0), spread(g, 1, 100))


def narrow_valley(g: torch.Generator) -> Case:
    """An ill-conditioned one."""
    return on_a_bowl(g, uniform(g, 0.99, 1.0), spread(g, 1e2, 1e5))


def near_the_bound_with_noise(g: torch.Generator) -> Case:
    """The same with a little noise in the gradients."""
    return on_a_bowl(g, uniform(g, 0.99, 1.0), spread(g, 1, 100), momenta=(0.0,), noise=spread(g, 1e-3, 3e-2))


def orbit_in_a_well(g: torch.Generator) -> Case:
    """The double well above the bound of its minima: an orbit that neither leaves nor comes to rest."""
    return Case(double_well, 3 + 0.1 * normal(g, 1), uniform(g, 0.57, 0.62), wait=100)


def across_a_hyperbola(g: torch.Generator) -> Case:
    """A valley with straight walls and a flat direction, at a rate too high for its bottom."""
    steep = spread(g, 3, 30)
    start = torch.stack([uniform(g, 0.5, 2) * torch.ones((), dtype=torch.float64), 5 * normal(g)])
    return Case(
        lambda x: (1 + (steep * x[0]).square()).sqrt() + 1e-3 * x[1].square(), start, spread(g, 3, 10) / steep**2
    )


# Critical points.
def at_a_minimum(g: torch.Generator) -> Case:
    """A quadratic, long after."""
    return on_a_bowl(g, uniform(g, 0.3, 0.8), spread(g, 1, 20), wait=600)


def at_a_saddle(g: torch.Generator) -> Case:
    """Down along one axis to a saddle, and not yet away along the other."""
    start = torch.stack([uniform(g, 0.5, 2) * torch.ones((), dtype=torch.float64), 1e-12 * normal(g)])
    return Case(lambda x: 0.5 * (x[0].square() - x[1].square()), start, uniform(g, 0.08, 0.12), wait=100)


def on_a_saddle(g: torch.Generator) -> Case:
    """The double well, begun on its saddle."""
    return Case(double_well, 1e-14 * normal(g, 1), uniform(g, 0.01, 0.1))


def at_a_flat_minimum(g: torch.Generator) -> Case:
    """A minimum without curvature."""
    power = int(choose(g, 4, 6))
    return Case(
        lambda x: x.pow(power).sum(), torch.full((1,), uniform(g, 0.9, 1.2)).double(), uniform(g, 0.02, 0.04), wait=1500
    )


def at_a_flatter_minimum(g: torch.Generator) -> Case:
    """One that is flatter still, in several dimensions."""
    start = 0.9 + 0.2 * torch.rand(5, dtype=torch.float64, generator=g)
    return Case(lambda x: x.pow(8).sum(), start, uniform(g, 0.03, 0.06), wait=1500)


def at_an_inflection(g: torch.Generator) -> Case:
    """Where a slope is level for a moment."""
    return Case(
        lambda x: x.pow(3).sum(), torch.full((1,), uniform(g, 0.8, 1.5)).double(), uniform(g, 0.03, 0.1), wait=1500
    )


# Progress.
def well_below_the_bound(g: torch.Generator) -> Case:
    """A quadratic at most at half its bound, early."""
    return on_a_bowl(g, spread(g, 0.02, 0.5), spread(g, 1, 100), momenta=(0.0, 0.5))


def slow_but_steady(g: torch.Generator) -> Case:
    """At a rate much too low."""
    return on_a_bowl(g, spread(g, 1e-4, 1e-2), spread(g, 1, 100))


def noisy_descent(g: torch.Generator) -> Case:
    """Gradients as noisy as large, far from the minimum."""
    return on_a_bowl(g, spread(g, 0.005, 0.05), spread(g, 1, 10), momenta=(0.0,), noise=spread(g, 0.1, 1.0), scale=3.0)


def logistic_regression(g: torch.Generator) -> Case:
    """A classifier of normal data, early."""
    inputs, true = normal(g, 200, 5), normal(g, 5)
    labels = (inputs @ true + 0.5 * normal(g, 200) > 0).double()
    return Case(
        lambda w: torch.nn.functional.binary_cross_entropy_with_logits(inputs @ w, labels),
        normal(g, 5),
        spread(g, 0.05, 1),
    )


def under_much_momentum(g: torch.Generator) -> Case:
    """At momentum 0.9, ringing on its way down."""
    return on_a_bowl(g, spread(g, 0.005, 0.2), spread(g, 1, 10), momenta=(0.9,))


def along_a_curved_valley(g: torch.Generator) -> Case:
    """Rosenbrock's valley."""
    start = torch.tensor([-1.2, 1.0], dtype=torch.float64) + 0.1 * normal(g, 2)
    return Case(
        lambda x: (1 - x[0]).square() + 100 * (x[1] - x[0].square()).square(), start, spread(g, 1e-5, 3e-4), wait=20
    )


# The noise floor.
def in_the_noise(g: torch.Generator) -> Case:
    """A quadratic at rest, with noisy gradients."""
    return on_a_bowl(
        g, spread(g, 0.02, 0.3), spread(g, 1, 5), momenta=(0.0, 0.5), noise=spread(g, 0.03, 3.0), wait=600, scale=0.0
    )


def in_the_noise_after_a_descent(g: torch.Generator) -> Case:
    """The same, having come from afar."""
    return on_a_bowl(
        g, uniform(g, 0.1, 0.4), spread(g, 1, 5), momenta=(0.0, 0.9), noise=spread(g, 0.1, 1.0), wait=600, scale=3.0
    )


def in_a_noisy_well(g: torch.Generator) -> Case:
    """The double well's minimum with noise."""
    return Case(double_well, torch.full((1,), 3.0).double(), uniform(g, 0.02, 0.1), noise=2.0, wait=300)


def small_batches_at_the_optimum(g: torch.Generator) -> Case:
    """Least squares with noisy targets, on batches of 8 of the data."""
    inputs, true = normal(g, 400, 5), normal(g, 5)
    targets = inputs @ true + normal(g, 400)

    def loss(w: Tensor) -> Tensor:
        some = torch.randint(400, (8,), generator=g)
        return 0.5 * (inputs[some] @ w - targets[some]).square().mean()

    return Case(loss, true, uniform(g, 0.02, 0.2), wait=300)


def double_well(w: Tensor) -> Tensor:
    """As in `landscapes`, the sum."""
    return (w**4 / 20 - 0.9 * w**2).sum()


TUNING: dict[str, tuple[Kind, ...]] = {
    "oscillation": (near_the_bound, narrow_valley),
    "critical point": (at_a_minimum, at_a_saddle, at_a_flat_minimum),
    "progress": (well_below_the_bound, slow_but_steady, noisy_descent),
    "noise floor": (in_the_noise,),
}
HELD_OUT: dict[str, tuple[Kind, ...]] = {
    "oscillation": (*TUNING["oscillation"], near_the_bound_with_noise, orbit_in_a_well, across_a_hyperbola),
    "critical point": (*TUNING["critical point"], on_a_saddle, at_a_flatter_minimum, at_an_inflection),
    "progress": (*TUNING["progress"], logistic_regression, under_much_momentum, along_a_curved_valley),
    "noise floor": (
        *TUNING["noise floor"],
        in_the_noise_after_a_descent,
        in_a_noisy_well,
        small_batches_at_the_optimum,
    ),
}
FIRST_HELD_OUT_SEED = 1_000_000


def judge(case: Case, generator: torch.Generator) -> Monitor:
    """Train, and let a monitor watch."""
    weight = torch.nn.Parameter(case.start.clone())
    optimizer = optim.SGD([weight], lr=case.lr, momentum=case.momentum, nesterov=case.nesterov)
    monitor = Monitor([weight])
    for _ in range(case.wait + monitor.window):
        loss = case.loss(weight)
        (weight.grad,) = torch.autograd.grad(loss, weight)
        if case.noise:
            weight.grad += case.noise * normal(generator, *weight.shape)
        monitor.observe(loss)
        optimizer.step()
    return monitor


def runs(kinds: dict[str, tuple[Kind, ...]], seeds: range) -> Iterator[tuple[str, str, Monitor]]:
    """Each label, kind and monitor, over seeds."""
    for label, those in kinds.items():
        for kind in those:
            for seed in seeds:
                generator = torch.Generator().manual_seed(seed)
                yield label, kind.__name__, judge(kind(generator), generator)
