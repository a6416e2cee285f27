"""A GradScaler on the device."""

import pytest
import torch

import cases
from torchpace import optim

OPTIONS = {"SGD": {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}, "Adam": {"lr": 0.1}, "AdamW": {"lr": 0.1}}
each_optimizer = pytest.mark.parametrize("name", list(OPTIONS))
SHAPES = [(400,), (30, 5), (0,)]


def make(cls, name, device, **options):
    params = [torch.nn.Parameter(value.to(device)) for value in cases.tensors(0, torch.float32, SHAPES)]
    return cls(cases.two_groups(params), **OPTIONS[name], **options), params


def train(cls, name, device, bad=(), **options):
    """Steps of which those in `bad` have an infinite gradient; what the gradients became in the last."""
    optimizer, params = make(cls, name, device, **options)
    scaler = torch.amp.GradScaler(device.type, init_scale=1024.0, growth_interval=3)
    scaler.scale(torch.ones((), device=device))
    for step in range(5):
        scale = scaler.get_scale()
        for param, grad in zip(params, cases.tensors(1 + step, torch.float32, SHAPES), strict=True):
            param.grad = grad.to(device) * scale
        if step in bad:
            params[0].grad[7] = float("inf")
        scaler.step(optimizer)
        if isinstance(optimizer, getattr(optim, name)):
            assert optimizer.last_step_skipped is (step in bad)
        scaler.update()
        if isinstance(optimizer, getattr(optim, name)):
            assert optimizer.last_step_skipped is (step in bad)
    return optimizer, params, [param.grad for param in params]


@pytest.mark.parametrize("bad", [(), (2,), (0,), (0, 1, 3)], ids=str)
@pytest.mark.parametrize("fused", [False, True])
@each_optimizer
def test_as_torchs_single_tensor_code(name, fused, bad, device):
    _, expected, grads = train(cases.torchs(name), name, device, bad, foreach=False)
    options = {"fused": True} if fused else {}
    optimizer, params, left = train(getattr(optim, name), name, device, bad, **options)
    torch.testing.assert_close(params, expected, rtol=1e-5, atol=1e-6)
    # The last step is a good one in each.
    torch.testing.assert_close(left, grads, rtol=1e-6, atol=0)
    assert optimizer.last_path == "fused"
    assert all(state.get("step", 5 - len(bad)) == 5 - len(bad) for state in optimizer.state.values())


@each_optimizer
def test_clipping_after_unscale(name, device):
    ends = []
    for cls, options in ((cases.torchs(name), {"foreach": False}), (getattr(optim, name), {"fused": True})):
        optimizer, params = make(cls, name, device, **options)
        scaler = torch.amp.GradScaler(device.type, init_scale=1024.0)
        scaler.scale(torch.ones((), device=device))
        for step in range(3):
            for param, grad in zip(params, cases.tensors(1 + step, torch.float32, SHAPES), strict=True):
                param.grad = grad.to(device) * 1024.0
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(params, 0.5)
            scaler.step(optimizer)
            scaler.update(1024.0)
        ends.append(params)
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)


@each_optimizer
def test_clipping_in_the_step(name, device):
    """The norm is that of the gradients without their scale."""
    ends = []
    for library, options in ((torch.optim, {}), (optim, {"fused": True, "max_grad_norm": 0.5})):
        optimizer, params = make(getattr(library, name), name, device, **options)
        scaler = torch.amp.GradScaler(device.type, init_scale=1024.0)
        scaler.scale(torch.ones((), device=device))
        for step in range(3):
            for param, grad in zip(params, cases.tensors(1 + step, torch.float32, SHAPES), strict=True):
                param.grad = grad.to(device) * 1024.0
            if not options:
                scaler.unscale_(optimizer)
                norm = torch.nn.utils.clip_grad_norm_(params, 0.5)
            scaler.step(optimizer)
            scaler.update(1024.0)
        ends.append(params)
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)
    assert optimizer.grad_norm.item() == pytest.approx(norm.item(), rel=1e-5)
