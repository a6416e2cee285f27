"""Clipping on the device."""

import pytest
import torch

import cases
from torchpace import optim

INF, NAN = float("inf"), float("nan")


def make(name, device, **options):
    params = [torch.nn.Parameter(value.to(device)) for value in cases.tensors(0, torch.float32)]
    optimizer = getattr(optim, name)(params, lr=0.1, **options)
    for param, grad in zip(params, cases.tensors(1, torch.float32), strict=True):
        param.grad = 10 * grad.to(device)
    return optimizer, params


@pytest.mark.parametrize("name", cases.OPTIMIZERS)
def test_as_clip_grad_norm(name, device):
    ours, params = make(name, device, max_grad_norm=1.0)
    torchs, expected = make(name, device)
    norm = torch.nn.utils.clip_grad_norm_(expected, 1.0)
    grads = [param.grad.clone() for param in params]
    for _ in range(3):
        ours.step()
        torchs.step()
    assert ours.last_path == "fused"
    assert ours.grad_norm.device.type == device.type
    assert ours.grad_norm.shape == ()
    torch.testing.assert_close(ours.grad_norm, norm, rtol=1e-6, atol=0)
    torch.testing.assert_close(params, expected, rtol=1e-5, atol=1e-6)
    assert all(torch.equal(param.grad, grad) for param, grad in zip(params, grads, strict=True))


def test_the_norm_has_the_same_bits_each_time(device):
    found = set()
    for _ in range(5):
        optimizer, _ = make("AdamW", device, max_grad_norm=1.0)
        optimizer.step()
        found.add(optimizer.grad_norm.item())
    assert len(found) == 1


SKIPS = [
    ({"max_grad_norm": 1.0, "nonfinite_norm": "skip"}, [INF, -INF, NAN]),
    ({"nonfinite_norm": "skip"}, [INF]),
    ({"skip_grad_norm": 1e6}, [INF, NAN, 1e8]),
    ({"skip_grad_norm": 1e6, "max_grad_norm": 1.0}, [-1e8]),
]


@pytest.mark.parametrize("counts", ["host", "device"])
@pytest.mark.parametrize(
    ("options", "value"), [(options, value) for options, values in SKIPS for value in values], ids=str
)
@pytest.mark.parametrize("name", cases.OPTIMIZERS)
def test_skip(name, options, value, counts, device, needs):
    options = dict(options)
    if counts == "device":
        needs(name, "fused")
        options["fused"] = True
    optimizer, params = make(name, device, **options)
    good = params[1].grad.clone()
    for step in range(4):
        before = [param.detach().clone() for param in params]
        bad = step % 2 == 0
        params[1].grad = good.clone().fill_(value) if bad else good.clone()
        optimizer.step()
        assert bool(optimizer.grad_norm < 1e6) is not bad
        assert optimizer.last_step_skipped is bad
        unchanged = all(torch.equal(param, was) for param, was in zip(params, before, strict=True))
        assert unchanged is bad
    assert all(state.get("step", 2) == 2 for state in optimizer.state.values())


@pytest.mark.parametrize("options", [{}, {"max_grad_norm": 1.0}], ids=str)
def test_raise(options, device):
    optimizer, params = make("Adam", device, nonfinite_norm="raise", **options)
    params[1].grad.fill_(INF)
    before = [param.detach().clone() for param in params]
    with pytest.raises(RuntimeError, match="norm of the gradients is inf"):
        optimizer.step()
    assert all(torch.equal(param, was) for param, was in zip(params, before, strict=True))
    params[1].grad.fill_(1.0)
    optimizer.step()
    assert optimizer.last_path == "fused"
    assert optimizer.grad_norm.item() > 0


@pytest.mark.parametrize("options", [{"nonfinite_norm": "skip"}, {"skip_grad_norm": 1e30}], ids=str)
@pytest.mark.parametrize("counts", ["host", "device"])
@pytest.mark.parametrize("name", cases.OPTIMIZERS)
def test_a_norm_that_nothing_is_clipped_to(name, counts, options, device, needs):
    if counts == "device":
        needs(name, "fused")
        options = options | {"fused": True}
    ours, params = make(name, device, **options)
    plain, expected = make(name, device)
    norm = torch.cat([param.grad.double().flatten() for param in params]).norm()
    for _ in range(3):
        ours.step()
        plain.step()
    torch.testing.assert_close(ours.grad_norm.double().cpu(), norm.cpu(), rtol=1e-6, atol=0)
    torch.testing.assert_close(params, expected, rtol=1e-5, atol=1e-6)
    assert ours.last_step_skipped is False


def test_clip_value(device):
    optimizer, params = make("SGD", device, clip_value=0.5)
    expected = [param - 0.1 * param.grad.clamp(-0.5, 0.5) for param in params]
    optimizer.step()
    torch.testing.assert_close(params, expected, rtol=1e-6, atol=1e-7, check_dtype=False)


def test_groups_on_two_devices_share_one_norm(device):
    other = torch.device("cpu")
    params = [torch.nn.Parameter(torch.zeros(3, device=place)) for place in (device, other)]
    params.append(torch.nn.Parameter(torch.zeros((), device=other)))
    optimizer = optim.SGD(params, lr=1.0, max_grad_norm=1.0)
    for param in params:
        param.grad = torch.full_like(param, 2.0)
    optimizer.step()
    assert optimizer.last_path == "fused"
    norm = 28**0.5
    assert optimizer.grad_norm.item() == pytest.approx(norm)
    for param in params:
        torch.testing.assert_close(param.cpu(), torch.full(param.shape, -2.0 / norm))
