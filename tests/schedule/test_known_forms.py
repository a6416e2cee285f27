"""Schedules of transformers and timm, their formulas written out here, rebuilt from ours: equal over all steps."""

import math

import pytest

from torchpace.schedule import (
    constant,
    cosine,
    inverse_sqrt,
    linear,
    polynomial,
    warm_restarts,
    warmup,
    warmup_stable_decay,
)

WARM, ALL, LR = 10, 110, 3e-4


def ramped(decay):
    """A factor of transformers': a linear warmup and then a decay of the step."""
    return lambda t: t / WARM if t < WARM else decay(t)


def progress(t):
    return (t - WARM) / (ALL - WARM)


def hf_cosine_with_restarts(t, cycles=4):
    return 0.0 if t >= ALL else 0.5 * (1 + math.cos(math.pi * ((cycles * progress(t)) % 1.0)))


def hf_polynomial(t, end=1e-7, power=2.0):
    if t > ALL:
        return end / LR
    return ((LR - end) * (1 - progress(t)) ** power + end) / LR


def hf_stable(shape, least=0.1, stable=60, decay=40):
    def factor(t):
        if t < WARM:
            return t / WARM * (1 - least) + least
        if t < WARM + stable:
            return 1.0
        if t < WARM + stable + decay:
            x = (t - WARM - stable) / decay
            left = {"linear": 1 - x, "cosine": 0.5 * (1 + math.cos(math.pi * x)), "1-sqrt": 1 - math.sqrt(x)}[shape]
            return left * (1 - least) + least
        return least

    return factor


def timm_cosine(t, prefix, least=1e-5, first=1e-6):
    """A rate, not a factor."""
    if t < WARM:
        return first + t * (LR - first) / WARM
    t = t - WARM if prefix else t
    return least + 0.5 * (LR - least) * (1 + math.cos(math.pi * t / 100)) if t < 100 else least


FORMS = {
    "linear": (warmup(WARM).then(linear(ALL - WARM)), ramped(lambda t: max(0.0, (ALL - t) / (ALL - WARM)))),
    "cosine": (
        warmup(WARM).then(cosine(ALL - WARM)),
        ramped(lambda t: 0.5 * (1 + math.cos(math.pi * min(progress(t), 1)))),
    ),
    "cosine_with_restarts": (
        warmup(WARM).then(warm_restarts((ALL - WARM) / 4)).then(constant(0), at=ALL),
        ramped(hf_cosine_with_restarts),
    ),
    "polynomial": (warmup(WARM).then(polynomial(ALL - WARM, power=2).above(1e-7)), ramped(hf_polynomial)),
    "inverse_sqrt": (
        warmup(WARM).then(inverse_sqrt(40)),
        ramped(lambda t: 1 / math.sqrt((t + 40 - WARM) / 40)),
    ),
    **{
        f"warmup_stable_decay {shape}": (
            warmup_stable_decay(WARM, 60, 40, start=0.1, floor=0.1, shape=shape),
            hf_stable(shape),
        )
        for shape in ("linear", "cosine", "1-sqrt")
    },
    "timm cosine, warmup before": (
        warmup(WARM).above(1e-6).then(cosine(100).above(1e-5)),
        lambda t: timm_cosine(t, True) / LR,
    ),
    "timm cosine, warmup instead": (
        warmup(WARM).above(1e-6).then(cosine(100).above(1e-5).shift(-WARM)),
        lambda t: timm_cosine(t, False) / LR,
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_equal_over_all_steps(name):
    ours, factor = FORMS[name]
    for t in range(ALL + 20):
        assert ours(t, LR) == pytest.approx(LR * factor(t), rel=1e-12, abs=1e-19), t
