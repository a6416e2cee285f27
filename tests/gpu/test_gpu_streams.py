"""Streams, threads and the caching allocator."""

import threading

import pytest
import torch

import cases
from torchpace import optim

pytestmark = pytest.mark.cuda_itself
SHAPES = [(500,), (33, 7), (100_003,)]


def make(device, name="AdamW", **options):
    params = [torch.nn.Parameter(value.to(device)) for value in cases.tensors(0, torch.float32, SHAPES)]
    return getattr(optim, name)(params, lr=0.05, **options), params


def run(optimizer, params, steps, between=lambda: None):
    for step in range(steps):
        for param, grad in zip(params, cases.tensors(1 + step, torch.float32, SHAPES), strict=True):
            param.grad = grad.to(param.device, non_blocking=True)
        optimizer.step()
        between()


def expected(device, steps, **options):
    optimizer, params = make(device, **options)
    run(optimizer, params, steps)
    torch.cuda.synchronize()
    return [param.detach().clone() for param in params]


def assert_equal(params, values):
    torch.cuda.synchronize()
    assert all(torch.equal(param, value) for param, value in zip(params, values, strict=True))


@pytest.mark.parametrize("options", [{}, {"max_grad_norm": 0.5}, {"fused": True}], ids=str)
def test_a_side_stream_with_work_before(options, device):
    values = expected(device, 4, **options)
    optimizer, params = make(device, **options)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(50_000_000)
        run(optimizer, params, 4, lambda: torch.cuda._sleep(5_000_000))
        torch.cuda.current_stream().synchronize()
    assert_equal(params, values)


def test_streams_in_turn(device):
    values = expected(device, 6)
    optimizer, params = make(device)
    streams = [torch.cuda.Stream(), torch.cuda.Stream(), torch.cuda.default_stream()]
    before = torch.cuda.Event()
    before.record()
    for step in range(6):
        with torch.cuda.stream(streams[step % 3]):
            torch.cuda.current_stream().wait_event(before)
            torch.cuda._sleep(5_000_000)
            for param, grad in zip(params, cases.tensors(1 + step, torch.float32, SHAPES), strict=True):
                param.grad = grad.to(device)
            optimizer.step()
            before = torch.cuda.Event()
            before.record()
    assert_equal(params, values)


def test_gradients_freed_right_after_the_step(device):
    values = expected(device, 8)
    optimizer, params = make(device)

    def overwrite():
        optimizer.zero_grad()
        for param in params:
            torch.full_like(param, float("nan"))  # takes the memory of a gradient, most likely

    torch.cuda._sleep(20_000_000)
    run(optimizer, params, 8, overwrite)
    assert_equal(params, values)


def test_an_optimizer_dropped_while_its_steps_wait(device):
    values = expected(device, 3)
    optimizer, params = make(device)
    torch.cuda._sleep(50_000_000)
    run(optimizer, params, 3)
    del optimizer
    for _ in range(20):
        torch.full((10_000,), 255, dtype=torch.uint8, device=device)
    assert_equal(params, values)


def test_threads_with_streams_of_their_own(device):
    values = expected(device, 10)
    results, errors = {}, []

    def work(number):
        try:
            with torch.cuda.stream(torch.cuda.Stream()):
                optimizer, params = make(device)
                run(optimizer, params, 10)
                torch.cuda.current_stream().synchronize()
                results[number] = params
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for params in results.values():
        assert_equal(params, values)


def test_two_optimizers_in_turn(device):
    names = ("Adam", "SGD")
    values = [expected(device, 5, name=name) for name in names]
    made = [make(device, name) for name in names]
    for step in range(5):
        for optimizer, params in made:
            for param, grad in zip(params, cases.tensors(1 + step, torch.float32, SHAPES), strict=True):
                param.grad = grad.to(device)
            optimizer.step()
    for (_, params), value in zip(made, values, strict=True):
        assert_equal(params, value)


two_devices = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")


@two_devices
def test_one_norm_over_several_gpus():
    params = [torch.nn.Parameter(torch.zeros(50, device=place)) for place in ("cuda:0", "cuda:1", "cuda:1")]
    optimizer = optim.SGD(params, lr=1.0, max_grad_norm=1.0)
    for _ in range(2):
        for param in params:
            param.grad = torch.full_like(param, 2.0)
        optimizer.step()
    assert optimizer.last_path == "fused"
    norm = 600**0.5
    assert optimizer.grad_norm.item() == pytest.approx(norm)
    for param in params:
        torch.testing.assert_close(param.cpu(), torch.full((50,), -4.0 / norm), check_dtype=False)


@two_devices
def test_each_gpu_steps_on_its_own_current_stream():
    places = [torch.device("cuda", index) for index in range(2)]
    params = [torch.nn.Parameter(torch.zeros(100_003, device=place)) for place in places]
    grads = [torch.zeros_like(param) for param in params]
    optimizer = optim.SGD(params, lr=1.0)
    streams = [torch.cuda.Stream(place) for place in places]
    torch.cuda.synchronize(0)
    torch.cuda.synchronize(1)
    for stream, grad in zip(streams, grads, strict=True):
        torch.cuda.set_stream(stream)
        torch.cuda._sleep(50_000_000)
        grad.fill_(2.0)  # after the sleep: a step on another stream would still see 0
    try:
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad
        optimizer.step()
        assert optimizer.last_path == "fused"
        for stream in streams:
            stream.synchronize()
    finally:
        for place in reversed(places):  # which also makes the first the current device again
            torch.cuda.set_stream(torch.cuda.default_stream(place))
    assert all(torch.equal(param.cpu(), torch.full((100_003,), -2.0)) for param in params)


@two_devices
def test_several_gpus_in_one_optimizer():
    places = ["cuda:0", "cuda:1", "cpu"]
    ends = []
    for more in ({"foreach": False}, {}):
        cls = torch.optim.AdamW if more else optim.AdamW
        params = [torch.nn.Parameter(torch.ones(50, device=place)) for place in places for _ in range(2)]
        optimizer = cls(params, lr=0.1, **more)
        for step in range(3):
            for i, param in enumerate(params):
                param.grad = torch.full_like(param, 0.1 * (1 + i + step))
            with torch.cuda.device(step % 2):
                optimizer.step()
        ends.append(params)
    assert optimizer.last_path == "fused"
    for ours, torchs in zip(*ends, strict=True):
        torch.testing.assert_close(ours, torchs)
