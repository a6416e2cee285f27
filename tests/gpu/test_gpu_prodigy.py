"""Prodigy on a GPU: the sums over all parameters are read by the host, and the step is fused all the same."""

import pytest
import torch

from torchpace import optim
from torchpace.optim import _torch_prodigy

SHAPES = [(300, 50), (7,), (), (0,), (3, 5)]


def values(seed, device, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype) for shape in SHAPES]


def leaves(device, dtype=torch.float64):
    return [torch.nn.Parameter(value) for value in values(0, device, dtype)]


def train(optimizer, params, steps=8, scale=1.0):
    for step in range(steps):
        for param, grad in zip(params, values(step + 1, "cpu"), strict=True):
            param.grad = (grad.to(param) + param.detach()) * scale
        optimizer.step()
    return optimizer


@pytest.mark.parametrize(
    "options",
    [{}, {"weight_decay": 0.1}, {"weight_decay": 0.1, "decouple": False, "betas": (0.0, 0.9)}, {"maximize": True}],
    ids=str,
)
def test_as_by_operators(options, device):
    ours, theirs = leaves(device), leaves(device)
    optimizer = train(optim.Prodigy(ours, d0=0.05, **options), ours)
    other = train(_torch_prodigy.Prodigy(theirs, d0=0.05, **options), theirs)
    assert optimizer.last_path == "fused"
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    for name in ("d", "d_max", "d_numerator", "d_denom", "k"):
        assert optimizer.param_groups[0][name] == pytest.approx(other.param_groups[0][name], rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_clipped_steps_in_narrow_types(dtype, device):
    ours, theirs = leaves(device, dtype), leaves("cpu", dtype)
    optimizer = train(optim.Prodigy(ours, d0=0.05, max_grad_norm=5.0, clip_value=0.1), ours, 3)
    other = train(optim.Prodigy(theirs, d0=0.05, max_grad_norm=5.0, clip_value=0.1), theirs, 3)
    assert optimizer.last_path == other.last_path == "fused"
    near = {"rtol": 0.02, "atol": 0.02} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close([param.cpu() for param in ours], theirs, **near)
    assert optimizer.grad_norm.item() == pytest.approx(other.grad_norm.item(), rel=1e-3)


@pytest.mark.parametrize("overflows", [False, True])
def test_a_scaler(overflows, device):
    ours, theirs = leaves(device, torch.float32), leaves(device, torch.float32)
    optimizer, other = optim.Prodigy(ours, d0=0.05), optim.Prodigy(theirs, d0=0.05)
    optimizer.grad_scale = torch.full((), 8.0, device=device)
    optimizer.found_inf = torch.full((), float(overflows), device=device)
    train(optimizer, ours, 2, scale=8.0)
    train(other, theirs, 0 if overflows else 2)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert optimizer.param_groups[0]["d"] == other.param_groups[0]["d"]
    assert optimizer.last_step_skipped == overflows


def test_a_rate_on_the_device_goes_by_operators(device):
    if device.type == "cpu":
        pytest.skip("there the host knows it")
    ours, theirs = leaves(device), leaves(device)
    optimizer = train(optim.Prodigy(ours, lr=torch.tensor(0.5, device=device), d0=0.05), ours)
    train(optim.Prodigy(theirs, lr=0.5, d0=0.05), theirs)
    assert optimizer.last_path == "torch: param_groups[0] has an lr on a GPU, which the host has to know"
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_groups_on_two_devices(device):
    ours, theirs = leaves(device), leaves(device)
    ours[1:3] = leaves("cpu")[1:3]
    optimizer = train(optim.Prodigy(ours, d0=0.05), ours)
    train(optim.Prodigy(theirs, d0=0.05), theirs)
    assert optimizer.last_path == "fused"
    torch.testing.assert_close([param.cpu() for param in ours], [param.cpu() for param in theirs], rtol=1e-9, atol=1e-9)
