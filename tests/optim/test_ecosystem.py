"""Ours in the hands of what torch builds on an optimizer, with the same results as torch's plain loop."""

import contextlib
import copy
import gc
import signal
import threading
import weakref

import pytest
import torch

from torchpace import optim

each_case = pytest.mark.parametrize(
    ("name", "options"), [("SGD", {"lr": 0.05, "momentum": 0.9}), ("AdamW", {"lr": 0.05})], ids=["SGD", "AdamW"]
)
# torch's own, of modules that torch.distributed.optim and the compiler import.
torchs_deprecations = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))


def batches(count):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(6, 4, generator=generator) for _ in range(count)]


def loss_of(net, batch):
    return (net(batch.to(next(net.parameters()).dtype)) - 1).square().sum()


def train(net, optimizer, steps):
    for batch in steps:
        optimizer.zero_grad()
        loss_of(net, batch).backward()
        optimizer.step()
    return net


def values(net):
    return {key: value.detach().clone() for key, value in net.state_dict().items()}


def compare(flow, name, options):
    """`flow(optimizer_class, **options)` gives the same with ours as with torch's plain loop."""
    expected = flow(getattr(torch.optim, name), foreach=False, **options)
    ours = flow(getattr(optim, name), **options)
    torch.testing.assert_close(ours, expected)


# Checkpoints.


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(("before", "after"), [(optim, optim), (torch.optim, optim), (optim, torch.optim)])
@each_case
def test_distributed_checkpoint(name, options, before, after, flat):
    """A fresh optimizer, of another lr, goes on where the state dict was taken."""
    from torch.distributed.checkpoint import state_dict as checkpoint

    flags = checkpoint.StateDictOptions(flatten_optimizer_state_dict=flat)
    first = model()
    optimizer = getattr(before, name)(first.parameters(), **options)
    train(first, optimizer, batches(4)[:2])
    weights, state = checkpoint.get_state_dict(first, optimizer, options=flags)

    second = model()
    resumed = getattr(after, name)(second.parameters(), **options | {"lr": 9.0})
    checkpoint.set_state_dict(second, resumed, model_state_dict=weights, optim_state_dict=state, options=flags)
    train(second, resumed, batches(4)[2:])

    whole = model()
    optimizer = getattr(torch.optim, name)(whole.parameters(), foreach=False, **options)
    train(whole, optimizer, batches(4)[:2])
    assert state.keys() == checkpoint.get_optimizer_state_dict(whole, optimizer, options=flags).keys()
    train(whole, optimizer, batches(4)[2:])
    torch.testing.assert_close(values(second), values(whole))


@each_case
def test_taking_the_state_dict_of_a_fresh_optimizer_moves_nothing(name, options):
    """It takes a step on gradients of zero to have a state at all."""
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

    def flow(cls, **options):
        net = model()
        before = values(net)
        state = get_optimizer_state_dict(net, cls(net.parameters(), **options))["state"]
        torch.testing.assert_close(values(net), before, rtol=0, atol=0)
        return state

    compare(flow, name, options)


# torch.distributed, in a group of this process alone.


@pytest.fixture
def process_group(tmp_path):
    if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
        pytest.skip("this torch is built without gloo")
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


@torchs_deprecations
@pytest.mark.usefixtures("process_group")
@each_case
def test_zero_redundancy_optimizer(name, options):
    from torch.distributed.optim import ZeroRedundancyOptimizer

    def flow(cls, **options):
        net = model()
        optimizer = ZeroRedundancyOptimizer(net.parameters(), optimizer_class=cls, **options)
        assert type(optimizer.optim) is cls
        train(net, optimizer, batches(3))
        optimizer.consolidate_state_dict()
        return values(net), optimizer.state_dict()["state"]

    compare(flow, name, options)


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("kind", ["shard", "replicate"])
@each_case
def test_dtensor_parameters(name, options, kind):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (1,))
    placements = [Shard(0) if kind == "shard" else Replicate()]

    def flow(cls, **options):
        torch.manual_seed(0)
        param = torch.nn.Parameter(distribute_tensor(torch.randn(4, 3), mesh, placements))
        optimizer = cls([param], **options)
        for _ in range(3):
            param.grad = distribute_tensor(torch.randn(4, 3), mesh, placements)
            optimizer.step()
        state = [slot for slot in optimizer.state[param].values() if slot.dim()]
        assert all(isinstance(slot, DTensor) and slot.placements == param.placements for slot in state)
        return [tensor.full_tensor().detach() for tensor in (param, *state)]

    compare(flow, name, options)


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("clips", [{}, {"max_grad_norm": 1.0}], ids=str)
@pytest.mark.parametrize("name", ["LAMB", "LARS", "Prodigy"])
def test_dtensor_parameters_where_sums_are_needed(name, clips):
    """Of all processes, which torch knows; a parameter that is not spread goes the same way."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (1,))

    def flow(place):
        torch.manual_seed(0)
        params = [torch.nn.Parameter(place(torch.randn(4, 3))), torch.nn.Parameter(torch.randn(3))]
        optimizer = getattr(optim, name)(params, lr=0.1, **clips)
        for _ in range(3):
            params[0].grad, params[1].grad = place(torch.randn(4, 3)), torch.randn(3)
            optimizer.step()
        return optimizer.last_path, [getattr(param, "_local_tensor", param).detach() for param in params]

    path, moved = flow(lambda value: distribute_tensor(value, mesh, [Shard(0)]))
    assert path == "torch: a parameter is spread over processes, and its update needs sums over all of it"
    path, expected = flow(lambda value: value)
    assert path == "fused"
    torch.testing.assert_close(moved, expected)


@pytest.mark.usefixtures("process_group")
def test_dtensor_parameters_of_cautious_updates_and_without_a_quotient():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (1,))

    def leaf(requires_grad):
        return distribute_tensor(torch.ones(4, 3, requires_grad=requires_grad), mesh, [Shard(0)])

    for name in ("Adam", "AdamW", "Lion", "AdEMAMix"):
        param = torch.nn.Parameter(leaf(True))
        optimizer = getattr(optim, name)([param], cautious=True)
        param.grad = leaf(False)
        with pytest.raises(RuntimeError, match=r"^cautious=True needs the fused step.*a parameter is spread"):
            optimizer.step()
        assert torch.equal(param.full_tensor(), torch.ones(4, 3))
        assert not optimizer.state[param]

    sums, none = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(leaf(True))
    optimizer = optim.LARS([{"params": [none], "trust_coefficient": None, "lr": 0.5}], momentum=0.9)
    none.grad = leaf(False)
    optimizer.step()
    assert optimizer.last_path == "fused"
    assert torch.equal(none.full_tensor(), torch.full((4, 3), 0.5))
    optimizer.add_param_group({"params": [sums], "lr": 500.0, "eps": 0.0})
    none.grad, sums.grad = leaf(False), torch.ones(3)
    optimizer.step()
    assert optimizer.last_path.startswith("torch: a parameter is spread")
    assert sums.tolist() == pytest.approx([0.5] * 3)


@pytest.mark.usefixtures("process_group")
@each_case
def test_fully_sharded_module(name, options):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    net = model()
    mesh = init_device_mesh("cpu", (1,))
    for layer in (net[0], net[2], net):
        fully_shard(layer, mesh=mesh)
    assert all(isinstance(param, DTensor) for param in net.parameters())
    train(net, getattr(optim, name)(net.parameters(), **options), batches(3))

    whole = model()
    train(whole, getattr(torch.optim, name)(whole.parameters(), foreach=False, **options), batches(3))
    torch.testing.assert_close({key: value.full_tensor() for key, value in values(net).items()}, values(whole))


# Ways to train.


@each_case
def test_averaged_model_and_swalr(name, options):
    def flow(cls, **options):
        net = model()
        optimizer = cls(net.parameters(), **options)
        averaged = optim.swa_utils.AveragedModel(net)
        schedule = optim.swa_utils.SWALR(optimizer, swa_lr=0.01, anneal_epochs=3)
        for batch in batches(5):
            train(net, optimizer, [batch])
            averaged.update_parameters(net)
            schedule.step()
        return values(averaged), optimizer.param_groups[0]["lr"]

    compare(flow, name, options)


@each_case
def test_a_step_for_each_parameter_during_backward(name, options):
    """One optimizer a parameter, run by the hook after its gradient, which then goes away."""

    def flow(cls, **options):
        net = model()
        optimizers = {param: cls([param], **options) for param in net.parameters()}

        def step(param):
            optimizers[param].step()
            optimizers[param].zero_grad()

        for param in net.parameters():
            param.register_post_accumulate_grad_hook(step)
        for batch in batches(3):
            loss_of(net, batch).backward()
            assert all(param.grad is None for param in net.parameters())
        return values(net)

    compare(flow, name, options)


@each_case
def test_gradient_accumulation(name, options):
    def flow(cls, **options):
        net = model()
        optimizer = cls(net.parameters(), **options)
        for step, batch in enumerate(batches(6)):
            (loss_of(net, batch) / 3).backward()
            if step % 3 == 2:
                optimizer.step()
                optimizer.zero_grad(set_to_none=step < 3)
        return values(net)

    compare(flow, name, options)


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("fused", [None, True])
@each_case
def test_grad_scaler(name, options, fused, clip):
    """An overflow in the middle leaves that batch out; clipping needs the gradients unscaled before the step."""
    steps = batches(6)
    scaled = [*steps[:3], torch.full((6, 4), float("inf")), *steps[3:]]

    net = model()
    optimizer = getattr(optim, name)(net.parameters(), fused=fused, **options)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)
    for batch in scaled:
        optimizer.zero_grad()
        scaler.scale(loss_of(net, batch)).backward()
        if clip:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        scaler.step(optimizer)
        scaler.update()
    # Grown after two good steps, halved by the overflow after the third, grown after the fifth.
    assert scaler.get_scale() == 2.0**11

    plain = model()
    reference = getattr(torch.optim, name)(plain.parameters(), foreach=False, **options)
    for batch in steps:
        reference.zero_grad()
        loss_of(plain, batch).backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        reference.step()
    torch.testing.assert_close(values(net), values(plain))
    if name == "AdamW":
        assert {int(optimizer.state[param]["step"]) for param in net.parameters()} == {6}


@each_case
def test_parametrized_weight(name, options):
    class Symmetric(torch.nn.Module):
        def forward(self, weight):
            return weight.triu() + weight.triu(1).t()

    def flow(cls, **options):
        torch.manual_seed(0)
        net = torch.nn.Linear(4, 4)
        torch.nn.utils.parametrize.register_parametrization(net, "weight", Symmetric())
        train(net, cls(net.parameters(), **options), batches(3))
        assert torch.equal(net.weight, net.weight.t())
        return values(net)

    compare(flow, name, options)


@torchs_deprecations
@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"
)  # dynamo looks there
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@each_case
def test_compiled_training_step(name, options, backend):
    def flow(cls, **options):
        net = model()
        optimizer = cls(net.parameters(), **options)

        def step(batch):
            optimizer.zero_grad()
            loss = loss_of(net, batch)
            loss.backward()
            optimizer.step()
            return loss

        torch._dynamo.reset()
        try:
            step = torch.compile(step, backend=backend)
            losses = [step(batch).detach() for batch in batches(4)]
        finally:
            torch._dynamo.reset()
        return losses, values(net)

    compare(flow, name, options)


# What happens to parameters between steps.


@each_case
def test_deep_copy_of_model_and_optimizer(name, options):
    """The copy goes on as the original does, and neither moves the other."""

    def flow(cls, **options):
        net = model()
        optimizer = cls(net.parameters(), **options)
        train(net, optimizer, batches(4)[:2])
        twin, twins_optimizer = copy.deepcopy((net, optimizer))
        between = values(net)
        train(twin, twins_optimizer, batches(4)[2:])
        torch.testing.assert_close(values(net), between, rtol=0, atol=0)
        train(net, optimizer, batches(4)[2:])
        torch.testing.assert_close(values(net), values(twin), rtol=0, atol=0)
        return values(net)

    compare(flow, name, options)


@contextlib.contextmanager
def swapping(flag):
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(flag)
    try:
        yield
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)


@pytest.mark.parametrize("swap", [False, True], ids=["data", "swap_tensors"])
@each_case
def test_module_of_another_type_between_steps(name, options, swap):
    """`swap_tensors` raises where anybody else holds a reference to the parameter."""

    def flow(cls, **options):
        net = model()
        optimizer = cls(net.parameters(), **options)
        params = list(net.parameters())
        train(net, optimizer, batches(6)[:2])
        for dtype, steps in ((torch.float64, batches(6)[2:4]), (torch.float32, batches(6)[4:])):
            optimizer.zero_grad()
            net.to(dtype)
            optimizer.load_state_dict(optimizer.state_dict())  # brings the state to the parameters' type
            train(net, optimizer, steps)
        assert all(param is old for param, old in zip(net.parameters(), params, strict=True))
        return values(net)

    with swapping(swap):
        compare(flow, name, options)


@each_case
def test_module_there_and_back_between_steps(name, options):
    """With the state as it was: only `param.data` is elsewhere."""

    def flow(cls, **options):
        net = model()
        optimizer = cls(net.parameters(), **options)
        train(net, optimizer, batches(4)[:2])
        net.double().float()
        train(net, optimizer, batches(4)[2:])
        return values(net)

    compare(flow, name, options)


@each_case
def test_swapped_tensors(name, options):
    """The optimizer's parameter has another's content, type and all, from one step to the next."""

    def flow(cls, **options):
        param, other = (torch.nn.Parameter(torch.full((5,), value)) for value in (1.0, 2.0))
        optimizer = cls([param], **options)
        param.grad = torch.ones(5)
        optimizer.step()
        optimizer.zero_grad()
        torch.utils.swap_tensors(param, other)
        param.grad = torch.ones(5)
        optimizer.step()
        return [param.detach(), other.detach()]

    compare(flow, name, options)


@each_case
def test_model_in_shared_memory(name, options):
    """Before the first step and between two of them; the values stay where the others see them."""

    def flow(cls, **options):
        nets = model(), model()
        for net, good in zip(nets, (0, 2), strict=True):
            optimizer = cls(net.parameters(), **options)
            train(net, optimizer, batches(4)[:good])
            net.share_memory()
            places = [param.data_ptr() for param in net.parameters()]
            train(net, optimizer, batches(4)[good:])
            assert all(param.is_shared() for param in net.parameters())
            assert places == [param.data_ptr() for param in net.parameters()]
        return [values(net) for net in nets]

    compare(flow, name, options)


def hogwild(net, name, options, started):
    torch.set_num_threads(1)
    optimizer = getattr(optim, name)(net.parameters(), **options)
    started.wait()
    for _ in range(200):
        optimizer.zero_grad()
        sum((param - 1).square().sum() for param in net.parameters()).backward()
        optimizer.step()


@each_case
def test_two_processes_train_one_model(name, options):
    """Without a lock, so the way there differs from run to run; both pull to the same place."""
    context = torch.multiprocessing.get_context("spawn")
    net = model().share_memory()
    started = context.Barrier(2, timeout=60)
    workers = [context.Process(target=hogwild, args=(net, name, {**options, "lr": 0.02}, started)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    for param in net.parameters():
        torch.testing.assert_close(param.detach(), torch.ones_like(param), rtol=0, atol=0.1)


@pytest.fixture
def interruptible():
    """That interrupts arrive, which a shell has its background jobs ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("delay", [1e-4, 1e-3, 3e-3, 1e-2, 3e-2])
@each_case
def test_keyboard_interrupt_leaves_no_half_step(name, options, delay):
    """Parameters that begin alike, with one gradient, are alike after any number of whole steps."""
    grad = torch.linspace(1, 2, 100)
    params = [torch.nn.Parameter(torch.ones(100)) for _ in range(500)]
    for param in params:
        param.grad = grad
    optimizer = getattr(optim, name)(params, **options)
    timer = threading.Timer(delay, signal.raise_signal, [signal.SIGINT])

    def until_interrupted():
        timer.start()
        for _ in range(20_000):
            optimizer.step()

    with pytest.raises(KeyboardInterrupt):
        until_interrupted()
    timer.join()
    for _ in range(2):
        assert all(torch.equal(param, params[0]) for param in params)
        assert len({float(optimizer.state[param].get("step", 0)) for param in params}) == 1
        optimizer.step()
    assert optimizer.last_path == "fused"


# What nobody may hold on to.


@each_case
def test_large_state_and_gradients_are_freed(name, options):
    param = torch.nn.Parameter(torch.ones(1_000_000))
    optimizer = getattr(optim, name)([param], **options)
    for _ in range(2):
        param.grad = torch.ones(1_000_000)
        optimizer.step()
    assert optimizer.last_path == "fused"
    grad = weakref.ref(param.grad)
    optimizer.zero_grad()
    assert grad() is None
    slots = [weakref.ref(slot) for slot in optimizer.state[param].values()]
    optimizer.state.clear()
    gc.collect()
    assert [slot() for slot in slots] == [None] * len(slots)
    gone = weakref.ref(param)
    del param, optimizer
    gc.collect()
    assert gone() is None
