"""Options may be numbers of any library; what is none, or out of its range, is an error that names the option."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from torchpace import control, optim
from torchpace.control._numbers import real, whole

WHOLE = [np.int64, np.int8, np.uint16, np.array, torch.tensor, Fraction, float, np.float32]
REAL = [np.float64, np.float32, np.float16, np.array, torch.tensor, Fraction]


def model():
    layer = torch.nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight.fill_(0.5)
        layer.bias.fill_(0.5)
    return layer


def monitor(**options):
    return control.Monitor(model(), **options).state_dict()


def guard(**options):
    made = control.DivergenceGuard(optim.SGD(model().parameters(), lr=0.1), **options)
    judge = made.judge
    return made.factor, made.max_retries, made.recover_after, judge.ratio, judge.window, judge.rise


def ring(**options):
    made = control.DivergenceGuard(optim.SGD(model().parameters(), lr=0.1), on="loss", **options)
    return len(made._way._free), made._way._every


def range_test(**options):
    layer = model()
    data = [torch.ones(4, 2) * k for k in range(3)]
    options = {"low": 0.01, "high": 1.0, "steps": 5, "progress": False, **options}
    return control.lr_range_test(
        layer, optim.SGD(layer.parameters(), lr=0.1), lambda layer, batch: layer(batch).square().mean(), data, **options
    )


def sharpness(**options):
    layer = model()
    return control.sharpness(lambda: layer(torch.ones(4, 2)).pow(4).sum(), layer, **options)


def curvature(**options):
    layer = model()
    scheduler = control.CurvatureLR(
        optim.SGD(layer.parameters(), lr=0.1),
        lambda batch: layer(batch).pow(4).sum(),
        [torch.ones(4, 2)] * 3,
        **options,
    )
    for _ in range(3):
        scheduler.optimizer.step()
        scheduler.step()
    return scheduler.get_last_lr(), scheduler.cost.measurements


def recorder(**options):
    layer = model()
    made = control.CKARecorder(layer, [""], torch.arange(6.0).reshape(3, 2), **options)
    made.record(0)
    return made.similarity("", 0, 0)


# What is called, its options, each with a value that does not show in the types, and one out of its range.
OPTIONS = {
    monitor: {"window": (18, 17), "grad_tol": (0.25, -1.0), "width": (32, 8), "seed": (3, None)},
    guard: {
        "ratio": (1.25, 1.0),
        "factor": (0.25, 1.0),
        "max_retries": (3, -1),
        "window": (5, 0),
        "recover_after": (7, 0),
        "rise": (0.125, -1.0),
    },
    ring: {"ring": (2, 0), "every": (4, 0)},
    range_test: {
        "low": (0.125, 0.0),
        "high": (0.5, 0.001),
        "steps": (6, 1),
        "smoothing": (0.25, 1.0),
        "stop_ratio": (0.5, 0.0),
        "repeats": (2, 0),
        "seed": (3, -1),
    },
    sharpness: {
        "k": (2, 0),
        "max_iter": (3, 0),
        "tol": (0.125, 0.0),
        "difference_step": (0.5, -1.0),
        "seed": (3, None),
    },
    curvature: {
        "batches": (2, 0),
        "safety": (0.5, 0.0),
        "every": (2, 0),
        "smoothing": (0.25, 1.0),
        "min_lr": (0.5, -1.0),
        "max_lr": (0.0625, -1.0),
        "max_iter": (3, 0),
        "tol": (0.125, 0.0),
        "seed": (3, None),
        "last_epoch": (-1, -2),
    },
    recorder: {"max_features": (1, 0), "seed": (3, None)},
    control.max_stable_lr: {
        "lambda_max": (4, -1),
        "momentum": (0.5, 1),
        "dampening": (0.25, 1),
        "weight_decay": (2, -1),
    },
    control.max_stable_lr_rmsprop: {"lambda_max": (4, -1), "momentum": (0.5, 1)},
    control.max_stable_lr_adam: {"lambda_max": (4, -1), "beta1": (0.5, 1), "decoupled_weight_decay": (2, -1)},
    control.scale_lr: {"lr": (0.5, -1), "batch": (4, 0), "to_batch": (2, 0)},
    control.effective_lr: {"lr": (0.5, -1), "momentum": (0.25, 1), "dampening": (0.5, 1)},
    control.retune: {"lr": (0.5, -1), "momentum": (0.25, 1), "to_momentum": (0.5, 1)},
}
REQUIRED = {
    control.max_stable_lr: {"lambda_max": 1.0},
    control.max_stable_lr_rmsprop: {"lambda_max": 1.0},
    control.max_stable_lr_adam: {"lambda_max": 1.0},
    control.scale_lr: {"lr": 1.0, "batch": 1.0, "to_batch": 3.0},
    control.effective_lr: {"lr": 1.0, "momentum": 0.5},
    control.retune: {"lr": 1.0, "momentum": 0.5, "to_momentum": 0.5},
}
CASES = [(call, name) for call, options in OPTIONS.items() for name in options]
each_option = pytest.mark.parametrize(("call", "name"), CASES, ids=lambda value: getattr(value, "__name__", value))


@each_option
def test_numbers_of_every_library(call, name):
    value = OPTIONS[call][name][0]
    others = REQUIRED.get(call, {})
    expected = call(**{**others, name: value})
    kinds = WHOLE if isinstance(value, int) else REAL
    for kind in kinds:
        if value >= 0 or kind is not np.uint16:
            assert call(**{**others, name: kind(value)}) == expected, kind


@each_option
def test_every_library_is_out_of_range_alike(call, name):
    value = OPTIONS[call][name][1]
    if value is None:
        return  # any will do
    for kind in (type(value), np.float32, np.array, Fraction):
        with pytest.raises(ValueError, match=rf"\b{name} is "):
            call(**{**REQUIRED.get(call, {}), name: kind(value)})
    with pytest.raises(ValueError, match=rf"\b{name} is (nan|NaN)"):
        call(**{**REQUIRED.get(call, {}), name: math.nan})


@each_option
def test_what_is_no_number(call, name):
    for wrong in ("1", 1j, np.complex64(1), np.ones(1), np.ones(2), torch.ones(2), [1], object(), b"1"):
        with pytest.raises(TypeError, match=rf"^{name} is .*, expected a number$"):
            call(**{**REQUIRED.get(call, {}), name: wrong})


@each_option
def test_counts_are_whole(call, name):
    if isinstance(OPTIONS[call][name][0], int) and call not in REQUIRED:
        for wrong in (16.5, np.float32(20.5), Fraction(41, 2), math.inf):
            with pytest.raises(ValueError, match=rf"{name} is .*, expected .*(a whole|an even) number"):
                call(**{name: wrong})


def test_huge_numbers():
    assert real("x", 10**400, lambda _: True) == math.inf
    assert real("x", -(10**400), lambda _: True) == -math.inf
    assert whole("x", 10**400) == 10**400
    with pytest.raises(ValueError, match="lambda_max is inf"):
        control.max_stable_lr(10**400)


def test_a_bound_takes_what_sharpness_returns():
    found = sharpness()
    assert control.max_stable_lr(found, momentum=0.5) == control.max_stable_lr(found.value, momentum=0.5)
    assert control.max_stable_lr_rmsprop(found) == control.max_stable_lr_rmsprop(found.value)
    assert control.max_stable_lr_adam(found) == control.max_stable_lr_adam(found.value)


def test_flags_and_words():
    assert control.max_stable_lr(1, 0.9, nesterov=np.True_) == control.max_stable_lr(1, 0.9, nesterov=True)
    with pytest.raises(TypeError, match="nesterov is of type int, expected True or False"):
        control.max_stable_lr(1, 0.9, nesterov=1)
    with pytest.raises(TypeError, match="rule is of type int, expected 'linear' or 'sqrt'"):
        control.scale_lr(1, 1, 1, rule=3)


def test_losses_of_every_library():
    layer = model()
    watch = control.Monitor(layer)
    layer(torch.ones(4, 2)).sum().backward()
    for loss in (np.float32(1.5), np.array(1.5), Fraction(3, 2), torch.tensor([1.5]), 1.5):
        watch.observe(loss)
    assert watch.state_dict()["losses"] == [1.5] * 5
    for wrong, error in (("1.5", TypeError), (None, TypeError), (np.ones(2), TypeError), (torch.tensor(1j), TypeError)):
        with pytest.raises(error, match="loss is "):
            watch.observe(wrong)
    assert watch.state_dict()["count"] == 5
    shared = np.array(1.0)
    watch.observe(shared)
    shared[()] = 7.0
    assert watch.state_dict()["losses"][-1] == 1.0
