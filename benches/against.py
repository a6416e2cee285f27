"""What our steps are measured against: torch's arms, turns that all arms take, and ratios over the rounds."""

import inspect
import statistics

import torch

OPTIMIZERS = {
    "SGD momentum": ("SGD", {"momentum": 0.9}),
    "RMSprop": ("RMSprop", {}),
    "Adagrad": ("Adagrad", {}),
    "Adam": ("Adam", {}),
    "AdamW": ("AdamW", {}),
}

# Those that fewer people train with, in fewer rows of the records.
MORE = {name: (name, {}) for name in ("Adadelta", "Adamax", "ASGD", "NAdam", "RAdam", "Rprop")}

TORCHS = {
    "default": {"foreach": False},  # not fused either, which some take no argument for
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}


def lacks(variant, optimizer):
    """Whether torch has no such arm of the optimizer."""
    kind = getattr(torch.optim, optimizer.split()[0])
    return variant == "fused" and "fused" not in inspect.signature(kind).parameters


def turn(arms, count):
    """The arms' names in the order of the round of this number."""
    names = list(arms)
    shift = count % len(names)
    return names[shift:] + names[:shift]


def compare(rounds, variants):
    """Of each variant the quartiles of its time divided by ours."""
    return {
        variant: statistics.quantiles([seconds[variant] / seconds["ours"] for seconds in rounds], n=4)
        for variant in variants
    }


def text(low, median, high):
    return f"{'* ' * (median < 1)}{median:.2f} ({low:.2f}-{high:.2f})"
