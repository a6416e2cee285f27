"""A buffer that an option calls for later begins at zero, as if it had been there from the start and done nothing.

torch makes RMSprop's and Adam's buffers in a parameter's first step or never: it raises KeyError when `momentum`,
`centered` or `amsgrad` is switched on after that. Its SGD takes the gradient for the first momentum, at whichever step
that is, and so does ours.
"""

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from torchpace import optim, schedule

SHAPES = [(3, 4), (5,), (), (0,)]
LATE = [
    ("RMSprop", {}, {"momentum": 0.9}, ["momentum_buffer"]),
    ("RMSprop", {}, {"centered": True}, ["grad_avg"]),
    ("RMSprop", {"weight_decay": 0.1}, {"momentum": 0.5, "centered": True}, ["momentum_buffer", "grad_avg"]),
    ("RMSprop", {"momentum": 0.5}, {"centered": True}, ["grad_avg"]),
    ("RMSprop", {"centered": True}, {"momentum": 0.5}, ["momentum_buffer"]),
    ("Adam", {}, {"amsgrad": True}, ["max_exp_avg_sq"]),
    ("Adam", {"weight_decay": 0.1, "maximize": True}, {"amsgrad": True}, ["max_exp_avg_sq"]),
    ("AdamW", {}, {"amsgrad": True}, ["max_exp_avg_sq"]),
]
SGD = [
    {"momentum": 0.9},
    {"momentum": 0.9, "dampening": 0.5},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
]
each_late = pytest.mark.parametrize(("name", "options", "more", "slots"), LATE)


def made(module, name, options, dtype=torch.float64, groups=1):
    params = [
        [torch.nn.Parameter(torch.linspace(1, 2, 12, dtype=dtype)[: torch.Size(s).numel()].reshape(s)) for s in SHAPES]
        for _ in range(groups)
    ]
    return getattr(module, name)([{"params": some} for some in params], lr=0.01, **options)


def run(optimizer, seeds, without=()):
    """Steps along gradients that the seeds choose; the parameters at the indices `without` have none."""
    params = [param for group in optimizer.param_groups for param in group["params"]]
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        for index, param in enumerate(params):
            grad = torch.randn(param.shape, generator=generator, dtype=torch.float64).to(param.dtype)
            param.grad = None if index in without else grad
        optimizer.step()
    return [param.detach().clone() for param in params]


def switch(optimizer, more, group=0):
    optimizer.param_groups[group].update(more)


def put_zeros(optimizer, slots):
    for param, state in optimizer.state.items():
        for slot in slots:
            state[slot] = torch.zeros_like(param)


def assert_same(left, right, **tolerance):
    for a, b in zip(left, right, strict=True):
        torch.testing.assert_close(a, b, **({"rtol": 0, "atol": 0} | tolerance))


@each_late
def test_it_is_as_one_of_zeros_that_was_there(name, options, more, slots):
    ours, there, torchs = made(optim, name, options), made(optim, name, options), made(torch.optim, name, options)
    for optimizer in (ours, there, torchs):
        run(optimizer, range(3))
        switch(optimizer, more)
    put_zeros(there, slots)
    put_zeros(torchs, slots)
    for seeds in ((10,), (11, 12), range(13, 20)):
        values = run(ours, seeds)
        assert ours.last_path == "fused"
        assert_same(values, run(there, seeds))
        assert_same(values, run(torchs, seeds), rtol=1e-12, atol=1e-12)
    for index, state in there.state_dict()["state"].items():
        assert ours.state_dict()["state"][index].keys() == state.keys()
        assert_same(ours.state_dict()["state"][index].values(), state.values())


@each_late
def test_torch_raises(name, options, more, slots):
    optimizer = made(torch.optim, name, options)
    run(optimizer, range(3))
    switch(optimizer, more)
    with pytest.raises(KeyError, match="|".join(slots)):
        run(optimizer, (10,))


@pytest.mark.parametrize("more", SGD)
def test_sgd_takes_the_gradient_for_the_first_momentum_as_torch_does(more):
    ours, torchs = made(optim, "SGD", {}), made(torch.optim, "SGD", {})
    for optimizer in (ours, torchs):
        run(optimizer, range(3))
        switch(optimizer, more)
    for seeds in ((10,), range(11, 20)):
        assert_same(run(ours, seeds), run(torchs, seeds), rtol=1e-12, atol=1e-12)
        assert ours.last_path == "fused"


@each_late
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_in_other_types(name, options, more, slots, dtype):
    ours, there = made(optim, name, options, dtype), made(optim, name, options, dtype)
    for optimizer in (ours, there):
        run(optimizer, range(3))
        switch(optimizer, more)
    put_zeros(there, slots)
    assert_same(run(ours, range(10, 15)), run(there, range(10, 15)))
    assert {ours.state[param][slot].dtype for param in ours.state for slot in slots} == {dtype}


@each_late
def test_in_one_group_of_two(name, options, more, slots):
    ours, there = made(optim, name, options, groups=2), made(optim, name, options, groups=2)
    for optimizer in (ours, there):
        run(optimizer, range(3))
        switch(optimizer, more, group=1)
    for param in there.param_groups[1]["params"]:
        for slot in slots:
            there.state[param][slot] = torch.zeros_like(param)
    assert_same(run(ours, range(10, 15)), run(there, range(10, 15)))
    for index, group in enumerate(ours.param_groups):
        for param in group["params"]:
            assert [slot in ours.state[param] for slot in slots] == [index == 1] * len(slots)


@each_late
def test_a_parameter_without_a_gradient_gets_it_with_its_next_one(name, options, more, slots):
    ours, there = made(optim, name, options), made(optim, name, options)
    for optimizer in (ours, there):
        run(optimizer, range(3))
        switch(optimizer, more)
    put_zeros(there, slots)
    for seeds, without in (((10,), {0, 2}), ((11,), {1}), ((12, 13), set())):
        assert_same(run(ours, seeds, without), run(there, seeds, without))


@each_late
def test_off_and_on_again_it_goes_on_from_what_it_was(name, options, more, slots):
    ours, there = made(optim, name, options), made(optim, name, options)
    before = {key: ours.param_groups[0][key] for key in more}
    for optimizer in (ours, there):
        run(optimizer, range(3))
    put_zeros(there, slots)
    for chosen in (more, before, more):
        for optimizer in (ours, there):
            switch(optimizer, chosen)
        assert_same(run(ours, range(10, 13)), run(there, range(10, 13)))


@each_late
@pytest.mark.parametrize("saving", [optim, torch.optim], ids=["ours", "torchs"])
def test_a_checkpoint_from_before_it_was_switched_on(name, options, more, slots, saving):
    saved = made(saving, name, options)
    run(saved, range(3))
    ours, there = made(optim, name, options), made(optim, name, options)
    for optimizer in (ours, there):
        optimizer.load_state_dict(copy.deepcopy(saved.state_dict()))
        switch(optimizer, more)
    put_zeros(there, slots)
    assert_same(run(ours, range(10, 15)), run(there, range(10, 15)))


@each_late
def test_it_lies_as_its_parameter_does(name, options, more, slots):
    weight = torch.nn.Parameter(torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last))
    optimizer = getattr(optim, name)([weight], lr=0.01, **options)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    switch(optimizer, more)
    optimizer.step()
    assert optimizer.last_path == "fused"
    assert {optimizer.state[weight][slot].stride() for slot in slots} == {weight.stride()}


class Seen(TorchDispatchMode):
    """Sees every operator of torch, which is why the step is left to torch."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


@each_late
def test_in_a_step_that_is_left_to_torch(name, options, more, slots):
    ours, torchs = made(optim, name, options), made(torch.optim, name, options)
    for optimizer in (ours, torchs):
        run(optimizer, range(3))
        switch(optimizer, more)
    put_zeros(torchs, slots)
    with Seen():
        values = run(ours, (10,))
    assert ours.last_path.startswith("torch: ")
    assert_same(values, run(torchs, (10,)), rtol=1e-12, atol=1e-12)
    assert_same(run(ours, (11, 12)), run(torchs, (11, 12)), rtol=1e-12, atol=1e-12)


@each_late
def test_a_step_that_fails_makes_none(name, options, more, slots):
    optimizer = made(optim, name, options)
    run(optimizer, range(3))
    switch(optimizer, more)
    last = optimizer.param_groups[0]["params"][1]
    optimizer.state[last]["step"] = "three"
    before = [sorted(state) for state in optimizer.state.values()]
    with pytest.raises(TypeError, match="step"):
        run(optimizer, (10,))
    assert [sorted(state) for state in optimizer.state.values()] == before


def test_a_warmup_of_the_momentum():
    """Whose first rate is 0, so that the first step makes no buffer."""
    ours, torchs = made(optim, "RMSprop", {"momentum": 0.9}), made(torch.optim, "RMSprop", {"momentum": 0.9})
    schedulers = [schedule.warmup(4).on(optimizer, "momentum") for optimizer in (ours, torchs)]
    for seed in range(8):
        values, expected = run(ours, (seed,)), run(torchs, (seed,))
        assert_same(values, expected, rtol=1e-12, atol=1e-12)
        if seed == 0:
            put_zeros(torchs, ["momentum_buffer"])
        for scheduler in schedulers:
            scheduler.step()
    assert ours.last_path == "fused"
