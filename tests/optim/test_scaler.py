"""A GradScaler with fused=True, under which the step unscales the gradients."""

import copy
import os

import pytest
import torch

import cases
from torchpace import _native, optim

OPTIONS = {"SGD": {"lr": 0.1, "momentum": 0.9}, "Adagrad": {"lr": 0.1}, "Adam": {"lr": 0.1}, "AdamW": {"lr": 0.1}}
SHAPES = [(400,), (30, 5), (), (0,)]


def unscales(name):
    """Whether torch leaves the unscaling to it: not to RMSprop, which has no fused=True, nor to Adagrad up to 2.11."""
    optimizer = getattr(torch.optim, name)([torch.nn.Parameter(torch.ones(1))], **OPTIONS[name], fused=True)
    return getattr(optimizer, "_step_supports_amp_scaling", False)


NAMES = [name for name in OPTIONS if unscales(name)]
each_optimizer = pytest.mark.parametrize("name", NAMES)
each_scale = pytest.mark.parametrize("scale", [3.0, 1000.0, 65537.0, 0.7, 2.0**16])
each_type = pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)


def scaler_of(scale):
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000)
    scaler.scale(torch.ones(()))
    return scaler


def draw(dtype, seed, shapes=SHAPES):
    """Of sizes from 0.5 to 1.5, which float16 holds under Adam."""
    generator = torch.Generator().manual_seed(seed)

    def one(shape):
        signs = torch.randn(shape, generator=generator).sign()
        return ((0.5 + torch.rand(shape, generator=generator)) * signs).to(dtype)

    return [one(shape) for shape in shapes]


def train(cls, name, scale, dtype, between=lambda scaler, optimizer: None, **options):
    """Three steps; what is left in the gradients is returned too."""
    params = [torch.nn.Parameter(value) for value in draw(dtype, 0)]
    optimizer = cls(cases.two_groups(params), **OPTIONS[name], **options)
    scaler = scaler_of(scale)
    for seed in (1, 2, 3):
        for param, grad in zip(params, draw(dtype, seed), strict=True):
            param.grad = grad * scale
        between(scaler, optimizer)
        scaler.step(optimizer)
        scaler.update()
    return optimizer, params, [param.grad for param in params]


def unscaled_by_torch(grads, scale):
    """Scaled, and unscaled as GradScaler.unscale_ does."""
    scaled = [grad * scale for grad in grads]
    reciprocal = torch.tensor(scale).double().reciprocal().float()
    torch._amp_foreach_non_finite_check_and_unscale_(scaled, torch.zeros(1), reciprocal)
    return scaled


@each_type
@each_scale
@each_optimizer
def test_the_unscaled_gradient_is_written_back(name, scale, dtype):
    """As torch's fused kernels do, which divide; ours multiplies by the reciprocal, as GradScaler.unscale_."""
    if dtype == torch.float16 and scale > 1e4:
        pytest.skip("the scaled gradients overflow")
    ours, _, grads = train(getattr(optim, name), name, scale, dtype, fused=True)
    assert ours.last_path == "fused"
    _, _, theirs = train(getattr(torch.optim, name), name, scale, dtype, fused=True)
    eps = torch.finfo(dtype if dtype != torch.float64 else torch.float32).eps  # a GradScaler's scale is a float32
    torch.testing.assert_close(grads, theirs, rtol=2 * eps, atol=0)

    expected = [grad.double() * scale / scale for grad in draw(dtype, 3)]
    assert [grad.dtype for grad in grads] == [dtype] * len(SHAPES)
    torch.testing.assert_close([grad.double() for grad in grads], expected, rtol=2 * eps, atol=0)
    by_scaler = unscaled_by_torch(draw(dtype, 3), scale)
    assert all(torch.equal(grad, value) for grad, value in zip(grads, by_scaler, strict=True))


@each_type
@each_scale
@each_optimizer
def test_the_step_is_that_of_unscaled_gradients(name, scale, dtype):
    if dtype == torch.float16 and scale > 1e4:
        pytest.skip("the scaled gradients overflow")
    _, params, _ = train(getattr(optim, name), name, scale, dtype, fused=True)

    def plain(dtype_of_step):
        expected = [torch.nn.Parameter(value.to(dtype_of_step)) for value in draw(dtype, 0)]
        optimizer = getattr(torch.optim, name)(cases.two_groups(expected), **OPTIONS[name], foreach=False)
        for seed in (1, 2, 3):
            for param, grad in zip(expected, unscaled_by_torch(draw(dtype, seed), scale), strict=True):
                param.grad = grad.to(dtype_of_step)
            optimizer.step()
        return expected

    exact = plain(torch.float64)
    tiny = 1e-6 * cases.distance(exact, [torch.zeros_like(value) for value in exact])  # of the scale's own rounding
    assert cases.distance(params, exact) <= 1.1 * cases.distance(plain(dtype), exact) + tiny


@pytest.mark.parametrize("value", [float("inf"), float("nan")], ids=str)
@pytest.mark.parametrize("options", [{}, {"max_grad_norm": 1.0}, {"clip_value": 0.1}], ids=str)
@each_optimizer
def test_an_overflow_changes_nothing(name, options, value):
    """Neither in the first step, which makes no state, nor later."""
    params = [torch.nn.Parameter(torch.ones(4)), torch.nn.Parameter(torch.ones(5))]
    optimizer = getattr(optim, name)(params, fused=True, **OPTIONS[name], **options)
    scaler = scaler_of(3.0)
    for good_before in (False, True):
        if good_before:
            for param in params:
                param.grad = torch.ones_like(param)
            scaler.step(optimizer)
            assert optimizer.last_path == "fused"
            scaler.update()
        for param in params:
            param.grad = torch.ones_like(param)
        params[1].grad[2] = value
        grads = [param.grad.clone() for param in params]
        before = copy.deepcopy((optimizer.state_dict()["state"], params, len(optimizer.state)))
        assert scaler.step(optimizer) is None
        scaler.update()
        assert optimizer.last_path == "skipped: the GradScaler found a gradient that is not finite"
        assert optimizer.grad_norm is None
        after = (optimizer.state_dict()["state"], params, len(optimizer.state))
        torch.testing.assert_close(after, before, rtol=0, atol=0)
        left = [param.grad for param in params]
        torch.testing.assert_close(left, grads, rtol=0, atol=0, equal_nan=True)
    assert scaler.get_scale() == 0.75


@each_type
@each_scale
@each_optimizer
def test_the_norm_is_of_the_unscaled_gradients(name, scale, dtype):
    if dtype == torch.float16 and scale > 1e4:
        pytest.skip("the scaled gradients overflow")
    ours, _, _ = train(getattr(optim, name), name, scale, dtype, fused=True, max_grad_norm=2.0)
    exact = torch.cat([(grad * scale).double().flatten() / scale for grad in draw(dtype, 3)]).norm()
    torch.testing.assert_close(ours.grad_norm, exact.float(), rtol=1e-6, atol=0)
    if dtype != torch.float32:
        return
    _, params, _ = train(getattr(optim, name), name, scale, dtype, fused=True, max_grad_norm=2.0)

    def clip(scaler, optimizer):
        scaler.unscale_(optimizer)
        everything = [param for group in optimizer.param_groups for param in group["params"]]
        torch.nn.utils.clip_grad_norm_(everything, 2.0)

    _, expected, _ = train(getattr(torch.optim, name), name, scale, dtype, between=clip, foreach=False)
    torch.testing.assert_close(params, expected)


@pytest.mark.parametrize("name", [*NAMES, "RMSprop"])
def test_unscaled_and_clipped_by_hand(name):
    """scaler.unscale_, clip_grad_norm_, scaler.step: then the step neither unscales nor clips once more."""

    def flow(cls, **options):
        params = [torch.nn.Parameter(value) for value in draw(torch.float32, 0)]
        optimizer = cls(params, **options)
        scaler = scaler_of(3.0)
        for seed, bad in ((1, False), (2, True), (3, False), (4, False)):
            for param, grad in zip(params, draw(torch.float32, seed), strict=True):
                param.grad = grad * scaler.get_scale()
            if bad:
                params[0].grad[7] = float("inf")
            scaler.unscale_(optimizer)
            norm = torch.nn.utils.clip_grad_norm_(params, 2.0)
            kept = [param.grad.clone() for param in params]
            scaler.step(optimizer)
            if not bad:
                assert all(torch.equal(param.grad, grad) for param, grad in zip(params, kept, strict=True))
                assert norm > 2
            scaler.update()
        return params

    fused = {"fused": True} if name in cases.TAKE_FUSED else {}
    torch.testing.assert_close(flow(getattr(optim, name), **fused), flow(getattr(torch.optim, name), foreach=False))


@pytest.mark.parametrize("options", [{}, {"max_grad_norm": 1.0}], ids=str)
@each_optimizer
def test_a_gradient_of_two_parameters_is_unscaled_once(name, options):
    """torch's fused kernels unscale it for each of them."""
    params = [torch.nn.Parameter(torch.ones(4)), torch.nn.Parameter(torch.zeros(4))]
    optimizer = getattr(optim, name)(params, fused=True, **OPTIONS[name], **options)
    shared = torch.full((4,), 6.0)
    for param in params:
        param.grad = shared
    scaler_of(3.0).step(optimizer)
    assert optimizer.last_path.startswith("torch: ")
    for param in params:
        torch.testing.assert_close(param.grad, torch.full((4,), 2.0))

    expected = [torch.nn.Parameter(torch.ones(4)), torch.nn.Parameter(torch.zeros(4))]
    for param in expected:
        param.grad = torch.full((4,), 2.0)
    if options:
        norm = torch.nn.utils.clip_grad_norm_(expected, 1.0)
        torch.testing.assert_close(optimizer.grad_norm, norm)
    getattr(torch.optim, name)(expected, foreach=False, **OPTIONS[name]).step()
    torch.testing.assert_close(params, expected)


@pytest.mark.parametrize("options", [{}, {"max_grad_norm": 1.0}, {"clip_value": 0.5}], ids=str)
@each_optimizer
def test_a_step_that_torch_takes_unscales_as_the_fused_one(name, options):
    """The parameters share memory."""

    def flow(cls, scale, **options):
        store = torch.linspace(1, 2, 12)
        params = [torch.nn.Parameter(store[:8]), torch.nn.Parameter(store[4:])]
        optimizer = cls(params, **OPTIONS[name], **options)
        scaler = scaler_of(scale)
        for size in (1.0, 2.0):
            for param in params:
                param.grad = torch.linspace(1, 2, 8) * size * scale
            grads = [param.grad for param in params]
            scaler.step(optimizer)
            scaler.update()
            assert all(param.grad is grad for param, grad in zip(params, grads, strict=True))
        return optimizer, store, grads, optimizer.__dict__.keys() & {"grad_scale", "found_inf"}

    ours, store, grads, left = flow(getattr(optim, name), 3.0, fused=True, **options)
    assert ours.last_path == "torch: tensors of the step share memory"
    assert ours.param_groups[0]["fused"] is True
    assert not left
    torch.testing.assert_close(grads, [torch.linspace(1, 2, 8) * 2] * 2)
    _, expected, _, _ = flow(getattr(optim, name), 1.0, **options)
    torch.testing.assert_close(store, expected)


def test_complex_gradients_are_refused_by_the_scaler():
    for cls in (torch.optim.Adam, optim.Adam):
        param = torch.nn.Parameter(torch.ones(3, dtype=torch.complex64))
        optimizer = cls([param], fused=True)
        param.grad = torch.ones(3, dtype=torch.complex64)
        with pytest.raises(NotImplementedError, match="ComplexFloat"):
            scaler_of(3.0).step(optimizer)
        assert param.tolist() == [1.0] * 3


@pytest.mark.skipif("TORCHPACE_TEST_SIMULATED" in os.environ, reason="the simulated GPU reads the scale itself")
def test_a_scale_on_another_device_is_left_to_torch():
    """As `step` hands over what is on a GPU; here the parameters are on the CPU."""
    param = torch.nn.Parameter(torch.ones(3))
    param.grad = torch.ones(3)
    optimizer = optim.Adam([param], lr=0.1)
    arguments = (optimizer.param_groups, optimizer.state, optimizer._new_state, 1, None)
    path, _, _ = _native.Plan("adam").step(*arguments, torch.tensor(2.0), None)
    assert path == "torch: a GradScaler unscales in the step, on another device"
    path, _, _ = _native.Plan("adam").step(*arguments, None, torch.tensor(1.0))
    assert path == "skipped: the GradScaler found a gradient that is not finite"
    assert torch.equal(param.grad, torch.ones(3))
    assert torch.equal(param, torch.ones(3))
    assert not optimizer.state
