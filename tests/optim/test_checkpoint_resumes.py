"""Runs that go on from a file of `torchpace.optim.checkpoint` as they would have gone on."""

import copy
import decimal
import fractions
import json
import os
import pathlib
import struct

import numpy as np
import pytest
import torch

import cases
from torchpace import optim

pytest.importorskip("safetensors", reason="checkpoints need safetensors")

from safetensors.torch import load_file

from torchpace.optim import checkpoint


def layers(count=2):
    generator = torch.Generator().manual_seed(count)
    made = [torch.nn.Linear(3, 2) for _ in range(count)]
    for layer in made:
        for param in layer.parameters():
            param.data = torch.randn(param.shape, generator=generator)
    return made


def step(optimizer, seed, times=1):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(times):
        for group in optimizer.param_groups:
            for param in group["params"]:
                param.grad = torch.randn(param.shape, generator=generator)
        optimizer.step()


def weights(optimizer):
    return [param.detach().clone() for group in optimizer.param_groups for param in group["params"]]


def metadata(path):
    (length,) = struct.unpack("<Q", path.read_bytes()[:8])
    return json.loads(path.read_bytes()[8 : 8 + length])["__metadata__"]


def assert_same(left, right):
    left, right = left.state_dict(), right.state_dict()
    assert left["param_groups"] == right["param_groups"]
    assert left["state"].keys() == right["state"].keys()
    torch.testing.assert_close(left["state"], right["state"], rtol=0, atol=0)


def assert_resumes(make, path):
    """That `make()`, loaded, steps on as the optimizer that was saved, bit for bit."""
    optimizer = make()
    step(optimizer, 1, 3)
    checkpoint.save(optimizer, path)
    again = make()
    for param, value in zip(weights_of(again), weights(optimizer), strict=True):
        param.data.copy_(value)
    checkpoint.load(again, path)
    assert_same(again, optimizer)
    for either in (optimizer, again):
        step(either, 2, 2)
    assert all(torch.equal(left, right) for left, right in zip(weights(again), weights(optimizer), strict=True))
    return optimizer


def weights_of(optimizer):
    return [param for group in optimizer.param_groups for param in group["params"]]


# Names.


def named(module):
    return list(module.named_parameters())


def renamed(*pairs):
    """Parameters of distinct values under these names."""
    return [(name, torch.nn.Parameter(torch.full((2,), 1.0 + k))) for k, name in enumerate(pairs)]


GROUPS = {
    "two modules": lambda: [named(module) for module in layers(2)],
    "three modules": lambda: [named(module) for module in layers(3)],
    "one apart": lambda: [[*named(layers(1)[0]), ("scale", torch.nn.Parameter(torch.ones(2)))], named(layers(2)[1])],
    "in one group": lambda: [renamed("w", "w", "v", "w")],
    "within and across": lambda: [renamed("w", "w"), renamed("v", "w", "w", "w")],
    "the keys of others": lambda: [renamed("w", "0/w", "1/w"), renamed("w", "1/w", "1/w", "1/w'"), renamed("0/w'")],
    "numbers": lambda: [renamed("0", "1"), renamed("1", "2")],
    "dots": lambda: [renamed("a.b", "a"), renamed("a.b", "b")],
    "empty": lambda: [renamed("", "step"), renamed("", "step")],
}


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("name", cases.OPTIMIZERS)
def test_names_that_are_there_twice(name, groups, tmp_path):
    options = {"momentum": 0.9} if name in ("SGD", "RMSprop") else {}

    def make():
        lists = GROUPS[groups]()
        rates = [{"params": params, "lr": 0.1 / (1 + k)} for k, params in enumerate(lists)]
        return getattr(optim, name)(rates, **options)

    optimizer = assert_resumes(make, tmp_path / "file")
    entries = sum(len(state) for state in optimizer.state.values())
    assert entries == len(load_file(tmp_path / "file"))


def test_each_group_has_its_own_state(tmp_path):
    """Whatever the order in which each of them lists its parameters."""
    first, second = layers(2)
    optimizer = optim.Adam([{"params": named(first)}, {"params": named(second)}])
    step(optimizer, 1)
    checkpoint.save(optimizer, tmp_path / "file")
    again = optim.Adam([{"params": named(first)[::-1]}, {"params": named(second)[::-1]}])
    checkpoint.load(again, tmp_path / "file")
    for param in [*first.parameters(), *second.parameters()]:
        torch.testing.assert_close(again.state[param], optimizer.state[param], rtol=0, atol=0)


def test_names_that_are_there_once_are_the_keys(tmp_path):
    """As in files of older versions."""
    first, second = layers(2)
    params = [("bias", first.bias), *named(second), ("own.scale", first.weight)]
    optimizer = optim.SGD([{"params": params[:2]}, {"params": params[2:]}], lr=0.1, momentum=0.9)
    step(optimizer, 1)
    checkpoint.save(optimizer, tmp_path / "file")
    assert load_file(tmp_path / "file").keys() >= {"weight.momentum_buffer", "own.scale.momentum_buffer"}
    groups = json.loads(metadata(tmp_path / "file")["param_groups"])
    assert [group["param_names"] for group in groups] == [["bias", "weight"], ["bias", "own.scale"]]
    unique = optim.SGD([("a", first.bias), ("b", second.bias)], lr=0.1, momentum=0.9)
    step(unique, 1)
    checkpoint.save(unique, tmp_path / "unique")
    (group,) = json.loads(metadata(tmp_path / "unique")["param_groups"])
    assert (group["params"], "param_names" in group) == (["a", "b"], False)


def test_a_file_that_lost_state_to_a_name_is_refused(tmp_path):
    """Older versions wrote such files: one state for two parameters of a name."""
    first, second = layers(2)
    optimizer = optim.SGD([{"params": named(first)}], lr=0.1, momentum=0.9)
    step(optimizer, 1)
    checkpoint.save(optimizer, tmp_path / "file")
    content = (tmp_path / "file").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"]["param_groups"] = json.dumps(
        2 * json.loads(header["__metadata__"]["param_groups"]), separators=(",", ":")
    )
    text = json.dumps(header).encode()
    (tmp_path / "lossy").write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    for groups in ([named(first), named(second)], [list(first.parameters()), list(second.parameters())]):
        two = optim.SGD([{"params": params} for params in groups], lr=0.1, momentum=0.9)
        with pytest.raises(ValueError, match="'weight' is there twice"):
            checkpoint.load(two, tmp_path / "lossy")
        assert not two.state


@pytest.mark.parametrize("save_names", [True, False])
def test_without_names_the_order_decides(save_names, tmp_path):
    modules = layers(2)

    def make(names):
        return optim.Adam([{"params": named(module) if names else list(module.parameters())} for module in modules])

    optimizer, again = make(save_names), make(not save_names)
    step(optimizer, 1)
    checkpoint.save(optimizer, tmp_path / "file")
    checkpoint.load(again, tmp_path / "file")
    torch.testing.assert_close(again.state_dict()["state"], optimizer.state_dict()["state"], rtol=0, atol=0)


# Options.


@pytest.mark.parametrize(
    "number",
    [
        np.float32(0.1),
        np.float64(0.1),
        np.float16(0.1),
        np.int64(2),
        np.uint8(1),
        np.array(0.1),
        np.array(1),
        fractions.Fraction(1, 3),
        decimal.Decimal("0.1"),
        torch.tensor(0.1),
        torch.tensor(0.1, dtype=torch.float64),
        torch.tensor([0.1]),
        torch.tensor(1),
        float("inf"),
    ],
    ids=lambda number: f"{type(number).__name__}-{number}",
)
def test_numbers_of_every_kind(number, tmp_path):
    """Which steps take."""
    optimizer = optim.SGD([("w", torch.nn.Parameter(torch.ones(2)))], lr=0.5)
    optimizer.param_groups[0].update(lr=number, momentum=number, initial_lr=number)
    if float(number) < float("inf"):
        step(optimizer, 1)
    checkpoint.save(optimizer, tmp_path / "file")
    again = optim.SGD([("w", torch.nn.Parameter(torch.ones(2)))], lr=0.5)
    checkpoint.load(again, tmp_path / "file")
    for name in ("lr", "momentum", "initial_lr"):
        assert again.param_groups[0][name] == float(number)
    # And in the place of one of its kind.
    again.param_groups[0].update(lr=number, momentum=number)
    checkpoint.load(again, tmp_path / "file")
    assert float(again.param_groups[0]["lr"]) == float(number)


def test_pairs_and_flags_of_every_kind(tmp_path):
    optimizer = optim.Adam([("w", torch.nn.Parameter(torch.ones(2)))])
    group = optimizer.param_groups[0]
    pairs = [
        (np.float32(0.5), fractions.Fraction(3, 4)),
        [0.5, np.float64(0.75)],
        np.array([0.5, 0.75]),
        (torch.tensor(0.5), torch.tensor(0.75)),
        torch.tensor([0.5, 0.75]),
    ]
    for betas in pairs:
        group.update(betas=betas, amsgrad=np.bool_(True), maximize=np.int64(1), note=np.str_("head"))
        optimizer.state.clear()
        step(optimizer, 1)
        checkpoint.save(optimizer, tmp_path / "file")
        again = optim.Adam([("w", torch.nn.Parameter(torch.ones(2)))])
        checkpoint.load(again, tmp_path / "file")
        read = again.param_groups[0]
        assert (read["betas"], read["amsgrad"], read["maximize"], read["note"]) == ((0.5, 0.75), True, True, "head")
        step(again, 1)
        assert again.last_path == "fused"


@pytest.mark.parametrize(
    "value", [object(), 1j, {1, 2}, b"x", lambda: 1, {"a": 1}, np.array(1j), np.datetime64(1, "s")]
)
def test_what_has_no_place_is_refused_before_there_is_a_file(value, tmp_path):
    optimizer = optim.SGD([("w", torch.nn.Parameter(torch.ones(2)))], lr=0.5)
    optimizer.param_groups[0]["extra"] = value
    with pytest.raises(TypeError, match=r"param_groups\[0\]\['extra'\] is of type \w+, expected"):
        checkpoint.save(optimizer, tmp_path / "file")
    assert not list(tmp_path.iterdir())


# State.


class Tagged(torch.Tensor):
    """Its memory may be elsewhere."""


@pytest.mark.parametrize(
    ("entry", "value", "words"),
    [
        ("extra", 3, "is of type int, expected a tensor"),
        ("extra", [torch.ones(2)], "is of type list, expected a tensor"),
        ("extra", torch.sparse_coo_tensor(torch.tensor([[0]]), torch.ones(1), (2,), check_invariants=True), "sparse"),
        ("extra", torch.ones(2, device="meta"), "meta"),
        ("extra", torch.ones(3), r"shape \[3\], expected .*shape \[2\]"),
        ("extra", torch.ones(2, dtype=torch.complex64), "complex64"),
        ("extra", torch.ones(2).as_subclass(Tagged), "is of type Tagged, expected a tensor"),
        ("a.b", torch.ones(2), "name of an entry"),
        (7, torch.ones(2), "name of an entry"),
    ],
    ids=str,
)
def test_state_that_would_be_lost_is_refused(entry, value, words, tmp_path):
    optimizer = optim.Adam([("w", torch.nn.Parameter(torch.ones(2)))])
    step(optimizer, 1)
    optimizer.state[optimizer.param_groups[0]["params"][0]][entry] = value
    with pytest.raises((TypeError, ValueError), match=words):
        checkpoint.save(optimizer, tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_state_of_no_parameter_is_refused(tmp_path):
    optimizer = optim.Adam([("w", torch.nn.Parameter(torch.ones(2)))])
    step(optimizer, 1)
    optimizer.state["shared"] = {"count": torch.ones(())}
    with pytest.raises(ValueError, match=r"state of 'shared', which is no parameter"):
        checkpoint.save(optimizer, tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_more_entries_than_the_rule_has(tmp_path):
    """As Lookahead puts them there; and None, which says that there is nothing."""

    def make():
        optimizer = optim.SGD([("w", torch.nn.Parameter(torch.ones(2)))], lr=0.1, momentum=0.9)
        optimizer.state[optimizer.param_groups[0]["params"][0]].update(slow=torch.full((2,), 3.0))
        return optimizer

    optimizer = make()
    step(optimizer, 1)
    (param,) = optimizer.param_groups[0]["params"]
    optimizer.state[param]["nothing"] = None
    checkpoint.save(optimizer, tmp_path / "file")
    again = make()
    again.state.clear()
    checkpoint.load(again, tmp_path / "file")
    assert torch.equal(again.state[again.param_groups[0]["params"][0]]["slow"], torch.full((2,), 3.0))


def test_state_that_shares_memory(tmp_path):
    """Slots that are slices of one flat tensor, and a count for all."""
    params = [torch.nn.Parameter(torch.ones(4)), torch.nn.Parameter(torch.ones(4))]
    optimizer = optim.RMSprop([("a", params[0]), ("b", params[1])], momentum=0.9)
    flat, count = torch.arange(16.0), torch.tensor(3.0)
    parts = flat.split(4)
    for k, param in enumerate(params):
        optimizer.state[param].update(step=count, square_avg=parts[k], momentum_buffer=parts[k + 2], same=parts[k])
    checkpoint.save(optimizer, tmp_path / "file")
    again = optim.RMSprop([("a", params[0]), ("b", params[1])], momentum=0.9)
    checkpoint.load(again, tmp_path / "file")
    assert_same(again, optimizer)


# Wrappers.


class Prepared(torch.optim.Optimizer):
    """As accelerate's: everything is the inner optimizer's."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    state = property(lambda self: self.optimizer.state)
    param_groups = property(lambda self: self.optimizer.param_groups)


class Thin:
    """As Fabric's and Lightning's: of the optimizer's class, and without its attributes."""

    def __init__(self, optimizer):
        self._optimizer = optimizer
        self.__class__ = type("Thin" + type(optimizer).__name__, (Thin, type(optimizer)), {})

    optimizer = property(lambda self: self._optimizer)

    def __getattr__(self, name):
        return getattr(self._optimizer, name)


@pytest.mark.parametrize("wrap", [Prepared, Thin, lambda inner: Prepared(Thin(inner))], ids=["own", "thin", "both"])
def test_wrapped_optimizers(wrap, tmp_path):
    (layer,) = layers(1)
    inner = optim.Adam(layer.named_parameters(), lr=0.1)
    step(inner, 1)
    checkpoint.save(wrap(inner), tmp_path / "file")
    again = optim.Adam(layer.named_parameters(), lr=0.5)
    checkpoint.load(wrap(again), tmp_path / "file")
    assert_same(again, inner)
    assert again.param_groups[0]["lr"] == 0.1
    step(again, 2)
    assert again.last_path == "fused"


def test_a_wrapper_with_state_of_its_own_is_refused(tmp_path):
    inner = optim.Adam([("w", torch.nn.Parameter(torch.ones(2)))])
    wrapper = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)
    wrapper.optimizer = inner
    wrapper.state[wrapper.param_groups[0]["params"][0]]["slow"] = torch.ones(2)
    for call in (checkpoint.save, checkpoint.load):
        with pytest.raises(TypeError, match="state of its own"):
            call(wrapper, tmp_path / "file")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("thing", [None, torch.nn.Linear(1, 1), torch.optim.SGD, "adam"], ids=str)
def test_what_is_no_optimizer(thing, tmp_path):
    for call in (checkpoint.save, checkpoint.load):
        with pytest.raises(TypeError, match=r"optimizer is .*, expected one of torchpace.optim's own"):
            call(thing, tmp_path / "file")


# Paths.


@pytest.mark.parametrize("kind", [str, os.fsencode, pathlib.Path], ids=["str", "bytes", "Path"])
def test_paths_of_every_kind(kind, tmp_path):
    (layer,) = layers(1)
    optimizer = optim.Adam(layer.named_parameters())
    step(optimizer, 1)
    checkpoint.save(optimizer, kind(tmp_path / "file"))
    again = optim.Adam(copy.deepcopy(layer).named_parameters())
    checkpoint.load(again, kind(tmp_path / "file"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert_same(again, optimizer)


def test_directories(tmp_path):
    optimizer = optim.Adam([("w", torch.nn.Parameter(torch.ones(2)))])
    step(optimizer, 1)
    for call in (checkpoint.save, checkpoint.load):
        with pytest.raises(IsADirectoryError, match=r"path is .*, a directory, expected (that of )?a file"):
            call(optimizer, tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError, match=r"none.file cannot be written"):
        checkpoint.save(optimizer, tmp_path / "none" / "file")
