"""`zero_grad` does what torch's does, in one call."""

import copy
import pickle
import weakref

import pytest
import torch

import cases
from cases import OPTIMIZERS
from torchpace import optim

each_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


class Tagged(torch.Tensor):
    """A subclass, whose gradient is asked for as an attribute."""

    log: list = []  # noqa: RUF012 of the class

    @property
    def grad(self):
        self.log.append("read")
        return torch.Tensor.grad.__get__(self)

    @grad.setter
    def grad(self, value):
        self.log.append(value)
        torch.Tensor.grad.__set__(self, value)


def params():
    made = [torch.nn.Parameter(torch.ones(3)) for _ in range(40)]
    made[3] = torch.ones(3).as_subclass(Tagged).requires_grad_()
    made[7] = torch.nn.Parameter(torch.empty(0, 2))
    made[9] = torch.nn.Parameter(torch.tensor(1.0))
    made[11] = torch.nn.Parameter(torch.ones(2, dtype=torch.complex64))
    for index, param in enumerate(made):
        if index % 4 != 2:
            param.grad = torch.ones_like(param)
    made[5].grad = torch.sparse_coo_tensor([[0]], [1.0], (3,), check_invariants=True)
    return made


@each_optimizer
def test_all_gradients_go(name):
    made = params()
    held = made[0].grad
    gone = weakref.ref(made[1].grad)
    optimizer = getattr(optim, name)([{"params": made[:20]}, {"params": made[20:]}], lr=0.1)
    Tagged.log.clear()
    assert optimizer.zero_grad() is None
    assert Tagged.log == ["read", None]
    assert all(param.grad is None for param in made)
    assert gone() is None
    assert torch.equal(held, torch.ones(3))
    optimizer.zero_grad()
    assert all(param.grad is None for param in made)


@pytest.mark.parametrize("foreach", [None, True])
@each_optimizer
def test_zeros_instead(name, foreach):
    made = params()
    with torch.enable_grad():
        source = torch.ones(3, requires_grad=True)
        made[4].grad = source * 2
    kept = [param.grad for param in made]
    optimizer = getattr(optim, name)(made, lr=0.1, foreach=foreach)
    optimizer.zero_grad(set_to_none=False)
    for param, grad in zip(made, kept, strict=True):
        assert param.grad is grad or type(param) is Tagged
        if grad is not None:
            assert grad.to_dense().eq(0).all()
            assert not grad.requires_grad


def test_groups_of_any_kind():
    made = params()
    optimizer = optim.SGD(made, lr=0.1)
    optimizer.param_groups = ({"params": part} for part in (tuple(made[:5]), iter(made[5:20]), made[20:]))
    optimizer.zero_grad()
    assert all(param.grad is None for param in made)
    optimizer.param_groups = [{"lr": 0.1}]
    with pytest.raises(KeyError, match="params"):
        optimizer.zero_grad()
    optimizer.param_groups = [{"params": [3]}]
    with pytest.raises(AttributeError, match="grad"):
        optimizer.zero_grad()


def test_a_gradient_that_goes_may_run_code():
    """That changes the list meanwhile, and frees what was in it."""
    made = [torch.nn.Parameter(torch.ones(3)) for _ in range(30)]
    for param in made:
        param.grad = torch.ones(3)
    optimizer = optim.SGD(made, lr=0.1)
    listed = optimizer.param_groups[0]["params"]

    def shrink(_):
        del listed[4:]

    watch = weakref.finalize(made[2].grad, shrink, None)
    del made[4:]
    optimizer.zero_grad()
    assert not watch.alive
    assert len(listed) == 4
    assert all(param.grad is None for param in listed)


def test_an_error_of_a_subclass_passes():
    class Stubborn(torch.Tensor):
        @property
        def grad(self):
            raise RuntimeError("no gradient here")

    param = torch.ones(3).as_subclass(Stubborn).requires_grad_()
    optimizer = optim.SGD([param], lr=0.1)
    with pytest.raises(RuntimeError, match="no gradient here"):
        optimizer.zero_grad()


@pytest.mark.filterwarnings("ignore:.*Profiler clears events")  # torch 2.10 says so once
@each_optimizer
def test_the_profiler_sees_it_under_torchs_name(name):
    param = torch.nn.Parameter(torch.ones(3))
    for optimizer in (getattr(optim, name)([param], lr=0.1), cases.torchs(name)([param], lr=0.1)):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
            optimizer.zero_grad()
        assert [event.name for event in profiler.events()] == [f"Optimizer.zero_grad#{name}.zero_grad"]


def test_after_pickling_and_copying():
    param = torch.nn.Parameter(torch.ones(3))
    optimizer = optim.Adam([param], lr=0.1)
    for other in (pickle.loads(pickle.dumps(optimizer)), copy.deepcopy(optimizer)):
        (own,) = other.param_groups[0]["params"]
        own.grad = torch.ones(3)
        other.__dict__.pop("_zero_grad_profile_name", None)
        other.zero_grad()
        assert own.grad is None


def test_modes_of_torch_see_it():
    seen = []

    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            seen.append(getattr(function, "__name__", str(function)))
            return function(*args, **(kwargs or {}))

    def by(module):
        param = torch.nn.Parameter(torch.ones(3))
        param.grad = torch.ones(3)
        optimizer = module.SGD([param], lr=0.1)
        seen.clear()
        with Mode():
            optimizer.zero_grad()
        assert param.grad is None
        return list(seen)

    assert by(optim) == by(torch.optim)


def test_compiled():
    param = torch.nn.Parameter(torch.ones(3))
    optimizer = optim.SGD([param], lr=0.5)

    @torch.compile(backend="eager")
    def train():
        optimizer.zero_grad()
        (param * 2).sum().backward()

    for _ in range(2):
        train()
        assert param.grad.tolist() == [2.0] * 3


def test_an_override_is_called():
    class Counting(optim.SGD):
        calls = 0

        def zero_grad(self, set_to_none=True):
            self.calls += 1
            super().zero_grad(set_to_none)

    param = torch.nn.Parameter(torch.ones(3))
    param.grad = torch.ones(3)
    optimizer = Counting([param], lr=0.1)
    optimizer.zero_grad()
    assert (optimizer.calls, param.grad) == (1, None)
