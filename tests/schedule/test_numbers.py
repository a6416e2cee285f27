"""Numbers may be of any type: NumPy's scalars, 0-dim arrays and tensors, fractions; arrays of steps give arrays."""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

import cases
from torchpace import schedule
from torchpace.schedule import Schedule, cosine, function, linear, plateau, warmup

TYPES = {
    "int64": np.int64,
    "int8": np.int8,
    "float32": np.float32,
    "float64": np.float64,
    "0-dim array": np.array,
    "0-dim array of int32": lambda value: np.array(value, dtype=np.int32),
    "tensor": torch.tensor,
    "fraction": Fraction,
    "decimal": Decimal,
}
each_type = pytest.mark.parametrize("convert", TYPES.values(), ids=TYPES)


def converted(value, convert):
    if isinstance(value, list):
        return [converted(one, convert) for one in value]
    # What is not whole cannot be an integer; what is no power of two is another float32; what is large no int8.
    try:
        exact = not isinstance(value, (str, bool)) and float(convert(value)) == value
    except OverflowError:
        exact = False
    return convert(value) if exact else value


@each_type
def test_every_option_of_every_schedule(convert):
    rows = [*cases.SCHEDULES, ("plateau", {"patience": 3, "cooldown": 2, "factor": 0.5, "ceiling": 2})]
    for name, options in rows:
        make = getattr(schedule, name)
        assert make(**{key: converted(value, convert) for key, value in options.items()}) == make(**options), name


@each_type
def test_every_operator(convert):
    s, two = linear(10), convert(2)
    assert s.then(s, at=two) == s.then(s, at=2)
    assert s * two == two * s == s * 2
    assert isinstance(two * s, Schedule)
    assert s.clamp(two, convert(3)) == s.clamp(2, 3)
    assert s.repeat(two, times=two) == s.repeat(2, 2)
    for name in ("scale", "shift", "reverse", "above", "rebase"):
        assert getattr(s, name)(two) == getattr(s, name)(2)
    assert s(two) == s(2) == s[two]
    assert s(two, base=two) == s(2, 2)
    assert s.values(two, convert(8), two, base=two).tolist() == s.values(2, 8, 2, base=2).tolist()
    assert schedule.epochs(two, steps_per_epoch=two) == schedule.samples(convert(8), batch_size=two) == 4
    assert type(schedule.epochs(two, steps_per_epoch=two)) is int
    assert s.preview(two, base=two, width=two) == s.preview(2, base=2, width=2)
    assert function(lambda step: two)(3) == 2


@each_type
def test_every_argument_of_a_scheduler(convert):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=2.0, momentum=0.5)
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": convert(2), "momentum": convert(1)})
    optimizer._opt_called = True
    schedulers = linear(10).on(optimizer), linear(10).on(optimizer, "momentum")
    assert [scheduler.base_values for scheduler in schedulers] == [[2.0, 2.0], [0.5, 1.0]]
    for scheduler in schedulers:
        scheduler.seek(convert(5))
    assert [float(group["lr"]) for group in optimizer.param_groups] == [1.0, 1.0]
    assert float(optimizer.param_groups[1]["momentum"]) == 0.5
    schedulers[0].rebase(convert(4))
    schedulers[1].rebase([convert(1), convert(2)])
    assert (schedulers[0].base_values, schedulers[1].base_values) == ([4.0, 4.0], [1.0, 2.0])
    with pytest.warns(UserWarning, match="epoch parameter"):
        schedulers[0].step(convert(3))
    assert repr(schedulers[0].state_dict()) == repr(
        {"param": "lr", "last_epoch": 3, "_step_count": 7, "base_values": [4.0, 4.0]}
    )
    metric = plateau(0.5, patience=0).on(optimizer, groups=0)
    metric.step(convert(1))
    assert (metric.best, type(metric.best)) == (1.0, float)


@pytest.mark.parametrize(
    "groups", [np.int64(1), np.array(1), torch.tensor(1), [np.int8(1)], np.array([1]), range(1, 2), {1}, (1,)], ids=repr
)
def test_indices_of_groups(groups):
    params = [{"params": [torch.nn.Parameter(torch.ones(1))]} for _ in range(2)]
    scheduler = linear(10).on(torch.optim.SGD(params, lr=0.1), groups=groups)
    assert scheduler.base_values == [None, 0.1]


@pytest.mark.parametrize("last_epoch", [3, np.int64(3), np.array(3), torch.tensor(3)])
def test_last_epoch(last_epoch):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    optimizer.param_groups[0]["initial_lr"] = 0.1
    scheduler = linear(10).on(optimizer, last_epoch=last_epoch)
    assert (scheduler.last_epoch, type(scheduler.last_epoch)) == (4, int)
    for bad, error in (("3", TypeError), (1.5, TypeError), (-2, ValueError)):
        with pytest.raises(error, match=f"last_epoch is {bad!r}, expected an integer"):
            linear(10).on(optimizer, last_epoch=bad)


def optimizer_of_two():
    optimizer = torch.optim.SGD([{"params": [torch.nn.Parameter(torch.ones(1))]} for _ in range(2)], lr=0.1)
    optimizer._opt_called = True
    return optimizer


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: linear(5)("3"), TypeError, "step is '3', expected a number"),
        (lambda: linear(5)(None), TypeError, "step is None, expected a number"),
        (lambda: linear(5)(["3", None]), TypeError, "step is '3', expected a number"),
        (lambda: linear(5)([3, None]), TypeError, "step is None, expected a number"),
        (lambda: linear(5)([True, False]), TypeError, "step is True, expected a number"),
        (lambda: linear(5)([1, -1]), ValueError, r"step is \[1, -1\], expected finite numbers >= 0"),
        (lambda: linear(5)(np.array([1, math.nan])), ValueError, r"step is \[ 1. nan\], expected finite numbers >= 0"),
        (lambda: linear(5).values("0", 5), TypeError, "start is '0', expected a number"),
        (lambda: linear(5).values(0, "5"), TypeError, "stop is '5', expected a number"),
        (lambda: linear(5).values(0, 5, "1"), TypeError, "step is '1', expected a number"),
        (lambda: linear(5).preview("5"), TypeError, "steps is '5', expected a number"),
        (lambda: linear(5).preview(2.5), ValueError, "steps is 2.5, expected a whole number >= 1"),
        (lambda: linear(5).preview(width=[5]), TypeError, r"width is \[5\], expected a number"),
        (lambda: schedule.epochs("1", steps_per_epoch=5), TypeError, "number is '1', expected a number"),
        (lambda: schedule.epochs(1, steps_per_epoch=None), TypeError, "steps_per_epoch is None, expected a number"),
        (lambda: schedule.epochs(1, steps_per_epoch=1.5), ValueError, "steps_per_epoch is 1.5, expected a whole"),
        (lambda: schedule.samples(1, batch_size=2.5), ValueError, "batch_size is 2.5, expected a whole number >= 1"),
        (lambda: linear(5).on(optimizer_of_two()).seek("3"), TypeError, "step is '3', expected a number"),
        (lambda: linear(5).on(optimizer_of_two()).step("3"), TypeError, "epoch is '3', expected a number"),
        (lambda: linear(5).on(optimizer_of_two()).rebase("3"), TypeError, "base is '3', expected a number"),
        (lambda: linear(5).on(optimizer_of_two()).rebase([1, None]), TypeError, "base is None, expected a number"),
        (lambda: plateau().on(optimizer_of_two()).step("3"), TypeError, "metrics is '3', expected a number"),
        (lambda: linear(5).on(optimizer_of_two(), groups=0.5), ValueError, "groups is 0.5, expected None or indices"),
        (lambda: linear(5).on(optimizer_of_two(), groups="01"), ValueError, "groups is 01, expected None or indices"),
    ],
)
def test_what_is_no_number_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


# Arrays of steps


@pytest.mark.parametrize(("name", "options"), cases.SCHEDULES, ids=str)
def test_arrays_of_steps_are_the_single_rates(name, options):
    s = getattr(schedule, name)(**options)
    steps = np.random.default_rng(0).uniform(0, 150, size=(7, 3)).round(1)
    rates = s(steps, base=0.3)
    assert (rates.dtype, rates.shape) == (np.float64, (7, 3))
    assert rates.tolist() == [[s(step, 0.3) for step in row] for row in steps.tolist()]


def test_what_counts_as_an_array_of_steps():
    s = warmup(4)
    for steps in (np.arange(3), torch.arange(3), [0, 1, 2], (0, 1, 2), range(3), np.arange(3, dtype=np.int8)):
        assert s(steps).tolist() == s[steps].tolist() == [0.0, 0.25, 0.5]
    assert s([]).tolist() == []
    assert s([Fraction(1, 2), Decimal(1), torch.tensor(2)]).tolist() == [0.125, 0.25, 0.5]
    assert s(np.arange(6)[::2]).tolist() == [0.0, 0.5, 1.0]
    rates = s([1])
    rates[0] = 7  # it is the caller's own
    assert type(s(np.float64(1))) is type(s(np.array(1))) is float


def test_functions_are_called_for_each_of_an_array():
    seen = []

    def half(step):
        seen.append(step)
        if step == 9:
            raise RuntimeError("no rate")
        return step / 2

    assert function(half)([4, 2], base=10).tolist() == [20, 10]
    assert seen == [4, 2]
    with pytest.raises(RuntimeError, match="no rate"):
        function(half)([4, 9])


def test_lengths_are_ints_where_they_are_whole():
    assert [type(s.length) for s in (cosine(10), cosine(10.0), cosine(2.5), warmup(4).then(cosine(6)))] == [
        int,
        int,
        float,
        int,
    ]
    assert len(cosine(10)[: cosine(10).length]) == 10
    assert cosine(1e300).length == 10**300 or cosine(1e300).length == 1e300
