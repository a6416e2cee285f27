"""Python functions as schedules."""

import copy
import gc
import math
import pickle
import weakref

import pytest
import torch

from torchpace.schedule import Schedule, constant, cosine, function, linear, plateau, warmup


def root(t):
    return (t + 1) ** -0.5


def test_it_composes():
    s = warmup(4).then(function(root), at=4) * function(root).shift(2)
    assert s(2) == 0.5
    assert s(7) == pytest.approx(0.5 * 6**-0.5)
    assert s(3) == pytest.approx(0.75 * 2**-0.5)
    assert s.values(0, 9)[7] == s(7)
    assert repr(s) == (
        "(warmup(steps=4, start=0, shape='linear').then(function(root), at=4) * function(root).shift(steps=2))"
    )
    assert eval(repr(function(root))) == function(root)


def test_equality_is_the_functions():
    assert function(root) == function(root)
    assert hash(function(root)) == hash(function(root))
    assert function(root) != function(math.sqrt)
    assert function(lambda t: t) != function(lambda t: t)


def test_it_has_no_json_and_says_so():
    with pytest.raises(TypeError, match=r"function\(root\) cannot be written as JSON; pickle can keep it"):
        (cosine(10) * function(root)).to_json()
    with pytest.raises(ValueError, match="places for 1 functions"):
        Schedule.from_json('{"version":1,"schedule":{"function":0}}')


def test_it_pickles_if_the_function_does():
    s = function(root).then(function(math.sqrt), at=5) + function(root)
    again = pickle.loads(pickle.dumps(s))
    assert again == s == copy.deepcopy(s)
    assert again(9) == math.sqrt(4) + root(9)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(function(lambda t: t))


def test_what_it_raises_comes_out():
    def broken(t):
        if t >= 3:
            raise RuntimeError(f"no rate for {t}")
        return 1

    s = constant(2) * function(broken)
    assert s(2) == 2
    with pytest.raises(RuntimeError, match="no rate for 3"):
        s(3)
    with pytest.raises(RuntimeError, match="no rate for 3"):
        s[0:10]
    assert linear(10)(5) == 0.5  # nothing is left behind
    assert s(1) == 2


def test_a_step_whose_rate_fails_changes_no_group():
    def broken(t):
        if t == 1:
            raise RuntimeError("no rate")
        return 1 / (t + 1)

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5)
    scheduler = function(broken).on(optimizer)
    optimizer.step()
    with pytest.raises(RuntimeError, match="no rate"):
        scheduler.step()
    with pytest.raises(RuntimeError, match="no rate"):
        scheduler.seek(1)
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert scheduler.last_epoch == 0
    scheduler.seek(3)
    assert optimizer.param_groups[0]["lr"] == 0.125


def test_a_plateau_forgets_a_metric_whose_step_fails():
    def broken(t):
        if t == 2:
            raise RuntimeError("no rate")
        return 1

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5)
    scheduler = (plateau(0.5, patience=0) * function(broken)).on(optimizer)
    scheduler.step(1.0)
    before = scheduler.state_dict()
    with pytest.raises(RuntimeError, match="no rate"):
        scheduler.step(2.0)
    assert scheduler.state_dict() == before
    with pytest.warns(UserWarning, match="epoch parameter"):
        scheduler.step(2.0, epoch=3)
    assert optimizer.param_groups[0]["lr"] == 0.25


@pytest.mark.parametrize("call", [3, None, "cosine"])
def test_what_cannot_be_called(call):
    with pytest.raises(TypeError, match=r"function: call is of type .*, expected a function of the step"):
        function(call)


def test_what_returns_no_number():
    with pytest.raises(TypeError, match="returned of type str at step 3, expected a number"):
        function(lambda t: "high")(3)


class Owner:
    """Holds a schedule of its own method, a cycle that only the garbage collector can break."""

    def __init__(self, compose):
        self.schedule = compose(function(self.rate))

    def rate(self, step):
        return 0.5


@pytest.mark.parametrize("compose", [lambda s: s, lambda s: warmup(3).then(s, at=3).clamp(low=0.1)])
def test_a_schedule_of_its_owners_method_is_garbage_with_its_owner(compose):
    owner = Owner(compose)
    gone = weakref.ref(owner)
    assert owner.schedule(10) == 0.5
    del owner
    gc.collect()
    assert gone() is None


def test_a_function_that_schedules_share_is_never_garbage():
    owner = Owner(lambda s: s)
    both = owner.schedule.scale(2), owner.schedule.clamp(high=0.4)
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is not None
    assert (both[0](3), both[1](3)) == (1.0, 0.4)
