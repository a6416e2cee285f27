"""The schedules of transformers and timm, rebuilt from ours: equal over all steps of a run.

Past its end transformers' cosine goes up again; ours stays where it is.
"""

import pytest
import timm.scheduler
import torch
import transformers

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

TRANSFORMERS = {
    "constant": (constant(), "constant", {}),
    "constant_with_warmup": (warmup(WARM), "constant_with_warmup", {}),
    "linear": (warmup(WARM).then(linear(ALL - WARM)), "linear", {}),
    "cosine": (warmup(WARM).then(cosine(ALL - WARM)), "cosine", {}),
    "cosine_with_restarts": (
        warmup(WARM).then(warm_restarts((ALL - WARM) / 4)).then(constant(0), at=ALL),
        "cosine_with_restarts",
        {"num_cycles": 4},
    ),
    "polynomial": (
        warmup(WARM).then(polynomial(ALL - WARM, power=2).above(1e-7)),
        "polynomial",
        {"power": 2.0, "lr_end": 1e-7},
    ),
    "inverse_sqrt": (warmup(WARM).then(inverse_sqrt(40)), "inverse_sqrt", {"timescale": 40}),
    **{
        f"warmup_stable_decay {shape}": (
            warmup_stable_decay(WARM, 60, 40, start=0.1, floor=0.1, shape=shape),
            "warmup_stable_decay",
            {"num_decay_steps": 40, "min_lr_ratio": 0.1, "decay_type": theirs},
        )
        for shape, theirs in (("linear", "linear"), ("cosine", "cosine"), ("1-sqrt", "1-sqrt"))
    },
}

TIMM = {
    "warmup before": (warmup(WARM).above(1e-6).then(cosine(100).above(1e-5)), True),
    "warmup instead": (warmup(WARM).above(1e-6).then(cosine(100).above(1e-5).shift(-WARM)), False),
}


def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=LR)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers(name):
    ours, theirs, options = TRANSFORMERS[name]
    steps = {"num_warmup_steps": None if theirs == "constant" else WARM}
    if theirs not in ("constant", "constant_with_warmup", "inverse_sqrt"):
        steps["num_training_steps"] = ALL
    oracle, run = optimizer(), optimizer()
    scheduler = transformers.get_scheduler(theirs, oracle, **steps, scheduler_specific_kwargs=options)
    mine = ours.on(run)
    for step in range(ALL + 1):
        (expected,) = scheduler.get_last_lr()
        assert mine.get_last_lr() == [pytest.approx(expected, rel=1e-12, abs=1e-19)], step
        for one in (oracle, run):
            one.step()
        scheduler.step()
        mine.step()


@pytest.mark.parametrize("name", TIMM)
def test_timm(name):
    ours, prefix = TIMM[name]
    oracle = optimizer()
    scheduler = timm.scheduler.CosineLRScheduler(
        oracle, t_initial=100, lr_min=1e-5, warmup_t=WARM, warmup_lr_init=1e-6, warmup_prefix=prefix
    )
    for step in range(ALL + 1):
        scheduler.step(step)
        assert ours(step, LR) == pytest.approx(oracle.param_groups[0]["lr"], rel=1e-12, abs=1e-19), step
