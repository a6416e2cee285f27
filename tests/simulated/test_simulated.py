"""The binding's part in steps on a GPU, on the simulated one: `make test-simulated`."""

import os
import subprocess
import sys

import pytest
import torch

import cases
from torchpace import _native, optim

pytestmark = pytest.mark.skipif(
    "TORCHPACE_TEST_SIMULATED" not in os.environ, reason="needs a build with a simulated GPU (make test-simulated)"
)
NUMBERS = "TORCHPACE_SIMULATED_NUMBERS"
CAPTURE = "TORCHPACE_SIMULATED_CAPTURE"


def make(cls=optim.Adam, count=3, **options):
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(5, 3)) for _ in range(count)]
    for param in params:
        param.grad = torch.randn_like(param)
    return cls(params, lr=0.1, **options), params


def values(params):
    return [param.detach().clone() for param in params]


def is_same(params, before):
    return all(torch.equal(param, value) for param, value in zip(params, before, strict=True))


def plan_step(optimizer, grad_scale=None, found_inf=None):
    """A step with a GradScaler's tensors, as `step` hands over those of a GPU."""
    plan = _native.Plan(optimizer._rule)
    return plan.step(optimizer.param_groups, optimizer.state, optimizer._new_state, 1, None, grad_scale, found_inf)[0]


def test_tensors_of_the_cpu_are_those_of_a_gpu():
    """Which rounds as the CPU does: that it is one shows where something is asked of both."""
    optimizer, _ = make()
    assert plan_step(optimizer, torch.tensor(2.0)) == "fused"


@pytest.mark.parametrize("name", cases.OPTIMIZERS)
def test_gradients_are_unscaled_on_the_device(name):
    scaled, params = make(getattr(optim, name))
    plain, expected = make(getattr(optim, name))
    for param in params:
        param.grad *= 4.0
    for _ in range(3):
        assert plan_step(scaled, torch.tensor(4.0), torch.tensor(0.0)) == "fused"
        plain.step()
        assert is_same(params, values(expected))
        assert is_same([param.grad for param in params], [param.grad for param in expected])
        for param in params:
            param.grad *= 4.0


class Subclass(torch.Tensor):
    """Whose memory may not be what it seems."""


@pytest.mark.parametrize("scale", [torch.tensor([2.0, 2.0]), torch.tensor(2.0).as_subclass(Subclass), 2.0], ids=repr)
def test_a_scale_that_is_no_number_in_memory(scale):
    optimizer, params = make()
    before = values(params)
    assert plan_step(optimizer, scale).startswith("torch: a GradScaler's tensor is of type ")
    assert is_same(params, before)
    assert not optimizer.state


def test_found_inf_with_counts_of_the_host():
    optimizer, params = make()
    before = values(params)
    path = plan_step(optimizer, torch.tensor(4.0), torch.tensor(1.0))
    assert path == "skipped: the GradScaler found a gradient that is not finite"
    assert is_same(params, before)
    assert not optimizer.state


def test_found_inf_with_counts_of_the_device(monkeypatch):
    monkeypatch.setenv(NUMBERS, "1")
    optimizer, params = make(fused=True)
    before = values(params)
    for _ in range(2):
        assert plan_step(optimizer, torch.tensor(4.0), torch.tensor(1.0)) == "fused"
        assert is_same(params, before)
        assert all(state["step"].item() == 0 for state in optimizer.state.values())
    assert plan_step(optimizer, torch.tensor(4.0), torch.tensor(0.0)) == "fused"
    assert not is_same(params, before)
    assert all(state["step"].item() == 1 for state in optimizer.state.values())


@pytest.mark.parametrize("counts", ["host", "device"])
def test_a_skipped_step_does_not_raise_for_its_norm(counts, monkeypatch):
    if counts == "device":
        monkeypatch.setenv(NUMBERS, "1")
    optimizer, params = make(fused=counts == "device", max_grad_norm=1.0, nonfinite_norm="raise")
    params[0].grad[0, 0] = float("inf")
    assert plan_step(optimizer, None, torch.tensor(1.0)).startswith("skipped")
    with pytest.raises(RuntimeError, match="norm of the gradients is inf"):
        plan_step(optimizer, None, torch.tensor(0.0))


def test_damped_momentum_that_begins_after_a_skipped_step(monkeypatch):
    """It keeps no count, so the host has to see whether the first step is skipped."""
    monkeypatch.setenv(NUMBERS, "1")
    optimizer, params = make(optim.SGD, momentum=0.9, dampening=0.5, fused=True)
    twin, expected = make(optim.SGD, momentum=0.9, dampening=0.5)
    assert plan_step(optimizer, None, torch.tensor(1.0)).startswith("skipped")
    assert not optimizer.state
    for _ in range(3):
        assert plan_step(optimizer, None, torch.tensor(0.0)) == "fused"
        twin.step()
    assert is_same(params, values(expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam", "AdamW"])
def test_a_learning_rate_on_the_device(name, dtype, monkeypatch):
    monkeypatch.setenv(NUMBERS, "1")
    host, expected = make(getattr(optim, name))
    optimizer, params = make(getattr(optim, name))
    lr = torch.tensor(0.5, dtype=dtype)
    optimizer.param_groups[0]["lr"] = lr
    for rate in (0.5, 0.25, 0.125):
        lr.fill_(rate)
        host.param_groups[0]["lr"] = rate
        optimizer.step()
        host.step()
        assert optimizer.last_path == "fused"
        torch.testing.assert_close(params, expected, rtol=1e-6, atol=1e-7)


def test_parameters_of_the_cpu_beside_those_of_a_gpu():
    """Here those without dimensions stay with the CPU."""
    params = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(())), torch.nn.Parameter(torch.ones(2))]
    optimizer = optim.AdamW(params, lr=0.1, max_grad_norm=1.0)
    for _ in range(3):
        for param in params:
            param.grad = torch.full_like(param, 2.0)
        optimizer.step()
        assert optimizer.last_path == "fused"
        assert optimizer.grad_norm.item() == pytest.approx(24**0.5)
    assert len({round(param.detach().flatten()[0].item(), 6) for param in params}) == 1
    assert plan_step(optimizer, torch.tensor(2.0)) == "torch: a GradScaler unscales in the step, on another device"


@pytest.mark.parametrize("on_device", [False, True])
def test_step_counts_that_would_stand_still(on_device, monkeypatch):
    if on_device:
        monkeypatch.setenv(NUMBERS, "1")
    optimizer, params = make(fused=on_device)
    optimizer.step()
    for param in params:
        optimizer.state[param]["step"] = torch.tensor(256.0, dtype=torch.bfloat16)
    for _ in range(2):
        optimizer.step()
        assert optimizer.last_path == "fused"
    assert [optimizer.state[param]["step"].item() for param in params] == [258.0] * 3


def test_coefficients_of_the_host_are_finite():
    optimizer, params = make()
    optimizer.step()
    optimizer.param_groups[0]["betas"] = (1.0, 0.9)
    before = values(params)
    with pytest.raises(ZeroDivisionError, match=r'option "betas\[0\]" makes "rate" inf'):
        optimizer.step()
    assert is_same(params, before)


@pytest.mark.parametrize("options", [{"skip_grad_norm": 1e-3}, {"skip_grad_norm": 1e-3, "max_grad_norm": 1.0}], ids=str)
def test_a_norm_that_skips_on_the_device(options, monkeypatch):
    monkeypatch.setenv(NUMBERS, "1")
    optimizer, params = make(fused=True, **options)
    before = values(params)
    optimizer.step()
    assert (optimizer.last_path, optimizer.last_step_skipped) == ("fused", True)
    assert is_same(params, before)
    for group in optimizer.param_groups:
        group["skip_grad_norm"] = 1e3
    optimizer.step()
    assert (optimizer.last_path, optimizer.last_step_skipped) == ("fused", False)
    assert not is_same(params, before)


def test_a_capture(monkeypatch):
    monkeypatch.setenv(NUMBERS, "1")
    optimizer, params = make(capturable=True)
    before = values(params)
    monkeypatch.setenv(CAPTURE, "1")
    with pytest.raises(RuntimeError, match="first step of a parameter"):
        plan_step(optimizer)
    assert not optimizer.state
    monkeypatch.delenv(CAPTURE)
    assert plan_step(optimizer) == "fused"
    assert not is_same(params, before)
    monkeypatch.setenv(CAPTURE, "1")
    assert plan_step(optimizer) == "fused"


def test_a_capture_without_capturable_is_torchs_error(monkeypatch):
    class Mine(optim.Adam):
        pass

    optimizer, _ = make(Mine)
    assert plan_step(optimizer) == "fused"
    monkeypatch.setenv(CAPTURE, "1")
    text = r"Attempting CUDA graph capture of step\(\) for an instance of Mine but param_groups' capturable is False\."
    with pytest.raises(RuntimeError, match=text):
        plan_step(optimizer)


def test_what_the_host_must_know_cannot_be_captured(monkeypatch):
    monkeypatch.setenv(NUMBERS, "1")
    for cls, options, found_inf in [
        (optim.Adam, {"capturable": True, "max_grad_norm": 1.0, "nonfinite_norm": "raise"}, None),
        (optim.Adagrad, {}, torch.tensor(0.0)),
    ]:
        optimizer, params = make(cls, **options)
        monkeypatch.delenv(CAPTURE, raising=False)
        if cls is optim.Adagrad:
            monkeypatch.delenv(NUMBERS)
        assert plan_step(optimizer) == "fused"
        before = values(params)
        monkeypatch.setenv(CAPTURE, "1")
        with pytest.raises(RuntimeError, match="a graph captures the step"):
            plan_step(optimizer, None, found_inf)
        assert is_same(params, before)


def test_capturable_needs_counts_of_the_device():
    optimizer, _ = make(capturable=True)
    assert "capturable=True, and it or its step count is on the CPU" in plan_step(optimizer)


MISSING = """
import torch
from torchpace import optim
params = [torch.nn.Parameter(torch.ones(4)) for _ in range(3)]
for param in params:
    param.grad = torch.ones_like(param)
optimizer = optim.SGD(params, lr=0.25)
for _ in range(2):
    optimizer.step()
print(optimizer.last_path, params[0].tolist())
"""


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("MISSING", "the CUDA driver could not be loaded: as the test asked"),
        ("NO_KERNELS", "the kernel torchpace_sgd_step could not be made: nvrtcCompileProgram: NVRTC_ERROR_COMPILATION"),
    ],
)
def test_where_nothing_can_be_launched_torch_steps_and_a_warning_says_so_once(what, reason):
    environment = os.environ | {f"TORCHPACE_SIMULATED_{what}": "1"}
    command = [sys.executable, "-W", "always", "-c", MISSING]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"torch: {reason}")
    assert done.stdout.strip().endswith("[0.5, 0.5, 0.5, 0.5]")
    text = f"RuntimeWarning: torchpace leaves the steps on CUDA devices to torch's own implementation: {reason}"
    assert done.stderr.count(text) == 1
