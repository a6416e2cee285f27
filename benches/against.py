"""The rows of the benchmarks: our optimizers, what they are measured against, the turns of all arms, and ratios.

Every class of the package's own has one (tests/test_table.py).
"""

import inspect
import statistics
from types import ModuleType
from typing import NamedTuple

import torch

import torchpace

OPTIMIZERS = {
    "SGD momentum": ("SGD", {"momentum": 0.9}),
    "RMSprop": ("RMSprop", {}),
    "Adagrad": ("Adagrad", {}),
    "Adam": ("Adam", {}),
    "AdamW": ("AdamW", {}),
}

# Those that fewer people train with, in fewer rows of the records.
MORE = {name: (name, {}) for name in ("Adadelta", "Adafactor", "Adamax", "ASGD", "NAdam", "RAdam", "Rprop")}

# Those of matrices alone.
MATRICES = {"Muon": ("Muon", {})}

# Those that torch lacks, against AdamW, in whose place they are taken.
BEYOND = {
    "Lion": ("Lion", {}),
    "AdEMAMix": ("AdEMAMix", {}),
    "LAMB": ("LAMB", {}),
    "LARS momentum": ("LARS", {"momentum": 0.9}),
    "Prodigy": ("Prodigy", {}),
    "ScheduleFreeAdamW": ("ScheduleFreeAdamW", {}),
    "ScheduleFreeSGD": ("ScheduleFreeSGD", {}),
    "AdamW cautious": ("AdamW", {"cautious": True}),
}

EVERY = OPTIMIZERS | MORE | MATRICES | BEYOND

TORCHS = {
    "default": {"foreach": False},  # not fused either, which some take no argument for
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
COMPILED = {"foreach": True}  # what torch's compiled step is made of, where a benchmark has it


class Contender(NamedTuple):
    """A module's optimizer: the name of its class, and options."""

    module: ModuleType
    kind: str
    options: dict

    def is_ours(self):
        return self.module is torchpace.optim

    def on(self, params, **options):
        return getattr(self.module, self.kind)(params, **self.options, **options)


def contenders(kind, options):
    """Ours, and by their names what it is measured against: torch's variants or, where torch lacks it, AdamW.

    Torch's have no `max_grad_norm`: who has it among the options clips before their steps.
    """
    found = {"ours": Contender(torchpace.optim, kind, options)}
    shared = {name: value for name, value in options.items() if name == "max_grad_norm"}
    others = {name: value for name, value in options.items() if name != "max_grad_norm"}
    known = inspect.signature(getattr(torch.optim, kind)).parameters if hasattr(torch.optim, kind) else {}
    if not known or others.keys() - known.keys():
        found["our AdamW"] = Contender(torchpace.optim, "AdamW", shared)
        found["fused AdamW"] = Contender(torch.optim, "AdamW", TORCHS["fused"])
        return found
    for variant, more in (TORCHS | {"compiled": COMPILED}).items():
        if variant == "default" or more.keys() <= known.keys():
            taken = {name: value for name, value in more.items() if name in known}
            found[variant] = Contender(torch.optim, kind, others | taken)
    return found


def columns(rows):
    """What some rows, each a class with options, are measured against."""
    found = {name for row in rows for name in contenders(*row)}
    return [name for name in (*TORCHS, "compiled", "our AdamW", "fused AdamW") if name in found]


def missing(name, row):
    """What stands where a row has no such arm."""
    measured = contenders(*row)
    if name in measured:
        return "not compiled"
    return "none in torch" if name in TORCHS and "our AdamW" not in measured else "-"


def turn(arms, count):
    """The arms' names in the order of the round of this number."""
    names = list(arms)
    shift = count % len(names)
    return names[shift:] + names[:shift]


def compare(rounds):
    """Of each other arm the quartiles of its time divided by ours."""
    return {
        name: statistics.quantiles([seconds[name] / seconds["ours"] for seconds in rounds], n=4)
        for name in rounds[0]
        if name != "ours"
    }


def text(low, median, high):
    return f"{'* ' * (median < 1)}{median:.2f} ({low:.2f}-{high:.2f})"
