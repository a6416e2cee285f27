"""Step counts of types that cannot count: a checkpoint cast whole has them, and torch's then stand still."""

import copy
import pickle

import pytest
import torch

import cases
from torchpace import optim

COUNTED = [name for name in cases.OPTIMIZERS if name not in ("SGD", "LARS", "Lion")]
NARROW = [torch.bfloat16, torch.float16, torch.float8_e5m2, torch.int8, torch.uint8, torch.int16, torch.bool]

each_optimizer = pytest.mark.parametrize("name", COUNTED)


def make(name, **options):
    params = [torch.nn.Parameter(torch.linspace(1, 2, size)) for size in (4, 3)]
    return getattr(optim, name)(params, **{"lr": 0.01, **options}), params


def step(optimizer, times=1):
    for _ in range(times):
        for group in optimizer.param_groups:
            for param in group["params"]:
                param.grad = torch.ones_like(param)
        optimizer.step()


def cast(state_dict, dtype):
    """A checkpoint, cast whole."""
    state_dict = copy.deepcopy(state_dict)
    for entries in state_dict["state"].values():
        for name, value in entries.items():
            entries[name] = value.to(dtype)
    return state_dict


def counts(optimizer):
    return [entries["step"] for entries in optimizer.state.values()]


def assert_counts_on(optimizer, params, begin):
    assert [count.item() for count in counts(optimizer)] == [begin] * len(params)
    step(optimizer, 3)
    assert optimizer.last_path == "fused"
    assert {count.dtype for count in counts(optimizer)} == {torch.float32}
    assert [count.item() for count in counts(optimizer)] == [begin + 3] * len(params)


@pytest.mark.parametrize("fused", [None, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@each_optimizer
def test_a_checkpoint_cast_whole(name, dtype, fused):
    """From before, at and after the place where it would stand still."""
    options = {"fused": fused} if name in cases.TAKE_FUSED else {}
    for begin in (3, 256, 2048):
        optimizer, _ = make(name, **options)
        step(optimizer)
        for count in counts(optimizer):
            count.fill_(begin)
        again, params = make(name, **options)
        again.load_state_dict(cast(optimizer.state_dict(), dtype))
        assert_counts_on(again, params, begin)


@each_optimizer
def test_a_resumed_run_is_as_near_as_its_slots(name):
    """The count of a cast checkpoint is right, where torch's stands still: against one whose count was not cast."""
    optimizer, _ = make(name)
    step(optimizer, 255)
    whole = cast(optimizer.state_dict(), torch.bfloat16)
    right = copy.deepcopy(whole)
    for entries in right["state"].values():
        entries["step"] = entries["step"].float()
    runs = []
    for state_dict in (whole, right):
        again, params = make(name)
        again.load_state_dict(state_dict)
        step(again, 50)
        runs.append(params)
    assert all(torch.equal(left, other) for left, other in zip(*runs, strict=True))


@pytest.mark.parametrize("shape", [(), (1,)], ids=str)
@pytest.mark.parametrize("dtype", NARROW, ids=str)
@each_optimizer
def test_counts_cast_in_the_state(name, dtype, shape):
    """By a loop over the state that moves or casts what is there."""
    optimizer, params = make(name)
    step(optimizer)
    for entries in optimizer.state.values():
        entries["step"] = entries["step"].reshape(shape).to(dtype)
    assert_counts_on(optimizer, params, 1)
    for count in counts(optimizer):
        count.data = count.data.to(dtype)
        count.fill_(1)
    assert_counts_on(optimizer, params, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int32, torch.int64], ids=str)
@each_optimizer
def test_counts_that_count_stay_as_they_are(name, dtype):
    optimizer, _ = make(name)
    step(optimizer)
    again, _ = make(name)
    state_dict = optimizer.state_dict()
    for entries in state_dict["state"].values():
        entries["step"] = entries["step"].to(dtype)
    again.load_state_dict(state_dict)
    step(again, 3)
    assert {count.dtype for count in counts(again)} == {dtype}
    assert [count.item() for count in counts(again)] == [4] * 2


@each_optimizer
def test_pickled_and_copied(name):
    optimizer, params = make(name)
    step(optimizer)
    for entries in optimizer.state.values():
        entries["step"] = entries["step"].bfloat16()
    for again in (pickle.loads(pickle.dumps(optimizer)), copy.deepcopy(optimizer)):
        assert_counts_on(again, params, 1)


@each_optimizer
def test_in_steps_that_torch_takes(name):
    """Its own loop counts on in the entry."""

    class Tagged(torch.Tensor):
        """Its memory may be elsewhere, so torch steps on it."""

    params = [torch.ones(3).as_subclass(Tagged).requires_grad_()]
    optimizer = getattr(optim, name)(params, lr=0.01)
    step(optimizer)
    optimizer.state[params[0]]["step"] = torch.tensor(256.0, dtype=torch.bfloat16)
    step(optimizer, 2)
    assert optimizer.last_path.startswith("torch: ")
    assert optimizer.state[params[0]]["step"].item() == 258
    optimizer.state[params[0]]["step"] = torch.tensor(256.0, dtype=torch.bfloat16)

    class Mode(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            return function(*args, **(kwargs or {}))

    with Mode():
        step(optimizer, 2)
    assert optimizer.last_path == "torch: a TorchDispatchMode is active"
    assert optimizer.state[params[0]]["step"].item() == 258


def test_a_checkpoint_file_with_narrow_counts(tmp_path):
    pytest.importorskip("safetensors", reason="checkpoints need safetensors")
    from torchpace.optim import checkpoint

    optimizer, _ = make("Adam")
    step(optimizer)
    for entries in optimizer.state.values():
        entries["step"] = torch.tensor(256.0, dtype=torch.bfloat16)
    checkpoint.save(optimizer, tmp_path / "file")
    again, params = make("Adam")
    checkpoint.load(again, tmp_path / "file")
    assert_counts_on(again, params, 256)


def test_a_step_that_fails_leaves_the_counts_values():
    optimizer, params = make("Adam")
    step(optimizer)
    optimizer.state[params[0]]["step"] = torch.tensor(200.0, dtype=torch.bfloat16)
    params[1].grad = torch.ones_like(params[1])
    optimizer.state[params[1]]["exp_avg"] = torch.ones(5)
    with pytest.raises(RuntimeError, match="exp_avg has shape"):
        optimizer.step()
    assert [count.item() for count in counts(optimizer)] == [200, 1]
