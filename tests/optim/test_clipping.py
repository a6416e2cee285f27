"""Clipping in the step against torch's clip_grad_norm_ and clip_grad_value_ before a step of its plain loop."""

import copy
import subprocess
import sys
import warnings

import pytest
import torch
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

import cases
from cases import OPTIMIZERS
from torchpace import optim

each_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)
each_nonfinite = pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")], ids=str)

# eps is for float16, in which that of Adam is 0.
OPTIONS = {
    "SGD": {"lr": 0.1, "momentum": 0.9},
    "RMSprop": {"eps": 1e-3},
    "Adagrad": {"eps": 1e-3},
    "Adam": {"eps": 1e-3, "maximize": True},
    "AdamW": {"eps": 1e-3},
    "Adadelta": {"eps": 1e-3},
    "Adamax": {"eps": 1e-3},
    "RAdam": {"eps": 1e-3},
    "Rprop": {},
    "Lion": {},
    "LAMB": {"eps": 1e-3, "lr": 0.05},
    "LARS": {"momentum": 0.9, "trust_coefficient": 0.02, "weight_decay": 0.1},
    "AdEMAMix": {"eps": 1e-3, "betas": (0.9, 0.99, 0.95)},
    "NAdam": {"eps": 1e-3, "lr": 0.05},
    "ASGD": {"lambd": 0.1, "t0": 1.0},
    "ScheduleFreeAdamW": {"eps": 1e-3, "lr": 0.05},
    "ScheduleFreeSGD": {"lr": 0.1},
}
CLIPS = [
    {"max_grad_norm": 5.0},
    {"max_grad_norm": 1e6},
    {"max_grad_norm": 0.0},
    {"max_grad_norm": float("inf")},
    {"clip_value": 0.5},
    {"clip_value": 0.0},
    {"max_grad_norm": 5.0, "clip_value": 0.25},
]
SHAPES = [(7,), (0,), (), (6, 5), (4, 4), (3,), (2, 3, 4)]


def gradients(steps=4, dtype=torch.float64, shapes=SHAPES):
    """Elements of sizes from 0.5 to 1.5; the last but one is missing at first, and then again."""
    generator = torch.Generator().manual_seed(0)

    def one(shape):
        signs = torch.randn(shape, generator=generator, dtype=torch.float64).sign()
        return ((0.5 + torch.rand(shape, generator=generator, dtype=torch.float64)) * signs).to(dtype)

    rows = [[one(shape) for shape in shapes] for _ in range(steps)]
    for row in rows[::2]:
        row[-2] = None
    return rows


def strided(grad):
    """The same values, laid out the other way round, or with gaps."""
    if grad is None or grad.dim() == 0:
        return grad
    return grad.repeat_interleave(2, dim=0)[::2] if grad.dim() == 1 else grad.mT.contiguous().mT


def clip_by_torch(optimizer, max_grad_norm=None, clip_value=None):
    """The norm, None if it was not asked for."""
    norm = None
    if max_grad_norm is not None:
        everything = [param for group in optimizer.param_groups for param in group["params"]]
        norm = clip_grad_norm_(everything, max_grad_norm, foreach=False)
    for group in optimizer.param_groups:
        value = group.pop("clip_value", clip_value)
        if value is not None:
            clip_grad_value_(group["params"], value, foreach=False)
    return norm


def train(cls, options, start, rows, layout=lambda grad: grad, clip=None, groups=cases.two_groups):
    """Steps along `rows`. With `clip` torch clips before each; the optimizer, the parameters and the norms."""
    params = [torch.nn.Parameter(value.clone()) for value in start]
    optimizer = cls(groups(params), **options)
    norms = []
    for row in rows:
        for param, grad in zip(params, row, strict=True):
            param.grad = None if grad is None else layout(grad.clone())
        before = [(param.grad, None if param.grad is None else param.grad.clone()) for param in params]
        norm = None if clip is None else clip_by_torch(optimizer, **clip)
        optimizer.step()
        norms.append(optimizer.grad_norm if clip is None else norm)
        if clip is None:
            for param, (grad, value) in zip(params, before, strict=True):
                assert param.grad is grad
                assert grad is None or (torch.equal(grad, value) and grad._version == 0)
    return optimizer, params, norms


@pytest.mark.parametrize("layout", [lambda grad: grad, strided], ids=["dense", "strided"])
@pytest.mark.parametrize("clip", CLIPS, ids=str)
@each_optimizer
def test_float64(name, clip, layout):
    start, rows = gradients(1)[0], gradients(4)
    start[-2] = torch.ones(3, dtype=torch.float64)
    options = OPTIONS[name]
    _, expected, norms = train(cases.torchs(name), options | {"foreach": False}, start, rows, layout, clip)
    ours, params, own_norms = train(getattr(optim, name), options | clip, start, rows, layout)
    assert ours.last_path == "fused"
    assert cases.distance(params, expected) <= 1e-12 * cases.distance(expected, [torch.zeros_like(p) for p in params])
    for norm, own in zip(norms, own_norms, strict=True):
        assert (norm is None) == (own is None)
        if norm is not None:
            assert (own.dtype, own.shape, own.device.type) == (torch.float32, (), "cpu")
            torch.testing.assert_close(own, norm.float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("clip", [{"max_grad_norm": 5.0}, {"clip_value": 1.25}, CLIPS[6]], ids=str)
@each_optimizer
def test_other_types_are_as_near_to_float64_as_torch(name, clip, dtype):
    start, rows = gradients(1, dtype)[0], gradients(4, dtype)
    start[-2] = torch.ones(3, dtype=dtype)
    wide = [[None if grad is None else grad.double() for grad in row] for row in rows]
    options = OPTIONS[name] | {"foreach": False}
    _, expected, norms = train(cases.torchs(name), options, [p.double() for p in start], wide, clip=clip)
    _, theirs, _ = train(cases.torchs(name), options, start, rows, clip=clip)
    ours, params, own_norms = train(getattr(optim, name), OPTIONS[name] | clip, start, rows)
    assert ours.last_path == "fused"
    assert cases.distance(params, expected) <= 1.1 * cases.distance(theirs, expected)
    for norm, own in zip(norms, own_norms, strict=True):
        if norm is not None:
            torch.testing.assert_close(own, norm.float())


@each_optimizer
def test_a_value_for_each_group(name):
    def groups(params):
        return cases.two_groups(params, clip_value=0.125)

    start, rows = gradients(1)[0], gradients(4)
    start[-2] = torch.ones(3, dtype=torch.float64)
    ours, params, _ = train(getattr(optim, name), OPTIONS[name] | {"clip_value": 0.75}, start, rows, groups=groups)
    reference = [torch.nn.Parameter(value.clone()) for value in start]
    torchs = cases.torchs(name)(cases.two_groups(reference), **OPTIONS[name])
    for row in rows:
        for param, grad in zip(reference, row, strict=True):
            param.grad = None if grad is None else grad.clone()
        for group, value in zip(torchs.param_groups, (0.75, 0.125), strict=True):
            clip_grad_value_(group["params"], value, foreach=False)
        torchs.step()
    assert ours.last_path == "fused"
    torch.testing.assert_close(params, reference, rtol=1e-12, atol=1e-12)


def test_the_norm_is_that_of_float64_and_overflows_in_no_type():
    """torch's norm is infinite in the first two rows."""
    for dtype, size in ((torch.float16, 6e4), (torch.float32, 1e30), (torch.bfloat16, 1e30)):
        param = torch.nn.Parameter(torch.zeros(16, dtype=dtype))
        param.grad = torch.full((16,), size, dtype=dtype)
        optimizer = optim.SGD([param], lr=1.0, max_grad_norm=4.0, nonfinite_norm="raise")
        optimizer.step()
        torch.testing.assert_close(param, torch.full((16,), -1.0, dtype=dtype), rtol=1e-6, atol=0)
        torch.testing.assert_close(optimizer.grad_norm, 4 * param.grad[0].float(), rtol=1e-6, atol=0)


def test_no_norm_unless_it_is_asked_for():
    param = torch.nn.Parameter(torch.ones(2))
    optimizer = optim.SGD([param], max_grad_norm=1.0)
    assert optimizer.grad_norm is None
    param.grad = torch.tensor([3.0, 4.0])
    optimizer.step()
    assert optimizer.grad_norm.item() == 5.0
    kept = optimizer.grad_norm
    param.grad *= 2
    optimizer.step()
    assert (kept.item(), optimizer.grad_norm.item()) == (5.0, 10.0)
    optimizer.param_groups[0]["max_grad_norm"] = None
    optimizer.step()
    assert optimizer.grad_norm is None


def test_bits_do_not_depend_on_the_number_of_threads():
    shapes = [(300_000,), (5,), (0,), (300_001,), (700, 500)]
    start, row = cases.tensors(3, torch.float32, shapes), cases.tensors(4, torch.float32, shapes)
    before = torch.get_num_threads()
    runs = []
    try:
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            options = OPTIONS["AdamW"] | {"max_grad_norm": 1.0}
            _, params, norms = train(optim.AdamW, options, start, [row] * 2, strided)
            runs.append([*params, *norms])
    finally:
        torch.set_num_threads(before)
    for run in runs[1:]:
        assert all(torch.equal(left, right) for left, right in zip(runs[0], run, strict=True))
    exact = torch.cat([grad.double().flatten() for grad in row]).norm()
    torch.testing.assert_close(runs[0][-1], exact.float(), rtol=1e-7, atol=0)


# Norms that are not finite.


def with_a_bad_gradient(name, value, first, **options):
    """Two parameters; the second one's gradient has `value` in it, in the first step or after two good ones."""
    params = [torch.nn.Parameter(torch.ones(5)), torch.nn.Parameter(torch.ones(40))]
    cls = getattr(optim, name) if "max_grad_norm" in options else cases.torchs(name)
    optimizer = cls(params, **OPTIONS[name], **options)
    for _ in range(0 if first else 2):
        for param in params:
            param.grad = torch.ones_like(param)
        optimizer.step()
    params[0].grad, params[1].grad = torch.ones(5), torch.ones(40)
    params[1].grad[33] = value
    return optimizer, params


def outline(optimizer, params):
    """All that a step may change."""
    return copy.deepcopy((optimizer.state_dict(), params, [param.grad for param in params], len(optimizer.state)))


def assert_unchanged(optimizer, params, before):
    state_dict, *others = outline(optimizer, params)
    assert state_dict["param_groups"] == before[0]["param_groups"]
    assert state_dict["state"].keys() == before[0]["state"].keys()
    torch.testing.assert_close(state_dict["state"], before[0]["state"], rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(others, list(before[1:]), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("first", [False, True])
@each_nonfinite
@each_optimizer
def test_propagate_is_torchs(name, value, first):
    ours, params = with_a_bad_gradient(name, value, first, max_grad_norm=1.0)
    torchs, expected = with_a_bad_gradient(name, value, first, foreach=False)
    if not first:  # torch's good steps were not clipped
        for param, other in zip(params, expected, strict=True):
            other.data.copy_(param.data)
        torchs.load_state_dict(copy.deepcopy(ours.state_dict()))
    norm = clip_grad_norm_(expected, 1.0, foreach=False)
    ours.step()
    torchs.step()
    assert ours.last_path == "fused"
    torch.testing.assert_close(params, expected, equal_nan=True)
    torch.testing.assert_close(ours.grad_norm, norm, equal_nan=True)


@pytest.mark.parametrize("first", [False, True])
@each_nonfinite
@each_optimizer
def test_skip_changes_nothing(name, value, first):
    optimizer, params = with_a_bad_gradient(name, value, first, max_grad_norm=1.0, nonfinite_norm="skip")
    before = outline(optimizer, params)
    for _ in range(2):
        optimizer.step()
        assert_unchanged(optimizer, params, before)
        assert optimizer.last_path == f"skipped: the norm of the gradients is {str(abs(value)).replace('nan', 'NaN')}"
        torch.testing.assert_close(optimizer.grad_norm, torch.tensor(abs(value)), equal_nan=True)
    params[1].grad[33] = 1.0
    optimizer.step()
    assert optimizer.last_path == "fused"
    assert all(int(entry.get("step", 0)) in (0, 1 if first else 3) for entry in optimizer.state.values())
    assert optimizer.grad_norm.item() == pytest.approx(45**0.5)


@pytest.mark.parametrize("first", [False, True])
@each_nonfinite
@each_optimizer
def test_raise_names_the_option_and_writes_nothing(name, value, first):
    optimizer, params = with_a_bad_gradient(name, value, first, max_grad_norm=1.0, nonfinite_norm="raise")
    before = outline(optimizer, params)
    with pytest.raises(RuntimeError, match=r"norm of the gradients is (NaN|inf).*max_grad_norm"):
        optimizer.step()
    assert_unchanged(optimizer, params, before)
    assert optimizer.last_path is None
    assert optimizer.grad_norm is None


# Values out of range.


@pytest.mark.parametrize("value", [-1.0, -1e-9, float("nan"), "1", [1.0], (1.0,), {}, 1j, torch.ones(2)], ids=str)
@pytest.mark.parametrize("option", ["max_grad_norm", "clip_value"])
@each_optimizer
def test_numbers_out_of_range(name, option, value):
    with pytest.raises(ValueError, match=f"Invalid {option} value: .*, expected None or a number >= 0"):
        getattr(optim, name)([torch.nn.Parameter(torch.ones(1))], **{option: value})
    optimizer = getattr(optim, name)([torch.nn.Parameter(torch.ones(1))], **{option: 1.0})
    with pytest.raises(ValueError, match=f"Invalid {option} value"):
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], option: value})


@pytest.mark.parametrize("value", ["ignore", "", "SKIP", None, 0, True, [], torch.ones(2)], ids=repr)
@each_optimizer
def test_modes_out_of_range(name, value):
    with pytest.raises(ValueError, match=r"Invalid nonfinite_norm value: .*, expected 'propagate', 'skip' or 'raise'"):
        getattr(optim, name)([torch.nn.Parameter(torch.ones(1))], max_grad_norm=1.0, nonfinite_norm=value)
    optimizer = getattr(optim, name)([torch.nn.Parameter(torch.ones(1))])
    with pytest.raises(ValueError, match="Invalid nonfinite_norm value"):
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "nonfinite_norm": value})


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("max_grad_norm", value) for value in ("1", [1.0], {}, torch.ones(2))),
        *(("clip_value", value) for value in ("1", [1.0], {}, torch.ones(2))),
        *(("nonfinite_norm", value) for value in ("ignore", None, 0, [], torch.ones(2))),
    ],
    ids=str,
)
def test_set_later_to_the_wrong_type(option, value):
    params = [torch.nn.Parameter(torch.ones(3))]
    optimizer = optim.Adam(params, max_grad_norm=1.0)
    params[0].grad = torch.ones(3)
    optimizer.step()
    optimizer.param_groups[0][option] = value
    before = copy.deepcopy((params, optimizer.state[params[0]]))
    with pytest.raises(TypeError, match=rf'param_groups\[0\]: option "{option}" is .*, expected'):
        optimizer.step()
    torch.testing.assert_close((params, optimizer.state[params[0]]), before, rtol=0, atol=0)


class Tagged(torch.Tensor):
    """Its memory may be elsewhere, so torch steps on it."""


@pytest.mark.parametrize("tensor_class", [torch.Tensor, Tagged])
@pytest.mark.parametrize(
    ("first", "second", "option"),
    [
        ({"max_grad_norm": 1.0}, {"max_grad_norm": 2.0}, "max_grad_norm"),
        ({}, {"max_grad_norm": 2.0}, "max_grad_norm"),
        ({"max_grad_norm": 1.0}, {"max_grad_norm": None}, "max_grad_norm"),
        ({"max_grad_norm": 1.0}, {"max_grad_norm": 1.0, "nonfinite_norm": "skip"}, "nonfinite_norm"),
    ],
    ids=str,
)
def test_groups_that_differ_in_what_is_one_for_all(first, second, option, tensor_class):
    params = [torch.ones(3).as_subclass(tensor_class).requires_grad_() for _ in range(3)]
    groups = [{"params": [params[0]]}, {"params": [params[1]]} | first, {"params": [params[2]]} | second]
    optimizer = optim.SGD(groups, lr=0.5)
    params[1].grad = torch.ones(3)
    optimizer.step()  # one group alone has gradients
    params[2].grad = torch.ones(3)
    before = [param.tolist() for param in params]
    with pytest.raises(ValueError, match=rf'param_groups\[2\]: option "{option}" is .* there is one for all'):
        optimizer.step()
    assert [param.tolist() for param in params] == before
    params[1].grad = None
    optimizer.step()
    assert params[2].tolist() != before[2]


# Steps that torch takes.


def tagged():
    return [torch.linspace(1, 2, 12).reshape(3, 4).as_subclass(Tagged).requires_grad_(), torch.ones(5).requires_grad_()]


def sharing():
    store = torch.linspace(1, 2, 12)
    return [torch.nn.Parameter(store[:8]), torch.nn.Parameter(store[4:])]


def with_conjugate():
    return [torch.nn.Parameter(torch.ones(4, dtype=torch.complex64)), torch.nn.Parameter(torch.ones(3))]


def ones_of(params):
    return [torch.ones(param.shape, dtype=param.dtype) for param in params]


def conjugates(params):
    return [
        (torch.full(param.shape, 1 + 2j).conj() if param.is_complex() else torch.ones(param.shape)) for param in params
    ]


NORMS = [CLIPS[2], {"max_grad_norm": 0.5}]
VALUES = [CLIPS[4], CLIPS[5], CLIPS[6]]
LEFT = [
    *((tagged, ones_of, "of type Tagged", clip) for clip in NORMS + VALUES),
    *((sharing, ones_of, "share memory", clip) for clip in NORMS + VALUES),
    # torch clips no complex number by its value.
    *((with_conjugate, conjugates, "a conjugate view", clip) for clip in NORMS),
]


@pytest.mark.parametrize(
    ("make_params", "make_grads", "reason", "clip"), LEFT, ids=lambda it: getattr(it, "__name__", str(it))
)
@each_optimizer
def test_steps_that_torch_takes(name, make_params, make_grads, reason, clip):
    def flow(cls, by_torch, **options):
        params = make_params()
        optimizer = cls([{"params": params[:1]}, {"params": params[1:], "lr": 0.02}], **options)
        norms = []
        for _ in range(3):
            grads = make_grads(params)
            for param, grad in zip(params, grads, strict=True):
                param.grad = grad.resolve_conj() if by_torch else grad  # torch's plain loop refuses some
            kept = [grad.clone() for grad in grads]
            norm = clip_by_torch(optimizer, **clip) if by_torch else None
            optimizer.step()
            norms.append(norm if by_torch else optimizer.grad_norm)
            if not by_torch:
                assert all(param.grad is grad for param, grad in zip(params, grads, strict=True))
                assert all(torch.equal(grad, value) for grad, value in zip(grads, kept, strict=True))
        return optimizer, [param.detach().as_subclass(torch.Tensor) for param in params], norms

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of complex numbers, the same in both
        ours, params, norms = flow(getattr(optim, name), False, **OPTIONS[name], **clip)
        _, expected, own = flow(cases.torchs(name), True, foreach=False, **OPTIONS[name])
    assert reason in ours.last_path
    torch.testing.assert_close(params, expected)
    torch.testing.assert_close(norms, own)


@each_optimizer
def test_complex_gradients_are_clipped_by_real_and_imaginary_parts(name):
    """On both paths."""
    grad = torch.tensor([3 - 4j, 0.1 + 2j, -0.2j])
    for conjugate, reason in ((False, "fused"), (True, "a conjugate view")):
        params = [torch.nn.Parameter(torch.ones(3, dtype=torch.complex64)) for _ in range(2)]
        ours = getattr(optim, name)(params[:1], **OPTIONS[name], clip_value=0.5)
        torchs = cases.torchs(name)(params[1:], **OPTIONS[name], foreach=False)
        params[0].grad = grad.conj_physical().conj() if conjugate else grad
        params[1].grad = torch.view_as_complex(torch.view_as_real(grad).clamp(-0.5, 0.5))
        ours.step()
        torchs.step()
        assert reason in ours.last_path
        torch.testing.assert_close(*params)


@pytest.mark.parametrize("mode", ["propagate", "skip", "raise"])
@each_nonfinite
@each_optimizer
def test_norms_that_are_not_finite_in_steps_that_torch_takes(name, value, mode):
    def flow(cls, **options):
        params = sharing()
        optimizer = cls(params, **OPTIONS[name], **options)
        for param in params:
            param.grad = torch.ones(8)
        params[1].grad[3] = value
        return optimizer, params

    ours, params = flow(getattr(optim, name), max_grad_norm=1.0, nonfinite_norm=mode)
    before = outline(ours, params)
    if mode == "raise":
        with pytest.raises(RuntimeError, match="max_grad_norm"):
            ours.step()
        assert ours.grad_norm is None
    else:
        ours.step()
        torch.testing.assert_close(ours.grad_norm, torch.tensor(abs(value)), equal_nan=True)
    if mode != "propagate":
        assert_unchanged(ours, params, before)
        assert mode == "raise" or ours.last_path.startswith("skipped: the norm of the gradients is ")
        return
    torchs, expected = flow(cases.torchs(name), foreach=False)
    clip_grad_norm_(expected, 1.0, foreach=False)
    torchs.step()
    torch.testing.assert_close(params, expected, equal_nan=True)


def test_float64_in_steps_that_torch_takes():
    """The factor is no float32."""

    def flow(cls, **options):
        store = torch.linspace(1, 2, 12, dtype=torch.float64)
        params = [torch.nn.Parameter(store[:8]), torch.nn.Parameter(store[4:])]
        optimizer = cls(params, lr=1.0, **options)
        for param in params:
            param.grad = torch.linspace(1, 2, 8, dtype=torch.float64)
        if not options:
            clip_grad_norm_(params, 0.3, foreach=False)
        optimizer.step()
        return store

    torch.testing.assert_close(flow(optim.SGD, max_grad_norm=0.3), flow(torch.optim.SGD), rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("clip", "move"), [({"max_grad_norm": 3.0}, 3 / (30**0.5 + 1e-6)), ({"clip_value": 0.5}, None)]
)
def test_sparse_gradients(clip, move):
    """Which torch's own functions do not clip. The first row comes twice and counts once, with its sum."""
    param = torch.nn.Parameter(torch.zeros(4, 1))
    index, rows = torch.tensor([[0, 2, 0, 3]]), torch.tensor([[1.0], [-1.0], [4.0], [2.0]])
    param.grad = grad = torch.sparse_coo_tensor(index, rows, (4, 1), check_invariants=True)
    optimizer = optim.SGD([param], lr=1.0, **clip)
    optimizer.step()
    assert "torch.sparse_coo" in optimizer.last_path
    summed = torch.tensor([[5.0], [0.0], [-1.0], [2.0]])
    torch.testing.assert_close(param.detach(), -(summed * move if move else summed.clamp(-0.5, 0.5)))
    assert param.grad is grad
    assert torch.equal(grad._values(), rows)


@pytest.mark.parametrize("clip", [{"max_grad_norm": 0.5}, {"clip_value": 0.25}, {"max_grad_norm": 2, "clip_value": 1}])
def test_clipping_sparse_gradients_gives_no_warning(clip):
    """In a process of its own, as torch warns once in each: torch 2.11 of sparse tensors that are made."""
    code = f"""
import torch
from torchpace import optim
table = torch.nn.Embedding(5, 2, sparse=True)
optimizer = optim.SGD(table.parameters(), lr=0.1, **{clip})
for step in range(2):
    optimizer.zero_grad()
    table(torch.tensor([0, 2, 2])).sum().backward()
    optimizer.step()
print("sparse_coo" in optimizer.last_path)
"""
    run = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "True", run.stderr


@pytest.mark.parametrize("clip", [{"max_grad_norm": 0.5}, {"clip_value": 1.5}, {}], ids=str)
@each_optimizer
def test_autograd_follows_a_clipped_step(name, clip):
    """The slope of the outcome by the gradient's size, against a difference quotient of our own fused step."""

    def moved(size, **options):
        param = torch.linspace(1, 2, 4, dtype=torch.float64).requires_grad_().clone()  # no leaf: autograd follows it
        smooth = OPTIONS[name] | {"eps": 0.5} if "eps" in OPTIONS[name] else {}
        optimizer = getattr(optim, name)([param], **smooth, **options)
        param.grad = torch.linspace(1, 2, 4, dtype=torch.float64) * size
        grad = param.grad
        optimizer.step()
        assert param.grad is grad
        return optimizer, (param * torch.linspace(1, 2, 4, dtype=torch.float64) ** 2).sum()

    size = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    optimizer, outcome = moved(size, differentiable=True, **clip)
    assert optimizer.last_path == "torch: param_groups[0] has differentiable=True"
    assert optimizer.grad_norm is None or not optimizer.grad_norm.requires_grad
    (slope,) = torch.autograd.grad(outcome, size)
    with torch.no_grad():
        (fused, above), (_, below) = moved(1.0 + 1e-5, **clip), moved(1.0 - 1e-5, **clip)
    assert fused.last_path == "fused"
    torch.testing.assert_close(slope, (above - below) / 2e-5, rtol=1e-5, atol=1e-8)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of modules that the compiler imports
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # dynamo's own
@each_optimizer
def test_compiled_training_step(name):
    def flow(cls, compiled, **options):
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 2)
        optimizer = cls(model.parameters(), **OPTIONS[name], **options)

        def train(batch):
            optimizer.zero_grad()
            loss = model(batch).square().sum()
            loss.backward()
            if not options:
                clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            return loss

        train = torch.compile(train, backend="eager") if compiled else train
        losses = [train(torch.ones(3, 4)).item() for _ in range(4)]
        torch._dynamo.reset()
        return losses, model.weight.detach(), getattr(optimizer, "last_path", None)

    losses, weight, path = flow(getattr(optim, name), True, max_grad_norm=0.5)
    expected, reference, _ = flow(cases.torchs(name), False)
    assert losses == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(weight, reference)
    assert path == "fused"


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
@pytest.mark.parametrize("left", [False, True], ids=["fused", "torch"])
@pytest.mark.parametrize("kind", ["shard", "replicate"])
def test_parameters_spread_over_processes(kind, left, tmp_path):
    """Together with one that is not."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        mesh, placements = init_device_mesh("cpu", (1,)), [Shard(0) if kind == "shard" else Replicate()]
        start, rows = gradients(1, torch.float32)[0][:4], gradients(3, torch.float32)
        params = [torch.nn.Parameter(value.clone()) for value in start]
        params[3] = torch.nn.Parameter(distribute_tensor(start[3], mesh, placements))
        ours = optim.AdamW(params, lr=0.1, max_grad_norm=2.0)
        if left:
            ours.param_groups = tuple(ours.param_groups)
        expected = [torch.nn.Parameter(value.clone()) for value in start]
        theirs = torch.optim.AdamW(expected, lr=0.1, foreach=False)
        for row in rows:
            for param, other, grad in zip(params, expected, row, strict=False):
                param.grad, other.grad = grad.clone(), grad.clone()
            params[3].grad = distribute_tensor(row[3], mesh, placements)
            norm = clip_grad_norm_(expected, 2.0)
            ours.step()
            theirs.step()
            torch.testing.assert_close(ours.grad_norm, norm)
        torch.testing.assert_close([*params[:3], params[3].full_tensor()], expected)
        assert ours.last_path == ("torch: param_groups is of type tuple" if left else "fused")
    finally:
        torch.distributed.destroy_process_group()
