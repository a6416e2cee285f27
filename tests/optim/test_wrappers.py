"""What an optimizer tells of its last step, through the wrappers that trainers put around it."""

import copy

import pytest
import torch

import cases
from torchpace import optim

each_optimizer = pytest.mark.parametrize("name", cases.OPTIMIZERS)


class Delegating:
    """As Lightning's and Fabric's: of the optimizer's class, without its attributes, which are looked up in it."""

    def __init__(self, optimizer):
        self._optimizer = optimizer
        self.__class__ = type(type(optimizer).__name__, (Delegating, type(optimizer)), {})

    def __getattr__(self, name):
        return getattr(self._optimizer, name)

    def step(self, closure=None):
        return self._optimizer.step(closure)


class Sharing(Delegating):
    """As Lightning's once was: with the attributes that the optimizer had when it was wrapped."""

    def __init__(self, optimizer):
        self.__dict__ = {key: value for key, value in vars(optimizer).items() if key != "step"}
        self._optimizer = optimizer
        self.__class__ = type(type(optimizer).__name__, (Sharing, type(optimizer)), {})


class Holding:
    """As accelerate's: of no class of ours."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def __getattr__(self, name):
        return getattr(self.__dict__["optimizer"], name)


def make(name, **options):
    param = torch.nn.Parameter(torch.ones(4))
    return getattr(optim, name)([param], **options), param


@pytest.mark.parametrize("wrapper", [Delegating, Sharing, Holding])
@each_optimizer
def test_the_last_step_is_told_through_a_wrapper(name, wrapper):
    optimizer, param = make(name, max_grad_norm=1.0)
    wrapped = wrapper(optimizer)
    assert (wrapped.last_path, wrapped.grad_norm, wrapped.last_step_skipped) == (None, None, False)
    for size in (1.0, 2.0):
        param.grad = torch.full((4,), size)
        wrapped.step()
        assert optimizer.last_path == wrapped.last_path == "fused"
        assert optimizer.grad_norm is not None
        assert wrapped.grad_norm.item() == optimizer.grad_norm.item() == 2 * size
        assert wrapped.last_step_skipped is False
    param.grad.fill_(float("inf"))
    optimizer.param_groups[0]["nonfinite_norm"] = "skip"
    wrapped.step()
    assert wrapped.last_step_skipped is True
    assert isinstance(wrapped, cases.torchs(name)) is (wrapper is not Holding)


@pytest.mark.parametrize("wrapper", [Delegating, Sharing, Holding])
@pytest.mark.parametrize("fused", [None, True])
@each_optimizer
def test_a_scaler_asks_the_optimizer_inside(name, fused, wrapper):
    """Whether the step unscales by itself; and the scheduler knows that the scaler was asked to step."""
    options = {"fused": fused} if name in cases.TAKE_FUSED else {}
    optimizer, param = make(name, **options)
    torchs = cases.torchs(name)([param], **options)
    wrapped, absent = wrapper(optimizer), object()
    for thing in (optimizer, wrapped):
        found = getattr(thing, "_step_supports_amp_scaling", absent)
        assert found is getattr(torchs, "_step_supports_amp_scaling", absent)
    if fused is None:
        assert optimizer._opt_called


@each_optimizer
def test_public_attributes_are_torchs_before_and_after_a_copy(name):
    """torch compares them in its own tests."""
    optimizer, param = make(name, max_grad_norm=1.0)
    theirs = cases.torchs(name)([torch.nn.Parameter(torch.ones(4))])

    def public(thing):
        return {key for key in vars(thing) if not key.startswith("_")}

    assert public(optimizer) == public(theirs)
    param.grad = torch.ones(4)
    optimizer.step()
    assert public(optimizer) == public(theirs)
    assert public(copy.deepcopy(optimizer)) == public(optimizer)


@each_optimizer
def test_what_the_last_step_did_is_read_only(name):
    optimizer, _ = make(name)
    for attribute in ("last_path", "grad_norm", "last_step_skipped"):
        with pytest.raises(AttributeError):
            setattr(optimizer, attribute, None)


def test_a_constructor_may_pass_ours_by():
    class Own(optim.SGD):
        def __init__(self, params):
            torch.optim.SGD.__init__(self, params, lr=0.5)

    param = torch.nn.Parameter(torch.ones(4))
    optimizer = Own([param])
    assert optimizer.last_path is None
    param.grad = torch.ones(4)
    optimizer.step()
    assert optimizer.last_path == "fused"
    assert param.tolist() == [0.5] * 4
