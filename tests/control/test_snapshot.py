"""A snapshot restores a training bit for bit, and in place."""

import copy
import random
import warnings
from collections import Counter, OrderedDict, UserDict, deque

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import cases
import torchpace.optim
from torchpace.control import Snapshot
from trainings import MAKERS, SCHEDULERS, Training, bits, maker


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Tensors this small would wait for threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", MAKERS)
def test_all_optimizers_come_back_and_go_on_as_they_went_on(name, dtype):
    training = Training(MAKERS[name], "ExponentialLR", dtype)
    for _ in range(2):
        training.step()
    snapshot = training.snapshot().take()
    state, objects = training.written(), training.objects()
    for _ in range(3):
        training.step()
    later = training.written()
    assert later != state
    for _ in range(2):  # as often as wanted
        snapshot.restore()
        assert training.written() == state
        assert training.objects() == objects
        for _ in range(3):
            training.step()
        assert training.written() == later


@pytest.mark.parametrize("library", [cases.TORCHS, cases.OURS], ids=["torch's", "ours"])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step:UserWarning")
def test_all_kinds_of_schedulers(scheduler, library):
    training = Training(MAKERS["torchpace.optim SGD"], scheduler, library=library)
    training.step()
    snapshot = training.snapshot().take()
    state = training.written()
    for _ in range(30):
        training.step()
    later = training.written()
    snapshot.restore()
    assert training.written() == state
    for _ in range(30):
        training.step()
    assert training.written() == later


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_mixture(data):
    """Before the first step or later, taken once or again and again, whatever is done in between."""
    training = Training(
        MAKERS[data.draw(st.sampled_from(sorted(MAKERS)))],
        data.draw(st.sampled_from(SCHEDULERS)),
        data.draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16])),
        scaler=data.draw(st.booleans()),
    )
    snapshot = training.snapshot()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(data.draw(st.integers(1, 3))):
            for _ in range(data.draw(st.integers(0, 3))):
                training.step(data.draw(st.booleans()))
            snapshot.take()
        state, objects = training.written(), training.objects()
        training.step()
        later = training.written()
        snapshot.restore()
        for deed in data.draw(st.lists(st.sampled_from(sorted(DEEDS)), max_size=5)):
            DEEDS[deed](training)
    if data.draw(st.booleans()):
        add_group(training)  # after which a scheduler of torch's cannot step
    snapshot.restore()
    assert training.written() == state
    assert training.objects() == objects
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        training.step()  # by a plan that knows of all the tensors in between
    assert training.written() == later


def replace_data(training):
    training.model[0].weight.data = torch.ones_like(training.model[0].weight)


def replace_state(training):
    for entry in training.optimizer.state.values():
        for name, value in list(entry.items()):
            entry[name] = copy.deepcopy(value)
        entry["added"] = torch.zeros(1)


def drop_state(training):
    training.optimizer.state.clear()


def freeze(training):
    training.model[4].bias.requires_grad_(False)


def evaluate(training):
    training.model.eval()
    training.model.hidden = torch.ones(3)
    training.model.flag = True


def add_group(training):
    training.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]})


def new_grads(training):
    for param in training.model.parameters():
        param.grad = torch.ones_like(param)


DEEDS = {
    "step": Training.step,
    "step in place": lambda training: training.step(False),
    **{deed.__name__: deed for deed in (replace_data, replace_state, drop_state, freeze, evaluate, new_grads)},
}


def test_the_comparison_can_fail():
    """Each deed changes what is compared."""
    for deed in [*DEEDS.values(), add_group]:
        training = Training(MAKERS["torchpace.optim Adam"])
        training.step()
        state, objects = training.written(), training.objects()
        deed(training)
        assert (training.written(), training.objects()) != (state, objects)


def test_a_tensor_rate_is_filled_in_place():
    rate = torch.tensor(0.25)
    training = Training(maker("Adam", lr=rate), "ExponentialLR")
    snapshot = training.snapshot().take()
    training.step()
    assert rate.item() != 0.25
    snapshot.restore()
    assert rate.item() == 0.25
    assert training.optimizer.param_groups[0]["lr"] is rate


def test_scalars_lists_and_objects_in_the_state():
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.1)

    class Memory:
        def __init__(self):
            self.tensor, self.count, self.inner = torch.ones(2), 1, {"list": [1, 2]}

    class Slotted:
        __slots__ = ("value",)

    memory, slotted, generator = Memory(), Slotted(), torch.Generator().manual_seed(4)
    slotted.value = 1
    state = optimizer.state[weight]
    state.update(n=1, old=[torch.ones(2), 3], memory=memory, slotted=slotted, array=np.ones(2), generator=generator)
    state["set"] = {1}
    snapshot = Snapshot((), optimizer).take()
    state["old"].append(4)
    state["old"][0].zero_()
    state["set"].add(2)
    state["array"][:] = 7
    memory.count, memory.more, slotted.value = 2, 1, 2
    memory.tensor.zero_()
    memory.inner["list"].append(3)
    drawn = torch.rand(3, generator=generator).tolist()
    optimizer.state = {}
    snapshot.restore()
    state = optimizer.state[weight]
    assert state["memory"] is memory
    assert (state["n"], state["old"][1:], state["set"], state["array"].tolist()) == (1, [3], {1}, [1, 1])
    assert (memory.count, memory.tensor.tolist(), memory.inner, slotted.value) == (1, [1, 1], {"list": [1, 2]}, 1)
    assert not hasattr(memory, "more")
    assert state["old"][0].tolist() == [1, 1]
    assert torch.rand(3, generator=generator).tolist() == drawn


def test_generators_besides_the_global_ones():
    generators = [torch.Generator(), random.Random(1), np.random.default_rng(1), np.random.RandomState(1)]

    def draw():
        first, second, third, fourth = generators
        return torch.rand(1, generator=first).item(), second.random(), third.random(), fourth.rand()

    snapshot = Snapshot(generators=generators).take()
    drawn = draw()
    assert draw() != drawn
    snapshot.restore()
    assert draw() == drawn


def test_containers_of_other_kinds():
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    state = optimizer.state[weight]
    state.update(
        deque=deque([1, 2], maxlen=2), counter=Counter("aab"), ordered=OrderedDict(b=1, a=2), user=UserDict(a=1)
    )
    snapshot = Snapshot((), optimizer).take()
    kept = dict(state)
    state["deque"].append(3)
    state["counter"]["a"] += 1
    state["ordered"].move_to_end("b")
    state["user"]["a"] = 2
    snapshot.restore()
    assert all(state[name] is value for name, value in kept.items())
    assert list(state["deque"]) == [1, 2]
    assert state["counter"] == {"a": 2, "b": 1}
    assert list(state["ordered"]) == ["b", "a"]
    assert state["user"] == {"a": 1}


def test_shared_parameters_and_views():
    first, second = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    second.weight = first.weight
    model = torch.nn.Sequential(first, second)
    model.register_buffer("part", first.weight.detach()[1])
    before = first.weight.tolist()
    snapshot = Snapshot(model).take()
    with torch.no_grad():
        first.weight += 1
    snapshot.restore()
    assert first.weight.tolist() == before
    assert model.part.data_ptr() == first.weight[1].data_ptr()
    assert model.part.tolist() == before[1]


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(3, 1).expand(3, 4),
        torch.arange(12.0).view(3, 4).t(),
        torch.arange(12.0).view(3, 4)[:, ::2],
        torch.tensor(1 + 2j).conj(),
        torch.arange(4),
        torch.tensor([True, False]),
        torch.empty(0, 3),
        torch.tensor(float("nan")),
        torch.ones(2, 3).to_sparse(),
    ],
    ids=["expanded", "transposed", "gaps", "conjugate", "integers", "booleans", "empty", "nan", "sparse"],
)
def test_any_kind_of_buffer(tensor):
    model = torch.nn.Module()
    model.register_buffer("one", tensor)

    def dense():
        return bits(model.one.to_dense() if model.one.is_sparse else model.one.resolve_conj())

    before = dense()
    snapshot = Snapshot(model).take()
    one_place = model.one.layout == torch.strided and model.one.stride() == (1, 0)
    (model.one[:, 0] if one_place else model.one).zero_()
    snapshot.restore()
    assert dense() == before
    assert model.one is tensor


def test_an_expanded_gradient_and_a_sparse_one():
    weight, table = torch.nn.Parameter(torch.ones(3)), torch.nn.Embedding(4, 2, sparse=True)
    weight.grad = torch.ones(1).expand(3)
    table(torch.tensor([1])).sum().backward()
    grads = weight.grad, table.weight.grad
    optimizer = torch.optim.SGD([weight, table.weight], lr=0.1)
    snapshot = Snapshot((), optimizer).take()
    optimizer.step()
    table.weight.grad.mul_(2)
    optimizer.zero_grad()
    snapshot.restore()
    assert weight.grad is grads[0]
    assert table.weight.grad is grads[1]
    assert weight.grad.tolist() == [1, 1, 1]
    assert table.weight.grad.to_dense().tolist() == [[0, 0], [1, 1], [0, 0], [0, 0]]


@pytest.fixture
def _process_group():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("_process_group")
def test_the_local_shards_of_dtensors():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (1,))
    weight = torch.nn.Parameter(distribute_tensor(torch.ones(4), mesh, [Shard(0)]))
    optimizer = torchpace.optim.AdamW([weight], lr=0.1)

    def step():
        weight.grad = distribute_tensor(torch.arange(4.0), mesh, [Shard(0)])
        optimizer.step()

    def seen():
        return [tensor.full_tensor().tolist() for tensor in (weight, *map(optimizer.state[weight].get, MOMENTS))]

    step()
    snapshot = Snapshot((), optimizer).take()
    before, grad = seen(), weight.grad
    step()
    later = seen()
    assert later != before
    snapshot.restore()
    assert seen() == before
    assert weight.grad is grad
    step()
    assert seen() == later


MOMENTS = ("exp_avg", "exp_avg_sq")


def test_freed_storage_is_allocated_again():
    weight = torch.nn.Parameter(torch.arange(5.0))
    snapshot = Snapshot((), torch.optim.SGD([weight])).take()
    weight.untyped_storage().resize_(0)
    snapshot.restore()
    assert weight.tolist() == [0, 1, 2, 3, 4]


def test_under_inference_mode():
    with torch.inference_mode():
        model = torch.nn.Linear(2, 2)
    before = model.weight.tolist()
    snapshot = Snapshot(model).take()
    with torch.inference_mode():
        model.weight.zero_()
    snapshot.restore()
    assert model.weight.tolist() == before


def test_autograd_notices_a_restore():
    weight = torch.nn.Parameter(torch.ones(2))
    snapshot = Snapshot((), torch.optim.SGD([weight])).take()
    loss = weight.square().sum()
    snapshot.restore()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_plan_and_the_norm_follow():
    training = Training(maker("AdamW", max_grad_norm=1.0))
    training.step()
    norm = training.optimizer.grad_norm.item()
    snapshot = training.snapshot().take()
    training.step()
    training.step()
    snapshot.restore()
    assert training.optimizer.grad_norm.item() == norm
    training.step()
    assert training.optimizer.last_path == "fused"


def test_memory_is_kept_and_told():
    training = Training(MAKERS["torchpace.optim AdamW"])
    training.step()
    snapshot = training.snapshot(random=False).take()
    places = [one.copy.data_ptr() for one in snapshot._copies._kept.values()]
    training.step(False)
    snapshot.take()
    assert [one.copy.data_ptr() for one in snapshot._copies._kept.values()] == places
    count = sum(param.numel() for param in training.model.parameters())
    buffers = sum(buffer.nbytes for buffer in training.model.buffers())
    steps = 4 * len(list(training.model.parameters()))
    assert snapshot.nbytes == 4 * 4 * count + buffers + steps  # parameter, gradient and two moments


def test_an_interrupt_in_the_restore_takes_effect_when_all_is_done(monkeypatch):
    training = Training(MAKERS["torchpace.optim Adam"])
    snapshot = training.snapshot().take()
    state = training.written()
    training.step()
    restore, calls = snapshot._copies.restore, []

    def interrupted():
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        restore()

    monkeypatch.setattr(snapshot._copies, "restore", interrupted)
    with pytest.raises(KeyboardInterrupt):
        snapshot.restore()
    assert training.written() == state


def test_parts():
    training = Training(MAKERS["torchpace.optim SGD"])
    training.step()
    state = training.written()
    part = training.snapshot(parameters=False, gradients=False).take()
    training.step()
    later = training.written()
    part.restore()
    now = training.written()
    assert now[3] == later[3]
    assert now[2] == later[2]
    assert now[7] == state[7]
    names = [name for (name, value), (_, was) in zip(now[0], later[0], strict=True) if value != was]
    assert set(names) == {"hidden", "1.running_mean", "1.running_var", "1.num_batches_tracked"}


def test_errors():
    with pytest.raises(RuntimeError, match=r"there is no state to restore: call take\(\) first"):
        Snapshot(torch.nn.Linear(1, 1)).restore()
    with pytest.raises(TypeError, match="modules holds a int, expected Module"):
        Snapshot([3])
    with pytest.raises(TypeError, match="optimizers holds a Linear, expected Optimizer"):
        Snapshot((), torch.nn.Linear(1, 1))
    with pytest.raises(TypeError, match="schedulers holds a SGD, expected LRScheduler"):
        Snapshot((), (), torch.optim.SGD([torch.nn.Parameter(torch.ones(1))]))
    weight = torch.nn.Parameter(torch.ones(1))
    scheduler = torch.optim.lr_scheduler.StepLR(torch.optim.SGD([weight]), 1)
    with pytest.raises(TypeError, match="schedulers holds a int, expected LRScheduler"):
        Snapshot((), (), [scheduler, 3])
    with pytest.raises(TypeError, match="scalers holds a int, expected GradScaler"):
        Snapshot(scalers=3)
    for wrong in (3, [3]):
        with pytest.raises(TypeError, match="generators holds a int, expected Generator"):
            Snapshot(generators=wrong)
    assert "generators=1" in repr(Snapshot(generators=torch.Generator()))


def test_what_cannot_be_put_back_keeps_nothing_else_from_it():
    """An array that is read-only now: its error comes when all else is done."""
    training = Training(MAKERS["torchpace.optim Adam"], "ExponentialLR", scaler=True)
    training.step()
    array = np.ones(2)
    training.optimizer.memory = array
    snapshot = training.snapshot().take()
    state, objects = training.written(), training.objects()
    training.step()
    array[:] = 7
    array.setflags(write=False)
    with pytest.raises(ValueError, match="read-only"):
        snapshot.restore()
    assert (training.written(), training.objects()) == (state, objects)
    array.setflags(write=True)
    snapshot.restore()
    assert array.tolist() == [1, 1]


def test_what_is_met_on_a_longer_way_first_is_looked_into():
    """However deep it is elsewhere."""

    class Memory:
        def __init__(self, **entries):
            self.__dict__.update(entries)

    deep = Memory(count=1)
    far = deep
    for _ in range(6):
        far = Memory(inner=far)
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    inner = Memory(value=Memory(items=[1]))
    optimizer.state[weight].update(far=Memory(far=far, side=inner), near=deep, inner=inner)
    snapshot = Snapshot((), optimizer).take()
    deep.count = 2
    inner.value.items.append(2)
    snapshot.restore()
    assert (deep.count, inner.value.items) == (1, [1])


def test_it_tells_what_it_is_of():
    training = Training(MAKERS["torchpace.optim SGD"], "ExponentialLR", scaler=True)
    snapshot = training.snapshot()
    assert repr(snapshot) == "Snapshot(modules=1, optimizers=1, schedulers=1, scalers=1, taken=False, nbytes=0)"
    snapshot.take()
    assert repr(snapshot).endswith(f"taken=True, nbytes={snapshot.nbytes})")
    assert repr(Snapshot()) == "Snapshot(taken=False, nbytes=0)"
