"""Tensors and options that do not belong together: an error that names the place, and nothing written."""

import copy

import pytest
import torch

from torchpace import _native, optim


def trained(cls=optim.Adam, named=False, **options):
    """Two parameters after one step, the second one to be tampered with."""
    params = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(4))]
    optimizer = cls([("first", params[0]), ("fc.weight", params[1])] if named else params, **options)
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer.step()
    assert optimizer.last_path == "fused"
    return optimizer, params


def assert_refused(optimizer, params, error, *words):
    values = [param.detach().clone() for param in params]
    state = copy.deepcopy(optimizer.state_dict()["state"])
    with pytest.raises(error) as info:
        optimizer.step()
    for word in words:
        assert word in str(info.value).replace("\\'", "'"), (word, str(info.value))
    assert all(torch.equal(param, value) for param, value in zip(params, values, strict=True))
    assert optimizer.last_path is None
    after = optimizer.state_dict()["state"]
    for index, entry in state.items():
        assert not isinstance(entry, dict) or entry.keys() == after[index].keys()
        for key, value in entry.items() if isinstance(entry, dict) else ():
            assert not isinstance(value, torch.Tensor) or torch.equal(value, after[index][key])


PLACE = "param_groups[0]['params'][1]"


@pytest.mark.parametrize(("named", "place"), [(False, PLACE), (True, f"{PLACE} (fc.weight)")])
def test_state_of_the_wrong_shape(named, place):
    optimizer, params = trained(named=named)
    optimizer.state[params[1]]["exp_avg_sq"] = torch.zeros(2, 2)
    assert_refused(optimizer, params, RuntimeError, place, "exp_avg_sq has shape [2, 2], expected [4]")


def test_gradient_of_the_wrong_shape():
    optimizer, params = trained()
    params[1].data = torch.ones(5)
    params[1].grad = None
    params[1].grad = torch.ones(5)
    params[1].data = torch.ones(4)
    assert params[1].grad.shape == (5,)
    assert_refused(optimizer, params, RuntimeError, PLACE, "grad has shape [5], expected [4]")


@pytest.mark.parametrize("offset", [0, 3])
def test_freed_storage(offset):
    """torch writes through the null pointer, or the view's offset from it, and the process dies."""
    optimizer, params = trained()
    params[1].grad = torch.ones(4 + offset)[offset:]
    params[1].grad.untyped_storage().resize_(0)
    assert_refused(optimizer, params, RuntimeError, PLACE, "grad has 4 elements and its storage is empty")


def test_one_state_entry_missing():
    optimizer, params = trained()
    del optimizer.state[params[1]]["exp_avg"]
    assert_refused(optimizer, params, KeyError, PLACE, 'no "exp_avg"', "exp_avg_sq")


@pytest.mark.parametrize("value", [3, "zero", [1.0], 1.0])
def test_state_entry_that_is_no_tensor(value):
    optimizer, params = trained()
    optimizer.state[params[1]]["exp_avg"] = value
    assert_refused(optimizer, params, TypeError, PLACE, '"exp_avg"', type(value).__name__, "expected a tensor")


def test_state_that_is_no_dict():
    optimizer, params = trained()
    optimizer.state[params[1]] = 3
    assert_refused(optimizer, params, TypeError, PLACE, "3 (of type int)", "expected a dict")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("lr", "fast", "a number"),
        ("lr", None, "a number"),
        ("lr", torch.ones(2), "a number"),
        ("betas", 0.9, "two numbers"),
        ("betas", (0.9,), "two numbers"),
        ("betas", (0.9, "x"), "two numbers"),
        ("eps", [], "a number"),
        ("weight_decay", {}, "a number"),
        ("amsgrad", torch.ones(2), "True or False"),
    ],
    ids=str,
)
def test_option_of_the_wrong_type(name, value, expected):
    optimizer, params = trained()
    optimizer.param_groups[0][name] = value
    assert_refused(optimizer, params, TypeError, "param_groups[0]", f'"{name}"', f"expected {expected}")


def test_option_removed():
    optimizer, params = trained()
    del optimizer.param_groups[0]["eps"]
    assert_refused(optimizer, params, KeyError, "param_groups[0]", '"eps" is missing')


def test_an_error_in_making_state_leaves_none():
    class Failing(optim.Adam):
        made = 0

        def _new_slot(self, name, param):
            self.made += 1
            if self.made == 3:
                raise MemoryError("no room")
            return super()._new_slot(name, param)

    params = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(4))]
    optimizer = Failing(params)
    for param in params:
        param.grad = torch.ones_like(param)
    with pytest.raises(MemoryError):
        optimizer.step()
    assert all(not entry for entry in optimizer.state.values())
    optimizer.step()
    assert [int(entry["step"]) for entry in optimizer.state.values()] == [1, 1]


def good():
    param = torch.nn.Parameter(torch.ones(2))
    param.grad = torch.ones(2)
    optimizer = optim.SGD([param], momentum=0.9)
    return [optimizer.param_groups, optimizer.state, optimizer._new_state, 1, None, None]


@pytest.mark.parametrize(
    "value", [None, 1, "x", b"x", [], [1], [{}], {}, object(), -1, 1 << 80, torch.ones(2)], ids=repr
)
@pytest.mark.parametrize("position", range(6))
def test_the_native_entry_survives_anything(position, value):
    arguments = good()
    arguments[position] = value
    try:
        path, norm = _native.Plan("sgd").step(*arguments)
    except (TypeError, ValueError, KeyError, OverflowError, AttributeError):
        return
    assert path == "fused" or path.startswith("torch: ")
    assert norm is None or isinstance(norm, float)


@pytest.mark.parametrize("rule", [None, 1, b"sgd", [], torch.ones(2)], ids=repr)
def test_a_rule_that_is_no_name(rule):
    with pytest.raises(TypeError):
        _native.Plan(rule)


@pytest.mark.parametrize("member", [None, 1, "x", [], object()])
def test_a_member_that_is_no_parameter(member):
    optimizer, params = trained()
    optimizer.param_groups[0]["params"].append(member)
    assert_refused(optimizer, params, (AttributeError, TypeError))


def test_unknown_rule():
    with pytest.raises(ValueError, match='"no_such_rule", expected one of \\["ad'):
        _native.Plan("no_such_rule")
