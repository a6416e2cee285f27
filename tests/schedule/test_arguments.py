"""Bad arguments are errors that name the schedule, the argument, its value and the allowed range."""

import math

import pytest

from torchpace import schedule
from torchpace.schedule import cosine, exponential, linear

LENGTH = "expected a finite number > 0"
NOT_NEGATIVE = "expected a finite number >= 0"
MILESTONES = "expected at least one step, each finite, > 0 and greater than the one before"

BAD = [
    ("constant", {"factor": math.nan}, "constant: factor is NaN, expected a finite number"),
    ("linear", {"steps": 0}, f"linear: steps is 0, {LENGTH}"),
    ("linear", {"steps": -1}, f"linear: steps is -1, {LENGTH}"),
    ("linear", {"steps": math.inf}, f"linear: steps is inf, {LENGTH}"),
    ("linear", {"steps": 5, "start": math.inf}, "linear: start is inf, expected a finite number"),
    ("polynomial", {"steps": 5, "power": 0}, f"polynomial: power is 0, {LENGTH}"),
    ("polynomial", {"steps": 5, "floor": -0.5}, f"polynomial: floor is -0.5, {NOT_NEGATIVE}"),
    ("cosine", {"steps": math.nan}, f"cosine: steps is NaN, {LENGTH}"),
    ("exponential", {"factor": 0}, f"exponential: factor is 0, {LENGTH}"),
    ("exponential", {"factor": 0.5, "period": 0}, f"exponential: period is 0, {LENGTH}"),
    ("step", {"factor": -1, "period": 5}, "step: factor is -1, expected a number > 0 and <= 1"),
    ("step", {"factor": 30, "period": 0.1}, "step: factor is 30, expected a number > 0 and <= 1"),
    ("step", {"period": 0}, f"step: period is 0, {LENGTH}"),
    ("multi_step", {"milestones": []}, f"multi_step: milestones is [], {MILESTONES}"),
    ("multi_step", {"milestones": [5, 5]}, f"multi_step: milestones is [5, 5], {MILESTONES}"),
    ("multi_step", {"milestones": [0, 5]}, f"multi_step: milestones is [0, 5], {MILESTONES}"),
    (
        "piecewise",
        {"milestones": [5], "values": [1]},
        "piecewise: values is [1], expected finite numbers, one more than",
    ),
    ("inverse_sqrt", {"timescale": 0}, f"inverse_sqrt: timescale is 0, {LENGTH}"),
    ("inverse_time", {"timescale": 0}, f"inverse_time: timescale is 0, {LENGTH}"),
    ("noam", {"model_size": 0}, f"noam: model_size is 0, {LENGTH}"),
    ("one_cycle", {"steps": 9, "rise": 1}, "one_cycle: rise is 1, expected a number > 0 and < 1"),
    ("one_cycle", {"steps": 9, "shape": "round"}, "one_cycle: shape is \"round\", expected 'cosine' or 'linear'"),
    ("cyclic", {"up": 0}, f"cyclic: up is 0, {LENGTH}"),
    ("cyclic", {"up": 5, "shape": "exp_range", "gamma": 2}, "cyclic: gamma is 2, expected a number > 0 and <= 1"),
    ("cyclic", {"up": 5, "gamma": 0.5}, "cyclic: gamma is 0.5, expected 1 unless shape is 'exp_range'"),
    ("warm_restarts", {"period": 5, "growth": 0}, f"warm_restarts: growth is 0, {LENGTH}"),
    ("warm_restarts", {"period": 5, "decay": 1.5}, "warm_restarts: decay is 1.5, expected a number > 0 and <= 1"),
    ("warm_restarts", {"period": 5, "floor": 2}, "warm_restarts: floor is 2, expected a number from 0 to 1"),
    ("warmup", {"steps": 5, "shape": "exponential"}, "warmup: start is 0, expected a finite number > 0 where shape"),
    ("warmup_stable_decay", {"warmup": 5, "stable": 5, "decay": 0}, f"warmup_stable_decay: decay is 0, {LENGTH}"),
    ("warmup_stable_decay", {"warmup": -5, "stable": 5, "decay": 5}, f"warmup is -5, {NOT_NEGATIVE}"),
    ("plateau", {"factor": 1}, "plateau: factor is 1, expected a number > 0 and < 1"),
    ("plateau", {"patience": -1}, "plateau: patience is -1, expected a whole number >= 0"),
    ("plateau", {"patience": 0.5}, "plateau: patience is 0.5, expected a whole number >= 0"),
    ("plateau", {"mode": "auto"}, "plateau: mode is \"auto\", expected 'min' or 'max'"),
    ("plateau", {"threshold": 1.5}, "plateau: threshold is 1.5, expected a number < 1 where threshold_mode is 'rel'"),
    ("plateau", {"floor": 2}, "plateau: floor is 2, expected a number from 0 to 1"),
    ("plateau", {"ceiling": 0.5}, "plateau: ceiling is 0.5, expected a finite number >= 1"),
    ("epochs", {"number": -1, "steps_per_epoch": 5}, f"number is -1, {NOT_NEGATIVE}"),
    ("epochs", {"number": 1, "steps_per_epoch": 0}, "steps_per_epoch is 0, expected a whole number >= 1"),
    ("samples", {"number": 1, "batch_size": 0}, "batch_size is 0, expected a whole number >= 1"),
    ("samples", {"number": math.nan, "batch_size": 1}, f"number is nan, {NOT_NEGATIVE}"),
]


@pytest.mark.parametrize(("name", "options", "message"), BAD)
def test_values(name, options, message):
    with pytest.raises(ValueError, match=r".") as caught:
        getattr(schedule, name)(**options)
    assert message in str(caught.value)


OPERATORS = [
    (lambda s: s.then(s, at=0), f"then: at is 0, {LENGTH}"),
    (lambda s: s.then(s, at=-1), f"then: at is -1, {LENGTH}"),
    (lambda s: s.then(s).then(s, at=-1), f"then: at is -1, {LENGTH}"),
    (lambda s: s.then(s, at=math.nan), f"then: at is NaN, {LENGTH}"),
    (lambda _: exponential(0.5).then(cosine(5)), "then: at is None, expected a finite number > 0, for"),
    (lambda _: exponential(0.5).repeat(), "repeat: every is None, expected a finite number > 0, for"),
    (lambda _: exponential(0.5).reverse(), "reverse: steps is None, expected a finite number > 0, for"),
    (lambda s: s.repeat(0), f"repeat: every is 0, {LENGTH}"),
    (lambda s: s.repeat(5, times=0), "repeat: times is 0, expected None or a whole number >= 1"),
    (lambda s: s.reverse(-1), f"reverse: steps is -1, {LENGTH}"),
    (lambda s: s.shift(math.inf), "shift: steps is inf, expected a finite number"),
    (lambda s: s.scale(math.nan), "scale: factor is NaN, expected a finite number"),
    (lambda s: s.clamp(2, 1), "clamp: low is 2, expected None or a number <= high"),
    (lambda s: s.clamp(low=math.nan), "clamp: low is NaN, expected a finite number"),
    (lambda s: s.above(math.nan), "above: low is NaN, expected a finite number"),
    (lambda s: s.rebase(math.inf), "rebase: base is inf, expected a finite number"),
]


@pytest.mark.parametrize(("call", "message"), OPERATORS)
def test_operators(call, message):
    with pytest.raises(ValueError, match=r".") as caught:
        call(linear(10))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: cosine("ten"), "steps"),
        (lambda: linear(10, end=None), "end"),
        (lambda: schedule.warmup(10, shape=3), "shape"),
        (lambda: cosine(10).clamp(low="0"), "low"),
        (lambda: cosine(10).then(linear), "next"),
    ],
)
def test_types(call, argument):
    with pytest.raises(TypeError, match=argument):
        call()


def test_nesting_too_deep():
    s = linear(10)
    for _ in range(31):
        s = s.scale(0.5)
    with pytest.raises(ValueError, match="the schedule is 33 levels deep, expected at most 32"):
        s.scale(0.5)


def test_units():
    assert schedule.epochs(3, steps_per_epoch=100) == 300
    assert schedule.epochs(1.1, steps_per_epoch=10) == 11
    assert schedule.epochs(1.5, steps_per_epoch=3) == 5
    assert schedule.samples(1024, batch_size=256) == 4
    assert schedule.samples(1025, batch_size=256) == 5
    assert schedule.samples(0, batch_size=256) == 0
