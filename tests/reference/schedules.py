"""The schedules as functions of the step, in units of the base, from their papers; one function a curve."""

import math


def constant(t, factor=1.0):
    return factor


def linear(t, steps, start=1.0, end=0.0):
    return end if t >= steps else start + (end - start) * t / steps


def polynomial(t, steps, power=1.0, floor=0.0):
    return floor if t >= steps else floor + (1 - floor) * ((steps - t) / steps) ** power


def cosine(t, steps, floor=0.0):
    return floor if t >= steps else floor + (1 - floor) * (1 + math.cos(math.pi * t / steps)) / 2


def exponential(t, factor, period=1.0, floor=0.0):
    return max(math.exp(math.log(factor) * t / period), floor)


def step(t, period, factor=0.1, floor=0.0):
    rate = 1.0
    for _ in range(int(t // period)):
        rate *= factor
    return max(rate, floor)


def multi_step(t, milestones, factor=0.1, floor=0.0):
    rate = 1.0
    for milestone in milestones:
        if t >= milestone:
            rate *= factor
    return max(rate, floor)


def piecewise(t, milestones, values):
    for milestone, value in zip(milestones, values, strict=False):
        if t < milestone:
            return value
    return values[-1]


def inverse_sqrt(t, timescale, floor=0.0):
    return max(math.sqrt(timescale / (timescale + t)), floor)


def inverse_time(t, timescale, floor=0.0):
    return max(timescale / (timescale + t), floor)


def noam(t, model_size, warmup=4000):
    return model_size**-0.5 * min((t + 1) ** -0.5, (t + 1) * warmup**-1.5)


def one_cycle(t, steps, rise=0.3, start=0.04, peak=1.0, end=4e-6, shape="cosine"):
    turn = rise * steps
    if t >= steps:
        return end
    low, high, x = (start, peak, t / turn) if t < turn else (peak, end, (t - turn) / (steps - turn))
    return low + (high - low) * (x if shape == "linear" else (1 - math.cos(math.pi * x)) / 2)


def cyclic(t, up, down=None, low=0.1, high=1.0, shape="triangular", gamma=1.0):
    down = up if down is None else down
    cycle, start = 0, 0.0
    while t >= start + up + down:
        cycle, start = cycle + 1, start + up + down
    x = (t - start) / up if t - start < up else 1 - (t - start - up) / down
    height = {"triangular": 1.0, "triangular2": 0.5**cycle, "exp_range": gamma**t, "sine": 1.0}[shape]
    return low + (high - low) * height * ((1 - math.cos(math.pi * x)) / 2 if shape == "sine" else x)


def warm_restarts(t, period, growth=1.0, decay=1.0, floor=0.0):
    start, peak = 0.0, 1.0
    for _ in range(10_000):
        if t < start + period:
            peak = max(peak, floor)
            return floor + (peak - floor) * (1 + math.cos(math.pi * (t - start) / period)) / 2
        start, period, peak = start + period, period * growth, peak * decay
    return floor


def warmup(t, steps, start=0.0, shape="linear"):
    x = min(t / steps, 1)
    return {
        "linear": start + (1 - start) * x,
        "cosine": start + (1 - start) * (1 - math.cos(math.pi * x)) / 2,
        "exponential": start ** (1 - x),
        "constant": start if x < 1 else 1.0,
    }[shape]


def warmup_stable_decay(t, warmup, stable, decay, start=0.0, floor=0.0, shape="linear"):
    if t < warmup:
        return start + (1 - start) * t / warmup
    x = min(max((t - warmup - stable) / decay, 0), 1)
    left = {"linear": 1 - x, "cosine": (1 + math.cos(math.pi * x)) / 2, "1-sqrt": 1 - math.sqrt(x)}[shape]
    return floor + (1 - floor) * left
