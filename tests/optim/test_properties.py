"""Any options, any shapes, any order of gradients: ours goes where torch goes."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import cases

unit = st.floats(0, 0.999)
small = st.sampled_from([0.0, 1e-8, 1e-3, 0.1])

COMMON = {"lr": st.floats(0, 1), "weight_decay": st.sampled_from([0.0, 0.01, 0.5]), "maximize": st.booleans()}
ADAM = COMMON | {"betas": st.tuples(unit, unit), "eps": st.sampled_from([1e-8, 1e-3]), "amsgrad": st.booleans()}
AVERAGING = {"warmup_steps": st.integers(0, 6), "r": st.floats(0, 2), "weight_lr_power": st.floats(0, 2)}
OPTIONS = {
    "SGD": COMMON | {"momentum": unit, "dampening": st.floats(0, 1)},
    # At alpha 0 a centered variance is all rounding, and torch's is NaN where that falls below 0.
    "RMSprop": COMMON
    | {"alpha": st.floats(0.1, 0.99), "eps": st.just(1e-2), "momentum": unit, "centered": st.booleans()},
    "Adagrad": COMMON | {"lr_decay": small, "eps": st.just(1e-8), "initial_accumulator_value": small},
    "Adam": ADAM,
    "AdamW": ADAM,
    "Adadelta": COMMON | {"rho": unit, "eps": st.sampled_from([1e-6, 1e-3])},
    "Adamax": COMMON | {"betas": st.tuples(unit, unit), "eps": st.sampled_from([1e-8, 1e-3])},
    "RAdam": COMMON
    | {"betas": st.tuples(unit, unit), "eps": st.sampled_from([1e-8, 1e-3]), "decoupled_weight_decay": st.booleans()},
    "Lion": COMMON | {"betas": st.tuples(unit, unit)},
    "AdEMAMix": COMMON
    | {
        "betas": st.tuples(unit, unit, unit),
        "alpha": st.floats(0, 10),
        "beta3_warmup": st.none() | st.integers(0, 6),
        "alpha_warmup": st.none() | st.floats(0, 6),
        "eps": st.sampled_from([1e-8, 1e-3]),
    },
    "LAMB": COMMON
    | {
        "betas": st.tuples(unit, unit),
        "eps": st.sampled_from([1e-6, 1e-3]),
        "bias_correction": st.booleans(),
        "trust_clip": st.booleans(),
    },
    "LARS": COMMON
    | {
        "momentum": unit,
        "dampening": st.floats(0, 1),
        "trust_coefficient": st.none() | st.floats(0, 0.1),
        "eps": st.sampled_from([0.0, 1e-8, 1e-3]),
    },
    "Rprop": {
        "lr": st.floats(0, 1),
        "etas": st.tuples(st.floats(0.1, 0.9), st.floats(1.1, 3)),
        "step_sizes": st.tuples(st.floats(0, 0.1), st.floats(0.1, 1)),
        "maximize": st.booleans(),
    },
    "NAdam": COMMON
    | {
        "betas": st.tuples(unit, unit),
        "eps": st.sampled_from([1e-8, 1e-3]),
        "momentum_decay": small,
        "decoupled_weight_decay": st.booleans(),
    },
    "ASGD": COMMON | {"lambd": small, "alpha": unit, "t0": st.floats(0, 5)},
    "ScheduleFreeAdamW": COMMON
    | AVERAGING
    | {"betas": st.tuples(st.floats(0.1, 0.99), unit), "eps": st.sampled_from([1e-8, 1e-3])},
    "ScheduleFreeSGD": COMMON | AVERAGING | {"momentum": st.floats(0.1, 0.99)},
}


@st.composite
def runs(draw):
    name = draw(st.sampled_from(cases.OPTIMIZERS))
    options = {key: draw(value) for key, value in OPTIONS[name].items()}
    if name in ("SGD", "LARS") and options["momentum"] > 0 and options["dampening"] == 0:
        options["nesterov"] = draw(st.booleans())
    shapes = draw(st.lists(st.lists(st.integers(0, 40), max_size=3).map(tuple), min_size=1, max_size=5))
    present = draw(
        st.lists(st.lists(st.booleans(), min_size=len(shapes), max_size=len(shapes)), min_size=1, max_size=4)
    )
    return name, options, shapes, present, draw(st.integers(0, 2**31))


@settings(max_examples=150, deadline=None)
@given(runs())
def test_as_torch_in_float64(run):
    name, options, shapes, present, seed = run
    case = cases.Case(name, options)

    def values(number):
        generator = torch.Generator().manual_seed(seed + number)
        return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]

    start = values(0)
    grads = [
        [grad if there else None for grad, there in zip(values(1 + step), row, strict=True)]
        for step, row in enumerate(present)
    ]
    ours, params = cases.train(case.ours, options, start, grads)
    theirs, expected = cases.train(case.torchs, options | {"foreach": False}, start, grads)
    assert ours.last_path == "fused"
    for param, reference in zip(params, expected, strict=True):
        torch.testing.assert_close(param, reference, rtol=1e-9, atol=1e-9)
        assert ours.state[param].keys() == theirs.state[reference].keys()
        for key, value in theirs.state[reference].items():
            torch.testing.assert_close(ours.state[param][key], value, rtol=1e-9, atol=1e-9)
