"""Schedules that follow a metric, alone and composed."""

import copy
import io
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from torchpace import optim
from torchpace.schedule import PlateauScheduler, constant, cosine, linear, plateau, warmup


def sgd(lr=1.0, module=torch.optim):
    optimizer = module.SGD([torch.nn.Parameter(torch.ones(1))], lr=lr)
    optimizer.step()
    return optimizer


def rates(schedule, metrics, lr=1.0):
    optimizer = sgd(lr)
    scheduler = schedule.on(optimizer)
    found = []
    for metric in metrics:
        scheduler.step(metric)
        found.append(optimizer.param_groups[0]["lr"])
    return found


metric = st.one_of(st.integers(-5, 5).map(float), st.floats(-2, 2), st.just(math.nan), st.just(math.inf))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(metric, max_size=60),
    st.fixed_dictionaries(
        {
            "factor": st.sampled_from([0.1, 0.3, 0.5]),
            "patience": st.integers(0, 3),
            "mode": st.sampled_from(["min", "max"]),
            "threshold": st.sampled_from([0.0, 1e-4, 0.5]),
            "threshold_mode": st.sampled_from(["rel", "abs"]),
            "cooldown": st.integers(0, 3),
        }
    ),
    st.sampled_from([0.0, 0.01]),
)
def test_one_way_is_torchs(metrics, options, floor):
    optimizer = sgd()
    torchs = ReduceLROnPlateau(optimizer, **options, min_lr=floor, eps=0)
    expected = []
    for one in metrics:
        torchs.step(one)
        expected.append(optimizer.param_groups[0]["lr"])
    assert rates(plateau(**options, floor=floor), metrics) == expected


class Naive:
    """The two-way rule by a list of all that was seen since the last change."""

    def __init__(self, factor, patience, cooldown, floor, ceiling):
        self.factor, self.patience, self.cooldown = factor, patience, cooldown
        self.floor, self.ceiling = floor, ceiling
        self.scale, self.best, self.signs, self.wait = 1.0, math.inf, [], 0

    def step(self, value):
        better = value < self.best
        self.best = min(self.best, value) if not math.isnan(value) else self.best
        self.signs.append(better)
        if self.wait:
            self.wait, self.signs = self.wait - 1, []
        reversed_signs = self.signs[::-1]
        in_a_row = next((i for i, sign in enumerate(reversed_signs) if not sign), len(self.signs))
        since_better = next((i for i, sign in enumerate(reversed_signs) if sign), len(self.signs))
        if since_better > self.patience:
            self.scale = max(self.scale * self.factor, self.floor)
        elif in_a_row > self.patience:
            self.scale = min(self.scale / self.factor, self.ceiling)
        else:
            return
        self.wait, self.signs = self.cooldown, []


@settings(max_examples=300, deadline=None)
@given(
    st.lists(metric, max_size=80),
    st.sampled_from([0.5, 0.7]),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from([0.0, 0.2]),
    st.sampled_from([1.0, 3.0]),
)
def test_two_ways_by_a_naive_rule(metrics, factor, patience, cooldown, floor, ceiling):
    naive = Naive(factor, patience, cooldown, floor, ceiling)
    expected = []
    for one in metrics:
        naive.step(one)
        expected.append(naive.scale)
    s = plateau(factor, patience, threshold=0, cooldown=cooldown, floor=floor, ceiling=ceiling, raises=True)
    assert rates(s, metrics) == expected


def test_up_and_down_within_bounds():
    s = plateau(0.5, patience=0, raises=True, floor=0.25, ceiling=4)
    assert rates(s, [5, 4, 3, 2]) == [2, 4, 4, 4]
    assert rates(s, [5, 9, 9, 9, 9, 9]) == [2, 1, 0.5, 0.25, 0.25, 0.25]


COMPOSITIONS = {
    "alone": (plateau(0.5, patience=0), 0),
    "after a warmup": (warmup(3).then(plateau(0.5, patience=0)), 3),
    "times a decay": (plateau(0.5, patience=0) * linear(100), 0),
    "a decay times it": (linear(100) * plateau(0.5, patience=0), 0),
    "clamped": (plateau(0.5, patience=0).clamp(low=0.1), 0),
    "shifted in a sequence": (warmup(2).then(constant().then(plateau(0.5, patience=0).scale(2), at=2)), 4),
    "in the second of two": (constant(1).then(cosine(9) + plateau(0.5, patience=0), at=5), 5),
    "repeated": (constant(1).then(plateau(0.5, patience=0), at=4).repeat(8), 4),
}


@pytest.mark.parametrize("name", COMPOSITIONS)
@pytest.mark.parametrize("module", [torch.optim, optim], ids=["torch", "ours"])
def test_any_composition_is_a_reduce_lr_on_plateau_and_wants_the_metric_where_it_counts(name, module):
    s, first = COMPOSITIONS[name]
    optimizer = sgd(module=module)
    scheduler = s.on(optimizer)
    assert isinstance(scheduler, PlateauScheduler)
    assert isinstance(scheduler, ReduceLROnPlateau)
    assert isinstance(scheduler, LRScheduler)
    for t in range(first):
        assert optimizer.param_groups[0]["lr"] == s(t)
        assert not scheduler.wants_metric
        scheduler.step()
    assert scheduler.wants_metric
    before = scheduler.state_dict()
    with pytest.raises(TypeError, match=f"metrics is None at step {first}, where the rate follows a metric"):
        scheduler.step()
    assert scheduler.state_dict() == before
    scheduler.step(1.0)
    assert optimizer.param_groups[0]["lr"] == s(first + 1)
    scheduler.step(torch.tensor(2.0))
    assert optimizer.param_groups[0]["lr"] != s(first + 2)


def test_metrics_during_the_warmup_are_not_looked_at():
    s = warmup(3).then(plateau(0.5, patience=0))
    bad = [1.0, 2.0, 3.0]
    assert rates(s, [*bad, 9.0, 9.0]) == rates(s, [None, None, None, 9.0, 9.0]) == [1 / 3, 2 / 3, 1, 1, 0.5]


def test_the_scale_carries_over_into_the_curve_it_multiplies():
    s = plateau(0.5, patience=0) * linear(10)
    assert rates(s, [1, 2, 3]) == pytest.approx([0.9, 0.4, 0.175])


def test_each_plateau_has_its_own_memory():
    one = plateau(0.5, patience=0)
    s = one.then(one, at=3)
    assert rates(s, [1, 2, 3, 9, 9]) == [1, 0.5, 1, 1, 0.5]


def test_every_group_and_option_follows():
    optimizer = torch.optim.SGD(
        [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": lr} for lr in (0.1, 0.4)], momentum=0.8
    )
    optimizer.step()
    schedulers = [plateau(0.5, patience=0).on(optimizer, name) for name in ("lr", "momentum")]
    for one in (1, 2):
        for scheduler in schedulers:
            scheduler.step(one)
    assert [(group["lr"], group["momentum"]) for group in optimizer.param_groups] == [(0.05, 0.4), (0.2, 0.4)]


def test_torchs_attributes_tell_of_the_first_plateau():
    scheduler = warmup(2).then(plateau(0.5, patience=3, mode="max", cooldown=2)).on(sgd())
    assert (scheduler.mode, scheduler.factor, scheduler.patience, scheduler.cooldown) == ("max", 0.5, 3, 2)
    assert scheduler.best == -math.inf == scheduler.mode_worse
    for one in (None, None, 5, 4, 4):
        scheduler.step(one)
    assert (scheduler.best, scheduler.num_bad_epochs, scheduler.in_cooldown) == (5, 2, False)
    for one in (4, 4):
        scheduler.step(one)
    assert (scheduler.cooldown_counter, scheduler.in_cooldown) == (2, True)


@pytest.mark.parametrize("at", range(12))
def test_a_run_goes_on_from_its_state(at):
    s = warmup(3).then(plateau(0.5, patience=1, cooldown=1, raises=True, ceiling=4))
    metrics = [0, 0, 0, 5, 4, 6, 6, 6, 3, 2, 1, 7, 7, 7, 7, 7]
    optimizer, resumed = sgd(0.1), sgd(7.0)
    scheduler, again = s.on(optimizer), s.on(resumed)
    for one in metrics[:at]:
        scheduler.step(one)
    file = io.BytesIO()
    torch.save(scheduler.state_dict(), file)
    file.seek(0)
    again.load_state_dict(torch.load(file, weights_only=True))
    pickled, copied = pickle.loads(pickle.dumps(scheduler)), copy.deepcopy(scheduler)
    for one in metrics[at:]:
        found = []
        for each in (scheduler, again, pickled, copied):
            each.step(one)
            found += [each.optimizer.param_groups[0]["lr"], each.state_dict()]
        assert found == found[:2] * 4


def test_a_state_of_other_plateaus_is_refused():
    two = plateau().then(plateau(), at=5).on(sgd())
    one = plateau().on(sgd())
    with pytest.raises(ValueError, match="the state is of 2 plateaus, expected 1"):
        one.load_state_dict(two.state_dict())
    with pytest.raises(KeyError, match="plateaus"):
        one.load_state_dict(constant().on(sgd()).state_dict())


def test_what_a_trainer_does():
    """The metric goes to a ReduceLROnPlateau after each evaluation, and nothing to any other, after each step."""
    optimizer = sgd(0.1)
    scheduler = warmup(2).then(plateau(0.5, patience=0)).on(optimizer)
    for evaluation in range(6):
        if isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step(float(evaluation))
        else:
            scheduler.step()
    assert scheduler.get_last_lr() == [0.1 * 0.5**3] == scheduler._last_lr


def test_without_a_plateau_there_is_no_such_scheduler():
    with pytest.raises(ValueError, match="contains no plateau, expected one"):
        PlateauScheduler(sgd(), constant())
