"""The update rules written from the papers, naively, in float64 with NumPy: one function a rule.

Each takes the parameter, its gradient, its state (a dict, empty before the first step) and the options, and returns the
new parameter. Nothing here looks at torch or at torchpace.
"""

from reference.adadelta import adadelta
from reference.adafactor import adafactor
from reference.adagrad import adagrad
from reference.adam import adam
from reference.adamax import adamax
from reference.ademamix import ademamix
from reference.asgd import asgd
from reference.lamb import lamb
from reference.lars import lars
from reference.lion import lion
from reference.muon import muon
from reference.nadam import nadam
from reference.prodigy import prodigy
from reference.radam import radam
from reference.rmsprop import rmsprop
from reference.rprop import rprop
from reference.schedule_free import schedule_free_adamw, schedule_free_sgd
from reference.sgd import sgd

__all__ = [
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "ademamix",
    "asgd",
    "lamb",
    "lars",
    "lion",
    "muon",
    "nadam",
    "prodigy",
    "radam",
    "rmsprop",
    "rprop",
    "schedule_free_adamw",
    "schedule_free_sgd",
    "sgd",
]
