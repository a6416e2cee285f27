"""One row for each optimizer and schedule under each set of options; the tests run over all rows."""

import inspect
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

import reference
import torchpace.optim
import torchpace.optim.lr_scheduler
import torchpace.optim.swa_utils


@dataclass(frozen=True)
class Case:
    optimizer: str
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self):
        return " ".join([self.optimizer, *(f"{name}={value}" for name, value in self.options.items())])

    @property
    def ours(self):
        return getattr(torchpace.optim, self.optimizer)

    @property
    def torchs(self):
        return torchs(self.optimizer)

    @property
    def rule(self):
        """The rule of tests/reference: `rule(theta, grad, state, **options)` gives the new theta."""
        return REFERENCE[self.optimizer]


def torchs(name):
    """Torch's class of an optimizer; where torch lacks it, the one in torch's operators that ours derives from."""
    return getattr(torch.optim, name) if name in [*IN_TORCH, *APART] else getattr(torchpace.optim, name).__bases__[1]


REFERENCE = {
    "SGD": reference.sgd,
    "RMSprop": reference.rmsprop,
    "Adagrad": reference.adagrad,
    "Adam": reference.adam,
    "AdamW": partial(reference.adam, weight_decay=1e-2, decoupled_weight_decay=True),
    "Adadelta": reference.adadelta,
    "Adamax": reference.adamax,
    "RAdam": reference.radam,
    "Rprop": reference.rprop,
    "Lion": reference.lion,
    "AdEMAMix": reference.ademamix,
    "LAMB": reference.lamb,
    "LARS": reference.lars,
    "NAdam": reference.nadam,
    "ASGD": reference.asgd,
    "ScheduleFreeAdamW": reference.schedule_free_adamw,
    "ScheduleFreeSGD": reference.schedule_free_sgd,
}

OPTIMIZERS = list(REFERENCE)

IN_TORCH = [name for name in OPTIMIZERS if hasattr(torch.optim, name)]
"""Those that torch has, too."""

APART = ["Adafactor", "Muon"]
"""Those of torch's that are ours, too, and whose step is no rule on elements: they have tests of their own."""

OVER_ALL = ["Prodigy"]
"""Those whose update depends on all parameters at once, which have one learning rate: they have tests of their own."""

TAKE_FUSED = [name for name in OPTIMIZERS if "fused" in inspect.signature(torchs(name)).parameters]
"""Those that torch has a fused kernel for."""

TAKE_CAPTURABLE = [name for name in OPTIMIZERS if "capturable" in inspect.signature(torchs(name)).parameters]
"""Those whose step counts are on the device where a graph captures them."""

CASES = [
    Case("SGD", {"lr": 0.1}),
    Case("SGD", {"lr": 0.1, "weight_decay": 0.1}),
    Case("SGD", {"lr": 0.1, "maximize": True}),
    Case("SGD", {"lr": 0.1, "momentum": 0.9}),
    Case("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.9}),
    Case("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    Case("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01, "maximize": True}),
    Case("RMSprop"),
    Case("RMSprop", {"weight_decay": 0.1}),
    Case("RMSprop", {"maximize": True}),
    Case("RMSprop", {"momentum": 0.9}),
    Case("RMSprop", {"centered": True}),
    Case("RMSprop", {"alpha": 0.3, "centered": True}),
    Case("RMSprop", {"centered": True, "momentum": 0.5, "weight_decay": 0.01, "eps": 1e-3}),
    Case("Adagrad"),
    Case("Adagrad", {"lr_decay": 0.1}),
    Case("Adagrad", {"weight_decay": 0.1, "initial_accumulator_value": 0.5}),
    Case("Adagrad", {"maximize": True, "eps": 1e-3}),
    Case("Adam"),
    Case("Adam", {"amsgrad": True}),
    Case("Adam", {"weight_decay": 0.1}),
    Case("Adam", {"maximize": True, "eps": 1e-3}),
    Case("Adam", {"betas": (0.0, 0.9)}),
    Case("Adam", {"betas": (0.3, 0.0)}),
    Case("Adam", {"amsgrad": True, "weight_decay": 0.1, "maximize": True, "decoupled_weight_decay": True}),
    Case("AdamW"),
    Case("AdamW", {"amsgrad": True, "weight_decay": 0.3}),
    Case("AdamW", {"weight_decay": 0.0, "maximize": True}),
    Case("Adadelta"),
    Case("Adadelta", {"weight_decay": 0.1}),
    Case("Adadelta", {"rho": 0.3, "maximize": True, "eps": 1e-3}),
    Case("Adadelta", {"rho": 0.0, "lr": 0.5}),
    Case("Adamax"),
    Case("Adamax", {"weight_decay": 0.1}),
    Case("Adamax", {"betas": (0.3, 0.9), "maximize": True, "eps": 1e-3}),
    Case("Adamax", {"betas": (0.0, 0.0)}),
    Case("RAdam"),
    Case("RAdam", {"weight_decay": 0.1}),
    Case("RAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
    Case("RAdam", {"betas": (0.3, 0.8), "eps": 1e-3}),
    Case("RAdam", {"betas": (0.9, 0.5)}),  # never adaptive
    Case("RAdam", {"betas": (0.0, 0.0)}),
    Case("Rprop"),
    Case("Rprop", {"etas": (0.3, 1.7), "maximize": True}),
    Case("Rprop", {"lr": 1.0, "step_sizes": (0.5, 1.3)}),
    Case("Lion"),
    Case("Lion", {"weight_decay": 0.1}),
    Case("Lion", {"betas": (0.95, 0.98), "maximize": True, "lr": 1e-3}),
    Case("Lion", {"betas": (0.3, 0.0)}),
    Case("AdEMAMix"),
    Case("AdEMAMix", {"beta3_warmup": 3, "alpha_warmup": 2.5, "alpha": 8.0}),
    Case("AdEMAMix", {"beta3_warmup": 1000.0, "alpha_warmup": 1000, "alpha": 500.0, "weight_decay": 0.1}),
    Case("AdEMAMix", {"betas": (0.3, 0.2, 0.4), "eps": 1e-3}),
    Case("AdEMAMix", {"betas": (0.0, 0.9, 0.6), "beta3_warmup": 4}),
    Case("AdEMAMix", {"weight_decay": 0.1, "maximize": True, "eps": 1e-3}),
    Case("LAMB"),
    Case("LAMB", {"weight_decay": 0.0, "maximize": True}),
    Case("LAMB", {"bias_correction": False, "eps": 1e-3}),
    Case("LAMB", {"trust_clip": True, "weight_decay": 0.3, "lr": 0.02}),
    Case("LAMB", {"betas": (0.3, 0.0)}),
    Case("LAMB", {"betas": (0.0, 0.9), "bias_correction": False, "trust_clip": True}),
    Case("LARS"),
    Case("LARS", {"weight_decay": 0.1, "trust_coefficient": 0.02}),
    Case("LARS", {"momentum": 0.9}),
    Case("LARS", {"momentum": 0.9, "dampening": 0.5, "weight_decay": 0.01, "eps": 0.1}),
    Case("LARS", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01, "maximize": True}),
    Case("LARS", {"trust_coefficient": None, "momentum": 0.9, "weight_decay": 0.1, "lr": 0.1}),
    Case("NAdam"),
    Case("NAdam", {"weight_decay": 0.1}),
    Case("NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    Case("NAdam", {"maximize": True, "eps": 1e-3, "momentum_decay": 0.3}),
    Case("NAdam", {"betas": (0.0, 0.9)}),
    Case("NAdam", {"betas": (0.3, 0.0), "momentum_decay": 0.0}),
    Case("ASGD"),
    Case("ASGD", {"t0": 3.0, "lambd": 0.1}),
    Case("ASGD", {"weight_decay": 0.1, "alpha": 0.5}),
    Case("ASGD", {"lr": 0.1, "lambd": 0.5, "t0": 0, "maximize": True}),
    Case("ScheduleFreeAdamW"),
    Case("ScheduleFreeAdamW", {"warmup_steps": 3, "weight_decay": 0.1}),
    Case("ScheduleFreeAdamW", {"warmup_steps": 20.0, "r": 0.5, "maximize": True, "eps": 1e-3}),
    Case("ScheduleFreeAdamW", {"betas": (0.3, 0.0), "weight_lr_power": 0.0}),
    Case("ScheduleFreeAdamW", {"betas": (0.95, 0.9), "r": 2.0, "weight_lr_power": 1.0, "lr": 0.1}),
    Case("ScheduleFreeSGD", {"lr": 0.1}),
    Case("ScheduleFreeSGD", {"lr": 0.1, "warmup_steps": 3, "weight_decay": 0.1}),
    Case("ScheduleFreeSGD", {"lr": 0.5, "momentum": 0.3, "r": 1.0, "weight_lr_power": 0.0, "maximize": True}),
    Case("ScheduleFreeSGD", {"lr": 0.5, "momentum": 0.98, "warmup_steps": 2.5, "r": 0.5}),
]

VARIANTS = [
    Case("SGD", {"lr": 0.1, "momentum": 0.9, "averaged": True}),
    Case("SGD", {"lr": 0.1, "momentum": 0.5, "averaged": True, "nesterov": True, "weight_decay": 0.1}),
    Case("SGD", {"lr": 0.1, "momentum": 0.9, "averaged": True, "maximize": True}),
    Case("RMSprop", {"eps_inside": True}),
    Case("RMSprop", {"eps_inside": True, "centered": True, "momentum": 0.5, "weight_decay": 0.01, "eps": 1e-3}),
    Case("Adagrad", {"mean": True}),
    Case("Adagrad", {"mean": True, "initial_accumulator_value": 0.5, "lr_decay": 0.1, "maximize": True}),
    Case("Adagrad", {"eps_inside": True}),
    Case("Adagrad", {"mean": True, "eps_inside": True, "eps": 1e-3, "weight_decay": 0.1}),
    Case("AdamW", {"cautious_weight_decay": True, "weight_decay": 0.3}),
    Case("AdamW", {"cautious_weight_decay": True, "weight_decay": 0.3, "amsgrad": True, "maximize": True}),
    Case("Adam", {"cautious_weight_decay": True, "decoupled_weight_decay": True, "weight_decay": 0.3}),
    Case("RAdam", {"cautious_weight_decay": True, "decoupled_weight_decay": True, "weight_decay": 0.3}),
    Case("NAdam", {"cautious_weight_decay": True, "decoupled_weight_decay": True, "weight_decay": 0.3}),
    Case("Lion", {"cautious_weight_decay": True, "weight_decay": 0.3}),
    Case("AdEMAMix", {"cautious_weight_decay": True, "weight_decay": 0.3, "betas": (0.5, 0.9, 0.7)}),
    Case("Adam", {"cautious": True}),
    Case("Adam", {"cautious": True, "weight_decay": 0.1, "amsgrad": True, "betas": (0.5, 0.9)}),
    Case("AdamW", {"cautious": True, "maximize": True, "eps": 1e-3}),
    Case("AdamW", {"cautious": True, "cautious_weight_decay": True, "weight_decay": 0.3}),
    Case("Lion", {"cautious": True}),
    Case("Lion", {"cautious": True, "cautious_weight_decay": True, "weight_decay": 0.3, "betas": (0.3, 0.8)}),
    Case("AdEMAMix", {"cautious": True}),
    Case("AdEMAMix", {"cautious": True, "weight_decay": 0.3, "betas": (0.5, 0.9, 0.7), "maximize": True}),
]
"""Rows that torch lacks."""

OURS = SimpleNamespace(**vars(torchpace.optim.lr_scheduler), SWALR=torchpace.optim.swa_utils.SWALR)
TORCHS = SimpleNamespace(**vars(torch.optim.lr_scheduler), SWALR=torch.optim.swa_utils.SWALR)
"""All schedulers of a library."""


@dataclass(frozen=True)
class Schedule:
    scheduler: str
    options: dict[str, Any] = field(default_factory=dict)
    inner: tuple["Schedule", ...] = ()

    def __str__(self):
        return " ".join(
            [self.scheduler, *(f"{name}={value}" for name, value in self.options.items()), *map(str, self.inner)]
        )

    def make(self, library, optimizer, **more):
        """The scheduler of `library`, OURS or TORCHS."""
        cls = getattr(library, self.scheduler)
        schedulers = [schedule.make(library, optimizer) for schedule in self.inner]
        if self.scheduler == "ChainedScheduler":
            return cls(schedulers, optimizer, **self.options, **more)
        return cls(optimizer, *([schedulers] if schedulers else []), **self.options, **more)


def halving(step):
    return 0.5 ** (step // 1000)


def shrinking(step):
    return 1 - 1e-3 / step


SCHEDULERS = [
    Schedule("StepLR", {"step_size": 7, "gamma": 0.999}),
    Schedule("MultiStepLR", {"milestones": [3, 5, 5, 4000], "gamma": 0.3}),
    Schedule("ConstantLR", {"factor": 0.3, "total_iters": 40}),
    Schedule("LinearLR", {"start_factor": 0.03, "end_factor": 0.7, "total_iters": 7000}),
    Schedule("ExponentialLR", {"gamma": 0.999}),
    Schedule("PolynomialLR", {"total_iters": 9000, "power": 1.7}),
    Schedule("CosineAnnealingLR", {"T_max": 37, "eta_min": 1e-3}),
    Schedule("CosineAnnealingLR", {"T_max": 9000}),
    Schedule("CosineAnnealingWarmRestarts", {"T_0": 13, "T_mult": 2, "eta_min": 1e-3}),
    Schedule("CosineAnnealingWarmRestarts", {"T_0": 77}),
    Schedule("CyclicLR", {"base_lr": 0.01, "max_lr": [0.1, 0.3], "step_size_up": 21, "step_size_down": 33}),
    Schedule("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 50, "mode": "triangular2"}),
    Schedule("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 50, "mode": "exp_range", "gamma": 0.999}),
    Schedule("OneCycleLR", {"max_lr": [0.1, 0.3], "total_steps": 10_001}),
    Schedule("OneCycleLR", {"max_lr": 0.1, "epochs": 100, "steps_per_epoch": 101, "anneal_strategy": "linear"}),
    Schedule("OneCycleLR", {"max_lr": 0.1, "total_steps": 10_001, "three_phase": True, "cycle_momentum": False}),
    Schedule("SWALR", {"swa_lr": [0.01, 0.3], "anneal_epochs": 5000}),
    Schedule("SWALR", {"swa_lr": 0.01, "anneal_epochs": 50, "anneal_strategy": "linear"}),
    Schedule("LambdaLR", {"lr_lambda": halving}),
    Schedule("MultiplicativeLR", {"lr_lambda": [shrinking, halving]}),
    Schedule(
        "SequentialLR",
        {"milestones": [20, 3000]},
        (
            Schedule("LinearLR", {"start_factor": 0.1, "total_iters": 20}),
            Schedule("CosineAnnealingLR", {"T_max": 2980}),
            Schedule("ExponentialLR", {"gamma": 0.9999}),
        ),
    ),
    Schedule(
        "ChainedScheduler",
        {},
        (Schedule("ConstantLR", {"factor": 0.1, "total_iters": 20}), Schedule("ExponentialLR", {"gamma": 0.999})),
    ),
]
"""One row a schedule, some more; the tests in tests/lr_scheduler run over all."""


def scheduled(optimizer="SGD", library=torch.optim, lr=0.1, groups=2, **options):
    """An optimizer whose groups a scheduler may set, with unlike learning rates."""
    rates = [lr * 0.5**at for at in range(groups)]
    params = [{"params": [torch.nn.Parameter(torch.zeros(2))], "lr": rate} for rate in rates]
    return getattr(library, optimizer)(params, lr=lr, **({"momentum": 0.9} if optimizer == "SGD" else {}) | options)


def settings(optimizer):
    """What a scheduler may have set, tensors as (value, type)."""
    return [
        {
            key: (value.tolist(), value.dtype) if isinstance(value, torch.Tensor) else value
            for key, value in group.items()
            if key != "params"
        }
        for group in optimizer.param_groups
    ]


def with_wide_scalars(case, request):
    """Has scalars and counts made in float64 for the rest of a test; torch makes them of the default type."""
    if case.ours._scalars:
        request.addfinalizer(partial(torch.set_default_dtype, torch.get_default_dtype()))
        torch.set_default_dtype(torch.float64)


SHAPES = [(), (1,), (0,), (3, 0, 2), (7,), (31,), (33, 3), (2, 3, 5, 7), (100_003,)]


def tensors(seed, dtype, shapes=SHAPES):
    """Normal values, of sizes from 1e-3 to 1e3."""
    generator = torch.Generator().manual_seed(seed)

    def one(shape):
        size = 10 ** (torch.rand((), generator=generator, dtype=torch.float64) * 6 - 3)
        return (torch.randn(shape, generator=generator, dtype=torch.float64) * size).to(dtype)

    return [one(shape) for shape in shapes]


def two_groups(params, **second):
    """The parameters in two groups of unlike learning rates."""
    half = len(params) // 2
    return [{"params": params[:half]}, {"params": params[half:], "lr": 0.02, **second}]


def train(optimizer_class, options, start, grads):
    """Steps from `start` along `grads` (one list a step), in two groups; the optimizer and the parameters it moved."""
    params = [torch.nn.Parameter(value.clone()) for value in start]
    optimizer = optimizer_class(two_groups(params), **options)
    for step in grads:
        for param, grad in zip(params, step, strict=True):
            param.grad = None if grad is None else grad.clone()
        optimizer.step()
    return optimizer, params


def train_reference(case, start, grads, dtype=torch.float64):
    """The same with tests/reference, in `dtype`."""
    thetas = [value.to(dtype).numpy().copy() for value in start]
    states = [{} for _ in thetas]
    groups = two_groups(list(range(len(thetas))))
    for step in grads:
        for group in groups:
            options = case.options | {key: value for key, value in group.items() if key != "params"}
            for i in group["params"]:
                if step[i] is not None:
                    with np.errstate(invalid="ignore", divide="ignore"):
                        thetas[i] = case.rule(thetas[i], step[i].to(dtype).numpy(), states[i], **options)
                        assert thetas[i].dtype == torch.empty(0, dtype=dtype).numpy().dtype  # not widened by a scalar
    return [torch.from_numpy(np.asarray(theta)) for theta in thetas]


def distance(left, right):
    """The norm of the difference of two lists of tensors, in float64."""
    return torch.stack(
        [(a.detach().double() - b.detach().double()).norm() for a, b in zip(left, right, strict=True)]
    ).norm()


SCHEDULES = [
    ("constant", {"factor": 0.5}),
    ("linear", {"steps": 40}),
    ("linear", {"steps": 37, "start": 0.25, "end": 2}),
    ("polynomial", {"steps": 40, "power": 2.5, "floor": 0.1}),
    ("cosine", {"steps": 40}),
    ("cosine", {"steps": 33, "floor": 0.2}),
    ("exponential", {"factor": 0.9}),
    ("exponential", {"factor": 0.5, "period": 20, "floor": 0.2}),
    ("exponential", {"factor": 1.1, "period": 3}),
    ("step", {"period": 10}),
    ("step", {"period": 7, "factor": 0.3, "floor": 0.05}),
    ("multi_step", {"milestones": [10, 11, 50], "factor": 0.3, "floor": 0.05}),
    ("piecewise", {"milestones": [10, 30], "values": [1, 0.1, 3]}),
    ("inverse_sqrt", {"timescale": 20, "floor": 0.4}),
    ("inverse_time", {"timescale": 20, "floor": 0.2}),
    ("noam", {"model_size": 512, "warmup": 30}),
    ("one_cycle", {"steps": 100}),
    ("one_cycle", {"steps": 60, "rise": 0.45, "start": 0.95, "peak": 0.85, "end": 0.99, "shape": "linear"}),
    ("cyclic", {"up": 10}),
    ("cyclic", {"up": 10, "down": 5, "low": 0, "shape": "triangular2"}),
    ("cyclic", {"up": 8, "down": 16, "low": 0.5, "high": 2, "shape": "exp_range", "gamma": 0.98}),
    ("cyclic", {"up": 12, "shape": "sine"}),
    ("warm_restarts", {"period": 10}),
    ("warm_restarts", {"period": 10, "growth": 2, "decay": 0.5, "floor": 0.1}),
    ("warm_restarts", {"period": 40, "growth": 0.5}),
    ("warmup", {"steps": 20}),
    ("warmup", {"steps": 20, "start": 0.1, "shape": "cosine"}),
    ("warmup", {"steps": 20, "start": 0.01, "shape": "exponential"}),
    ("warmup", {"steps": 20, "start": 0.3, "shape": "constant"}),
    ("warmup_stable_decay", {"warmup": 10, "stable": 20, "decay": 30, "floor": 0.1}),
    ("warmup_stable_decay", {"warmup": 0, "stable": 20, "decay": 30, "shape": "cosine"}),
    ("warmup_stable_decay", {"warmup": 10, "stable": 0, "decay": 30, "start": 0.1, "shape": "1-sqrt"}),
]
"""One row for each schedule that stands alone, under each set of options."""


# What people put in the place of an optimizer's `step`.
NO_METHODS = {
    "compiled": lambda step: torch.compile(step, backend="eager"),
    "partial": lambda step: partial(step, None),
    "function": lambda step: lambda *arguments: step(*arguments),
}
