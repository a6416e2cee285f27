"""Numbers of any type go wherever a number goes; what is none is an error whose text names the argument."""

import inspect
import re
from contextlib import contextmanager
from fractions import Fraction

import numpy as np
import pytest
import torch

import cases
from torchpace import control, optim, schedule

KINDS = {
    "np.int64": np.int64,
    "np.float32": np.float32,
    "np.float64": np.float64,
    "array": lambda value: np.array(value, dtype=np.float64),
    "Fraction": Fraction,
    "tensor": lambda value: torch.tensor(value, dtype=torch.float64),
}
NO_NUMBERS = ["1", b"1", [], [1.0], (), {}, object(), 1j, np.ones(2), torch.ones(2), type]

THEORY = [
    ("max_stable_lr", {"lambda_max": 4, "momentum": 0.5, "dampening": 0.25, "weight_decay": 0.5}),
    ("max_stable_lr_rmsprop", {"lambda_max": 4, "momentum": 0.5}),
    ("max_stable_lr_adam", {"lambda_max": 4, "beta1": 0.5, "decoupled_weight_decay": 0.25}),
    ("scale_lr", {"lr": 0.5, "batch": 256, "to_batch": 1024}),
    ("effective_lr", {"lr": 0.5, "momentum": 0.5, "dampening": 0.25}),
    ("retune", {"lr": 0.5, "momentum": 0.5, "to_momentum": 0.25}),
]
UNITS = [
    ("epochs", {"number": 3, "steps_per_epoch": 100}),
    ("samples", {"number": 1024, "batch_size": 256}),
]
PLATEAU = {"factor": 0.5, "patience": 3, "threshold": 0.25, "cooldown": 2, "floor": 0.25, "ceiling": 4}
METHODS = [
    ("__call__", {"step": 5, "base": 0.5}),
    ("values", {"start": 2, "stop": 9, "step": 2, "base": 0.5}),
    ("then", {"next": schedule.cosine(8), "at": 5}),
    ("clamp", {"low": 0.25, "high": 0.5}),
    ("repeat", {"every": 8, "times": 3}),
    ("scale", {"factor": 0.5}),
    ("shift", {"steps": 4}),
    ("reverse", {"steps": 8}),
    ("above", {"low": 0.25}),
    ("rebase", {"base": 0.5}),
]
CALLS = [
    *((getattr(schedule, name), options) for name, options in cases.SCHEDULES),
    *((getattr(schedule, name), options) for name, options in UNITS),
    (schedule.plateau, PLATEAU),
    *((getattr(schedule.linear(10), name), options) for name, options in METHODS),
    *((getattr(control, name), options) for name, options in THEORY),
]
THEORY_CALLS = {getattr(control, name) for name, _ in THEORY}


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


NUMBERS = [(call, options, name) for call, options in CALLS for name, value in options.items() if is_number(value)]
LISTS = [(call, options, name) for call, options in CALLS for name, value in options.items() if isinstance(value, list)]


@contextmanager
def named(name, *errors):
    """An error whose own text has the name as a word; pytest's `match` would read its notes too."""
    with pytest.raises(errors or (TypeError, ValueError)) as caught:
        yield caught
    assert re.search(rf"\b{name}\b", str(caught.value)), str(caught.value)


def label(row):
    return getattr(row, "__name__", None) or (row if isinstance(row, str) else "")


def same(one, other):
    return np.array_equal(one, other) if isinstance(one, np.ndarray) else one == other


OF_ANY_TYPE = [(*row, kind) for row in NUMBERS for kind in KINDS if kind != "np.int64" or row[1][row[2]] % 1 == 0]


@pytest.mark.parametrize(("call", "options", "name", "kind"), OF_ANY_TYPE, ids=label)
def test_numbers_of_any_type(call, options, name, kind):
    if kind == "np.float32":
        options = {**options, name: float(np.float32(options[name]))}
    assert same(call(**{**options, name: KINDS[kind](options[name])}), call(**options))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("call", "options", "name"), LISTS, ids=label)
def test_lists_of_numbers_of_any_type(call, options, name, kind):
    whole = [int(value) if value == int(value) else value for value in options[name]]
    given = [
        KINDS[kind](value) if kind not in ("np.int64", "np.float32") or value == int(value) else value
        for value in whole
    ]
    assert call(**{**options, name: given}) == call(**options)


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
@pytest.mark.parametrize(("call", "options", "name"), NUMBERS, ids=label)
def test_what_is_no_number_is_named(call, options, name, value):
    if getattr(call, "__name__", "") == "__call__" and name == "step" and np.ndim(value) > 0:
        assert call(**{**options, name: value}).shape == np.shape(value)  # a rate for each
        return
    with named(name) as caught:
        call(**{**options, name: value})
    assert "number" in str(caught.value)


@pytest.mark.parametrize("value", [3, None, "12", [None], ["1"], [[1.0]], [object()]], ids=repr)
@pytest.mark.parametrize(("call", "options", "name"), LISTS, ids=label)
def test_what_is_no_list_of_numbers_is_named(call, options, name, value):
    with named(name):
        call(**{**options, name: value})


@pytest.mark.parametrize(("call", "options"), CALLS, ids=label)
def test_none_where_there_is_none_is_named(call, options):
    for name, parameter in inspect.signature(call).parameters.items():
        if name in options and parameter.default is not None:
            with named(name):
                call(**{**options, name: None})


@pytest.mark.parametrize("value", [3, None, b"linear", ["linear"], object(), "no such word"], ids=repr)
@pytest.mark.parametrize(("call", "options"), CALLS, ids=label)
def test_words_are_named(call, options, value):
    for name, parameter in inspect.signature(call).parameters.items():
        if isinstance(parameter.default, str):
            with named(name):
                call(**{**options, name: value})


@pytest.mark.parametrize("value", ["yes", None, 2, object(), [True]], ids=repr)
@pytest.mark.parametrize(("call", "options"), CALLS, ids=label)
def test_flags_are_named(call, options, value):
    for name, parameter in inspect.signature(call).parameters.items():
        if isinstance(parameter.default, bool):
            with named(name):
                call(**{**options, name: value})


@pytest.mark.parametrize(("call", "options", "name"), NUMBERS, ids=label)
def test_a_number_that_no_float_holds_is_named(call, options, name):
    # `control` takes it for infinite, which is out of every range there.
    with named(name, ValueError if call in THEORY_CALLS else OverflowError):
        call(**{**options, name: 10**400})


def test_a_number_whose_conversion_fails_raises_what_it_raised():
    class Failing:
        def __float__(self):
            raise LookupError("not today")

    with pytest.raises(LookupError, match="not today"):
        schedule.cosine(Failing())
    with pytest.raises(LookupError, match="not today"):
        control.effective_lr(Failing(), 0.5)


@pytest.mark.parametrize("value", [3, None, b"{}", object()], ids=repr)
def test_json_that_is_no_text_is_named(value):
    with named("text", TypeError):
        schedule.Schedule.from_json(value)


@pytest.mark.parametrize("value", [3, None, "x", []], ids=repr)
def test_a_function_that_is_none_is_named(value):
    with named("call", TypeError):
        schedule.function(value)


def at_work():
    """Schedulers' methods that take a number, by its name."""
    plain = schedule.linear(10).on(cases.scheduled())
    by_metric = schedule.plateau(0.5).on(cases.scheduled())
    return {
        "step": plain.seek,
        "epoch": plain.step,
        "base": plain.rebase,
        "metrics": by_metric.step,
    }


@pytest.mark.filterwarnings("ignore:the scheduler's step", "ignore:The epoch parameter")
@pytest.mark.parametrize("value", [*NO_NUMBERS, 10**400], ids=label)
@pytest.mark.parametrize("name", at_work())
def test_what_is_no_number_for_a_scheduler_is_named(name, value):
    if name == "base" and np.shape(value) == (2,):
        at_work()[name](value)  # one for each group
        return
    with named(name, TypeError, ValueError, OverflowError):
        at_work()[name](value)


@pytest.mark.filterwarnings("ignore:the scheduler's step", "ignore:The epoch parameter")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", at_work())
def test_numbers_of_any_type_for_a_scheduler(name, kind):
    outcomes = []
    for value in (KINDS[kind](2), 2.0):
        method = at_work()[name]
        method(value)
        outcomes.append((method.__self__.get_last_lr(), method.__self__.state_dict()))
    assert outcomes[0] == outcomes[1]


def test_a_number_of_any_type_times_a_schedule():
    halved = schedule.linear(10) * 0.5
    for kind, make_number in KINDS.items():
        if kind != "np.int64":
            assert make_number(0.5) * schedule.linear(10) == schedule.linear(10) * make_number(0.5) == halved, kind
    assert np.int64(2) * schedule.linear(10) == 2 * schedule.linear(10)
    for value in ("2", None, [2.0], object()):
        with pytest.raises(TypeError):
            schedule.linear(10) * value


# Optimizers. What their constructors refuse is in tests/optim/test_constructor_numbers.py.

OPTIONS = {
    "SGD": {"lr": 0.5, "momentum": 0.5, "dampening": 0.25, "weight_decay": 0.25},
    "RMSprop": {"lr": 0.5, "alpha": 0.5, "eps": 0.25, "weight_decay": 0.25, "momentum": 0.5},
    "Adagrad": {"lr": 0.5, "lr_decay": 0.5, "weight_decay": 0.25, "initial_accumulator_value": 0.5, "eps": 0.25},
    "Adam": {"lr": 0.5, "betas": (0.5, 0.25), "eps": 0.25, "weight_decay": 0.25},
    "AdamW": {"lr": 0.5, "betas": (0.5, 0.25), "eps": 0.25, "weight_decay": 0.25},
    "Adadelta": {"lr": 0.5, "rho": 0.5, "eps": 0.25, "weight_decay": 0.25},
    "Adamax": {"lr": 0.5, "betas": (0.5, 0.25), "eps": 0.25, "weight_decay": 0.25},
    "RAdam": {"lr": 0.5, "betas": (0.5, 0.25), "eps": 0.25, "weight_decay": 0.25},
    "Rprop": {"lr": 0.5, "etas": (0.5, 1.5), "step_sizes": (0.25, 2.0)},
    "Lion": {"lr": 0.5, "betas": (0.5, 0.25), "weight_decay": 0.25},
    "AdEMAMix": {
        "lr": 0.5,
        "betas": (0.5, 0.25, 0.75),
        "alpha": 0.5,
        "beta3_warmup": 2.5,
        "alpha_warmup": 1.5,
        "eps": 0.25,
        "weight_decay": 0.25,
    },
    "LAMB": {"lr": 0.5, "betas": (0.5, 0.25), "eps": 0.25, "weight_decay": 0.25},
    "LARS": {
        "lr": 0.5,
        "momentum": 0.5,
        "dampening": 0.25,
        "weight_decay": 0.25,
        "trust_coefficient": 0.5,
        "eps": 0.25,
    },
    "NAdam": {"lr": 0.5, "betas": (0.5, 0.25), "eps": 0.25, "weight_decay": 0.25, "momentum_decay": 0.25},
    "ASGD": {"lr": 0.5, "lambd": 0.25, "alpha": 0.5, "t0": 2.0, "weight_decay": 0.25},
    "Prodigy": {
        "lr": 0.5,
        "betas": (0.5, 0.25),
        "beta3": 0.75,
        "eps": 0.25,
        "weight_decay": 0.25,
        "d0": 0.125,
        "d_coef": 0.5,
        "growth_rate": 1.5,
    },
    "ScheduleFreeAdamW": {
        "lr": 0.5,
        "betas": (0.5, 0.25),
        "eps": 0.25,
        "weight_decay": 0.25,
        "warmup_steps": 2.5,
        "r": 0.5,
        "weight_lr_power": 1.5,
    },
    "ScheduleFreeSGD": {
        "lr": 0.5,
        "momentum": 0.5,
        "weight_decay": 0.25,
        "warmup_steps": 2.5,
        "r": 0.5,
        "weight_lr_power": 1.5,
    },
}
CLIPPING = {"max_grad_norm": 1.0, "clip_value": 0.25}
EACH_OPTION = [(name, option) for name, options in OPTIONS.items() for option in (*options, *CLIPPING)]


def train(optimizer, steps=3):
    param = optimizer.param_groups[0]["params"][0]
    for step in range(steps):
        param.grad = torch.linspace(1, 2, 5, dtype=torch.float64) * (step + 1)
        optimizer.step()
    return param.detach()


def make(name, **options):
    return getattr(optim, name)([torch.nn.Parameter(torch.linspace(-1, 1, 5, dtype=torch.float64))], **options)


def of_kind(kind, value):
    return tuple(KINDS[kind](part) for part in value) if isinstance(value, tuple) else KINDS[kind](value)


@pytest.mark.parametrize("where", ["constructor", "group", "later"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "option"), EACH_OPTION)
def test_every_option_of_every_optimizer(name, option, kind, where):
    options = {**OPTIONS[name], **CLIPPING}
    if kind == "np.int64":
        if option == "etas":
            pytest.skip("no whole number lies between 0 and 1")
        if name.startswith("ScheduleFree") and option in ("betas", "momentum"):
            pytest.skip("no whole number lies between 0 and 1")
        zeros = (0,) * len(options.get("betas", ()))
        whole = {"betas": zeros, "step_sizes": (1, 2), "dampening": 0, "rho": 0}.get(option, 1)
        options[option] = whole
        expected = make(name, **{**options, option: of_kind("np.float64", whole)})
    else:
        expected = make(name, **options)
    value = of_kind(kind, options[option])
    if where == "constructor":
        optimizer = make(name, **{**options, option: value})
    elif where == "group":
        given = {**options, option: expected.defaults[option]}
        param = make(name).param_groups[0]["params"][0]
        optimizer = getattr(optim, name)([{"params": [param], option: value}], **given)
    else:
        optimizer = make(name, **{**options, option: expected.defaults[option]})
        optimizer.param_groups[0][option] = value
    torch.testing.assert_close(train(optimizer), train(expected), rtol=0, atol=0)
    assert optimizer.last_path == "fused"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("option", CLIPPING)
@pytest.mark.parametrize("name", OPTIONS)
def test_clipping_by_numbers_of_any_type_where_torch_steps(name, option, kind):
    value = of_kind(kind, 1)
    why, reason = {"differentiable": True}, "param_groups[0] has differentiable=True"
    if name == "Prodigy":
        why, reason = {"slice_p": 2}, "slice_p is 2"
    optimizers = [make(name, lr=0.5, **why, **{option: number}) for number in (value, 1.0)]
    for optimizer in optimizers:
        param = optimizer.param_groups[0]["params"][0]
        optimizer.param_groups[0]["params"][0] = param.detach().clone()
        optimizer.param_groups[0][option] = value if optimizer is optimizers[0] else 1.0
    moved = [train(optimizer) for optimizer in optimizers]
    assert [optimizer.last_path for optimizer in optimizers] == [f"torch: {reason}"] * 2
    torch.testing.assert_close(moved[0], moved[1], rtol=0, atol=0)


@pytest.mark.parametrize("where", ["constructor", "later"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("differentiable", [False, True])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_threshold_of_any_type(name, differentiable, kind, where):
    """Of the norms 3.4, 6.8 and 10.2 the first is below it, whoever steps."""
    value = KINDS[kind](5)
    optimizer = make(name, skip_grad_norm=value if where == "constructor" else None)
    optimizer.param_groups[0]["differentiable"] = differentiable
    optimizer.param_groups[0]["params"][0].requires_grad_(False)  # so that it may be written in a differentiable step
    if where == "later":
        optimizer.param_groups[0]["skip_grad_norm"] = value
    skipped = []
    for steps in range(3):
        optimizer.param_groups[0]["params"][0].grad = torch.linspace(1, 2, 5, dtype=torch.float64) * (steps + 1)
        optimizer.step()
        skipped.append(optimizer.last_step_skipped)
    assert skipped == [False, True, True]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
@pytest.mark.parametrize("option", [*CLIPPING, "skip_grad_norm"])
@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_of_ours_that_is_no_number_is_named(name, option, value):
    with named(f"Invalid {option} value", ValueError):
        make(name, **{option: value})
    optimizer = make(name)
    optimizer.param_groups[0][option] = value
    with named(option, TypeError):
        train(optimizer)


READ_BY_STEPS = [(name, option) for name, option in EACH_OPTION if option != "initial_accumulator_value"]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
@pytest.mark.parametrize(("name", "option"), READ_BY_STEPS)
def test_an_option_in_a_group_that_is_no_number_is_named(name, option, value):
    optimizer = make(name)
    is_pair = isinstance(OPTIONS[name].get(option), tuple)
    optimizer.param_groups[0][option] = value[:1] if is_pair and np.shape(value) == (2,) else value
    with named(option, TypeError):
        train(optimizer)


@pytest.mark.parametrize("option", ["averaged", "eps_inside", "mean"])
def test_a_flag_that_is_none_is_named(option):
    name = {"averaged": "SGD", "eps_inside": "RMSprop", "mean": "Adagrad"}[option]
    for value in (torch.ones(2), np.ones(2)):
        with named(option, TypeError):
            make(name, **{option: value})
    momentum = {"momentum": 0.9} if name == "SGD" else {}
    assert make(name, **{option: np.True_}, **momentum).defaults[option] is True
    assert option not in make(name, **{option: np.False_}).defaults


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "tensor"])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_checkpoint_holds_our_options_as_plain_numbers(name, kind, tmp_path):
    """As NumPy's are refused where a checkpoint is loaded safely."""
    value = of_kind(kind, 1)
    optimizer = make(name, max_grad_norm=value)
    optimizer.add_param_group({"params": [torch.zeros(2, requires_grad=True)], "clip_value": value})
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    groups = torch.load(tmp_path / "state.pt", weights_only=True)["param_groups"]
    assert [group["max_grad_norm"] for group in groups] == [1.0, 1.0]
    assert groups[1]["clip_value"] == 1.0
