"""The rate follows a metric, both ways: it falls while the metric gets worse and rises while it keeps getting better.

A metric worse for more than `patience` evaluations multiplies the rate by 0.5; better for more than `patience` in a row
divides it by 0.5; between bounds. torch's ReduceLROnPlateau, for comparison, only lowers.
"""

import torch

from torchpace import optim, schedule
from torchpace.gallery._page import BLUE, GREEN, ORANGE, Page

METRICS = (9, 8, 7, 6, 5, 4, 3.5, 3.5, 3.6, 3.7, 3.6, 3.6, 3.6, 3.6, 3.6, 3.6, 3.0, 2.5, 2.0, 1.9, 1.8, 1.7)
PATIENCE, FACTOR, LOW, HIGH = 2, 0.5, 0.25, 2.0


def by_hand(metrics: tuple[float, ...]) -> list[float]:
    """The scale after each evaluation, by the rule as it is told above."""
    scale, best, worse, better, found = 1.0, float("inf"), 0, 0, []
    for metric in metrics:
        if metric < best * (1 - 1e-4):
            best, worse, better = metric, 0, better + 1
        else:
            worse, better = worse + 1, 0
        if worse > PATIENCE:
            scale, worse = max(scale * FACTOR, LOW), 0
        if better > PATIENCE:
            scale, better = min(scale / FACTOR, HIGH), 0
        found.append(scale)
    return found


def follow(raises: bool) -> list[float]:
    """The rates that an optimizer of base 0.1 has after each evaluation."""
    optimizer = optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    rule = schedule.plateau(FACTOR, PATIENCE, floor=LOW, ceiling=HIGH, raises=raises)
    scheduler, rates = rule.on(optimizer), []
    optimizer.step()
    for metric in METRICS:
        scheduler.step(metric)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def torchs() -> list[float]:
    """The same with torch's class."""
    optimizer = optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=FACTOR, patience=PATIENCE, min_lr=0.1 * LOW
    )
    rates = []
    for metric in METRICS:
        scheduler.step(metric)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def run(page: Page) -> None:
    """Compute, check and draw."""
    both, one, theirs = follow(True), follow(False), torchs()
    expected = [0.1 * scale for scale in by_hand(METRICS)]
    page.table(
        ("evaluation", "metric", "two-way", "one-way", "torch's"),
        [(step, metric, *rates) for step, (metric, *rates) in enumerate(zip(METRICS, both, one, theirs, strict=True))],
    )
    apart = max(abs(left - right) for left, right in zip(both, expected, strict=True))
    page.check("two-way: greatest difference from the rule by hand", apart, 0.0, 1e-15)
    page.check("two-way: highest rate, the upper bound", max(both), 0.2, 1e-15)
    page.holds("two-way: lowest rate", min(both), low=0.025, high=0.05)
    apart = max(abs(left - right) for left, right in zip(one, theirs, strict=True))
    page.check("one-way: greatest difference from torch's", apart, 0.0, 1e-15)

    top, bottom = page.axes(2, 1, figsize=(8.4, 6.6), sharex=True)[:, 0]
    top.plot(METRICS, "o-", color=GREEN)
    top.set(ylabel="metric (lower is better)", title="The rate follows the metric, in both directions")
    bottom.step(range(len(both)), both, where="post", color=BLUE, label="two-way")
    bottom.step(range(len(one)), one, "--", where="post", color=ORANGE, label="only lowers, as torch")
    bottom.set(xlabel="evaluation", ylabel="learning rate", yscale="log")
    bottom.set_yticks([0.025, 0.05, 0.1, 0.2], labels=["0.025", "0.05", "0.1", "0.2"])
    bottom.minorticks_off()
    bottom.legend()
