"""Schedulers take numbers of any type for what they are; what is none is an error whose text names the argument."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

from torchpace import optim
from torchpace.optim import lr_scheduler, swa_utils

KINDS = {
    "np.int64": np.int64,
    "np.uint8": np.uint8,
    "np.float16": np.float16,
    "np.float32": np.float32,
    "np.float64": np.float64,
    "array": lambda value: np.array(float(value)),
    "array of integers": np.array,
    "Fraction": Fraction,
    "Decimal": Decimal,
    "tensor": lambda value: torch.tensor(value, dtype=torch.float64),
    "tensor of integers": torch.tensor,
    "np.bool_": np.bool_,
    "tensor of flags": lambda value: torch.tensor(bool(value)),
}
# All are powers of two, or whole: the same in every type that can hold them.
ARGUMENTS = {
    "StepLR": {"step_size": 2, "gamma": 0.5},
    "MultiStepLR": {"milestones": [2, 4], "gamma": 0.5},
    "ConstantLR": {"factor": 0.5, "total_iters": 3},
    "LinearLR": {"start_factor": 0.5, "end_factor": 1, "total_iters": 4},
    "ExponentialLR": {"gamma": 0.5},
    "PolynomialLR": {"total_iters": 4, "power": 2},
    "CosineAnnealingLR": {"T_max": 4, "eta_min": 0},
    "CosineAnnealingWarmRestarts": {"T_0": 2, "T_mult": 1, "eta_min": 0},
    "CyclicLR": {
        **{"base_lr": 0.25, "max_lr": 1, "step_size_up": 2, "step_size_down": 2, "gamma": 1},
        **{"base_momentum": 0.5, "max_momentum": 1},
    },
    "OneCycleLR": {
        **{"max_lr": 1, "total_steps": 20, "pct_start": 0.25, "base_momentum": 0.5, "max_momentum": 1},
        **{"div_factor": 4, "final_div_factor": 8},
    },
    "ReduceLROnPlateau": {"factor": 0.5, "patience": 1, "threshold": 0.25, "cooldown": 0, "min_lr": 0, "eps": 0},
    "SWALR": {"swa_lr": 0.5, "anneal_epochs": 4},
}
ROWS = [(name, option) for name, options in ARGUMENTS.items() for option in options if option != "milestones"]


def optimizer(groups=1):
    params = [{"params": [torch.nn.Parameter(torch.ones(1))]} for _ in range(groups)]
    return optim.SGD(params, lr=0.1, momentum=0.9)


def rates(name, steps=9, groups=1, **options):
    own = optimizer(groups)
    scheduler = getattr(lr_scheduler, name, None) or getattr(swa_utils, name)
    scheduler = scheduler(own, **options)
    found = []
    for _ in range(steps):
        own.step()
        scheduler.step(1.0) if name == "ReduceLROnPlateau" else scheduler.step()
        found.append([(group["lr"], group["momentum"]) for group in own.param_groups])
    assert all(type(number) is float for step in found for pair in step for number in pair if number not in (0, 1))
    return found


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "option"), ROWS)
def test_a_number_of_any_type(name, option, kind):
    options = ARGUMENTS[name]
    try:
        value = KINDS[kind](options[option])
        fits = float(value) == options[option]
    except (TypeError, ValueError):
        fits = False
    if not fits or (option == "pct_start" and kind == "np.bool_"):
        value = KINDS["Fraction"](options[option])  # the type has no such number
    assert rates(name, **{**options, option: value}) == rates(name, **options)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["np.int64", "array", "tensor of integers", "Fraction", "Decimal"])
@pytest.mark.parametrize("name", [name for name in ARGUMENTS if name != "ReduceLROnPlateau"])
def test_last_epoch(name, kind):
    assert rates(name, **ARGUMENTS[name], last_epoch=KINDS[kind](-1)) == rates(name, **ARGUMENTS[name])


@pytest.mark.parametrize(
    ("option", "name", "more"),
    [
        ("max_lr", "OneCycleLR", {"total_steps": 20}),
        ("max_lr", "CyclicLR", {"base_lr": 0.125}),
        ("base_lr", "CyclicLR", {"max_lr": 1.0}),
        ("max_momentum", "OneCycleLR", {"total_steps": 20, "max_lr": 1.0, "base_momentum": [0.25, 0.5]}),
        ("min_lr", "ReduceLROnPlateau", {"patience": 0, "factor": 0.5}),
        ("swa_lr", "SWALR", {}),
    ],
)
@pytest.mark.parametrize(
    "convert",
    [
        np.array,
        torch.tensor,
        tuple,
        lambda values: [Fraction(value) for value in values],
        lambda values: (np.float32(values[0]), Decimal(values[1])),
        lambda values: [torch.tensor(values[0]), np.array(values[1])],
    ],
)
def test_one_for_each_group(option, name, more, convert):
    values = [0.5, 0.75]
    expected = rates(name, groups=2, **{**more, option: values})
    assert rates(name, groups=2, **{**more, option: convert(values)}) == expected


@pytest.mark.parametrize(
    "convert",
    [
        np.array,
        torch.tensor,
        tuple,
        lambda steps: [np.int8(step) for step in steps],
        lambda steps: [torch.tensor(step) for step in steps],
        lambda steps: [Fraction(step) for step in steps],
        lambda steps: np.array(steps, dtype=np.float32),
    ],
)
def test_milestones(convert):
    def sequence(milestones):
        own = optimizer()
        parts = [
            lr_scheduler.ConstantLR(own, 0.5, 2),
            lr_scheduler.ExponentialLR(own, 0.5),
            lr_scheduler.StepLR(own, 2),
        ]
        scheduler = lr_scheduler.SequentialLR(own, parts, milestones=milestones)
        found = []
        for _ in range(8):
            own.step()
            scheduler.step()
            found.append(own.param_groups[0]["lr"])
        return found

    assert rates("MultiStepLR", milestones=convert([2, 4])) == rates("MultiStepLR", milestones=[2, 4])
    assert sequence(convert([2, 4])) == sequence([2, 4])


NO_NUMBERS = ["1", b"1", [], [1.0], (), {}, object(), 1j, np.ones(2), torch.ones(2), type]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
@pytest.mark.parametrize(("name", "option"), ROWS)
def test_what_is_no_number_is_named(name, option, value):
    own = optimizer()
    groups = [dict(group) for group in own.param_groups]
    lists = ("base_lr", "max_lr", "base_momentum", "max_momentum", "min_lr", "swa_lr")
    if option in lists and isinstance(value, (list, tuple)) and len(value) == 1:
        return  # one for each group
    with pytest.raises((TypeError, ValueError)) as caught:
        (getattr(lr_scheduler, name, None) or getattr(swa_utils, name))(own, **{**ARGUMENTS[name], option: value})
    assert option in str(caught.value)
    assert [dict(group) for group in own.param_groups] == groups or isinstance(caught.value, ValueError)


@pytest.mark.parametrize("value", [["1"], [None], [1j], [object()], [[1, 2]]], ids=repr)
@pytest.mark.parametrize("option", ["milestones", "max_lr", "min_lr"])
def test_what_is_no_number_in_a_list_is_named(option, value):
    name = {"milestones": "MultiStepLR", "max_lr": "OneCycleLR", "min_lr": "ReduceLROnPlateau"}[option]
    with pytest.raises(TypeError, match=rf"^{option}\[0\] is .*, expected a number"):
        getattr(lr_scheduler, name)(optimizer(), **{**ARGUMENTS[name], option: value})


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("np.uint8",)])
def test_a_metric_of_any_type(kind):
    own = optimizer()
    scheduler = lr_scheduler.ReduceLROnPlateau(own, patience=0, factor=0.5)
    for metric in (KINDS[kind](1), np.array([1.0]), torch.ones(1, 1)):
        scheduler.step(metric)
    assert (own.param_groups[0]["lr"], scheduler.best, type(scheduler.best)) == (0.025, 1.0, float)
    for bad in (None, 1j, "a", [1.0], torch.ones(2), np.ones(2), object()):
        plain = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer())
        with pytest.raises(Exception, match=r".") as theirs:
            plain.step(bad)
        with pytest.raises(theirs.type, match=r"^metrics is .*, expected a number"):
            scheduler.step(bad)
    assert scheduler.last_epoch == 3
