"""The schedule-free optimizers against the package of their authors, and its checkpoints."""

import copy

import pytest
import torch

from torchpace import optim
from torchpace.optim import _torch_schedulefree

schedulefree = pytest.importorskip("schedulefree", reason="the oracle is the authors' package")

PAIRS = {"ScheduleFreeAdamW": "AdamWScheduleFree", "ScheduleFreeSGD": "SGDScheduleFree"}
MODULES = {"fused": optim, "by torch": _torch_schedulefree}
OPTIONS = [
    {},
    {"lr": 0.1},
    {"weight_decay": 0.1, "warmup_steps": 4},
    {"warmup_steps": 1, "r": 0.5},
    {"lr": 0.3, "warmup_steps": 100, "r": 1.0, "weight_lr_power": 1.0},
    {"lr": 0.0},
    {"weight_lr_power": 0.0},
]

each_name = pytest.mark.parametrize("name", PAIRS)
each_module = pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)


def leaves(dtype):
    return [torch.nn.Parameter(torch.linspace(-1, 2, size, dtype=torch.float64).to(dtype)) for size in (600, 7)]


def step(optimizer, seeds):
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        for group in optimizer.param_groups:
            for param in group["params"]:
                param.grad = torch.randn(param.shape, generator=generator, dtype=torch.float64).to(param.dtype)
        optimizer.step()


@each_name
@each_module
@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_both_points_are_the_packages(options, dtype, foreach, module, name):
    ours, theirs = leaves(dtype), leaves(dtype)
    optimizer = getattr(module, name)(ours, **options)
    other = getattr(schedulefree, PAIRS[name])(theirs, foreach=foreach, **options)
    other.train()
    # Values of size 1 to 30 after as many roundings as steps.
    near = {"rtol": 1e-12, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-5, "atol": 2e-5}
    for seed in range(0, 30, 10):
        step(optimizer, range(seed, seed + 10))
        step(other, range(seed, seed + 10))
        torch.testing.assert_close(ours, theirs, **near)
        for param, twin in zip(ours, theirs, strict=True):
            for key, value in other.state[twin].items():
                torch.testing.assert_close(optimizer.state[param][key], value, **near)
            entries, group = optimizer.state[param], other.param_groups[0]
            for key in ("weight_sum", "lr_max"):
                assert entries[key].item() == pytest.approx(float(group[key]), rel=1e-14)
            assert entries["step"].item() == group["k"]
        for one in (optimizer, other):
            one.eval()
        torch.testing.assert_close(ours, theirs, **near)
        for one in (optimizer, other):
            one.train()
        torch.testing.assert_close(ours, theirs, **near)


@each_name
def test_constructors_take_the_same_arguments(name):
    ours, theirs = leaves(torch.float64), leaves(torch.float64)
    defaults = getattr(optim, name)(ours).defaults
    others = getattr(schedulefree, PAIRS[name])(theirs).defaults
    counts = ("k", "weight_sum", "lr_max", "scheduled_lr", "train_mode", "foreach")
    assert {key: value for key, value in others.items() if key not in counts}.items() <= defaults.items()
    second = (0.8, 0.9) if name == "ScheduleFreeAdamW" else 0.8
    middle = (1e-3,) if name == "ScheduleFreeAdamW" else ()
    arguments = (0.25, second, *middle, 0.125, 5, 0.5, 1.5)
    defaults = getattr(optim, name)(ours, *arguments).defaults
    others = getattr(schedulefree, PAIRS[name])(theirs, *arguments).defaults
    assert {key: value for key, value in others.items() if key not in counts}.items() <= defaults.items()


@each_name
@each_module
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_a_checkpoint_of_the_package(dtype, mode, module, name):
    theirs = leaves(dtype)
    other = getattr(schedulefree, PAIRS[name])(theirs, lr=0.1, warmup_steps=9, r=0.5, weight_decay=0.1)
    other.train()
    step(other, range(5))
    getattr(other, mode)()
    state_dict = copy.deepcopy(other.state_dict())
    ours = [torch.nn.Parameter(param.detach().clone()) for param in theirs]
    optimizer = getattr(module, name)(ours)
    optimizer.load_state_dict(state_dict)
    assert optimizer.param_groups[0]["train_mode"] is (mode == "train")
    assert not {"k", "weight_sum", "lr_max", "scheduled_lr"} & optimizer.param_groups[0].keys()
    for param in ours:
        entries = optimizer.state[param]
        assert (entries["step"].item(), entries["step"].dtype) == (5, torch.float32)
        assert {entries[key].dtype for key in ("weight_sum", "lr_max")} == {torch.float64}
    for one in (optimizer, other):
        one.train()
        step(one, range(5, 12))
        one.eval()
    near = {"rtol": 1e-12, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 2e-2, "atol": 4e-2}
    torch.testing.assert_close(ours, theirs, **near)
    # And once more through our own.
    again = getattr(module, name)([torch.nn.Parameter(param.detach().clone()) for param in ours])
    again.load_state_dict(optimizer.state_dict())
    assert again.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]
