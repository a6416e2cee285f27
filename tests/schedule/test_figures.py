"""Known figures of the schedules: each was worked out by hand, or independently, from the formula."""

import numpy as np
import pytest
import torch

from torchpace import schedule


def test_step_decay():
    s = schedule.step(10, 0.5)
    assert [s(t, base=0.1) for t in (0, 9, 10, 19, 20)] == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.025], rel=1e-15)


def test_exponential_decay_with_a_period_is_smooth():
    s = schedule.exponential(0.95, period=1000)
    found = [s(t, base=0.1) for t in (1, 100, 500, 1000)]
    assert [round(value, 7) for value in found] == [0.0999949, 0.0994884, 0.0974679, 0.095]


def test_piecewise_constant_has_its_values_from_its_milestones_on():
    s = schedule.piecewise([100, 200], [0.1, 0.02, 0.3]).rebase(1)
    assert s[0:300].tolist() == [0.1] * 100 + [0.02] * 100 + [0.3] * 100


@pytest.mark.parametrize(
    "s",
    [
        schedule.polynomial(100, 2, floor=0.1),
        schedule.linear(100, end=0.1),
        schedule.cosine(100, floor=0.1),
        schedule.inverse_sqrt(2, floor=0.1),
        schedule.inverse_time(2, floor=0.1),
    ],
    ids=str,
)
def test_the_usual_decays_start_at_the_base_never_rise_and_end_at_their_floor(s):
    values = s.values(0, 1000, base=0.5)
    assert values[0] == 0.5
    assert (np.diff(values) <= 0).all()
    assert values[-1] == pytest.approx(0.05, rel=1e-15)


def test_the_middle_of_the_usual_decays():
    assert schedule.polynomial(100, 3)(50) == 0.125
    assert schedule.linear(100)(50) == 0.5
    assert schedule.cosine(100)(25) == pytest.approx((1 + 0.5**0.5) / 2, rel=1e-15)
    assert schedule.inverse_sqrt(100)(800) == pytest.approx(1 / 3, rel=1e-15)
    assert schedule.inverse_time(100)(200) == pytest.approx(1 / 3, rel=1e-15)


def test_warmup_then_cosine_and_then_step_decay():
    warmup = schedule.warmup(10, start=0.1)
    for rest in (schedule.cosine(90), schedule.step(20, 0.5)):
        s = warmup.then(rest)
        assert s(0) == 0.1
        assert s(10) == 1.0
        assert s[10:100].tolist() == rest[0:90].tolist()
        assert (np.diff(s[0:11]) > 0).all()


@pytest.mark.parametrize("shape", ["linear", "cosine", "exponential", "constant"])
def test_every_warmup_goes_from_its_start_to_the_base(shape):
    s = schedule.warmup(10, start=0.01, shape=shape)
    assert s(0) == pytest.approx(0.01, rel=1e-15)
    assert s(10) == s(1e6) == 1
    middle = {"linear": 0.505, "cosine": 0.505, "exponential": 0.1, "constant": 0.01}[shape]
    assert s(5) == pytest.approx(middle, rel=1e-14)


def test_triangles_give_every_rate_of_the_range_equal_time():
    values = schedule.cyclic(500, low=0.1).values(0.5, 10_000)
    counts, _ = np.histogram(values, bins=10, range=(0.1, 1.0))
    assert (counts == 1000).all()


def test_sine_waves_do_not():
    values = schedule.cyclic(500, low=0.1, shape="sine").values(0.5, 10_000)
    counts, _ = np.histogram(values, bins=10, range=(0.1, 1.0))
    assert counts[0] > 2 * counts[5]


def test_triangular2_halves_its_height_each_cycle():
    s = schedule.cyclic(10, low=0.2, high=1.0, shape="triangular2")
    assert [s(10 + 20 * n) - 0.2 for n in range(6)] == pytest.approx([0.8 / 2**n for n in range(6)], rel=1e-12)


def test_exp_range_loses_height_by_gamma_a_step():
    s = schedule.cyclic(10, low=0.2, shape="exp_range", gamma=0.99)
    assert [s(10 + 20 * n) - 0.2 for n in range(6)] == pytest.approx(
        [0.8 * 0.99 ** (10 + 20 * n) for n in range(6)], rel=1e-12
    )


def test_a_warm_restart_kicks_the_rate_back_up_and_cycles_may_grow():
    s = schedule.warm_restarts(10, growth=2, floor=0.1)
    starts = [0, 10, 30, 70, 150]
    assert [s(t) for t in starts] == [1.0] * 5
    assert all(s(t - 1e-9) == pytest.approx(0.1, abs=1e-6) for t in starts[1:])
    values = s[0:150]
    assert [t for t in range(1, 150) if values[t] > values[t - 1]] == starts[1:-1]


def test_one_cycle_ends_far_below_its_start_and_momentum_goes_the_other_way():
    rate = schedule.one_cycle(1000)
    momentum = schedule.one_cycle(1000, start=1.0, peak=0.85 / 0.95, end=1.0)
    assert rate(0) / rate(1000) == pytest.approx(1e4)
    rates, momenta = np.diff(rate[0:1001]), np.diff(momentum.values(0, 1001, base=0.95))
    assert (rates[rates != 0] * momenta[rates != 0] < 0).all()
    assert momentum(300, base=0.95) == pytest.approx(0.85)


@pytest.mark.parametrize(("shape", "middle"), [("linear", 0.5), ("cosine", 0.5), ("1-sqrt", 1 - 0.5**0.5)])
def test_warmup_stable_decay_has_three_phases(shape, middle):
    s = schedule.warmup_stable_decay(100, 800, 100, shape=shape)
    assert [s(t) for t in (0, 50, 100, 500, 900, 1000)] == [0, 0.5, 1, 1, 1, 0]
    assert s(950) == pytest.approx(middle, rel=1e-14)


def test_performance_scheduling_goes_both_ways():
    """Worse for more than `patience` evaluations: times a. Better for more than `patience` in a row: over a."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    s = schedule.plateau(0.5, patience=2, raises=True, floor=0.2, ceiling=2.0).on(optimizer)
    optimizer.step()
    rates = []
    for metric in [9, 8, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 6, 5, 4]:
        s.step(metric)
        rates.append(optimizer.param_groups[0]["lr"])
    up, down, lowest = [0.1, 0.1, 0.2], [0.2, 0.2, 0.1], [0.1, 0.1, 0.05]
    assert rates == pytest.approx([*up, *down, *lowest, 0.05, 0.05, 0.025, 0.025, 0.025, 0.05])
