"""Rules that torch lacks, against those of timm."""

import copy

import pytest
import torch
from timm.optim import Lion

from torchpace import optim


def train(optimizer, params, seeds):
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        for param in params:
            param.grad = torch.randn(param.shape, generator=generator, dtype=torch.float64)
        optimizer.step()


def leaves():
    return [torch.nn.Parameter(torch.linspace(1, 2, 60, dtype=torch.float64)[:size]) for size in (60, 7)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr": 0.01, "betas": (0.95, 0.98)},
        {"lr": 0.01, "weight_decay": 0.1},
        {"betas": (0.3, 0.4), "maximize": True},
    ],
    ids=str,
)
def test_lion(options):
    """And a run goes on from either's checkpoint in the other."""
    theirs, ours = leaves(), leaves()
    old, new = Lion(theirs, **options, foreach=False), optim.Lion(ours, **options)
    train(old, theirs, range(20))
    train(new, ours, range(20))
    assert new.last_path == "fused"
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    for param, other in zip(ours, theirs, strict=True):
        assert new.state[param].keys() == old.state[other].keys()
        torch.testing.assert_close(new.state[param]["exp_avg"], old.state[other]["exp_avg"], rtol=1e-12, atol=1e-12)
    states = [copy.deepcopy(optimizer.state_dict()) for optimizer in (old, new)]
    new.load_state_dict(states[0])
    train(old, theirs, range(20, 25))
    train(new, ours, range(20, 25))
    assert new.last_path == "fused"
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    again = leaves()
    optimizer = Lion(again)
    optimizer.load_state_dict(states[1])
    train(optimizer, again, range(20, 22))
