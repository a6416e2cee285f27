"""What a subclass, or an instance, overrides of what torch's `step` calls is called."""

import inspect
from types import MethodType

import pytest
import torch

import cases
from cases import OPTIMIZERS
from torchpace import optim


def doubling(cls):
    """A class that doubles all gradients where torch's `step` asks for them."""

    class Doubling(cls):
        def _init_group(self, group, *lists):
            for param in group["params"]:
                if param.grad is not None:
                    param.grad = param.grad * 2
            return super()._init_group(group, *lists)

    return Doubling


def stepped(cls, change=lambda optimizer: None):
    params = [torch.nn.Parameter(torch.linspace(1, 2, 5)), torch.nn.Parameter(torch.ones(2, 3))]
    decay = {"weight_decay": 0.1} if "weight_decay" in inspect.signature(cls).parameters else {}
    optimizer = cls(params, lr=0.1, **decay)
    change(optimizer)
    for step in range(3):
        for param in params:
            param.grad = torch.full_like(param, 0.5 + step)
        optimizer.step()
    return params, optimizer


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_subclass_that_overrides_it(name):
    params, optimizer = stepped(doubling(getattr(optim, name)))
    expected, _ = stepped(doubling(cases.torchs(name)))
    assert optimizer.last_path == "torch: _init_group is overridden"
    torch.testing.assert_close(params, expected)
    plain, _ = stepped(cases.torchs(name))
    if name == "SGD":  # the others scale their gradients anyway
        assert not torch.equal(params[0], plain[0])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_instance_that_overrides_it(name):
    calls = []

    def change(optimizer):
        inner = optimizer._init_group

        def init_group(self, group, *lists):
            calls.append(len(lists))
            return inner(group, *lists)

        optimizer._init_group = MethodType(init_group, optimizer)

    params, optimizer = stepped(getattr(optim, name), change)
    assert optimizer.last_path == "torch: _init_group is overridden"
    assert len(calls) == 3
    torch.testing.assert_close(params, stepped(cases.torchs(name))[0])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_subclass_that_overrides_other_things_is_stepped_on_here(name):
    class Named(getattr(optim, name)):
        def state_dict(self):
            return super().state_dict() | {"name": "mine"}

    assert stepped(Named)[1].last_path == "fused"


def test_what_torchs_compiler_does_to_its_classes_is_no_override(monkeypatch):
    """It wraps the method of every class of torch's, once it is imported."""
    plain = torch.optim.Adam._init_group
    monkeypatch.setattr(torch.optim.Adam, "_init_group", lambda self, *arguments: plain(self, *arguments))
    param = torch.nn.Parameter(torch.ones(3))
    optimizer = optim.Adam([param])
    param.grad = torch.ones(3)
    optimizer.step()
    assert optimizer.last_path == "fused"
