"""LAMB and LARS by hand: quotients of norms that are whole numbers, and what they are of."""

import copy
import re

import numpy as np
import pytest
import torch

from torchpace import optim
from torchpace.optim import _torch_lamb, _torch_lars

each_class = pytest.mark.parametrize(
    ("lamb", "lars"),
    [(optim.LAMB, optim.LARS), (_torch_lamb.LAMB, _torch_lars.LARS)],
    ids=["fused", "by torch"],
)
each_name = pytest.mark.parametrize("name", ["LAMB", "LARS"])
INF, NAN = float("inf"), float("nan")
# Both betas take the first gradient whole, so that LAMB's first update is its sign.
LAMB = {"lr": 0.5, "eps": 0.0, "weight_decay": 0.0}
TWINS = {"LAMB": _torch_lamb.LAMB, "LARS": _torch_lars.LARS}


def after(cls, start, *grads, **options):
    """Where steps along these gradients lead."""
    param = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer = cls([param], **options)
    for grad in grads:
        param.grad = torch.tensor(grad, dtype=torch.float64)
        optimizer.step()
    if cls.__module__.count("_torch") == 0:
        assert optimizer.last_path == "fused"
    return pytest.approx(param.tolist(), rel=1e-12, abs=1e-15)


def leaves(dtype=torch.float64):
    return [torch.nn.Parameter(torch.linspace(1, 2, size, dtype=dtype)) for size in (60, 7)]


def train(optimizer, params, seeds):
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        for param in params:
            param.grad = torch.randn(param.shape, generator=generator, dtype=torch.float64).to(param.dtype)
        optimizer.step()
    return params


# LAMB. Updates of length 5 and 10.


@each_class
def test_a_lamb_update_as_long_as_the_parameter(lamb, lars):
    """(1, -1) + (3, 4) is as long as (3, 4)."""
    assert after(lamb, [3.0, 4.0], [7.0, -2.0], **LAMB | {"weight_decay": 1.0}) == [1.0, 2.5]


@each_class
@pytest.mark.parametrize(("trust_clip", "expected"), [(False, [2.0, 5.0]), (True, [4.0, 6.5])])
def test_a_lamb_update_half_as_long(lamb, lars, trust_clip, expected):
    """(1, -1) + (6, 8) / 2 is 5 long and (6, 8) 10, so that it is doubled unless that is clipped."""
    options = LAMB | {"weight_decay": 0.5, "trust_clip": trust_clip}
    assert after(lamb, [6.0, 8.0], [7.0, -2.0], **options) == expected


@each_class
@pytest.mark.parametrize("trust_clip", [False, True])
def test_a_lamb_update_without_correction(lamb, lars, trust_clip):
    """m is g / 2 and the root of v is |g| / 4: (2, -2) + (6, 8) is 10 long, so that it is halved, clipped or not."""
    options = {"betas": (0.5, 0.9375), "bias_correction": False, "weight_decay": 2.0, "lr": 1.0, "eps": 0.0}
    assert after(lamb, [3.0, 4.0], [7.0, -5.0], **options, trust_clip=trust_clip) == [-1.0, 1.0]


@each_class
def test_a_lamb_step_is_a_share_of_the_parameter(lamb, lars):
    """Of 5, along (1, 1); whatever the size of the gradients."""
    for scale in (1e-9, 1.0, 1e9):
        moved = after(lamb, [3.0, 4.0], [scale * 6, scale * 8], **LAMB | {"lr": 0.1 * 2**0.5})
        assert moved == [2.5, 3.5]


@each_class
def test_lamb_where_a_norm_is_zero(lamb, lars):
    options = {"lr": 0.25, "eps": 1e-12}
    assert after(lamb, [0.0, 0.0], [2.0, -3.0], **options) == [pytest.approx(-0.25), pytest.approx(0.25)]
    assert after(lamb, [3.0, 4.0], [0.0, 0.0], **options, weight_decay=0.0) == [3.0, 4.0]
    # The decay alone is scaled to the parameter's length.
    assert after(lamb, [3.0, 4.0], [0.0, 0.0], **options, weight_decay=0.01) == [2.25, 3.0]
    assert after(lamb, [0.0], [0.0], **options) == [0.0]


# LARS. A parameter of length 5 and a gradient of length 10.


@each_class
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"trust_coefficient": 0.02}, [2.4, 3.2]),  # 0.02 * 5 / 10
        ({"trust_coefficient": 0.04, "weight_decay": 2.0}, [1.8, 2.4]),  # 0.04 * 5 / (10 + 2 * 5), of (12, 16)
        ({"trust_coefficient": 0.04, "eps": 10.0}, [2.4, 3.2]),  # 0.04 * 5 / (10 + 10)
        ({"trust_coefficient": 0.02, "maximize": True}, [3.6, 4.8]),
        ({"trust_coefficient": 0.0}, [3.0, 4.0]),
        ({"trust_coefficient": None, "lr": 0.1}, [2.4, 3.2]),
        ({}, [2.97, 3.96]),
    ],
    ids=str,
)
def test_a_lars_step(lamb, lars, options, expected):
    assert after(lars, [3.0, 4.0], [6.0, 8.0], **{"lr": 10.0, "eps": 0.0} | options) == expected


@each_class
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [2.4, 2.4]),  # 0.2 * 4 / 2 of (0, 2) is (0, 0.8)
        ({"momentum": 0.5}, [2.1, 2.0]),  # (0.3, 0.4) + (0, 0.8)
        ({"momentum": 0.5, "dampening": 0.5}, [2.1, 2.4]),  # (0.3, 0.4) + (0, 0.4)
        ({"momentum": 0.5, "nesterov": True}, [1.95, 1.55]),  # from (2.1, 2.8), 3.5 long: (0, 0.7) + (0.15, 0.55)
    ],
    ids=str,
)
def test_the_momentum_of_lars_is_of_scaled_gradients(lamb, lars, options, expected):
    """First 0.2 * 5 / 10 of (6, 8), which is (0.6, 0.8)."""
    options = options | {"lr": 1.0, "trust_coefficient": 0.2, "eps": 0.0}
    assert after(lars, [3.0, 4.0], [6.0, 8.0], [0.0, 2.0], **options) == expected


@each_class
def test_lars_where_a_norm_is_zero(lamb, lars):
    options = {"lr": 0.5, "weight_decay": 0.1, "eps": 0.0}
    assert after(lars, [0.0, 0.0], [2.0, -3.0], **options) == [-1.0, 1.5]
    assert after(lars, [3.0, 4.0], [0.0, 0.0], **options) == [2.85, 3.8]
    assert after(lars, [0.0], [0.0], **options) == [0.0]


@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": 0.9, "dampening": 0.5}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}],
    ids=str,
)
def test_lars_without_a_coefficient_is_sgd_to_the_bit(options):
    found, expected = leaves(torch.float32), leaves(torch.float32)
    lars = optim.LARS([{"params": found, "trust_coefficient": None, "lr": 0.1}], **options)
    train(lars, found, range(5))
    train(optim.SGD(expected, lr=0.1, **options), expected, range(5))
    assert all(torch.equal(left, right) for left, right in zip(found, expected, strict=True))


@each_class
def test_the_state_of_lars_is_that_of_sgd(lamb, lars):
    for options in ({}, {"momentum": 0.5}):
        found = []
        for cls in (lars, torch.optim.SGD):
            params = leaves()
            optimizer = cls(params, **options)
            train(optimizer, params, range(2))
            found.append([sorted(optimizer.state[param]) for param in params])
        assert found[0] == found[1]


# What the norms are of.


@each_name
def test_a_parameter_in_another_layout(name):
    """The same to the rounding of sums in float64; the gradient is laid out unlike either."""
    values = torch.linspace(-1, 2, 60, dtype=torch.float64).reshape(5, 12)
    gaps = torch.zeros(5, 24, dtype=torch.float64)[:, ::2]
    for store in (torch.empty(12, 5, dtype=torch.float64).T, gaps):
        moved = []
        for place in (torch.empty(5, 12, dtype=torch.float64), store):
            param = torch.nn.Parameter(place.copy_(values))
            optimizer = getattr(optim, name)([param], lr=0.1)
            for seed in range(3):
                grad = torch.randn(12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).T
                param.grad = grad
                optimizer.step()
            assert optimizer.last_path == "fused"
            moved.append(param.detach())
        torch.testing.assert_close(*moved, rtol=1e-13, atol=1e-14)


@each_name
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
def test_a_complex_parameter_is_its_parts(name, dtype):
    values = torch.randn(50, dtype=dtype, generator=torch.Generator().manual_seed(0))
    grads = [torch.randn(50, dtype=dtype, generator=torch.Generator().manual_seed(seed)) for seed in range(1, 4)]
    moved = []
    for form in (torch.Tensor.clone, lambda value: torch.view_as_real(value).clone()):
        param = torch.nn.Parameter(form(values))
        optimizer = getattr(optim, name)([param], lr=0.1)
        for grad in grads:
            param.grad = form(grad)
            optimizer.step()
        moved.append(param.detach())
    torch.testing.assert_close(torch.view_as_real(moved[0]), moved[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_norms_of_what_float32_cannot_square(dtype, size):
    for name, options in (("LAMB", LAMB), ("LARS", {"lr": 500.0, "eps": 0.0})):
        param = torch.nn.Parameter(size * torch.tensor([3.0, 4.0], dtype=dtype))
        optimizer = getattr(optim, name)([param], **options)
        # Its squares are in range, for they are LAMB's state.
        param.grad = torch.tensor([3.0, 4.0], dtype=dtype)
        optimizer.step()
        assert optimizer.last_path == "fused"
        expected = [1.5, 2.0] if name == "LARS" else [3 - 2.5 / 2**0.5, 4 - 2.5 / 2**0.5]
        near = 1e-5 if dtype == torch.float32 else 2e-2
        assert (param.detach().double() / size).tolist() == pytest.approx(expected, rel=near)


@each_name
@pytest.mark.parametrize("value", [INF, -INF, NAN])
def test_what_is_not_finite_stays_within_its_parameter(name, value):
    """And goes where it does by torch's operators."""
    moved = []
    for cls in (getattr(optim, name), TWINS[name]):
        params = leaves()
        optimizer = cls(params, lr=0.1)
        for param in params:
            param.grad = torch.ones_like(param)
        params[0].grad[3] = value
        optimizer.step()
        moved.append(params)
    assert not moved[0][0].isfinite().all()
    assert moved[0][1].isfinite().all()
    torch.testing.assert_close(*moved, rtol=1e-12, atol=0, equal_nan=True)


@each_name
@pytest.mark.parametrize("in_step", [False, True])
@pytest.mark.parametrize("clips", [{}, {"max_grad_norm": 1.0}], ids=str)
def test_a_scale_is_undone_before_the_sums(name, clips, in_step):
    """By a GradScaler, or in the step where it leaves that to an optimizer."""
    options = {"LAMB": {"eps": 0.1}, "LARS": {"eps": 10.0, "weight_decay": 0.1}}[name] | clips
    moved = []
    for scale in (1.0, 2.0**16):
        params = leaves()
        optimizer = getattr(optim, name)(params, lr=0.1, **options)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        for factor in (1.0, 3.0):
            optimizer.zero_grad()
            loss = sum((factor * param**2).sum() for param in params)
            if in_step:
                (scale * loss).backward()
                optimizer.grad_scale, optimizer.found_inf = torch.tensor(scale), torch.tensor(0.0)
                optimizer.step()
            else:
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
            assert optimizer.last_path == "fused"
        moved.append(params)
    assert all(torch.equal(left, right) for left, right in zip(*moved, strict=True))


@each_name
def test_clipped_gradients_are_those_summed(name):
    """Both clips, and by torch before the step."""
    options = {"LAMB": {"eps": 0.1}, "LARS": {"eps": 10.0, "weight_decay": 0.1}}[name]
    moved = []
    for ours in (True, False):
        params = leaves()
        clips = {"max_grad_norm": 2.0, "clip_value": 0.25} if ours else {}
        optimizer = getattr(optim, name)(params, lr=0.1, **options, **clips)
        for step in range(3):
            for param in params:
                param.grad = torch.linspace(-1 - step, 1, param.numel(), dtype=torch.float64)
            if not ours:
                torch.nn.utils.clip_grad_norm_(params, 2.0)
                torch.nn.utils.clip_grad_value_(params, 0.25)
            optimizer.step()
        moved.append(params)
    torch.testing.assert_close(*moved, rtol=1e-12, atol=1e-14)


@each_name
def test_parameters_of_all_sizes_at_once_are_as_alone(name):
    """Sums are by parameter, and their bits do not depend on what else there is."""
    shapes = [(), (0,), (1,), (3, 0), (70_000,), (8192,), (5, 7), (8193,), (200_001,)]
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(shape, generator=generator) for shape in shapes]

    def moved(chosen):
        params = [torch.nn.Parameter(values[at].clone()) for at in chosen]
        optimizer = getattr(optim, name)(params, lr=0.1)
        for step in range(2):
            for at, param in zip(chosen, params, strict=True):
                param.grad = values[at] * (step + 1) + 0.5
            optimizer.step()
        assert optimizer.last_path == "fused"
        return [param.detach() for param in params]

    together, alone = moved(range(len(shapes))), [moved([at])[0] for at in range(len(shapes))]
    assert all(torch.equal(left, right) for left, right in zip(together, alone, strict=True))


@each_name
def test_autograd_follows_the_step(name):
    def step(start, grad):
        param = start.clone()
        param.grad = grad
        optimizer = getattr(optim, name)([param], lr=0.1, weight_decay=0.1, differentiable=True)
        optimizer.step()
        assert optimizer.last_path == "torch: param_groups[0] has differentiable=True"
        return param

    inputs = [torch.tensor(values, dtype=torch.float64, requires_grad=True) for values in ([3.0, 4.0], [1.0, -2.0])]
    assert torch.autograd.gradcheck(step, inputs)


# States and arguments.


@each_class
def test_state_of_lamb(lamb, lars):
    params = leaves(torch.bfloat16)
    optimizer = lamb(params)
    train(optimizer, params, range(2))
    for param in params:
        state = optimizer.state[param]
        assert list(state) == ["step", "exp_avg", "exp_avg_sq"]
        assert (state["step"].dtype, state["step"].shape, state["step"].item()) == (torch.float32, (), 2)
        assert all(state[name].dtype == param.dtype and state[name].shape == param.shape for name in list(state)[1:])


@each_class
@pytest.mark.parametrize("count", [5, 5.0, torch.tensor(5.0)], ids=repr)
def test_a_checkpoint_of_timms_lamb(lamb, lars, count):
    """It counts once for a group, and has other options."""
    params = leaves()
    optimizer = lamb(params, weight_decay=0.1)
    train(optimizer, params, range(5))
    state_dict = copy.deepcopy(optimizer.state_dict())
    for state in state_dict["state"].values():
        del state["step"]
    (group,) = state_dict["param_groups"]
    for name in ("maximize", "capturable", "differentiable"):
        del group[name]
    group.update(step=count, grad_averaging=True, always_adapt=True, max_grad_norm=None)
    twins = [torch.nn.Parameter(param.detach().clone()) for param in params]
    again = lamb(twins)
    again.load_state_dict(state_dict)
    assert [state["step"].item() for state in again.state.values()] == [5, 5]
    assert "step" not in again.param_groups[0]
    torch.testing.assert_close(
        train(again, twins, range(5, 9)), train(optimizer, params, range(5, 9)), rtol=1e-12, atol=0
    )


@each_class
def test_a_checkpoint_of_sgd_goes_into_lars(lamb, lars):
    params = leaves()
    sgd = torch.optim.SGD(params, lr=0.1, momentum=0.9)
    train(sgd, params, range(2))
    again = lars(params, trust_coefficient=0.5)
    again.load_state_dict(copy.deepcopy(sgd.state_dict()))
    assert (again.param_groups[0]["trust_coefficient"], again.param_groups[0]["momentum"]) == (0.5, 0.9)
    buffer = again.state[params[0]]["momentum_buffer"].clone()
    train(again, params, [3])
    assert not torch.equal(again.state[params[0]]["momentum_buffer"], buffer)


SHARED = [
    ({"lr": -1.0}, "Invalid learning rate: -1.0"),
    ({"lr": torch.ones(2)}, "Tensor lr must be 1-element"),
    ({"eps": -1.0}, "Invalid epsilon value: -1.0"),
    ({"weight_decay": NAN}, "Invalid weight_decay value: nan"),
]
NESTEROV = "Nesterov momentum requires a momentum and zero dampening"


@each_class
@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        *(("LAMB", *row) for row in SHARED),
        *(("LARS", *row) for row in SHARED),
        ("LAMB", {"betas": (1.0, 0.9)}, "Invalid beta parameter at index 0: 1.0"),
        ("LAMB", {"betas": (0.9, -0.1)}, "Invalid beta parameter at index 1: -0.1"),
        ("LARS", {"momentum": -1.0}, "Invalid momentum value: -1.0"),
        ("LARS", {"trust_coefficient": -1.0}, "Invalid trust_coefficient value: -1.0"),
        ("LARS", {"trust_coefficient": NAN}, "Invalid trust_coefficient value: nan"),
        ("LARS", {"nesterov": True}, NESTEROV),
        ("LARS", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, NESTEROV),
    ],
    ids=str,
)
def test_what_is_out_of_its_range(lamb, lars, name, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        {"LAMB": lamb, "LARS": lars}[name](leaves(), **options)


@pytest.mark.parametrize("value", ["1", b"1", [], object(), 1j, np.ones(2), torch.ones(2), type], ids=repr)
@pytest.mark.parametrize(
    ("name", "option"), [("LAMB", "betas"), ("LAMB", "eps"), ("LARS", "trust_coefficient"), ("LARS", "eps")]
)
def test_what_is_no_number_is_named(name, option, value):
    given = (0.9, value) if option == "betas" else value
    with pytest.raises((TypeError, ValueError, RuntimeError)) as caught:
        getattr(optim, name)(leaves(), **{option: given})
    assert re.search(rf"\b{option}\b", str(caught.value)), str(caught.value)


@each_name
def test_sparse_gradients_are_refused(name):
    param = torch.nn.Parameter(torch.ones(4, 2))
    optimizer = getattr(optim, name)([param])
    param.grad = torch.ones(4, 2).to_sparse()
    with pytest.raises(RuntimeError, match=f"{name} does not support sparse gradients"):
        optimizer.step()
