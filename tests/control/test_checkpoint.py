"""Optimizers' states in safetensors files. That Rust goes on from them is tested in tests/tch.rs."""

import doctest
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from torchpace import optim
from torchpace.optim import checkpoint

CASES = [
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1}),
    ("RMSprop", {"centered": True, "momentum": 0.5, "eps_inside": True}),
    ("Adagrad", {"initial_accumulator_value": 0.5, "mean": True}),
    ("Adam", {"amsgrad": True, "max_grad_norm": float("inf")}),
    ("AdamW", {"betas": (0.8, 0.9), "nonfinite_norm": "skip"}),
]


def params(dtype):
    generator = torch.Generator().manual_seed(3)
    shapes = [(4, 3, 2, 2), (5,), (), (0, 2)]
    made = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]
    made[0] = made[0].to(memory_format=torch.channels_last)
    return {f"layer.{k}.weight": param.requires_grad_() for k, param in enumerate(made)}


def run(optimizer, named, steps):
    for step in steps:
        optimizer.zero_grad()
        sum(((param * (step + 1)).abs() ** 2).sum() for param in named.values()).backward()
        optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.complex64, torch.complex128])
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_run_goes_on_from_a_file_as_if_it_had_not_stopped(tmp_path, name, options, named, dtype):
    path = tmp_path / "state.safetensors"
    first, second = params(dtype), params(dtype)

    def make(given):
        return getattr(optim, name)(list(given.items() if named else given.values()), **options)

    whole, other = make(first), make(second)
    run(whole, first, range(3))
    checkpoint.save(whole, path)
    with torch.no_grad():
        for to, source in zip(second.values(), first.values(), strict=True):
            to.copy_(source)
    other.param_groups[0]["lr"] = 0.77
    checkpoint.load(other, path)
    assert other.param_groups[0]["lr"] == whole.param_groups[0]["lr"]
    saved, loaded = whole.state_dict(), other.state_dict()
    assert saved["param_groups"] == loaded["param_groups"]
    for key, entries in saved["state"].items():
        for entry, value in entries.items():
            if value is not None:
                found = loaded["state"][key][entry]
                assert torch.equal(found, value)
                assert (found.dtype, found.stride()) == (value.dtype, value.stride())
    run(whole, first, range(3, 6))
    run(other, second, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(first.values(), second.values(), strict=True))
    assert list(tmp_path.iterdir()) == [path]


def test_what_the_file_holds(tmp_path):
    path = tmp_path / "state.safetensors"
    named = params(torch.float32)
    optimizer = optim.Adam(named.items(), lr=torch.tensor(0.5), betas=(0.8, 0.9))
    run(optimizer, named, range(1))
    checkpoint.save(optimizer, path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        assert sorted(file.keys()) == sorted(f"{p}.{e}" for p in named for e in ("step", "exp_avg", "exp_avg_sq"))
    (group,) = json.loads(metadata.pop("param_groups"))
    assert metadata == {"format": "torchpace.optimizer", "version": "1", "rule": "adam"}
    assert group == {
        "lr": 0.5,
        "betas": [0.8, 0.9],
        "eps": 1e-8,
        "weight_decay": 0,
        "amsgrad": False,
        "maximize": False,
        "decoupled_weight_decay": False,
        "params": list(named),
    }
    checkpoint.load(optimizer, path)
    assert isinstance(optimizer.param_groups[0]["lr"], torch.Tensor)


def test_parameters_are_found_by_name(tmp_path):
    path = tmp_path / "state.safetensors"
    a, b = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    optimizer = optim.SGD([("a", a), ("b", b)], lr=0.1, momentum=0.9)
    (a.sum() * 2 + b.sum() * 3).backward()
    optimizer.step()
    checkpoint.save(optimizer, path)
    turned = optim.SGD([("b", b), ("a", a)], lr=0.1, momentum=0.9)
    checkpoint.load(turned, path)
    assert turned.state[a]["momentum_buffer"].tolist() == [2.0, 2.0]
    assert turned.state[b]["momentum_buffer"].tolist() == [3.0, 3.0]


def test_what_does_not_fit_changes_nothing(tmp_path):
    path = tmp_path / "state.safetensors"
    a = torch.ones(2, requires_grad=True)
    optimizer = optim.Adam([("a", a)], lr=0.7)
    a.sum().backward()
    optimizer.step()
    checkpoint.save(optimizer, path)

    def refused(other, match):
        before = str(other.state_dict())
        with pytest.raises(ValueError, match=match):
            checkpoint.load(other, path)
        assert str(other.state_dict()) == before

    refused(optim.SGD([("a", a)]), "rule is 'adam', expected 'sgd'")
    refused(optim.Adam([("b", a)]), r"has the parameters \['a'\], expected \['b'\]")
    refused(optim.Adam([("a", torch.ones(3))]), r"a.exp_avg has shape \[2\], expected \[3\]")
    refused(optim.Adam([("a", a), ("b", torch.ones(1))]), "has 1 parameters, expected 2")
    refused(optim.Adam([{"params": [("a", a)]}, {"params": [("b", torch.ones(1))]}]), "1 groups, expected 2")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    # To another place: what was read still maps the file.
    whole, path = load_file(path), tmp_path / "changed.safetensors"
    save_file({**whole, "z.exp_avg": torch.ones(2)}, path, metadata)
    refused(optimizer, r"state of \['z'\], expected that of parameters")
    path = tmp_path / "else.safetensors"
    save_file({}, path, {"format": "pt"})
    refused(optimizer, "format is 'pt', expected 'torchpace.optimizer'")
    path = tmp_path / "none.safetensors"
    path.write_bytes(b"nothing of the kind")
    refused(optimizer, "is no safetensors file")
    with pytest.raises(FileNotFoundError):
        checkpoint.load(optimizer, tmp_path / "missing")
    for call in (checkpoint.save, checkpoint.load):
        with pytest.raises(TypeError, match="optimizer is a SGD, expected one of torchpace"):
            call(torch.optim.SGD([a], lr=0.1), path)
    optimizer.param_groups[0]["note"] = object()
    with pytest.raises(TypeError, match="is of type object"):
        checkpoint.save(optimizer, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_the_docstrings_example_runs():
    results = doctest.testmod(checkpoint)
    assert results.attempted > 0
    assert results.failed == 0
