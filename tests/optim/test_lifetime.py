"""What a plan remembers keeps nothing alive that anybody would miss."""

import copy
import gc
import pickle
import weakref

import pytest
import torch

from torchpace import optim

each_optimizer = pytest.mark.parametrize("name", ["SGD", "Adam"])


def stepped(name, size, count=3):
    params = [torch.nn.Parameter(torch.ones(size)) for _ in range(count)]
    optimizer = getattr(optim, name)(params, lr=0.1, **({"momentum": 0.9} if name == "SGD" else {}))
    for _ in range(2):
        for param in params:
            param.grad = torch.ones(size)
        optimizer.step()
    assert optimizer.last_path == "fused"
    return optimizer, params


@pytest.mark.parametrize("size", [4, 100_000])
@each_optimizer
def test_an_optimizer_in_a_cycle_is_collected(name, size):
    optimizer, params = stepped(name, size)
    params[0].stepped_by = optimizer
    seen = [weakref.ref(thing) for thing in (optimizer, *params, *optimizer.state[params[0]].values())]
    del optimizer, params
    gc.collect()
    assert [ref() for ref in seen] == [None] * len(seen)


@pytest.mark.parametrize("size", [4, 100_000])
@each_optimizer
def test_tensors_go_when_they_are_let_go(name, size):
    optimizer, params = stepped(name, size)
    grads = [weakref.ref(param.grad) for param in params]
    states = [weakref.ref(value) for entry in optimizer.state.values() for value in entry.values()]
    optimizer.zero_grad()
    optimizer.state.clear()
    assert all(ref() is None for ref in grads + states)
    group = [weakref.ref(param) for param in params]
    optimizer.param_groups.clear()
    del params
    assert all(ref() is None for ref in group)


@each_optimizer
def test_a_step_within_a_step(name):
    """Making the state calls back into Python, where somebody may step on the same optimizer."""

    class Nested(getattr(optim, name)):
        depth = 0

        def _new_slot(self, slot, param):
            if self.depth == 0:
                self.depth = 1
                super().step()
            return super()._new_slot(slot, param)

    params = [torch.nn.Parameter(torch.ones(4))]
    params[0].grad = torch.ones(4)
    optimizer = Nested(params, lr=0.1, **({"momentum": 0.9} if name == "SGD" else {}))
    optimizer.step()
    assert optimizer.last_path == "fused"
    assert params[0].lt(1).all()


def test_a_plan_is_copied_empty():
    optimizer, _ = stepped("Adam", 4)
    for twin in (copy.deepcopy(optimizer._plan), pickle.loads(pickle.dumps(optimizer._plan))):
        assert type(twin) is type(optimizer._plan)
        assert twin is not optimizer._plan


def test_replaced_state_goes_at_once():
    """With code that runs at its end: before the step, which then sees what that code has done."""
    optimizer, params = stepped("Adam", 4)
    kept = [optimizer.state[param] for param in params]
    weakref.finalize(kept[0]["exp_avg"], optimizer.state.clear)
    for entry in kept:
        entry["exp_avg"] = torch.zeros(4)
    assert not optimizer.state
    del kept, entry
    for _ in range(3):
        optimizer.step()
    assert [int(entry["step"]) for entry in optimizer.state.values()] == [3, 3, 3]


@pytest.mark.parametrize("role", ["state", "grad"])
def test_another_tensor_at_the_address_of_a_large_one(role):
    """A plan knows a large tensor again by its address and its memory; a lazy negative has both."""
    param = torch.nn.Parameter(torch.ones(5000))
    param.grad = torch.ones(5000)
    optimizer = optim.SGD([param], lr=0.1, momentum=0.9)
    optimizer.step()
    optimizer.step()
    assert optimizer.last_path == "fused"
    entry = optimizer.state[param]
    value = entry["momentum_buffer"] if role == "state" else param.grad
    memory, address = value.detach(), id(value)
    if role == "state":
        entry["momentum_buffer"] = None
    else:
        param.grad = None
    del value
    negative = torch._neg_view(memory)
    if id(negative) != address:
        pytest.skip("the interpreter made the new tensor at another address")
    if role == "state":
        entry["momentum_buffer"] = negative
    else:
        param.grad = negative
    optimizer.step()
    assert "negative view" in optimizer.last_path
