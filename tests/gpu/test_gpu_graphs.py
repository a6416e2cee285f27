"""CUDA graphs."""

import pytest
import torch

import cases
from torchpace import optim

pytestmark = [
    pytest.mark.cuda_itself,
    pytest.mark.filterwarnings("ignore:This instance was constructed with capturable=True"),
    # What a capture says that an error has ended.
    pytest.mark.filterwarnings("ignore:The CUDA Graph is empty"),
]
each_capturable = pytest.mark.parametrize("name", cases.TAKE_CAPTURABLE)
SHAPES = [(5,), (300, 7), (), (70_001,)]


def make(name, device, **options):
    params = [torch.nn.Parameter(value.to(device)) for value in cases.tensors(0, torch.float32, SHAPES)]
    for param in params:
        param.grad = torch.zeros_like(param)
    return getattr(optim, name)(params, **options), params


def set_grads(params, seed):
    for param, grad in zip(params, cases.tensors(seed, torch.float32, SHAPES), strict=True):
        param.grad.copy_(grad)


def capture(optimizer):
    """After an eager step, which makes the state."""
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        optimizer.step()
    return graph


@pytest.mark.parametrize("options", [{}, {"max_grad_norm": 0.5}, {"clip_value": 0.1}], ids=str)
@each_capturable
def test_replays_are_eager_steps(name, options, device):
    runs = []
    for captured in (False, True):
        lr = torch.tensor(0.05, device=device)
        optimizer, params = make(name, device, lr=lr, capturable=True, **options)
        set_grads(params, 1)
        optimizer.step()
        graph = capture(optimizer) if captured else None
        for step in range(4):
            set_grads(params, 2 + step)
            lr.fill_(0.05 / (1 + step))
            graph.replay() if graph else optimizer.step()
        torch.cuda.synchronize()
        assert all(state["step"].item() == 5 for state in optimizer.state.values())
        runs.append(params)
    assert all(torch.equal(left, right) for left, right in zip(*runs, strict=True))


@each_capturable
def test_an_eager_step_with_other_gradients_between_replays(name, device):
    runs = []
    for captured in (False, True):
        optimizer, params = make(name, device, lr=0.05, capturable=True)
        set_grads(params, 1)
        optimizer.step()
        graph = capture(optimizer) if captured else None
        of_graph = [param.grad for param in params]
        for step in range(6):
            if step % 2:
                for param, grad in zip(params, cases.tensors(20 + step, torch.float32, SHAPES), strict=True):
                    param.grad = grad.to(device)
                optimizer.step()
            else:
                for param, grad in zip(params, of_graph, strict=True):
                    param.grad = grad
                set_grads(params, 30 + step)
                graph.replay() if graph else optimizer.step()
        torch.cuda.synchronize()
        runs.append(params)
    assert all(torch.equal(left, right) for left, right in zip(*runs, strict=True))


def test_a_schedule_changes_the_rate_between_replays(device):
    runs = []
    for captured in (False, True):
        lr = torch.tensor(0.1, device=device)
        optimizer, params = make("Adam", device, lr=lr, capturable=True)
        set_grads(params, 1)
        optimizer.step()
        scheduler = optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        graph = capture(optimizer) if captured else None
        for step in range(4):
            set_grads(params, 2 + step)
            graph.replay() if graph else optimizer.step()
            scheduler.step()
        runs.append(params)
        assert optimizer.param_groups[0]["lr"] is lr
    assert all(torch.equal(left, right) for left, right in zip(*runs, strict=True))


def test_two_graphs_of_one_optimizer(device):
    runs = []
    for captured in (False, True):
        optimizer, params = make("Adam", device, lr=0.05, capturable=True)
        set_grads(params, 1)
        optimizer.step()
        graphs = []
        grads = []
        for _ in range(2):
            for param in params:
                param.grad = torch.zeros_like(param)
            grads.append([param.grad for param in params])
            if captured:
                graphs.append(capture(optimizer))
        for step in range(6):
            for param, grad in zip(params, grads[step % 2], strict=True):
                param.grad = grad
            set_grads(params, 2 + step)
            graphs[step % 2].replay() if captured else optimizer.step()
        torch.cuda.synchronize()
        runs.append(params)
    assert all(torch.equal(left, right) for left, right in zip(*runs, strict=True))


def test_a_first_step_in_a_capture_is_an_error(device):
    optimizer, params = make("Adam", device, lr=0.05, capturable=True)
    set_grads(params, 1)
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with pytest.raises(RuntimeError, match="first step"), torch.cuda.graph(graph):
        optimizer.step()
    assert not optimizer.state
    optimizer.step()
    assert optimizer.last_path == "fused"


@each_capturable
def test_a_capture_without_capturable_is_torchs_error(name, device):
    optimizer, params = make(name, device, lr=0.05)
    set_grads(params, 1)
    optimizer.step()
    torch.cuda.synchronize()
    text = f"Attempting CUDA graph capture of step\\(\\) for an instance of {name}"
    with pytest.raises(RuntimeError, match=text), torch.cuda.graph(torch.cuda.CUDAGraph()):
        optimizer.step()
    optimizer.step()
    assert optimizer.last_path == "fused"


def test_raise_cannot_be_captured(device):
    optimizer, params = make("Adam", device, lr=0.05, capturable=True, max_grad_norm=1.0, nonfinite_norm="raise")
    set_grads(params, 1)
    optimizer.step()
    torch.cuda.synchronize()
    with pytest.raises(RuntimeError, match="a graph captures the step"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        optimizer.step()


@pytest.mark.parametrize("scale", [1.0, 512.0])
def test_a_scaler_in_a_graph(scale, device):
    """The scale and what it found are read when the graph is replayed."""
    optimizer, params = make("Adam", device, lr=0.05, capturable=True, fused=True)
    twin, expected = make("Adam", device, lr=0.05)
    grad_scale, found_inf = torch.tensor(1.0, device=device), torch.tensor(0.0, device=device)
    optimizer.grad_scale, optimizer.found_inf = grad_scale, found_inf
    set_grads(params, 1)
    set_grads(expected, 1)
    optimizer.step()
    twin.step()
    graph = capture(optimizer)
    for step in range(4):
        set_grads(params, 2 + step)
        set_grads(expected, 2 + step)
        for param in params:
            param.grad.mul_(scale)
        grad_scale.fill_(scale)
        found_inf.fill_(float(step == 2))
        graph.replay()
        if step != 2:
            twin.step()
    torch.testing.assert_close(params, expected, rtol=1e-6, atol=1e-7)
    assert all(state["step"].item() == 4 for state in optimizer.state.values())
