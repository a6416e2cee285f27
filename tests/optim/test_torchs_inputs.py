"""What torch asks in its own tests of optimizers (`TestOptimRenewed`), of ours, under the options of those tests."""

import copy
import io
import subprocess
import sys

import pytest
import torch

import cases
from torchpace import optim

each_optimizer = pytest.mark.parametrize("name", cases.IN_TORCH)

# Torch's list, from a process of its own: the import changes what torch allows in a process.
COLLECT = """
import sys, torch
from torch.testing._internal import common_optimizers as torchs

found = {}
for info in torchs.optim_db:
    every = torchs._get_optim_inputs_including_global_cliquey_kwargs("cpu", torch.float32, info)
    wrong = info.optim_error_inputs_func("cpu", torch.float32)
    found[info.optim_cls.__name__] = {
        "inputs": [row.kwargs for row in every],
        "younger_flags": list(info.not_og_supported_flags),
        "errors": [
            (row.optimizer_error_input.params, row.optimizer_error_input.kwargs, row.error_regex) for row in wrong
        ],
    }
torch.save(found, sys.argv[1])
"""


@pytest.fixture(scope="module")
def torchs(tmp_path_factory):
    path = tmp_path_factory.mktemp("torchs") / "inputs.pt"
    run = subprocess.run([sys.executable, "-c", COLLECT, str(path)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = torch.load(path, weights_only=False)
    for name in cases.IN_TORCH:
        # Plain ones, ones with each of torch's implementations, and errors.
        assert len(found[name]["inputs"]) >= 10, name
        assert len(found[name]["errors"]) > 5, name
    return found


@pytest.fixture
def inputs(torchs, name):
    return [options for options in torchs[name]["inputs"] if not options.get("differentiable")]


def two(names=False):
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(2, 3)), torch.nn.Parameter(torch.randn(2))]
    return [(f"name{place}", param) for place, param in enumerate(params)] if names else params


def own(optimizer):
    return optimizer.param_groups[0]["params"]


def train(optimizer, steps=3):
    for _ in range(steps):
        optimizer.zero_grad()
        weight, bias = own(optimizer)
        (weight.mv(torch.linspace(1, 2, 3)) + bias).square().sum().backward()
        optimizer.step()
    return optimizer


def without_names(state_dict):
    state_dict = copy.deepcopy(state_dict)
    for group in state_dict["param_groups"]:
        group.pop("param_names", None)
    return state_dict


@each_optimizer
def test_a_deep_copy_has_all_public_attributes(name, inputs):
    for options in inputs:
        optimizer = train(getattr(optim, name)(two(), **options))
        twin = copy.deepcopy(optimizer)
        assert {key for key in vars(twin) if key[0] != "_"} == {key for key in vars(optimizer) if key[0] != "_"}
        theirs = cases.torchs(name)(two(), **options)
        assert {key for key in vars(optimizer) if key[0] != "_"} == {key for key in vars(theirs) if key[0] != "_"}


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("first", [False, True])
@each_optimizer
def test_a_state_goes_on_alike_with_names_and_without(name, inputs, first, second):
    for options in inputs:
        optimizer = train(getattr(optim, name)(two(first), **options), 10)
        twin = getattr(optim, name)(two(second), **options)
        with torch.no_grad():
            for param, value in zip(own(twin), own(optimizer), strict=True):
                param.copy_(value)
        twin.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        train(optimizer, 5)
        train(twin, 5)
        assert all(torch.equal(one, other) for one, other in zip(own(optimizer), own(twin), strict=True))
        torch.testing.assert_close(without_names(optimizer.state_dict()), without_names(twin.state_dict()))
        names = twin.state_dict()["param_groups"][0].get("param_names")
        assert names == (["name0", "name1"] if first or second else None)


@each_optimizer
def test_an_older_state_loads(name, inputs, torchs):
    """Without the flags that torch had not then, and with step counts that are no tensors."""
    for options in inputs:
        optimizer = train(getattr(optim, name)(two(), **options))
        old = copy.deepcopy(optimizer.state_dict())
        for group in old["param_groups"]:
            for flag in torchs[name]["younger_flags"]:
                group.pop(flag, None)
        for entry in old["state"].values():
            if isinstance(entry.get("step"), torch.Tensor):
                entry["step"] = entry["step"].item()
        optimizer.load_state_dict(old)
        train(optimizer)


@each_optimizer
def test_a_state_saved_and_loaded_is_equal(name, inputs):
    for options in inputs:
        state_dict = train(getattr(optim, name)(two(True), **options)).state_dict()
        saved = io.BytesIO()
        torch.save(state_dict, saved)
        saved.seek(0)
        loaded = torch.load(saved, weights_only=True)
        torch.testing.assert_close(loaded["state"], state_dict["state"], rtol=0, atol=0)
        assert loaded["param_groups"] == state_dict["param_groups"]


@each_optimizer
def test_options_of_groups_hold_for_their_parameters(name, inputs):
    for options in inputs:
        weight, bias = two()
        still = torch.nn.Parameter(torch.randn(2))
        before = still.detach().clone()
        groups = [
            {"params": [weight], "lr": 1e-3, **options},
            {"params": [bias], "lr": 1e-3, **options, "weight_decay": 0.0},
            # Rprop keeps its steps above a length, and that only if it is left to.
            {"params": [still]} | ({"step_sizes": (0, 50)} if name == "Rprop" else {}),
        ]
        optimizer = getattr(optim, name)(groups, lr=1e-28)
        losses = []
        for _ in range(20):
            optimizer.zero_grad()
            loss = (weight.mv(torch.linspace(1, 2, 3)) + bias).square().sum()
            loss.backward()
            losses.append(loss.item())
            still.grad = torch.rand_like(still)
            optimizer.step()
        assert (losses[-1] > losses[0]) is bool(options.get("maximize"))
        assert torch.equal(still, before)


@each_optimizer
def test_without_gradients_or_with_none_but_zeros_nothing_moves(name, inputs):
    for options in inputs:
        for zeros in (False, True):
            decays = name == "ASGD" or options.get("weight_decay", 0.01 if name == "AdamW" else 0) != 0
            if decays and zeros:
                continue
            optimizer = getattr(optim, name)(two(), **options)
            before = [param.detach().clone() for param in own(optimizer)]
            for param in own(optimizer):
                param.grad = torch.zeros_like(param) if zeros else None
            assert optimizer.step(lambda: torch.ones(1)) == torch.ones(1)
            assert all(torch.equal(param, old) for param, old in zip(own(optimizer), before, strict=True))


@each_optimizer
def test_hooks_of_states(name, inputs):
    for options in inputs:
        optimizer = getattr(optim, name)(two(), **options)
        calls = []
        optimizer.register_state_dict_pre_hook(lambda _: calls.append("before"))  # noqa: B023 used in this round
        optimizer.register_state_dict_post_hook(lambda _, state: {**state, "seen": True})
        state_dict = optimizer.state_dict()
        assert state_dict.pop("seen") is True

        def other_rate(_, state):
            state = copy.deepcopy(state)
            state["param_groups"][0]["lr"] = 0.003
            return state

        optimizer.register_load_state_dict_pre_hook(other_rate)
        optimizer.register_load_state_dict_post_hook(lambda _: calls.append("after"))  # noqa: B023
        optimizer.load_state_dict(state_dict)
        assert calls == ["before", "after"]
        assert optimizer.param_groups[0]["lr"] == 0.003


@each_optimizer
def test_the_repr_is_torchs(name, inputs):
    for options in inputs:
        assert repr(getattr(optim, name)(two(), **options)) == repr(cases.torchs(name)(two(), **options))


@each_optimizer
def test_errors_are_torchs(name, torchs):
    """And warnings, which are errors here."""
    for params, options, text in torchs[name]["errors"]:

        def run(cls, params=params, options=options):
            cls(two() if params is None else params, **options).step()

        with pytest.raises(Exception) as theirs:  # noqa: PT011 the type is what is compared
            run(cases.torchs(name))
        with pytest.raises(theirs.type, match=text) as ours:
            run(getattr(optim, name))
        words, own = str(theirs.value), str(ours.value)
        assert own == words or (own.endswith(f": {words}") and own.split(" is ")[0] in options), options
