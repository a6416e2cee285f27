"""A scheduler's state: each entry checked, all taken over or nothing, in any order with the optimizer's."""

import copy
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchpace import optim
from torchpace.schedule import constant, cosine, cyclic, function, linear, one_cycle, plateau, warmup

CURVE = warmup(5, start=0.1).then(cosine(20, floor=0.01))
FOLLOWS = warmup(2, start=0.5).then(plateau(0.5, patience=0))


def sgd(*lrs, module=torch.optim, **options):
    groups = [{"params": [torch.nn.Parameter(torch.ones(2))], "lr": lr} for lr in lrs or (0.1,)]
    optimizer = module.SGD(groups, lr=1.0, **options)
    optimizer._opt_called = True  # as if it had stepped, which schedulers look for
    return optimizer


def settings_of(optimizer):
    return [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]


def in_use():
    optimizer = sgd(0.1, 0.3, momentum=0.9)
    schedulers = CURVE.on(optimizer), FOLLOWS.on(optimizer, "momentum")
    for step in range(7):
        schedulers[0].step()
        schedulers[1].step(float(step))
    return schedulers


STATE, PLATEAU = (scheduler.state_dict() for scheduler in in_use())
MEMORY = PLATEAU["plateaus"][0]


def without(state, name):
    return {key: value for key, value in state.items() if key != name}


def remembering(**entries):
    return PLATEAU | {"plateaus": [MEMORY | entries]}


BAD = [
    (STATE | {"last_epoch": math.nan}, ValueError, "last_epoch is nan, expected a finite number >= 0, or -1"),
    (STATE | {"last_epoch": math.inf}, ValueError, "last_epoch is inf, expected"),
    (STATE | {"last_epoch": -2}, ValueError, "last_epoch is -2, expected"),
    (STATE | {"last_epoch": -0.5}, ValueError, "last_epoch is -0.5, expected"),
    (STATE | {"last_epoch": "7"}, TypeError, "last_epoch is '7', expected a number"),
    (STATE | {"last_epoch": None}, TypeError, "last_epoch is None, expected a number"),
    (STATE | {"last_epoch": True}, TypeError, "last_epoch is True, expected a number"),
    (STATE | {"last_epoch": [7]}, TypeError, r"last_epoch is \[7\], expected a number"),
    (STATE | {"_step_count": -1}, ValueError, "_step_count is -1, expected a whole number >= 0"),
    (STATE | {"_step_count": 1.5}, ValueError, "_step_count is 1.5, expected a whole number >= 0"),
    (STATE | {"_step_count": "8"}, TypeError, "_step_count is '8', expected a number"),
    (
        STATE | {"base_values": [0.1, math.nan]},
        ValueError,
        r"base_values\[1\] is nan, expected a finite number, or None",
    ),
    (STATE | {"base_values": [math.inf, 0.1]}, ValueError, r"base_values\[0\] is inf, expected a finite number"),
    (STATE | {"base_values": ["0.1", 0.1]}, TypeError, r"base_values\[0\] is '0.1', expected a number"),
    (STATE | {"base_values": 0.1}, TypeError, "base_values is 0.1, expected a list"),
    (STATE | {"base_values": [0.1] * 3}, ValueError, "the state is of 3 groups, expected at most 2"),
    (STATE | {"param": "momentum"}, ValueError, "of a schedule for 'momentum', expected 'lr'"),
    (STATE | {"plateaus": [MEMORY]}, ValueError, "the state is of 1 plateaus, expected 0"),
    *((without(STATE, name), KeyError, f"the state has no '{name}', only") for name in STATE),
    (None, TypeError, "the state is of type NoneType, expected a dict"),
    ([], TypeError, "the state is of type list, expected a dict"),
    ({}, KeyError, "the state has no 'param'"),
]
BAD_PLATEAU = [
    (without(PLATEAU, "plateaus"), KeyError, "the state has no 'plateaus'"),
    (PLATEAU | {"plateaus": []}, ValueError, "the state is of 0 plateaus, expected 1"),
    (PLATEAU | {"plateaus": MEMORY}, TypeError, "plateaus is {.*}, expected a list"),
    (PLATEAU | {"plateaus": [3]}, TypeError, r"plateaus\[0\] is 3, expected a dict"),
    *(
        (PLATEAU | {"plateaus": [without(MEMORY, name)]}, KeyError, rf"plateaus\[0\] has no '{name}', expected 'scale'")
        for name in MEMORY
    ),
    (remembering(scale=math.nan), ValueError, r"plateaus\[0\]\['scale'\] is nan, expected a finite number >= 0"),
    (remembering(scale=math.inf), ValueError, r"plateaus\[0\]\['scale'\] is inf, expected a finite number >= 0"),
    (remembering(scale=-0.5), ValueError, r"plateaus\[0\]\['scale'\] is -0.5, expected a finite number >= 0"),
    (remembering(scale="1"), TypeError, r"plateaus\[0\]\['scale'\] is '1', expected a number"),
    (remembering(best=math.nan), ValueError, r"plateaus\[0\]\['best'\] is nan, expected a number"),
    (remembering(worse=-1), ValueError, r"plateaus\[0\]\['worse'\] is -1, expected a whole number >= 0"),
    (remembering(better=0.5), ValueError, r"plateaus\[0\]\['better'\] is 0.5, expected a whole number >= 0"),
    (remembering(cooldown=math.inf), ValueError, r"plateaus\[0\]\['cooldown'\] is inf, expected a whole number"),
    (PLATEAU | {"last_epoch": math.nan}, ValueError, "last_epoch is nan"),
]


@pytest.mark.parametrize(
    ("which", "state", "error", "message"), [*((0, *bad) for bad in BAD), *((1, *bad) for bad in BAD_PLATEAU)]
)
def test_a_bad_state_is_named_and_changes_nothing(which, state, error, message):
    scheduler = in_use()[which]
    before, groups = scheduler.state_dict(), copy.deepcopy(settings_of(scheduler.optimizer))
    given = copy.deepcopy(state)
    with pytest.raises(error, match=message):
        scheduler.load_state_dict(state)
    assert scheduler.state_dict() == before
    assert settings_of(scheduler.optimizer) == groups
    assert repr(state) == repr(given)
    scheduler.load_state_dict((STATE, PLATEAU)[which])
    assert scheduler.state_dict() == (STATE, PLATEAU)[which]


@pytest.mark.parametrize(
    "make",
    [
        lambda o: torch.optim.lr_scheduler.StepLR(o, 3),
        lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o),
        lambda o: optim.lr_scheduler.SequentialLR(o, [optim.lr_scheduler.ConstantLR(o)], []),
        lambda o: optim.Adam([torch.nn.Parameter(torch.ones(2))]),
    ],
)
def test_the_state_of_another_class(make):
    for scheduler in in_use():
        with pytest.raises(KeyError, match=r"the state has no 'param', only \[.*\]: expected a Scheduler's state"):
            scheduler.load_state_dict(make(sgd()).state_dict())


def test_a_schedule_that_has_no_rate_there_changes_nothing():
    def broken(step):
        if step == 5:
            raise RuntimeError("no rate")
        return 1 / (step + 1)

    optimizer = sgd(0.1, 0.2)
    scheduler = function(broken).on(optimizer)
    before, groups = scheduler.state_dict(), settings_of(optimizer)
    with pytest.raises(RuntimeError, match="no rate"):
        scheduler.load_state_dict(before | {"last_epoch": 5, "_step_count": 6, "base_values": [0.5, 0.5]})
    assert (scheduler.state_dict(), settings_of(optimizer)) == (before, groups)


def test_numbers_of_any_type_are_taken_as_pythons():
    scheduler, follows = in_use()
    scheduler.load_state_dict(
        {
            "param": "lr",
            "last_epoch": np.int64(7),
            "_step_count": np.float32(8),
            "base_values": (torch.tensor(0.5, dtype=torch.float64), Fraction(1, 4)),
        }
    )
    assert repr(scheduler.state_dict()) == repr(STATE | {"base_values": [0.5, 0.25]})
    assert [group["lr"] for group in scheduler.optimizer.param_groups] == [CURVE(7, 0.5), CURVE(7, 0.25)]
    follows.load_state_dict(PLATEAU | {"plateaus": [{name: np.float64(value) for name, value in MEMORY.items()}]})
    assert repr(follows.state_dict()) == repr(PLATEAU)


def test_a_state_from_before_its_turn_in_a_sequence():
    def build():
        optimizer = sgd(0.1)
        turns = [constant(0.5).on(optimizer), linear(10).on(optimizer)]
        return torch.optim.lr_scheduler.SequentialLR(optimizer, turns, milestones=[3])

    saved, resumed = build(), build()
    saved.step()
    state = saved.state_dict()
    assert state["_schedulers"][1]["last_epoch"] == -1
    resumed.load_state_dict(state)
    for _ in range(6):
        assert settings_of(resumed.optimizer) == settings_of(saved.optimizer)
        assert resumed.get_last_lr() == saved.get_last_lr()
        saved.step()
        resumed.step()


numbers = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
anything = numbers | st.lists(numbers | st.fixed_dictionaries(dict.fromkeys(MEMORY, numbers)), max_size=3)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([0, 1]), st.dictionaries(st.sampled_from([*PLATEAU, "more"]), anything, max_size=3))
def test_any_state_is_taken_over_or_refused(which, entries):
    """Whatever a file holds: after a refusal all is as it was, after a load a step can be made."""
    scheduler = in_use()[which]
    before, groups = scheduler.state_dict(), copy.deepcopy(settings_of(scheduler.optimizer))
    try:
        scheduler.load_state_dict((STATE, PLATEAU)[which] | entries)
    except (KeyError, TypeError, ValueError, OverflowError):
        assert scheduler.state_dict() == before
        assert settings_of(scheduler.optimizer) == groups
    else:
        scheduler.step(*([1.0] if which else []))
        assert all(math.isfinite(group["lr"]) for group in scheduler.optimizer.param_groups)


# With the optimizer's state, in any order


def of_rate(optimizer):
    return [CURVE.on(optimizer)]


def of_both(optimizer):
    return [one_cycle(30).on(optimizer), cyclic(3).on(optimizer, "momentum")]


def of_a_metric(optimizer):
    return [FOLLOWS.on(optimizer)]


def of_groups(optimizer):
    return [linear(20).on(optimizer, groups=0), CURVE.on(optimizer, groups=[1])]


ORDERS = [order for order in itertools.permutations("ONS") if order.index("N") < order.index("S")]


def step(schedulers, metric):
    for scheduler in schedulers:
        scheduler.step(*([metric] if hasattr(scheduler, "wants_metric") else []))


@pytest.mark.parametrize("make", [of_rate, of_both, of_a_metric, of_groups])
@pytest.mark.parametrize("order", ORDERS, ids="".join)
@pytest.mark.parametrize("at", [0, 1, 5, 12])
def test_resume_in_any_order(make, order, at):
    """The optimizer's state, a new scheduler and its state."""
    run, resumed = sgd(0.1, 0.3, momentum=0.9), sgd(0.1, 0.3, momentum=0.9)
    straight, again = make(run), None
    for index in range(at):
        step(straight, float(index))
    saved = copy.deepcopy([run.state_dict(), [scheduler.state_dict() for scheduler in straight]])
    for what in order:
        if what == "O":
            resumed.load_state_dict(saved[0])
        elif what == "N":
            again = make(resumed)
        else:
            for scheduler, state in zip(again, saved[1], strict=True):
                scheduler.load_state_dict(state)
    for index in range(5):
        assert settings_of(resumed) == settings_of(run)
        rates = [group["lr"] for group in run.param_groups]
        assert [scheduler.get_last_lr() for scheduler in again] == [rates] * len(again)
        step(straight, float(index))
        step(again, float(index))
