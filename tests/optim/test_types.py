"""Complex numbers, low precision, mixed types, and memory that a step refuses."""

import copy
import warnings

import pytest
import torch

import cases
from cases import OPTIMIZERS, Case
from torchpace import optim

each_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)
low_precision = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)

COMPLEX = [
    Case("SGD", {"lr": 0.1}),
    Case("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    Case("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "maximize": True}),
    Case("RMSprop", {"weight_decay": 0.1}),
    Case("RMSprop", {"centered": True, "momentum": 0.5, "maximize": True}),
    Case("Adagrad", {"lr_decay": 0.1, "initial_accumulator_value": 0.5}),
    Case("Adam", {"weight_decay": 0.1}),
    Case("Adam", {"amsgrad": True, "maximize": True}),
    Case("AdamW"),
    Case("AdamW", {"amsgrad": True}),
    Case("Adadelta", {"weight_decay": 0.1, "maximize": True}),
    Case("Adamax", {"weight_decay": 0.1, "maximize": True}),
    Case("RAdam", {"weight_decay": 0.1, "betas": (0.9, 0.6)}),
    Case("RAdam", {"betas": (0.9, 0.8), "maximize": True}),
    Case("Rprop"),
    Case("Rprop", {"lr": 1.0, "maximize": True}),
    Case("NAdam", {"weight_decay": 0.1}),
    Case("NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
    Case("AdEMAMix", {"weight_decay": 0.1, "betas": (0.9, 0.99, 0.7), "beta3_warmup": 3}),
    Case("AdEMAMix", {"maximize": True, "alpha_warmup": 3}),
    Case("LAMB"),
    Case("LAMB", {"maximize": True, "trust_clip": True, "weight_decay": 0.0}),
    Case("LARS", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    Case("LARS", {"maximize": True, "trust_coefficient": 0.1}),
    Case("ASGD", {"lambd": 0.1, "t0": 1.0, "weight_decay": 0.1}),
    Case("ASGD", {"maximize": True}),
    Case("ScheduleFreeAdamW", {"weight_decay": 0.1, "warmup_steps": 3}),
    Case("ScheduleFreeSGD", {"lr": 0.1, "maximize": True}),
]
SHAPES = [(3, 4), (7,), (), (0,), (50, 3)]


def outcome(cls, options, start, rows, max_norm=None):
    params = [torch.nn.Parameter(value.clone()) for value in start]
    optimizer = cls(cases.two_groups(params), **options)
    for row in rows:
        for param, grad in zip(params, row, strict=True):
            param.grad = grad.clone()
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_(params, max_norm, foreach=False)
        optimizer.step()
    return optimizer, params


def values_of_size_one(seed, dtype, shapes=SHAPES):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


@pytest.mark.filterwarnings("ignore:Complex modules:UserWarning")
@pytest.mark.parametrize("max_norm", [None, 1.0])
@pytest.mark.parametrize("case", COMPLEX, ids=str)
def test_complex128_is_torchs(case, max_norm):
    start, rows = (
        values_of_size_one(0, torch.complex128),
        [values_of_size_one(t, torch.complex128) for t in range(1, 6)],
    )
    theirs, expected = outcome(case.torchs, case.options | {"foreach": False}, start, rows, max_norm)
    ours, params = outcome(case.ours, case.options | {"max_grad_norm": max_norm}, start, rows)
    assert ours.last_path == "fused"
    torch.testing.assert_close(params, expected, rtol=1e-12, atol=1e-12)
    for param, other in zip(params, expected, strict=True):
        assert ours.state[param].keys() == theirs.state[other].keys()
        for key, value in theirs.state[other].items():
            torch.testing.assert_close(ours.state[param][key], value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("max_norm", [None, 1.0])
@pytest.mark.parametrize("case", COMPLEX, ids=str)
def test_complex64_is_as_near_to_complex128_as_torch(case, max_norm):
    start, rows = values_of_size_one(0, torch.complex64), [values_of_size_one(t, torch.complex64) for t in range(1, 6)]
    wide = [[value.to(torch.complex128) for value in row] for row in [start, *rows]]
    plain = case.options | {"foreach": False}
    exact = parts(outcome(case.torchs, plain, wide[0], wide[1:], max_norm)[1])
    theirs = parts(outcome(case.torchs, plain, start, rows, max_norm)[1])
    ours, params = outcome(case.ours, case.options | {"max_grad_norm": max_norm}, start, rows)
    assert ours.last_path == "fused"
    assert cases.distance(parts(params), exact) <= 1.1 * cases.distance(theirs, exact)


def parts(tensors):
    return [torch.view_as_real(tensor.detach()) for tensor in tensors]


@pytest.mark.parametrize("max_norm", [None, 1.0])
@each_optimizer
def test_conjugate_gradients_take_torchs_path(name, max_norm):
    """As in torch, whose plain loop refuses them but in SGD (and LARS), and clips them into plain ones."""
    param, other = (torch.nn.Parameter(torch.ones(3, dtype=torch.complex128)) for _ in range(2))
    ours = getattr(optim, name)([param], max_grad_norm=max_norm)
    theirs = cases.torchs(name)([other], foreach=False)
    param.grad = torch.tensor([1 + 2j, 3 - 1j, 0], dtype=torch.complex128).conj()
    other.grad = param.grad if max_norm is None else param.grad.resolve_conj()
    if max_norm is not None:
        torch.nn.utils.clip_grad_norm_([other], max_norm, foreach=False)
    if max_norm is None and name not in ("SGD", "LARS"):
        for optimizer in (ours, theirs):
            with pytest.raises(RuntimeError, match="view_as_real doesn't work on unresolved conjugated tensors"):
                optimizer.step()
        return
    theirs.step()
    ours.step()
    assert "a conjugate view" in ours.last_path
    torch.testing.assert_close(param, other, rtol=1e-12, atol=1e-12)


# Mixed types.


MIXES = [
    (torch.float32, torch.float64),
    (torch.float32, torch.bfloat16),
    (torch.bfloat16, torch.float32),
    (torch.float16, torch.float32),
    (torch.float64, torch.float32),
    (torch.bfloat16, torch.float16),
]


@pytest.mark.parametrize(("dtype", "state_dtype"), MIXES, ids=str)
@pytest.mark.parametrize(
    "case",
    [
        Case("SGD", {"lr": 0.1, "momentum": 0.9}),
        Case("RMSprop", {"centered": True}),
        Case("Adagrad"),
        Case("Adam", {"amsgrad": True}),
        Case("AdamW"),
        Case("Adadelta"),
        Case("Adamax"),
        Case("RAdam", {"betas": (0.9, 0.8)}),
        Case("Rprop"),
        Case("AdEMAMix", {"betas": (0.9, 0.99, 0.7), "beta3_warmup": 3}),
        Case("LAMB"),
        Case("LARS", {"momentum": 0.9}),
        Case("ScheduleFreeAdamW", {"lr": 0.05}),
        Case("ScheduleFreeSGD", {"lr": 0.1}),
    ],
    ids=str,
)
def test_state_of_another_type_than_the_parameter(case, dtype, state_dtype):
    """It is kept, and each step lies within its rounding of the float64 step from the same state."""
    start, rows = values_of_size_one(0, dtype), [values_of_size_one(t, dtype) for t in range(1, 5)]
    ours, params = outcome(case.ours, case.options, start, rows[:1])
    slots = {key for key in ours.state[params[0]] if key not in ("step", *ours._scalars)}
    for param in params:
        for key in slots:
            ours.state[param][key] = ours.state[param][key].to(state_dtype)
    for row in rows[1:]:
        wide = [torch.nn.Parameter(param.detach().to(torch.float64, copy=True)) for param in params]
        exact = case.torchs(cases.two_groups(wide), **case.options, foreach=False)
        for param, other in zip(params, wide, strict=True):
            exact.state[other] = copy_of(ours.state[param], torch.float64)
        for param, other, grad in zip(params, wide, row, strict=True):
            param.grad, other.grad = grad.clone(), grad.double()
        ours.step()
        exact.step()
        assert ours.last_path == "fused"
        for param, other in zip(params, wide, strict=True):
            near = {"rtol": 2 * eps(dtype), "atol": 2 * eps(torch.float32)}
            torch.testing.assert_close(param.double(), other, **near)
            for key, value in exact.state[other].items():
                slot = ours.state[param][key]
                kept = state_dtype if key in slots else torch.float32 if key == "step" else torch.float64
                assert slot.dtype == kept
                near = {"rtol": 2 * max(eps(slot.dtype), eps(arithmetic(dtype, state_dtype))), "atol": 1e-6}
                torch.testing.assert_close(slot.double(), value.double(), **near)


def copy_of(entry, dtype):
    return {key: value.to(torch.float32 if key == "step" else dtype, copy=True) for key, value in entry.items()}


def eps(dtype):
    return torch.finfo(dtype).eps


def arithmetic(*dtypes):
    return torch.float64 if torch.float64 in dtypes else torch.float32


def test_a_wide_state_keeps_what_a_narrow_one_loses():
    """With a float32 second moment a bfloat16 parameter follows the rule where torch's own stands still: 0.999 of a
    bfloat16 is mostly that number again."""
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randn(1000, generator=generator).bfloat16() * 2.0 ** -(step // 100) for step in range(500)]

    def second_moment(cls, dtype, state_dtype, **options):
        param = torch.nn.Parameter(torch.zeros(1000, dtype=dtype))
        optimizer = cls([param], **options)
        for number, grad in enumerate(rows):
            param.grad = grad.to(dtype)
            optimizer.step()
            if number == 0:
                optimizer.state[param]["exp_avg_sq"] = optimizer.state[param]["exp_avg_sq"].to(state_dtype)
        return optimizer.state[param]["exp_avg_sq"].double()

    exact = second_moment(torch.optim.Adam, torch.float64, torch.float64, foreach=False)
    wide = second_moment(optim.Adam, torch.bfloat16, torch.float32)
    narrow = second_moment(optim.Adam, torch.bfloat16, torch.bfloat16)
    # The first step rounds to bfloat16.
    assert (wide - exact).norm() < 1e-3 * exact.norm()
    assert (narrow - exact).norm() > 0.1 * exact.norm()


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: torch.ones(3, dtype=torch.int64), "exp_avg is not of floating-point type, expected float32"),
        (lambda: torch.ones(3, dtype=torch.bool), "exp_avg is not of floating-point type, expected float32"),
        (lambda: torch.ones(3, dtype=torch.complex64), "exp_avg is complex64, expected float32"),
        (lambda: torch.ones(3, dtype=torch.complex128), "exp_avg is complex128, expected float32"),
        (lambda: torch.ones(3, device="meta"), "exp_avg is not plain memory (layout torch.strided, device meta)"),
        (lambda: torch.ones(3).to_sparse(), "exp_avg is not plain memory (layout torch.sparse_coo, device cpu)"),
        (lambda: torch.ones(1).expand(3), "exp_avg of shape [3] and strides [0] has more than one element"),
    ],
    ids=["int64", "bool", "complex64", "complex128", "meta", "sparse", "expanded"],
)
def test_state_that_cannot_go_with_the_parameter(make, found):
    params = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    optimizer = optim.Adam([("first", params[0]), ("second", params[1])])
    for param in params:
        param.grad = torch.ones(3)
    optimizer.step()
    optimizer.state[params[1]]["exp_avg"] = make()
    before = copy.deepcopy((params, optimizer.state[params[0]], optimizer.state[params[1]]["step"]))
    with pytest.raises(RuntimeError) as info:
        optimizer.step()
    assert f"param_groups[0]['params'][1] (second): {found}" in str(info.value)
    after = (params, optimizer.state[params[0]], optimizer.state[params[1]]["step"])
    torch.testing.assert_close(after, before, rtol=0, atol=0)


@pytest.mark.skipif(not hasattr(torch.Tensor, "grad_dtype"), reason="this torch has no Tensor.grad_dtype")
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
@each_optimizer
def test_gradient_of_another_type(name, dtype):
    start, grads = torch.linspace(1, 2, 40), [torch.linspace(1, 2, 40).to(dtype) * size for size in (1, 2, 3)]
    param, wide = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.double())
    param.grad_dtype = dtype
    ours, exact = getattr(optim, name)([param], lr=0.1), cases.torchs(name)([wide], lr=0.1, foreach=False)
    for grad in grads:
        param.grad, wide.grad = grad, grad.double()
        ours.step()
        exact.step()
        assert ours.last_path == "fused"
    torch.testing.assert_close(param.double(), wide, rtol=1e-6, atol=0)


# Low precision.


def many_steps(dtype, steps=50):
    """A start and gradients, of sizes from 0.5 to 1.5: with those torch's plain loop survives float16."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for _ in range(steps + 1):
        signs = torch.randn(2000, generator=generator).sign()
        rows.append(((0.5 + torch.rand(2000, generator=generator)) * signs).to(dtype))
    return rows


def follow(cls, options, start, grads, after=lambda optimizer: None):
    param = torch.nn.Parameter(start.clone())
    optimizer = cls([param], **options)
    for grad in grads:
        param.grad = grad.clone()
        optimizer.step()
        after(optimizer)
    return optimizer, param


@low_precision
@pytest.mark.parametrize("case", cases.CASES, ids=str)
def test_many_steps_in_low_precision_are_as_near_to_float64_as_torchs(case, dtype):
    """Above 1 only as the walk of the rounding errors has it: the next test takes the steps one by one."""
    start, *grads = many_steps(dtype)
    plain = case.options | {"foreach": False}
    _, exact = follow(case.torchs, plain, start.double(), [grad.double() for grad in grads])
    _, theirs = follow(case.torchs, plain, start, grads)
    ours, param = follow(case.ours, case.options, start, grads)
    assert ours.last_path == "fused"
    assert param.isfinite().all()
    error, bound = cases.distance([param], [exact]), cases.distance([theirs], [exact])
    assert not error > 1.1 * bound  # torch's may be NaN


@low_precision
@pytest.mark.parametrize("case", cases.CASES + cases.VARIANTS, ids=str)
def test_each_step_in_low_precision_is_nearer_to_float64_than_torchs(case, dtype):
    """All from the same parameter and state, those of ours; what torch lacks, against half a unit in the last place."""
    start, *grads = many_steps(dtype)
    error, bound = [], []
    param, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    exact = torch.nn.Parameter(start.double())
    ours = case.ours([param], **case.options)
    wide = case.ours([exact], **case.options)
    torchs = None if case in cases.VARIANTS else case.torchs([theirs], **case.options, foreach=False)
    for grad in grads:
        for other, optimizer in ((exact, wide), (theirs, torchs)):
            if optimizer is not None:
                other.data.copy_(param.data)
                if param in ours.state:
                    optimizer.state[other] = copy_of(ours.state[param], other.dtype)
        param.grad, theirs.grad, exact.grad = grad.clone(), grad.clone(), grad.double()
        for optimizer in (ours, wide, torchs):
            if optimizer is not None:
                optimizer.step()
        error.append(param.detach().double() - exact.detach())
        bound.append(theirs.detach().double() - exact.detach())
    if torchs is None:
        assert cases.distance(error, [0 * value for value in error]) > 0
        torch.testing.assert_close(param.detach().double(), exact.detach(), rtol=0.501 * eps(dtype), atol=0)
    else:
        norms = [torch.stack(values).norm() for values in (error, bound)]
        assert not norms[0] > norms[1]  # torch's may be NaN


# Memory that is written more than once.


@pytest.mark.parametrize(
    ("make", "strides"),
    [
        (lambda: torch.ones(3).expand(2, 3), "shape [2, 3] and strides [0, 1]"),
        (lambda: torch.ones(1).expand(4), "shape [4] and strides [0]"),
        (lambda: torch.ones(5).as_strided((3, 3), (1, 1)), "shape [3, 3] and strides [1, 1]"),
        (lambda: torch.ones(20).as_strided((2, 5, 2), (3, 2, 4)), "shape [2, 5, 2] and strides [3, 2, 4]"),
    ],
    ids=["expanded", "one element", "windows", "interleaved"],
)
@each_optimizer
def test_parameter_that_overlaps_itself(name, make, strides):
    """torch refuses what is expanded and steps over windows element by element, on each as often as it occurs."""
    plain, param = torch.nn.Parameter(torch.ones(2)), make().requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer = getattr(optim, name)([("plain", plain), ("tied", param)])
    plain.grad, param.grad = torch.ones(2), torch.ones(param.shape)
    before = copy.deepcopy(optimizer.state_dict()["state"])
    with pytest.raises(RuntimeError) as info:
        optimizer.step()
    place = "param_groups[0]['params'][1] (tied): param"
    assert f"{place} of {strides} has more than one element in one place" in str(info.value)
    assert bool((plain == 1).all() and (param == 1).all())
    torch.testing.assert_close(optimizer.state_dict()["state"], before, rtol=0, atol=0)


@each_optimizer
def test_strides_that_only_look_as_if_they_overlapped(name):
    """No two elements in one place: sizes 2, 3 and strides 3, 2."""

    def flow(cls, **options):
        store = torch.ones(10, dtype=torch.float64)
        param = store.as_strided((2, 3), (3, 2)).requires_grad_()
        optimizer = cls([param], lr=0.1, **options)
        for size in (1, 2):
            param.grad = torch.arange(1.0, 7.0, dtype=torch.float64).reshape(2, 3) * size
            optimizer.step()
        return optimizer, store.detach()

    ours, store = flow(getattr(optim, name))
    _, expected = flow(cases.torchs(name), foreach=False)
    assert ours.last_path == "fused"
    torch.testing.assert_close(store, expected, rtol=1e-12, atol=1e-12)
