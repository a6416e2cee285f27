"""Every curve against its formula, written again in Python, at whole steps and between, under any arguments."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cases
from reference import schedules as reference
from torchpace import schedule

STEPS = [*range(130), 0.5, 9.999, 10.001, 29.5]


@pytest.mark.parametrize(("name", "options"), cases.SCHEDULES, ids=str)
def test_as_the_formula(name, options):
    ours, formula = getattr(schedule, name)(**options), getattr(reference, name)
    for t in STEPS:
        assert ours(t, base=0.3) == pytest.approx(0.3 * formula(t, **options), rel=1e-12, abs=1e-15), t


def test_every_curve_has_a_row_and_a_formula():
    other = {"epochs", "samples", "plot", "preview", "function", "plateau"}
    names = {name for name in schedule.__all__ if name[0].islower()} - other
    assert names == {name for name, _ in cases.SCHEDULES}
    assert all(hasattr(reference, name) for name in names)


def test_the_comparison_can_fail():
    assert schedule.cosine(40)(20) != pytest.approx(reference.cosine(20, 41), rel=1e-12)


steps = st.integers(1, 1000)
share = st.floats(0, 1)
inner = st.floats(0.05, 0.95)
factor = st.floats(0.1, 1.5)
words = {
    "one_cycle": ["cosine", "linear"],
    "cyclic": ["triangular", "triangular2", "sine"],
    "warmup": ["linear", "cosine", "exponential", "constant"],
    "warmup_stable_decay": ["linear", "cosine", "1-sqrt"],
}
ARGUMENTS = {
    "constant": {"factor": st.floats(-2, 2)},
    "linear": {"steps": steps, "start": st.floats(-2, 2), "end": st.floats(-2, 2)},
    "polynomial": {"steps": steps, "power": st.floats(0.2, 4), "floor": share},
    "cosine": {"steps": steps, "floor": share},
    "exponential": {"factor": factor, "period": steps, "floor": share},
    "step": {"factor": st.floats(0.1, 1), "period": steps, "floor": share},
    "multi_step": {"milestones": st.lists(steps, min_size=1, unique=True).map(sorted), "factor": factor},
    "inverse_sqrt": {"timescale": steps, "floor": share},
    "inverse_time": {"timescale": steps, "floor": share},
    "noam": {"model_size": steps, "warmup": steps},
    "one_cycle": {"steps": steps, "rise": inner, "start": share, "peak": share, "end": share},
    "cyclic": {"up": steps, "down": steps, "low": share, "high": share},
    "warm_restarts": {"period": steps, "growth": st.integers(1, 4), "decay": inner, "floor": share},
    "warmup": {"steps": steps, "start": inner},
    "warmup_stable_decay": {"warmup": steps, "stable": steps, "decay": steps, "start": share, "floor": share},
}


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_as_the_formula_under_any_arguments(data):
    name = data.draw(st.sampled_from(sorted(ARGUMENTS)))
    options = {key: data.draw(values, label=key) for key, values in ARGUMENTS[name].items()}
    if name in words:
        options["shape"] = data.draw(st.sampled_from(words[name]))
    t, base = data.draw(st.integers(0, 1200)), data.draw(st.floats(-1, 1))
    ours = getattr(schedule, name)(**options)
    assert math.isclose(ours(t, base=base), base * getattr(reference, name)(t, **options), rel_tol=1e-9, abs_tol=1e-9)
    assert eval(repr(ours), vars(schedule)) == ours
    assert schedule.Schedule.from_json(ours.to_json()) == ours
