"""Steps that the norm of the gradients leaves out, against torch's steps behind an `if`; and what says so."""

import copy
from fractions import Fraction

import numpy as np
import pytest
import torch

import cases
from torchpace import optim

INF, NAN = float("inf"), float("nan")
OPTIONS = {"SGD": {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}} | {name: {"lr": 0.1} for name in cases.OPTIMIZERS[1:]}

each_optimizer = pytest.mark.parametrize("name", cases.OPTIMIZERS)
each_path = pytest.mark.parametrize("left", [False, True], ids=["fused", "torch"])


class Tagged(torch.Tensor):
    """Its memory may be elsewhere, so torch steps on it."""


def make(cls, left=False, **options):
    params = [torch.linspace(1, 2, 6).reshape(2, 3), torch.linspace(-1, 1, 5)]
    if left:
        params[0] = params[0].as_subclass(Tagged)
    params = [param.requires_grad_() for param in params]
    return cls(cases.two_groups(params), **options), params


def give(params, size):
    """Gradients whose norm is the size's absolute value."""
    for param in params:
        param.grad = torch.full(param.shape, size / 11**0.5)


def plain(tensor):
    return tensor.detach().as_subclass(torch.Tensor).clone()


def everything(optimizer, params):
    """All that a step may change."""
    state = {
        k: {name: plain(value) for name, value in optimizer.state[param].items()}
        for k, param in enumerate(params)
        if param in optimizer.state
    }
    groups = [repr({**group, "params": None}) for group in optimizer.param_groups]
    return groups, state, [plain(param) for param in params], [plain(param.grad) for param in params]


def assert_unchanged(optimizer, params, before):
    now = everything(optimizer, params)
    assert now[0] == before[0]
    assert now[1].keys() == before[1].keys()
    torch.testing.assert_close(now[1:], before[1:], rtol=0, atol=0, equal_nan=True)


# What is done.

SIZES = [20.0, 1.0, 3.0, -20.0, 2.0, INF, 0.0, NAN, -1.5, 2.5]


@each_path
@pytest.mark.parametrize(
    ("options", "most", "clip"),
    [
        ({"skip_grad_norm": 2.25}, 2.25, None),
        ({"skip_grad_norm": 2.25, "max_grad_norm": 1.25}, 2.25, 1.25),
        ({"skip_grad_norm": 2.25, "max_grad_norm": 10.0}, 2.25, 10.0),
        ({"skip_grad_norm": 2.25, "nonfinite_norm": "skip"}, 2.25, None),
        ({"skip_grad_norm": 1e-3}, 1e-3, None),
        ({"skip_grad_norm": INF}, INF, None),
        ({"nonfinite_norm": "skip"}, 3e38, None),
        ({"nonfinite_norm": "skip", "max_grad_norm": 1.25}, 3e38, 1.25),
        ({"nonfinite_norm": "skip", "clip_value": 1e6}, 3e38, None),
    ],
    ids=str,
)
@each_optimizer
def test_as_torch_behind_an_if(name, options, most, clip, left):
    ours, params = make(getattr(optim, name), left, **OPTIONS[name], **options)
    theirs, expected = make(cases.torchs(name), **OPTIONS[name], foreach=False)
    sizes = [size for size in SIZES if not (most == INF and abs(size) == INF)]
    for size in sizes:
        give(params, size)
        give(expected, size)
        before, skipped = everything(ours, params), not abs(size) <= most
        ours.step()
        assert ours.last_step_skipped is skipped
        torch.testing.assert_close(ours.grad_norm, torch.tensor(abs(size)), equal_nan=True)
        if skipped:
            assert ours.last_path.startswith("skipped: the norm of the gradients is ")
            assert_unchanged(ours, params, before)
            continue
        assert ours.last_path.startswith("torch: " if left else "fused")
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(expected, clip, foreach=False)
        theirs.step()
        torch.testing.assert_close([plain(param) for param in params], [plain(param) for param in expected])


def test_an_infinite_norm_is_propagated_where_it_is_asked_for():
    """A bound of infinity lets it pass, and clips nothing."""
    optimizer, params = make(optim.SGD, lr=0.5, skip_grad_norm=INF)
    give(params, 1.0)
    params[1].grad[0] = INF
    optimizer.step()
    assert optimizer.last_path == "fused"
    assert params[1].isinf().tolist() == [True, False, False, False, False]
    assert params[0].isfinite().all()


@each_path
@pytest.mark.parametrize("options", [{}, {"skip_grad_norm": 2.0}, {"clip_value": 1.0}], ids=str)
@pytest.mark.parametrize("value", [INF, -INF, NAN])
@each_optimizer
def test_raise_needs_no_clipping(name, value, options, left):
    optimizer, params = make(getattr(optim, name), left, nonfinite_norm="raise", **options)
    give(params, 1.0)
    params[0].grad[1, 1] = value
    before = everything(optimizer, params)
    with pytest.raises(RuntimeError, match=r'norm of the gradients is (nan|NaN|inf); .*nonfinite_norm="raise"'):
        optimizer.step()
    assert_unchanged(optimizer, params, before)
    assert (optimizer.last_path, optimizer.grad_norm, optimizer.last_step_skipped) == (None, None, False)
    give(params, 1.0)
    optimizer.step()
    assert optimizer.grad_norm.item() == pytest.approx(1.0)


@each_path
def test_the_norm_is_told_and_nothing_clipped(left):
    """`propagate` alone asks for nothing."""
    for mode, norm in (("skip", 100.0), ("raise", 100.0), ("propagate", None)):
        optimizer, params = make(optim.SGD, left, lr=1.0, nonfinite_norm=mode)
        before = [plain(param) for param in params]
        give(params, 100.0)
        optimizer.step()
        assert (None if norm is None else pytest.approx(norm)) == optimizer.grad_norm
        moved = [value - plain(param) for value, param in zip(before, params, strict=True)]
        rates = [group["lr"] for group in optimizer.param_groups]
        torch.testing.assert_close(moved, [lr * plain(param.grad) for lr, param in zip(rates, params, strict=True)])


@pytest.mark.parametrize("fused", [None, True])
def test_the_norm_that_skips_is_of_unscaled_gradients(fused):
    """Of a GradScaler that unscales in the step, and one that does before."""
    for size, skipped in ((1.0, False), (3.0, True)):
        optimizer, params = make(optim.Adam, lr=0.1, skip_grad_norm=2.0, fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        scaler.scale(torch.ones(()))
        give(params, size * 1024.0)
        scaler.step(optimizer)
        assert optimizer.grad_norm.item() == pytest.approx(size)
        assert optimizer.last_step_skipped is skipped
        scaler.update()


@each_path
def test_groups_that_differ(left):
    for option, values in {"skip_grad_norm": (1.0, 2.0), "nonfinite_norm": ("skip", "raise")}.items():
        for first, second in (values, (None, values[1]), (values[0], None)):
            params = make(optim.SGD, left)[1]
            given = [{} if value is None else {option: value} for value in (first, second)]
            groups = [{"params": [param]} | more for param, more in zip(params, given, strict=True)]
            optimizer = optim.SGD(groups, lr=0.5)
            give(params, 0.5)
            with pytest.raises(ValueError, match=rf'param_groups\[1\]: option "{option}" is .* one for all'):
                optimizer.step()
            params[0].grad = None
            optimizer.step()


# The option's values.


@pytest.mark.parametrize(
    "value", [0.0, 0, -1.0, NAN, "1", [1.0], {}, 1j, torch.ones(2), torch.zeros(()), np.float32(0)], ids=str
)
@each_optimizer
def test_a_threshold_out_of_range(name, value):
    with pytest.raises(ValueError, match=r"Invalid skip_grad_norm value: .*, expected None or a number > 0"):
        getattr(optim, name)([torch.nn.Parameter(torch.ones(1))], skip_grad_norm=value)
    optimizer = getattr(optim, name)([torch.nn.Parameter(torch.ones(1))])
    with pytest.raises(ValueError, match="Invalid skip_grad_norm value"):
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "skip_grad_norm": value})
    assert len(optimizer.param_groups) == 1


@each_path
@pytest.mark.parametrize("value", [0.0, -1.0, NAN, "1", [1.0], torch.ones(2)], ids=str)
def test_a_threshold_set_later_out_of_range(value, left):
    optimizer, params = make(optim.Adam, left, skip_grad_norm=5.0)
    give(params, 1.0)
    optimizer.step()
    for group in optimizer.param_groups:
        group["skip_grad_norm"] = value
    before = everything(optimizer, params)
    with pytest.raises((TypeError, ValueError), match=r"skip_grad_norm.*expected None or a number"):
        optimizer.step()
    assert_unchanged(optimizer, params, before)


@pytest.mark.parametrize("number", [2, np.float32(2), np.int64(2), Fraction(2), torch.tensor(2.0)], ids=type)
@pytest.mark.parametrize("option", ["max_grad_norm", "clip_value", "skip_grad_norm"])
def test_numbers_of_every_kind(option, number):
    optimizer, params = make(optim.SGD, lr=1.0, **{option: number})
    give(params, 10.0)
    before = params[0].detach().clone()
    for group in optimizer.param_groups:
        group[option] = number
    optimizer.step()
    moved = (before - params[0]).norm().item()
    each = 10.0 / 11**0.5
    expected = {"max_grad_norm": 2.0 * (6 / 11) ** 0.5, "clip_value": min(each, 2.0) * 6**0.5, "skip_grad_norm": 0.0}
    assert moved == pytest.approx(expected[option], rel=1e-5)


def test_the_options_are_in_the_groups_only_where_they_are_on():
    optimizer, _ = make(optim.Adam)
    assert "skip_grad_norm" not in optimizer.param_groups[0]
    optimizer, _ = make(optim.Adam, skip_grad_norm=3.0)
    assert [group["skip_grad_norm"] for group in optimizer.param_groups] == [3.0, 3.0]
    again, _ = make(optim.Adam, skip_grad_norm=5.0)
    again.load_state_dict(make(torch.optim.Adam)[0].state_dict())
    assert [group["skip_grad_norm"] for group in again.param_groups] == [5.0, 5.0]
    again.load_state_dict(optimizer.state_dict())
    assert [group["skip_grad_norm"] for group in again.param_groups] == [3.0, 3.0]


# Whether the last step was skipped.


def test_before_the_first_step_and_in_copies():
    optimizer, params = make(optim.Adam, skip_grad_norm=1.0)
    assert optimizer.last_step_skipped is False
    give(params, 10.0)
    optimizer.step()
    assert optimizer.last_step_skipped is True
    assert copy.deepcopy(optimizer).last_step_skipped is False
    with pytest.raises(AttributeError):
        optimizer.last_step_skipped = False


@pytest.mark.parametrize("fused", [None, False, True])
@pytest.mark.parametrize("value", [INF, NAN])
@each_optimizer
def test_steps_that_a_scaler_skips(name, value, fused):
    if name not in cases.TAKE_FUSED and fused:
        pytest.skip(f"torch's {name} has no fused=True")
    given = {"fused": fused} if name in cases.TAKE_FUSED else {}
    optimizer, params = make(getattr(optim, name), max_grad_norm=1.0, **given)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale(torch.ones(()))
    for size in (1.0, value, value, 1.0, value):
        give(params, size)
        before = everything(optimizer, params)
        scaler.step(optimizer)
        scaler.update()
        skipped = size != 1.0
        assert optimizer.last_step_skipped is skipped
        if skipped:
            assert optimizer.last_path == "skipped: the GradScaler found a gradient that is not finite"
            assert optimizer.grad_norm is None
            torch.testing.assert_close(everything(optimizer, params)[1:3], before[1:3], rtol=0, atol=0)
        else:
            assert optimizer.last_path == "fused"
    give(params, 1.0)
    optimizer.step()
    assert (optimizer.last_path, optimizer.last_step_skipped) == ("fused", False)


def test_a_schedule_that_waits_for_steps_that_are_taken():
    """What it is for."""
    optimizer, params = make(optim.SGD, lr=1.0, skip_grad_norm=2.0)
    scheduler = optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    for size in (1.0, 5.0, 1.0, 5.0, 5.0):
        give(params, size)
        optimizer.step()
        if not optimizer.last_step_skipped:
            scheduler.step()
    assert scheduler.get_last_lr()[0] == 0.25
