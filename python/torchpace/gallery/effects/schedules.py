"""Every schedule of torchpace.schedule, drawn over a hundred steps, with its known figures checked.

All are functions of the step, so any step is known at once; they join, multiply and add.
"""

from collections.abc import Mapping

import numpy as np

from torchpace import schedule
from torchpace.gallery._page import BLUE, ORANGE, Page
from torchpace.schedule import Schedule

CURVES: dict[str, Schedule] = {
    "constant": schedule.constant(0.5),
    "linear": schedule.linear(90, end=0.1),
    "polynomial": schedule.polynomial(90, 2, floor=0.1),
    "cosine": schedule.cosine(90, floor=0.1),
    "exponential": schedule.exponential(0.5, period=25, floor=0.1),
    "step": schedule.step(20, 0.5),
    "multi_step": schedule.multi_step([40, 70], 0.3),
    "piecewise": schedule.piecewise([30, 60], [0.4, 1.0, 0.2]),
    "inverse_sqrt": schedule.inverse_sqrt(10),
    "inverse_time": schedule.inverse_time(10),
    "noam": schedule.noam(1, 20) * 20**0.5,
    "warmup, linear": schedule.warmup(40),
    "warmup, cosine": schedule.warmup(40, shape="cosine"),
    "warmup, exponential": schedule.warmup(40, 0.01, shape="exponential"),
    "warmup, constant": schedule.warmup(40, 0.3, shape="constant"),
    "warmup then cosine": schedule.warmup(15).then(schedule.cosine(75)),
    "warmup then step": schedule.warmup(15).then(schedule.step(20, 0.5)),
    "warmup_stable_decay": schedule.warmup_stable_decay(15, 50, 25),
    "cyclic, triangular": schedule.cyclic(15),
    "cyclic, triangular2": schedule.cyclic(15, shape="triangular2"),
    "cyclic, exp_range": schedule.cyclic(15, shape="exp_range", gamma=0.98),
    "cyclic, sine": schedule.cyclic(15, shape="sine"),
    "warm_restarts": schedule.warm_restarts(12, growth=2),
    "one_cycle": schedule.one_cycle(90),
}


def known(page: Page) -> None:
    """The figures."""

    def check(
        name: str, s: Schedule, base: float, figures: Mapping[int, float] | Mapping[float, float], digits: float = 1e-12
    ) -> None:
        for t, expected in figures.items():
            page.check(f"{name}: lr({t:g})", s(t, base=base), expected, digits)

    check("step decay", schedule.step(10, 0.5), 0.1, {0: 0.1, 9: 0.1, 10: 0.05, 19: 0.05, 20: 0.025})
    smooth = {1: 0.0999949, 100: 0.0994884, 500: 0.0974679, 1000: 0.095}
    check("exponential decay with period", schedule.exponential(0.95, 1000), 0.1, smooth, 5e-8)
    check("piecewise", schedule.piecewise([30, 60], [0.4, 1.0, 0.2]), 1.0, {29: 0.4, 30: 1.0, 60: 0.2})
    check("cosine", schedule.cosine(90, floor=0.1), 1.0, {0: 1.0, 45: 0.55, 90: 0.1, 100: 0.1})
    check("polynomial", schedule.polynomial(90, 2, floor=0.1), 1.0, {45: 0.325, 90: 0.1})
    check("linear", schedule.linear(90, end=0.1), 1.0, {45: 0.55, 90: 0.1})
    check("inverse_sqrt", schedule.inverse_sqrt(100), 1.0, {0: 1.0, 300: 0.5})
    check("inverse_time", schedule.inverse_time(100), 1.0, {0: 1.0, 300: 0.25})
    check("warmup then cosine", CURVES["warmup then cosine"], 1.0, {0: 0.0, 15: 1.0, 52.5: 0.5, 90: 0.0})
    check("warmup then step", CURVES["warmup then step"], 1.0, {0: 0.0, 15: 1.0, 34: 1.0, 35: 0.5})
    check("warmup_stable_decay", CURVES["warmup_stable_decay"], 1.0, {0: 0.0, 15: 1.0, 65: 1.0, 90: 0.0})
    check("triangular2", schedule.cyclic(15, low=0, shape="triangular2"), 1.0, {15: 1.0, 45: 0.5, 75: 0.25})
    check("exp_range", schedule.cyclic(15, low=0, shape="exp_range", gamma=0.98), 1.0, {15: 0.98**15, 45: 0.98**45})
    check("warm_restarts", CURVES["warm_restarts"], 1.0, {0: 1.0, 12: 1.0, 24: 0.5, 36: 1.0})
    triangle = schedule.cyclic(500, low=0.1).values(0.5, 10_000)
    counts, _ = np.histogram(triangle, bins=10, range=(0.1, 1.0))
    page.check("triangular: steps in each tenth of the range, fewest", int(counts.min()), 1000)
    page.check("triangular: most", int(counts.max()), 1000)
    one, momentum = schedule.one_cycle(90), schedule.one_cycle(90, start=1.0, peak=0.85 / 0.95, end=1.0)
    page.check("one_cycle: its start over its end", one(0) / one(90), 1e4, 1e-6)
    page.check("one_cycle: momentum at the rate's peak", momentum(27, base=0.95), 0.85, 1e-12)


def run(page: Page) -> None:
    """Compute, check and draw."""
    known(page)
    page.table(("schedule", "lr(0)", "lr(50)", "lr(99)"), [(name, s(0), s(50), s(99)) for name, s in CURVES.items()])
    all_axes = page.axes(4, 6, figsize=(17, 9.6), sharex=True, sharey=True)
    for axis, (name, s) in zip(all_axes.flat, CURVES.items(), strict=True):
        axis.plot(np.arange(0, 100, 0.1), s.values(0, 100, 0.1), color=BLUE)
        if name == "one_cycle":
            momentum = schedule.one_cycle(90, start=1.0, peak=0.85 / 0.95, end=1.0)
            axis.plot(np.arange(100), momentum.values(0, 100, base=0.95), "--", color=ORANGE)
            # In the corner that both curves leave free.
            axis.text(100, 0.82, "momentum", color=ORANGE, ha="right", va="top")
        axis.set_title(name)
    for axis in all_axes[-1]:
        axis.set_xlabel("step")
    for axis in all_axes[:, 0]:
        axis.set_ylabel("rate / base")
