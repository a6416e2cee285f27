"""Options set while a run goes on under which a step divides by zero: errors before anything is written."""

import copy
import inspect
import re

import pytest
import torch

from cases import OPTIMIZERS, torchs
from torchpace import optim

INF, NAN = float("inf"), float("nan")


def make(name, steps, **options):
    module, _, own = name.rpartition(".")
    params = [torch.nn.Parameter(torch.linspace(1, 2, size)) for size in (4, 3)]
    optimizer = (torchs(own) if module else getattr(optim, own))([{"params": [param]} for param in params], **options)
    for _ in range(steps):
        step(optimizer)
    return optimizer, params


def step(optimizer):
    for group in optimizer.param_groups:
        for param in group["params"]:
            param.grad = torch.ones_like(param)
    optimizer.step()


def everything(optimizer, params):
    return copy.deepcopy((optimizer.state_dict()["state"], params))


def has(name, option):
    return option in inspect.signature(getattr(optim, name)).parameters


ADAMS = ["Adam", "AdamW"]
WITH_BETAS = [name for name in OPTIMIZERS if has(name, "betas")]


def betas(name, *first):
    """These, and the others as they are by default."""
    return {"betas": (*first, *inspect.signature(getattr(optim, name)).parameters["betas"].default[len(first) :])}


DIVIDES = [
    *((name, {"betas": (1.0, 0.999)}, {}, ZeroDivisionError, "betas[0]") for name in ADAMS),
    *((name, {"betas": (1, 1)}, {}, ZeroDivisionError, "betas[0]") for name in ADAMS),
    *((name, {"betas": (0.9, 1.0)}, {}, ZeroDivisionError, "betas[1]") for name in ADAMS),
    *((name, {"betas": (0.9, 1.0)}, {"amsgrad": True}, ZeroDivisionError, "betas[1]") for name in ADAMS),
    *((name, {"betas": (1.0, 0.9), "lr": 0.0}, {}, ZeroDivisionError, "betas[0]") for name in ADAMS),
    *((name, {"betas": (-1.0, 0.9)}, {"steps": 1}, ZeroDivisionError, "betas[0]") for name in ADAMS),
    *((name, {"betas": (0.9, 1.5)}, {}, RuntimeError, "betas[1]") for name in ADAMS),
    *((name, {"betas": (0.9, -1.5)}, {"steps": 1}, RuntimeError, "betas[1]") for name in ADAMS),
    ("Adamax", {"betas": (1.0, 0.999)}, {}, ZeroDivisionError, "betas[0]"),
    ("Adamax", {"betas": (-1.0, 0.9)}, {"steps": 1}, ZeroDivisionError, "betas[0]"),
    ("RAdam", {"betas": (1.0, 0.999)}, {}, ZeroDivisionError, "betas[0]"),
    ("RAdam", {"betas": (0.9, 1.0)}, {}, ZeroDivisionError, "betas[1]"),
    ("RAdam", {"betas": (0.9, 1)}, {"decoupled_weight_decay": True}, ZeroDivisionError, "betas[1]"),
    ("RAdam", {"betas": (0.9, -1.5)}, {"steps": 1}, RuntimeError, "betas[1]"),
    ("LAMB", {"betas": (1.0, 0.999)}, {}, ZeroDivisionError, "betas[0]"),
    ("LAMB", {"betas": (0.9, 1.0)}, {}, ZeroDivisionError, "betas[1]"),
    ("Adagrad", {"lr_decay": -1.0}, {"steps": 1}, ZeroDivisionError, "lr_decay"),
    ("Adagrad", {"lr_decay": -0.5}, {"steps": 2}, ZeroDivisionError, "lr_decay"),
    ("Adagrad", {"lr_decay": -1.0, "lr": 0.0}, {"steps": 1}, ZeroDivisionError, "lr_decay"),
]
SILENT = [("Adam", "betas[1]"), ("AdamW", "betas[1]"), ("RAdam", "betas[0]")]
"""Where torch divides a tensor, and writes infinity or NaN, or stands still."""
NOT_FINITE = [
    *((name, {"lr": value}, "lr") for name in OPTIMIZERS for value in (INF, -INF, NAN)),
    *((name, {"weight_decay": NAN}, "weight_decay") for name in OPTIMIZERS if has(name, "weight_decay")),
    *((name, {"eps": NAN}, "eps") for name in OPTIMIZERS if has(name, "eps")),
    *((name, betas(name, NAN), "betas[0]") for name in WITH_BETAS),
    *((name, betas(name, 0.9, NAN), "betas[1]") for name in WITH_BETAS),
    ("AdEMAMix", {"betas": (0.9, 0.99, NAN)}, "betas[2]"),
    ("AdEMAMix", {"alpha": NAN}, "alpha"),
    ("LARS", {"momentum": NAN}, "momentum"),
    ("LARS", {"dampening": NAN}, "dampening"),
    ("LARS", {"trust_coefficient": INF}, "trust_coefficient"),
    ("SGD", {"momentum": NAN}, "momentum"),
    ("RMSprop", {"alpha": NAN}, "alpha"),
    ("Adadelta", {"rho": NAN}, "rho"),
    ("Rprop", {"etas": (NAN, 1.2)}, "etas[0]"),
    ("Rprop", {"step_sizes": (0.0, INF)}, "step_sizes[1]"),
    ("Adagrad", {"lr_decay": NAN}, "lr_decay"),
    *(("NAdam", {"lr": value}, "lr") for value in (INF, -INF, NAN)),
    *(("NAdam", {name: NAN}, name) for name in ("weight_decay", "eps", "momentum_decay")),
    ("NAdam", {"betas": (NAN, 0.9)}, "betas[0]"),
    ("NAdam", {"betas": (0.9, NAN)}, "betas[1]"),
    *(("ASGD", {"lr": value}, "lr") for value in (INF, -INF, NAN)),
    *(("ASGD", {name: NAN}, name) for name in ("weight_decay", "lambd", "alpha", "t0")),
    *(
        ("ScheduleFreeAdamW", {name: NAN}, name)
        for name in ("weight_decay", "eps", "r", "warmup_steps", "weight_lr_power")
    ),
    *(
        ("ScheduleFreeSGD", {name: NAN}, name)
        for name in ("weight_decay", "momentum", "r", "warmup_steps", "weight_lr_power")
    ),
    *((name, {"r": 1e10}, "r") for name in ("ScheduleFreeAdamW", "ScheduleFreeSGD")),
]


def assert_refused(name, change, options, error, option, fresh):
    """In the second group, after others' coefficients were good."""
    steps = 0 if fresh else options.pop("steps", 2)
    optimizer, params = make(name, steps, **options)
    optimizer.param_groups[1].update(change)
    before = everything(optimizer, params)
    message = re.escape(f"param_groups[1]['params'][0]: option \"{option}\" makes")
    for _ in range(2):
        with pytest.raises(error, match=message + r' "\w+" (-?inf|NaN) in step \d+, expected a finite number'):
            step(optimizer)
        torch.testing.assert_close(everything(optimizer, params), before, rtol=0, atol=0)
        assert optimizer.last_path is None
    good = {key: value for key, value in optimizer.defaults.items() if key in change}
    optimizer.param_groups[1].update(good)
    step(optimizer)
    assert optimizer.last_path == "fused"
    assert all(param.isfinite().all() for param in params)


@pytest.mark.parametrize(("name", "change", "options", "error", "option"), DIVIDES, ids=str)
def test_a_division_by_zero(name, change, options, error, option):
    """With the errors of torch, which has changed its state by then."""
    options = {"lr": 0.1, **options}
    if "steps" not in options:
        assert_refused(name, change, dict(options), error, option, True)
    assert_refused(name, change, dict(options), error, option, False)
    if error is ZeroDivisionError and (name, option) in SILENT:
        return
    steps = options.pop("steps", 2)
    theirs, _ = make(f"torch.{name}", steps, **options, foreach=False)
    theirs.param_groups[1].update(change)
    with pytest.raises(error):
        step(theirs)


@pytest.mark.parametrize(("name", "change", "option"), NOT_FINITE, ids=str)
def test_options_that_are_not_finite(name, change, option):
    """Which torch's constructors refuse, but for some infinities, and its steps write into parameters."""
    # The first step takes the whole gradient, and weighs 1 to whatever power.
    for fresh in (True, False) if option not in ("dampening", "r") else (False,):
        options = {"momentum": 0.5} if option == "dampening" else {}
        assert_refused(name, change, {"lr": 0.1, **options}, ValueError, option, fresh)


@pytest.mark.parametrize(
    ("name", "options", "change"),
    [
        ("SGD", {"momentum": 0.5}, {"dampening": INF}),
        ("SGD", {"momentum": 0.5}, {"momentum": -INF}),
        ("RMSprop", {"momentum": 0.5}, {"momentum": INF}),
        ("AdamW", {}, {"weight_decay": INF}),
    ],
)
def test_options_that_are_infinite(name, options, change):
    (option,) = change
    assert_refused(name, change, {"lr": 0.1, **options}, ValueError, option, False)


def test_options_out_of_their_ranges_that_are_harmless():
    """As torch takes them."""
    for name, change in [
        ("SGD", {"lr": -0.1}),
        ("SGD", {"momentum": 1.5, "weight_decay": -0.1}),
        ("Adam", {"betas": (-0.5, 0.9)}),
        ("Adam", {"betas": (1.5, 0.9)}),
        ("RMSprop", {"alpha": 1.0}),
        ("Adadelta", {"rho": 1.0}),
        ("Adamax", {"betas": (0.9, 1.0)}),
        ("RAdam", {"betas": (-0.5, -0.5)}),
        ("Rprop", {"etas": (1.5, 0.5)}),
        ("Rprop", {"step_sizes": (2.0, 1.0)}),
        ("Adagrad", {"lr_decay": -0.125}),
        ("Adagrad", {"eps": -0.125}),
        ("NAdam", {"betas": (1.25, 0.9)}),
        ("NAdam", {"momentum_decay": -0.125}),
        ("ASGD", {"lambd": -0.125, "alpha": -0.5}),
        ("ASGD", {"t0": -3}),
    ]:
        ours, params = make(name, 2, lr=0.1)
        theirs, expected = make(f"torch.{name}", 2, lr=0.1, foreach=False)
        for optimizer in (ours, theirs):
            optimizer.param_groups[1].update(change)
            for _ in range(3):
                step(optimizer)
        assert ours.last_path == "fused"
        torch.testing.assert_close(params, expected)


def test_a_step_count_that_is_none():
    """Of -1: the next would be the 0th."""
    optimizer, params = make("Adam", 1, lr=0.1)
    optimizer.state[params[1]]["step"].fill_(-1)
    before = everything(optimizer, params)
    with pytest.raises(ZeroDivisionError, match=r"param_groups\[1\]\['params'\]\[0\]: .* in step 0,"):
        step(optimizer)
    torch.testing.assert_close(everything(optimizer, params), before, rtol=0, atol=0)


def test_a_small_learning_rate_and_a_late_step_are_no_division_by_zero():
    optimizer, params = make("Adam", 1, lr=1e-300)
    for param in params:
        optimizer.state[param]["step"].fill_(1e30)
    step(optimizer)
    assert optimizer.last_path == "fused"


def test_a_step_that_is_skipped_does_not_ask():
    optimizer, params = make("Adam", 1, lr=0.1, fused=True)
    optimizer.param_groups[1]["betas"] = (1.0, 0.9)
    for param in params:
        param.grad = torch.full_like(param, INF)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    scaler.scale(torch.ones(()))
    scaler.step(optimizer)
    assert optimizer.last_step_skipped
