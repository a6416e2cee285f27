"""What a step puts on the device: few launches, and nothing that the host waits for."""

import pytest
import torch
from torch._C._profiler import _ExperimentalConfig
from torch.profiler import ProfilerActivity, profile

import cases
from torchpace import optim

pytestmark = [
    pytest.mark.cuda_itself,
    pytest.mark.filterwarnings("ignore:This instance was constructed with capturable=True"),
]


def make(device, name, count=500, dtype=torch.float32, **options):
    params = [torch.nn.Parameter(torch.ones(16, device=device, dtype=dtype)) for _ in range(count)]
    for param in params:
        param.grad = torch.full_like(param, 0.5)
    optimizer = getattr(optim, name)(params, **({"lr": 0.01} | options))
    for _ in range(3):
        optimizer.step()
    torch.cuda.synchronize()
    return optimizer, params


def events(optimizer, steps=5):
    # Calls of the driver are not among a profile's events, what the host waits for is, where it is asked for.
    config = _ExperimentalConfig(enable_cuda_sync_events=True)
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU], experimental_config=config) as profiler:
        for _ in range(steps):
            optimizer.step()
        torch.cuda.synchronize()
    return [event.name for event in profiler.events()]


@pytest.mark.parametrize(
    ("options", "most"),
    [({}, 1), ({"fused": True}, 2), ({"max_grad_norm": 1.0}, 3), ({"capturable": True}, 2)],
    ids=str,
)
@pytest.mark.parametrize("count", [1, 500, 3000])
def test_a_steady_step_is_few_launches(count, options, most, device):
    optimizer, _ = make(device, "Adam", count, **options)
    found = [name for name in events(optimizer) if name.startswith("torchpace_")]
    assert 5 <= len(found) <= 5 * most, found


def test_new_gradients_are_one_launch_more(device):
    optimizer, params = make(device, "Adam", 400)

    def step():
        for param in params:
            param.grad = param.grad.clone()
        optimizer.step()

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(5):
            step()
        torch.cuda.synchronize()
    found = [event.name for event in profiler.events() if event.name.startswith("torchpace_")]
    assert 5 <= len(found) <= 10, found


each_option = pytest.mark.parametrize(
    "options",
    [
        {},
        {"fused": True},
        {"max_grad_norm": 1.0},
        {"fused": True, "max_grad_norm": 1.0, "nonfinite_norm": "skip"},
        {"capturable": True},
        {"lr": 0.01},
    ],
    ids=str,
)


def steady(device, name, needs, options):
    """An optimizer in its stride; with the rate on the device where `lr` is given, and under `fused` with a scale."""
    for option in ("fused", "capturable"):
        if option in options:
            needs(name, option)
    options = dict(options)
    if "lr" in options:
        options["lr"] = torch.tensor(options["lr"], device=device)
    optimizer, _ = make(device, name, 50, **options)
    if options.get("fused") and getattr(optimizer, "_step_supports_amp_scaling", False):
        optimizer.grad_scale = torch.tensor(2.0, device=device)
        optimizer.found_inf = torch.tensor(0.0, device=device)
        optimizer.step()
    torch.cuda.synchronize()
    return optimizer


@each_option
@pytest.mark.parametrize("name", cases.OPTIMIZERS)
def test_the_host_waits_for_nothing(name, options, device, needs):
    optimizer = steady(device, name, needs, options)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    # Not those for the device as a whole, which are the test's own.
    waits = ("StreamSynchronize", "EventSynchronize", "Stream Sync", "Event Sync", "Memcpy DtoH", "MemcpyDtoH")
    found = events(optimizer, 3)
    assert any(name.startswith("torchpace_") for name in found), found
    assert not [name for name in found if any(wait in name for wait in waits)], found
    assert optimizer.last_path == "fused"


@each_option
@pytest.mark.parametrize("name", cases.OPTIMIZERS)
def test_a_long_queue_does_not_hold_the_host_up(name, options, device, needs):
    """Whatever a wait is called: the steps are queued while the device is still busy with what came before."""
    optimizer = steady(device, name, needs, options)
    before, after = torch.cuda.Event(), torch.cuda.Event()
    torch.cuda._sleep(1_000_000_000)  # about half a second
    before.record()
    for _ in range(10):
        optimizer.step()
    after.record()
    assert not before.query()
    torch.cuda.synchronize()
    assert after.query()


def test_a_norm_that_the_host_wants_holds_it_up(device):
    """The test above can fail."""
    optimizer, _ = make(device, "Adam", 50, max_grad_norm=1.0, nonfinite_norm="raise")
    before = torch.cuda.Event()
    torch.cuda._sleep(1_000_000_000)
    before.record()
    optimizer.step()
    assert before.query()
