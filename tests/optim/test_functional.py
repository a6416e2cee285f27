"""The functions of `torchpace.optim.functional` beside torch's: types, layouts, options, and what is left to torch."""

import inspect

import pytest
import torch

from torchpace import _native
from torchpace.optim import functional

TORCH = {
    name: inspect.unwrap(getattr(functional, name))
    for name in functional.__all__
    if name not in ("adafactor", "muon", "sparse_adam")
}

LR = torch.tensor(0.05, dtype=torch.float64)
BETAS = {"beta1": 0.8, "beta2": 0.9, "eps": 1e-3, "lr": 0.05}
OPTIONS = [
    ("adadelta", {"lr": 1.0, "rho": 0.8, "eps": 1e-3, "weight_decay": 0.1, "maximize": False}),
    ("adagrad", {"lr": 0.1, "weight_decay": 0.1, "lr_decay": 0.2, "eps": 1e-3, "maximize": True}),
    ("adam", {**BETAS, "weight_decay": 0.1, "amsgrad": True, "maximize": False}),
    ("adam", {**BETAS, "weight_decay": 0.1, "amsgrad": False, "maximize": True, "decoupled_weight_decay": True}),
    ("adam", {**BETAS, "weight_decay": 0.0, "amsgrad": False, "maximize": False, "lr": LR}),
    ("adamw", {**BETAS, "weight_decay": 0.1, "amsgrad": False, "maximize": False}),
    ("adamax", {**BETAS, "weight_decay": 0.1}),
    ("asgd", {"lr": 0.1, "lambd": 0.1, "alpha": 0.75, "t0": 1.0, "weight_decay": 0.1}),
    ("nadam", {**BETAS, "weight_decay": 0.1, "momentum_decay": 0.01}),
    ("radam", {**BETAS, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("rmsprop", {"lr": 0.1, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1, "momentum": 0.8, "centered": True}),
    ("rmsprop", {"lr": 0.1, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.0, "momentum": 0.0, "centered": False}),
    ("rprop", {"step_size_min": 1e-3, "step_size_max": 0.2, "etaminus": 0.5, "etaplus": 1.2}),
    ("sgd", {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.1, "dampening": 0.2, "nesterov": False, "maximize": False}),
    ("sgd", {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.0, "dampening": 0.0, "nesterov": True, "maximize": True}),
    ("sgd", {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.1, "dampening": 0.0, "nesterov": False, "maximize": False}),
]
each_function = pytest.mark.parametrize(
    ("name", "options"), OPTIONS, ids=lambda one: one if isinstance(one, str) else ""
)

SHAPES = [(), (0,), (7,), (5, 3), (2, 3, 4, 4)]


def lists_of(name, options, dtype=torch.float32):
    """What a function is called with before the first step, by name."""
    generator = torch.Generator().manual_seed(3)
    params = [torch.randn(shape, generator=generator, dtype=dtype) for shape in SHAPES]
    params[-1] = params[-1].to(memory_format=torch.channels_last)
    params[-2] = torch.randn(3, 5, generator=generator, dtype=dtype).t()
    lists = {}
    for argument in inspect.signature(TORCH[name]).parameters.values():
        if "list" not in str(argument.annotation).lower():
            continue
        if argument.name == "params":
            lists["params"] = params
        elif argument.name in ("grads", "d_p_list"):
            lists[argument.name] = [torch.randn(p.shape, generator=generator, dtype=dtype) for p in params]
        elif argument.name in ("state_steps", "mus", "etas", "mu_products"):
            value = {"state_steps": 0.0, "etas": 0.1}.get(argument.name, 1.0)
            lists[argument.name] = [torch.tensor(value) for _ in params]
        elif is_off(argument.name, name, options):
            lists[argument.name] = [None] * len(params) if name == "sgd" else []
        elif argument.name == "step_sizes":
            lists["step_sizes"] = [torch.full_like(param, 0.05) for param in params]
        else:
            lists[argument.name] = [torch.zeros_like(param) for param in params]
    return lists


def is_off(argument, name, options):
    return name == "sgd" or {
        "max_exp_avg_sqs": not options.get("amsgrad"),
        "grad_avgs": not options.get("centered"),
        "momentum_buffer_list": not options.get("momentum"),
    }.get(argument, False)


def run(function, lists, options, steps=3):
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        grads = lists["d_p_list" if "d_p_list" in lists else "grads"]
        for grad in grads:
            grad.copy_(torch.randn(grad.shape, generator=generator, dtype=torch.float64))
        with torch.no_grad():
            function(**lists, **options)
    return lists


@pytest.fixture
def answers(monkeypatch):
    """What Rust answered to each call."""
    found = []
    real = _native.step_on_lists

    def noted(*args):
        found.append(real(*args))
        return found[-1]

    monkeypatch.setattr(_native, "step_on_lists", noted)
    return found


@each_function
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64], ids=str)
def test_as_torchs(name, options, dtype, answers):
    if dtype.is_complex and name == "rprop":
        dtype = torch.float64  # torch's takes complex numbers apart in another way for each layout
    expected = run(
        TORCH[name],
        lists_of(name, options, dtype),
        {**options, "foreach": False, "has_complex": True}
        if "has_complex" in inspect.signature(TORCH[name]).parameters
        else {**options, "foreach": False},
    )
    found = run(getattr(functional, name), lists_of(name, options, dtype), options)
    assert answers == [None] * 3
    tolerance = {torch.float64: 1e-12, torch.bfloat16: 0.03}.get(dtype, 2e-5)
    for role, tensors in expected.items():
        assert len(found[role]) == len(tensors)
        for ours, theirs in zip(found[role], tensors, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance, equal_nan=True)


def test_new_momentum_beside_old():
    options = dict(OPTIONS[-3][1])
    made = {}
    for function in (TORCH["sgd"], functional.sgd):
        lists = run(function, lists_of("sgd", options), options, steps=1)
        lists["momentum_buffer_list"][2] = None
        made[function] = run(function, lists, options, steps=1)
    for ours, theirs in zip(*[lists["params"] for lists in made.values()], strict=True):
        torch.testing.assert_close(ours, theirs)
    assert None not in made[functional.sgd]["momentum_buffer_list"]


@each_function
def test_signature_and_words(name, options):
    ours, theirs = getattr(functional, name), TORCH[name]
    assert inspect.signature(ours) == inspect.signature(theirs)
    assert (ours.__name__, ours.__module__) == (name, "torchpace.optim.functional")
    lists = lists_of(name, options)
    for broken in ({}, {**lists}, {**lists, **options, "no_such": 1}):
        with pytest.raises(TypeError) as expected:
            theirs(**broken)
        with pytest.raises(TypeError) as found:
            ours(**broken)
        assert str(found.value) == str(expected.value)


@each_function
def test_versions_are_counted(name, options):
    lists = lists_of(name, options)
    before = [param._version for param in lists["params"]]
    run(getattr(functional, name), lists, options, steps=1)
    assert all(param._version > version for param, version in zip(lists["params"], before, strict=True))


@pytest.mark.parametrize("threads", [1, 2])
def test_bits_do_not_depend_on_threads(threads):
    options = dict(OPTIONS[5][1])
    params = [torch.linspace(-1, 1, 200_001)]
    lists = {
        "params": params,
        "grads": [params[0].cos()],
        "exp_avgs": [torch.zeros_like(params[0])],
        "exp_avg_sqs": [torch.zeros_like(params[0])],
        "max_exp_avg_sqs": [],
        "state_steps": [torch.tensor(0.0)],
    }
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        functional.adamw(**lists, **options)
    finally:
        torch.set_num_threads(before)
    alone = torch.linspace(-1, 1, 200_001)
    other = {**lists, "params": [alone], "state_steps": [torch.tensor(0.0)]}
    other.update({name: [torch.zeros_like(alone)] for name in ("exp_avgs", "exp_avg_sqs")})
    functional.adamw(**other, **options)
    assert torch.equal(params[0], alone)


def left(lists, options, **more):
    """Calls ours and torch's on copies; what came of each."""
    outcomes = []
    for function in (functional.adam, TORCH["adam"]):
        copies = {role: [tensor.clone() for tensor in tensors] for role, tensors in lists.items()}
        try:
            function(**copies, **{**options, **more})
            outcomes.append(copies["params"])
        except (RuntimeError, AssertionError) as error:
            outcomes.append((type(error), str(error)))
    return outcomes


@pytest.mark.parametrize(
    "more", [{"capturable": True}, {"differentiable": True}, {"foreach": True, "fused": True}], ids=str
)
def test_what_torch_decides(more):
    options = dict(OPTIONS[3][1])
    ours, theirs = left(lists_of("adam", options), options, **more)
    assert type(ours) is type(theirs)
    if isinstance(ours, tuple):
        assert ours == theirs
    else:
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_leaves_of_a_graph_are_refused_as_in_torch():
    options = dict(OPTIONS[3][1])
    lists = lists_of("adam", options)
    lists["params"] = [torch.nn.Parameter(param) for param in lists["params"]]
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        functional.adam(**lists, **options)


def test_a_gradient_of_another_shape_writes_nothing():
    options = dict(OPTIONS[3][1])
    lists = lists_of("adam", options)
    lists["grads"][3] = torch.ones(4)
    before = [param.clone() for param in lists["params"]]
    with pytest.raises(RuntimeError, match=r"params\[3\]: grad has shape \[4\], expected \[5, 3\]"):
        functional.adam(**lists, **options)
    assert all(torch.equal(a, b) for a, b in zip(before, lists["params"], strict=True))
    assert all(step == 0 for step in lists["state_steps"])


def test_empty_lists():
    options = dict(OPTIONS[3][1])
    functional.adam([], [], [], [], [], [], **options)
