"""AdEMAMix by hand: its warmups, what it is without its slow average, and the states and arguments that it takes."""

import copy
import math
import pickle
import re

import numpy as np
import pytest
import torch

from torchpace import optim
from torchpace.optim import _torch_ademamix

each_class = pytest.mark.parametrize("cls", [optim.AdEMAMix, _torch_ademamix.AdEMAMix], ids=["fused", "by torch"])
NAMES = ["step", "exp_avg_fast", "exp_avg_slow", "exp_avg_sq"]


def leaves(dtype=torch.float64):
    return [torch.nn.Parameter(torch.linspace(1, 2, size, dtype=dtype)) for size in (60, 7)]


def train(optimizer, params, seeds):
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        for param in params:
            param.grad = torch.randn(param.shape, generator=generator, dtype=torch.float64).to(param.dtype)
        optimizer.step()
    return params


def shares(cls, steps, **options):
    """What each step added of the gradient to the slow average: 1 - beta3."""
    param = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = cls([param], **options)
    for _ in range(steps):
        param.grad = torch.ones(1, dtype=torch.float64)
        before = optimizer.state[param]["exp_avg_slow"].item() if optimizer.state[param] else 0.0
        optimizer.step()
        yield (optimizer.state[param]["exp_avg_slow"].item() - before) / (1 - before)


def half_life(beta):
    return math.log(0.5) / math.log(beta)


@each_class
def test_half_lives_rise_linearly(cls):
    """From 1, that of 1/2, to 5, that of 2^(-1/5), in four steps: 2, 3, 4 and 5."""
    found = [half_life(1 - share) for share in shares(cls, 6, betas=(0.5, 0.9, 0.5 ** (1 / 5)), beta3_warmup=4)]
    assert found == pytest.approx([2, 3, 4, 5, 5, 5], rel=1e-6)


@each_class
def test_half_way_between_the_usual_betas(cls):
    """(6.58 + 6931.1) / 2."""
    found = list(shares(cls, 50, beta3_warmup=100))[-1]
    assert half_life(1 - found) == pytest.approx(3468.86, rel=1e-3)
    assert 1 - found == pytest.approx(0.99980, abs=5e-6)


@each_class
@pytest.mark.parametrize("warmup", [None, 0, 0.0, 1, 0.5])
def test_no_warmup(cls, warmup):
    assert list(shares(cls, 3, beta3_warmup=warmup)) == pytest.approx([1e-4] * 3, rel=1e-9)


@each_class
def test_alpha_rises_linearly(cls):
    """Along a constant gradient: the fast average is that once it is corrected, and the slow one at beta 0."""
    param = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = cls([param], lr=1.0, betas=(0.9, 0.999, 0.0), alpha=8.0, alpha_warmup=4, eps=0.0)
    lengths = []
    for _ in range(6):
        before = param.item()
        param.grad = torch.full((1,), 3.0, dtype=torch.float64)
        optimizer.step()
        lengths.append(before - param.item())
    assert lengths == pytest.approx([3, 5, 7, 9, 9, 9], rel=1e-9)


@each_class
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_without_its_slow_average_it_is_adamw(cls, dtype):
    ours, theirs = leaves(dtype), leaves(dtype)
    optimizer = cls(ours, lr=0.01, alpha=0.0, weight_decay=0.1)
    train(optimizer, ours, range(20))
    other = torch.optim.AdamW(theirs, lr=0.01, weight_decay=0.1, foreach=False)
    train(other, theirs, range(20))
    near = {"rtol": 1e-12, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(ours, theirs, **near)
    for param, twin in zip(ours, theirs, strict=True):
        torch.testing.assert_close(optimizer.state[param]["exp_avg_fast"], other.state[twin]["exp_avg"], **near)
        torch.testing.assert_close(optimizer.state[param]["exp_avg_sq"], other.state[twin]["exp_avg_sq"], **near)


def test_the_step_is_fused():
    for options in ({}, {"beta3_warmup": 5, "alpha_warmup": 3}, {"betas": (0.0, 0.9, 0.0)}):
        params = leaves()
        optimizer = optim.AdEMAMix(params, **options)
        train(optimizer, params, range(3))
        assert optimizer.last_path == "fused"
        expected = leaves()
        train(_torch_ademamix.AdEMAMix(expected, **options), expected, range(3))
        torch.testing.assert_close(params, expected, rtol=1e-12, atol=1e-12)


@each_class
def test_state(cls):
    params = leaves(torch.bfloat16)
    optimizer = cls(params)
    train(optimizer, params, range(2))
    for param in params:
        state = optimizer.state[param]
        assert list(state) == NAMES
        assert (state["step"].dtype, state["step"].shape, state["step"].item()) == (torch.float32, (), 2)
        assert all(state[name].dtype == param.dtype and state[name].shape == param.shape for name in NAMES[1:])


@each_class
def test_a_checkpoint_of_the_authors(cls):
    """Its counts are Python's, and it has fewer options."""
    params = leaves()
    optimizer = cls(params, weight_decay=0.1, beta3_warmup=20, alpha_warmup=20)
    train(optimizer, params, range(5))
    state_dict = copy.deepcopy(optimizer.state_dict())
    for state in state_dict["state"].values():
        state["step"] = int(state["step"])
    known = ("lr", "betas", "eps", "alpha", "beta3_warmup", "alpha_warmup", "weight_decay", "params")
    state_dict["param_groups"] = [{name: group[name] for name in known} for group in state_dict["param_groups"]]
    twins = [torch.nn.Parameter(param.detach().clone()) for param in params]
    again = cls(twins)
    again.load_state_dict(state_dict)
    assert {state["step"].dtype for state in again.state.values()} == {torch.float32}
    assert {state["step"].device.type for state in again.state.values()} == {"cpu"}
    torch.testing.assert_close(
        train(again, twins, range(5, 9)), train(optimizer, params, range(5, 9)), rtol=1e-12, atol=0
    )
    assert pickle.loads(pickle.dumps(again)).state_dict()["param_groups"] == again.state_dict()["param_groups"]


@each_class
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "Invalid learning rate: -1.0"),
        ({"lr": torch.ones(2)}, "Tensor lr must be 1-element"),
        ({"betas": (1.0, 0.9, 0.9)}, "Invalid beta parameter at index 0: 1.0"),
        ({"betas": (0.9, -0.1, 0.9)}, "Invalid beta parameter at index 1: -0.1"),
        ({"betas": (0.9, 0.9, 1.0)}, "Invalid beta parameter at index 2: 1.0"),
        ({"betas": (0.9, 0.999)}, "Invalid betas: (0.9, 0.999), expected three numbers"),
        ({"betas": [0.9] * 4}, "Invalid betas: [0.9, 0.9, 0.9, 0.9], expected three numbers"),
        ({"betas": 0.9}, "Invalid betas: 0.9, expected three numbers"),
        ({"alpha": -1.0}, "Invalid alpha value: -1.0"),
        ({"alpha": float("nan")}, "Invalid alpha value: nan"),
        ({"beta3_warmup": -1}, "Invalid beta3_warmup value: -1"),
        ({"alpha_warmup": float("nan")}, "Invalid alpha_warmup value: nan"),
        ({"eps": -1.0}, "Invalid epsilon value: -1.0"),
        ({"weight_decay": -1.0}, "Invalid weight_decay value: -1.0"),
    ],
    ids=str,
)
def test_what_is_out_of_its_range(cls, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        cls(leaves(), **options)


@each_class
@pytest.mark.parametrize("largest", [1 - 1e-7, 1 - 1e-8, math.nextafter(1, 0)])
def test_warmup_to_a_beta_next_to_one(cls, largest):
    """Half-lives of more than 10^6 steps, of which one step takes a share of 1/4."""
    found = list(shares(cls, 5, betas=(0.5, 0.9, largest), beta3_warmup=4))
    assert all(0 < share < 1e-6 for share in found[:3])
    assert found[3:] == pytest.approx([1 - largest] * 2, rel=1e-6, abs=1e-15)


@pytest.mark.parametrize("value", ["1", b"1", [], object(), 1j, np.ones(2), torch.ones(2), type], ids=repr)
@pytest.mark.parametrize("option", ["alpha", "beta3_warmup", "alpha_warmup", "eps", "betas"])
def test_what_is_no_number_is_named(option, value):
    given = (0.9, 0.9, value) if option == "betas" else value
    with pytest.raises((TypeError, ValueError, RuntimeError)) as caught:
        optim.AdEMAMix(leaves(), **{option: given})
    assert re.search(rf"\b{option}\b", str(caught.value)), str(caught.value)


def test_betas_of_any_type():
    for betas in ([0.5, 0.25, 0.75], (np.float32(0.5), np.float64(0.25), np.array(0.75))):
        assert [float(beta) for beta in optim.AdEMAMix(leaves(), betas=betas).defaults["betas"]] == [0.5, 0.25, 0.75]
