"""State that is one number of a parameter, beside its step count: NAdam's `mu_product`, ASGD's `eta` and `mu`,
`weight_sum` and `lr_max` of the schedule-free."""

import copy
import io
import pickle
import re
from functools import partial

import pytest
import torch

import cases
from torchpace import optim

SCALARS = {
    "NAdam": ["mu_product"],
    "ASGD": ["eta", "mu"],
    "ScheduleFreeAdamW": ["weight_sum", "lr_max"],
    "ScheduleFreeSGD": ["weight_sum", "lr_max"],
}
OPTIONS = {
    "NAdam": {"momentum_decay": 0.1},
    "ASGD": {"lambd": 0.1, "t0": 1.0},
    "ScheduleFreeAdamW": {"warmup_steps": 3},
    "ScheduleFreeSGD": {"r": 0.5},
}
INF, NAN = float("inf"), float("nan")

each_optimizer = pytest.mark.parametrize("name", SCALARS)
each_scalar = pytest.mark.parametrize(("name", "scalar"), [(name, one) for name in SCALARS for one in SCALARS[name]])


def make(name, library=optim, dtype=torch.float32, steps=2, **options):
    params = [torch.nn.Parameter(torch.linspace(1, 2, size).to(dtype)) for size in (4, 3)]
    options = {"lr": 0.1, **OPTIONS[name], **options}
    cls = getattr(optim, name) if library is optim else cases.torchs(name)
    optimizer = cls(params, **options)
    step(optimizer, steps)
    return optimizer, params


def step(optimizer, times=1, size=1.0):
    for _ in range(times):
        for group in optimizer.param_groups:
            for param in group["params"]:
                param.grad = torch.full_like(param, size)
        optimizer.step()


def everything(optimizer, params):
    return copy.deepcopy((optimizer.state_dict()["state"], params))


def test_these_are_all():
    assert {
        name: list(getattr(optim, name)._scalars) for name in cases.OPTIMIZERS if getattr(optim, name)._scalars
    } == (SCALARS)


@pytest.mark.parametrize("default", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64], ids=str)
@each_optimizer
@pytest.mark.filterwarnings("ignore:Complex modules:UserWarning")
def test_made_and_changed_as_in_torch(name, dtype, default, request):
    request.addfinalizer(partial(torch.set_default_dtype, torch.get_default_dtype()))
    torch.set_default_dtype(default)
    ours, params = make(name, dtype=dtype, steps=0)
    theirs, others = make(name, torch.optim, dtype=dtype, steps=0, foreach=False)
    for _ in range(5):
        step(ours)
        step(theirs)
        assert ours.last_path == "fused"
        for param, other in zip(params, others, strict=True):
            assert list(ours.state[param]) == list(theirs.state[other])
            for scalar in ("step", *SCALARS[name]):
                own, expected = ours.state[param][scalar], theirs.state[other][scalar]
                assert (own.dtype, own.shape, own.device) == (expected.dtype, expected.shape, expected.device)
                assert own.item() == expected.item(), scalar


@each_optimizer
def test_a_tensor_as_learning_rate(name):
    for lr in (torch.tensor(0.1), torch.tensor([0.1], dtype=torch.float64), torch.tensor(0.1, requires_grad=True)):
        ours, params = make(name, lr=lr)
        _, expected = make(name, torch.optim, lr=lr.detach(), foreach=False)
        assert ours.last_path == "fused"
        torch.testing.assert_close(params, expected)
        assert not any(value.requires_grad for value in ours.state[params[0]].values())


@each_scalar
def test_it_matters(name, scalar):
    """A step depends on the number that is there, also where it was changed or replaced between two steps."""
    for change in ("in place", "replaced", "moved", "wide"):
        ours, params = make(name)
        theirs, others = make(name, torch.optim, foreach=False)
        for optimizer, tensors in ((ours, params), (theirs, others)):
            for value, param in zip((0.25, 0.5), tensors, strict=True):
                entries = optimizer.state[param]
                if change == "in place":
                    entries[scalar].fill_(value)
                elif change == "replaced":
                    entries[scalar] = torch.tensor(value)
                elif change == "moved":
                    entries[scalar].data = torch.tensor(value)
                else:
                    entries[scalar] = torch.tensor(value, dtype=torch.float64)
            step(optimizer)
        assert ours.last_path == "fused"
        torch.testing.assert_close(params, others)
        for param, other in zip(params, others, strict=True):
            torch.testing.assert_close(ours.state[param], theirs.state[other])
        plain, unchanged = make(name, steps=3)
        # mu acts on the average alone.
        found, other = ours.state[params[0]], plain.state[unchanged[0]]
        assert not torch.equal(*((found["ax"], other["ax"]) if scalar == "mu" else (params[0], unchanged[0])))


@each_scalar
def test_a_step_tells_autograd_that_it_changed(name, scalar):
    ours, params = make(name)
    entry = ours.state[params[0]][scalar]
    version = entry._version
    step(ours)
    assert entry._version > version


@each_scalar
def test_a_step_that_is_skipped_leaves_it(name, scalar):
    for options, size in (({"nonfinite_norm": "skip"}, INF), ({"skip_grad_norm": 3.0}, 5.0)):
        ours, params = make(name, **options)
        before = everything(ours, params)
        step(ours, size=size)
        assert ours.last_step_skipped
        torch.testing.assert_close(everything(ours, params), before, rtol=0, atol=0)
    ours, params = make(name)
    before = everything(ours, params)
    ours.found_inf, ours.grad_scale = torch.tensor(1.0), torch.tensor(2.0)
    step(ours)
    assert ours.last_step_skipped
    torch.testing.assert_close(everything(ours, params), before, rtol=0, atol=0)
    assert scalar in ours.state[params[0]]


@pytest.mark.parametrize("value", [INF, -INF, NAN])
@each_scalar
def test_one_that_is_not_finite(name, scalar, value):
    """torch writes what comes of it into the parameters."""
    ours, params = make(name)
    ours.state[params[1]][scalar].fill_(value)
    before = everything(ours, params)
    message = (
        re.escape(f"param_groups[0]['params'][1]: state \"{scalar}\" is ") + r"(-?inf|NaN) before step 3, expected"
    )
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            step(ours)
        torch.testing.assert_close(everything(ours, params), before, rtol=0, atol=0, equal_nan=True)


@each_scalar
def test_what_is_wrong(name, scalar):
    ours, params = make(name)
    good = ours.state[params[1]][scalar]
    before = everything(ours, params)
    del ours.state[params[1]][scalar]
    with pytest.raises(KeyError, match=f'state has no \\\\"{scalar}\\\\"|state has no "{scalar}"'):
        step(ours)
    ours.state[params[1]][scalar] = 0.5
    with pytest.raises(TypeError, match=f'state "{scalar}" is 0.5 .of type float., expected a tensor'):
        step(ours)
    ours.state[params[1]][scalar] = good
    torch.testing.assert_close(everything(ours, params)[0][0], before[0][0], rtol=0, atol=0)
    step(ours)
    assert ours.last_path == "fused"


@pytest.mark.parametrize("shape", [(3,), (0,), (2, 1)], ids=str)
@each_scalar
def test_one_that_is_not_one_number(name, scalar, shape):
    """torch finds out when it has written to others."""
    ours, params = make(name)
    ours.state[params[1]][scalar] = torch.full(shape, 0.5)
    before = everything(ours, params)
    message = re.escape(f"param_groups[0]['params'][1]: {scalar} has shape {list(shape)}, expected []")
    with pytest.raises(RuntimeError, match=message):
        step(ours)
    torch.testing.assert_close(everything(ours, params), before, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int64], ids=str)
@each_scalar
def test_a_narrow_one_goes_on_wide(name, scalar, dtype):
    ours, params = make(name)
    for param in params:
        ours.state[param][scalar] = ours.state[param][scalar].to(dtype)
    step(ours)
    assert ours.last_path == "fused"
    assert {ours.state[param][scalar].dtype for param in params} == {torch.float32}


@pytest.mark.parametrize("way", ["state_dict", "pickle", "deepcopy"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("first", ["ours", "torchs"])
@each_optimizer
def test_a_resumed_run_is_the_run(name, first, dtype, way):
    """Bit for bit, whatever the parameter's type."""
    library = optim if first == "ours" else torch.optim
    saved, params = make(name, library, dtype=dtype, steps=3)
    if way == "state_dict":
        file = io.BytesIO()
        torch.save(saved.state_dict(), file)
        file.seek(0)
        again, moved = make(name, dtype=dtype, steps=0)
        again.load_state_dict(torch.load(file, weights_only=True))
        for param, other in zip(moved, params, strict=True):
            param.data.copy_(other.data)
    elif first == "torchs":
        pytest.skip("a pickle is of one class")
    else:
        again = pickle.loads(pickle.dumps(saved)) if way == "pickle" else copy.deepcopy(saved)
        moved = again.param_groups[0]["params"]
    for param, other in zip(moved, params, strict=True):
        for key, value in saved.state[other].items():
            assert again.state[param][key].dtype == value.dtype, key
            assert torch.equal(again.state[param][key], value), key
    run, expected = make(name, dtype=dtype, steps=3)
    if first == "ours":
        step(run, 3)
        step(again, 3)
        assert all(torch.equal(left, right) for left, right in zip(moved, expected, strict=True))


@each_optimizer
def test_what_a_hook_changes_stays_changed(name):
    saved, _ = make(name)
    again, params = make(name, steps=0)

    def half(optimizer, state_dict):
        state_dict = copy.deepcopy(state_dict)
        for entries in state_dict["state"].values():
            entries[SCALARS[name][0]].fill_(0.125)
        return state_dict

    again.register_load_state_dict_pre_hook(half)
    again.load_state_dict(saved.state_dict())
    assert [again.state[param][SCALARS[name][0]].item() for param in params] == [0.125, 0.125]


@each_optimizer
def test_numbers_that_are_no_tensors_in_an_old_checkpoint(name):
    saved, params = make(name)
    state_dict = copy.deepcopy(saved.state_dict())
    for entries in state_dict["state"].values():
        for key in ("step", *SCALARS[name]):
            entries[key] = entries[key].item()
    again, moved = make(name, steps=0)
    again.load_state_dict(state_dict)
    for param, other in zip(moved, params, strict=True):
        param.data.copy_(other.data)
        torch.testing.assert_close(again.state[param], saved.state[other], rtol=0, atol=0)
    step(again)
    step(saved)
    assert again.last_path == "fused"
    assert torch.equal(moved[0], params[0])


def test_parameters_at_unlike_numbers_step_each_by_its_own():
    """One that came late, in one group with another."""
    for name in SCALARS:
        params = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
        alone = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
        both = getattr(optim, name)(params, lr=0.1, **OPTIONS[name])
        each = [getattr(optim, name)([param], lr=0.1, **OPTIONS[name]) for param in alone]
        for turn in range(5):
            for at in range(2):
                params[at].grad = alone[at].grad = torch.ones(3) if turn >= 2 * at else None
                each[at].step()
            both.step()
        assert all(torch.equal(left, right) for left, right in zip(params, alone, strict=True))
        assert not torch.equal(params[0], params[1])
