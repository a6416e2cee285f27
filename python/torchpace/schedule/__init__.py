"""Schedules that compose: a rate as a function of the step, computed in Rust.

Every function here makes a `Schedule`, whose rates are in units of a base. Schedules join (``a.then(b, at=100)``),
multiply, add, and more; ``schedule.on(optimizer)`` is a scheduler as torch and its trainers know them.
"""

from torchpace.schedule._cycles import cyclic, one_cycle, warm_restarts
from torchpace.schedule._decay import (
    constant,
    cosine,
    exponential,
    inverse_sqrt,
    inverse_time,
    linear,
    multi_step,
    noam,
    piecewise,
    polynomial,
    step,
)
from torchpace.schedule._function import function
from torchpace.schedule._picture import plot, preview
from torchpace.schedule._plateau import plateau
from torchpace.schedule._plateau_scheduler import PlateauScheduler
from torchpace.schedule._schedule import PlateauSchedule, Schedule
from torchpace.schedule._scheduler import Scheduler
from torchpace.schedule._units import epochs, samples
from torchpace.schedule._warmup import warmup, warmup_stable_decay

__all__ = [
    "PlateauSchedule",
    "PlateauScheduler",
    "Schedule",
    "Scheduler",
    "constant",
    "cosine",
    "cyclic",
    "epochs",
    "exponential",
    "function",
    "inverse_sqrt",
    "inverse_time",
    "linear",
    "multi_step",
    "noam",
    "one_cycle",
    "piecewise",
    "plateau",
    "plot",
    "polynomial",
    "preview",
    "samples",
    "step",
    "warm_restarts",
    "warmup",
    "warmup_stable_decay",
]
