"""Operators: their laws, what they read like, and how compositions are kept."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cases
from torchpace import schedule
from torchpace.schedule import Schedule, constant, cosine, cyclic, exponential, linear, piecewise, plateau, step, warmup

ALONE = [getattr(schedule, name)(**options) for name, options in cases.SCHEDULES] + [plateau()]


def nested(parts):
    number = st.floats(-2, 2)
    length = st.integers(1, 100)
    return st.one_of(
        st.tuples(parts, parts, length).map(lambda x: x[0].then(x[1], at=x[2])),
        st.tuples(parts, parts).map(lambda x: x[0] * x[1]),
        st.tuples(parts, parts).map(lambda x: x[0] + x[1]),
        st.tuples(parts, number).map(lambda x: x[1] * x[0]),
        st.tuples(parts, st.floats(0, 0.3), st.floats(0.3, 1)).map(lambda x: x[0].clamp(x[1], x[2])),
        st.tuples(parts, length, st.none() | st.integers(1, 3)).map(lambda x: x[0].repeat(x[1], x[2])),
        st.tuples(parts, st.integers(-50, 50)).map(lambda x: x[0].shift(x[1])),
        st.tuples(parts, length).map(lambda x: x[0].reverse(x[1])),
        st.tuples(parts, number).map(lambda x: x[0].above(x[1])),
        st.tuples(parts, number).map(lambda x: x[0].rebase(x[1])),
    )


schedules = st.recursive(st.sampled_from(ALONE), nested, max_leaves=6)


@settings(max_examples=300, deadline=None)
@given(schedules, schedules)
def test_repr_json_pickle_and_copies_are_the_schedule_again(s, other):
    again = [
        eval(repr(s), vars(schedule)),
        Schedule.from_json(s.to_json()),
        pickle.loads(pickle.dumps(s)),
        copy.deepcopy(s),
    ]
    for one in again:
        assert one == s
        assert hash(one) == hash(s)
        np.testing.assert_array_equal(one.values(0, 200, base=0.3), s.values(0, 200, base=0.3))
    assert (s == other) == (repr(s) == repr(other))


@settings(max_examples=200, deadline=None)
@given(schedules, schedules, st.integers(1, 100), st.floats(-1, 1))
def test_laws(a, b, n, base):
    def rates(s, start=0, stop=150, base=base):
        return s.values(start, stop, base=base)

    def same(left, right):
        np.testing.assert_array_equal(left, right)

    joined = rates(a.then(b, at=n), stop=n + 150)
    same(joined[:n], rates(a, stop=n))
    same(joined[n:], rates(b))
    same(rates(a.shift(n), n, n + 150), rates(a))
    same(rates(a.shift(n), 0, n), np.full(n, a(0, base)))
    same(rates(a.shift(-n)), rates(a, n, n + 150))
    same(rates(a.reverse(n), 0, n + 1), rates(a, 0, n + 1)[::-1])
    same(rates(a.reverse(n), n, n + 9), np.full(9, a(0, base)))
    twice = rates(a.repeat(n, times=2), stop=3 * n)
    same(twice[:n], rates(a, stop=n))
    same(twice[n : 2 * n], rates(a, stop=n))
    same(twice[2 * n :], np.full(n, a(n, base)))
    same(rates(a * b), rates(a) * rates(b, base=1.0))
    same(rates(a + b), rates(a) + rates(b))
    same(rates(0.7 * a), 0.7 * rates(a))
    same(rates(a * 0.7), 0.7 * rates(a))
    same(rates(a.clamp(0.1, 0.2)), np.clip(rates(a), 0.1, 0.2))
    same(rates(a.above(0.25)), 0.25 + rates(a, base=base - 0.25))
    same(rates(a.rebase(0.7)), rates(a, base=0.7))


def test_the_step_at_a_boundary_is_the_first_of_the_next():
    s = constant(3).then(linear(10), at=5).then(constant(7), at=8)
    assert s[0:10].tolist() == [3, 3, 3, 3, 3, 1, 0.9, 0.8, 7, 7]
    assert s(4.999) == 3
    assert s(7.5) == 0.75


def test_then_begins_where_the_first_ends():
    assert warmup(7).then(cosine(3)) == warmup(7).then(cosine(3), at=7)
    three = warmup(7).then(cosine(3)).then(constant(0.5))
    assert three == warmup(7).then(cosine(3), at=7).then(constant(0.5), at=10)
    assert three.length == 10


def test_lengths():
    assert cosine(10).length == 10
    assert constant().length == 0
    assert exponential(0.9).length is None
    assert warmup(5).then(exponential(0.9)).length is None
    assert (cosine(10) * linear(20)).length == 20
    assert (cosine(10) * step(3)).length is None
    assert cosine(10).shift(5).length == 15
    assert cosine(10).repeat().length is None
    assert cosine(10).repeat(times=3).length == 30
    assert cosine(10).clamp(low=0.1).above(0.1).rebase(1).scale(2).length == 10


def test_equality_is_by_value():
    assert cosine(10) == cosine(10.0, floor=0)
    assert cosine(10) != cosine(11)
    assert cosine(10) != linear(10)
    assert linear(10, end=0.0) == linear(10, end=-0.0)
    assert hash(linear(10, end=0.0)) == hash(linear(10, end=-0.0))
    assert cosine(10) != "cosine(steps=10, floor=0)"
    assert len({cosine(10), cosine(10), cosine(11)}) == 2


def test_repr_reads_as_it_was_written():
    assert repr(warmup(10).then(2 * cosine(90), at=10)) == (
        "warmup(steps=10, start=0, shape='linear').then(cosine(steps=90, floor=0).scale(factor=2), at=10)"
    )
    assert repr(cosine(1) + linear(1) * step(1, 0.5)) == (
        "(cosine(steps=1, floor=0) + (linear(steps=1, start=1, end=0) * step(period=1, factor=0.5, floor=0)))"
    )
    assert repr(cyclic(1e20, low=1e-7)) == ("cyclic(up=1e20, down=1e20, low=1e-7, high=1, shape='triangular', gamma=1)")
    assert repr(plateau()).endswith("floor=0, ceiling=1, raises=False)")


def test_a_schedule_cannot_be_changed_or_made_by_hand():
    s = cosine(10)
    with pytest.raises(AttributeError):
        s.steps = 5
    with pytest.raises(AttributeError):
        s._core = None
    with pytest.raises(TypeError, match="made by the functions"):
        Schedule(10)
    assert piecewise((10,), (1, 2)) == piecewise([10], [1, 2])


@pytest.mark.parametrize("other", [1.0, None, "cosine"])
def test_what_cannot_be_added(other):
    with pytest.raises(TypeError, match="unsupported operand"):
        cosine(10) + other


def test_json_is_versioned_and_strict():
    text = cosine(10).to_json()
    assert text == '{"version":1,"schedule":{"cosine":{"steps":10.0,"floor":0.0}}}'
    for broken, message in [
        (text.replace('"version":1', '"version":2'), "version 2, expected version 1"),
        (text.replace('"floor"', '"roof"'), "unknown field `roof`"),
        (text.replace(',"floor":0.0', ""), "missing field `floor`"),
        (text.replace("10.0", "0"), "cosine: steps is 0, expected a finite number > 0"),
        (text[:-1], "EOF"),
        ("", "EOF"),
    ]:
        with pytest.raises(ValueError, match=message):
            Schedule.from_json(broken)
