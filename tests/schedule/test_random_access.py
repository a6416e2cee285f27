"""Any step at once: numbers, slices, arrays."""

import threading
import time

import numpy as np
import pytest

import cases
from torchpace import schedule
from torchpace.schedule import cosine, function, linear, warmup


@pytest.mark.parametrize(("name", "options"), cases.SCHEDULES, ids=str)
def test_arrays_are_the_single_rates_bit_for_bit(name, options):
    s = getattr(schedule, name)(**options)
    array = s.values(0, 150, base=0.3)
    assert array.dtype == np.float64
    assert array.shape == (150,)
    assert array.tobytes() == np.array([s(t, 0.3) for t in range(150)]).tobytes()
    assert s.values(7, 150, 3, base=0.3).tobytes() == array[7::3].tobytes()


def test_slices():
    s = linear(10)
    assert s[2:5].tolist() == [0.8, 0.7, 0.6] == pytest.approx(s[2:5].tolist())
    assert s[:3].tolist() == s[0:3].tolist()
    assert s[0:10:4].tolist() == pytest.approx([1, 0.6, 0.2])
    assert s[5] == 0.5
    assert s[5:5].tolist() == s[9:5].tolist() == []
    array = s[0:3]
    array[0] = 7  # it is the caller's own
    assert s[0] == 1


def test_fractions_of_steps():
    assert linear(10).values(0, 1, 0.25).tolist() == [1, 0.975, 0.95, 0.925]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s(-1), "step is -1, expected a finite number >= 0"),
        (lambda s: s(float("nan")), "step is nan, expected a finite number >= 0"),
        (lambda s: s(float("inf")), "step is inf, expected a finite number >= 0"),
        (lambda s: s[-1], "step is -1, expected a finite number >= 0"),
        (lambda s: s[-3:], "stop is None, expected a step"),
        (lambda s: s[-3:5], "start is -3, expected a finite number >= 0"),
        (lambda s: s[0:5:0], "step is 0, expected a finite number > 0"),
        (lambda s: s[0:5:-1], "step is -1, expected a finite number > 0"),
        (lambda s: s.values(0, float("inf")), "stop is inf, expected a finite number >= 0"),
    ],
)
def test_steps_out_of_range(call, message):
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        call(linear(10))


def test_steps_beyond_all_measure():
    assert cosine(10, floor=0.5)(10**300) == 0.5
    with pytest.raises(OverflowError):
        cosine(10)(10**400)
    with pytest.raises(MemoryError):
        cosine(10).values(0, 1e300)


def test_a_schedule_cannot_be_iterated_over():
    with pytest.raises(TypeError, match="not iterable"):
        list(linear(10))


def test_ten_million_rates_take_under_a_second_and_leave_the_gil():
    s = warmup(1000).then(cosine(10_000_000))
    ticks, done = [], threading.Event()

    def tick():
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    seconds = []
    for _ in range(5):
        before = time.perf_counter()
        assert len(s.values(0, 10_000_000)) == 10_000_000
        seconds.append(time.perf_counter() - before)
        if seconds[-1] < 1:
            break
    inside = sum(before < at < before + seconds[-1] for at in ticks)
    done.set()
    thread.join()
    assert min(seconds) < 1
    assert inside > 5


def test_functions_are_called_once_a_step_in_order():
    seen = []

    def half(t):
        seen.append(t)
        return t / 2

    assert function(half).values(3, 6, base=10).tolist() == [15, 20, 25]
    assert seen == [3, 4, 5]
    assert all(isinstance(t, int) for t in seen)
    assert function(half)(0.5) == 0.25
