"""A file is gone on from whatever types the groups' options were of, and they keep those types where they were."""

import copy
import inspect
import json
import struct
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

import cases
from torchpace import optim

pytest.importorskip("safetensors", reason="checkpoints need safetensors")

from torchpace.optim import checkpoint

NUMBERS = {
    "float": 0.01,
    "int": 1,
    "bool": True,
    "np.float16": np.float16(0.01),
    "np.int8": np.int8(1),
    "np.bool_": np.bool_(True),
    "0-dim array": np.array(0.01),
    "0-dim array of flags": np.array(True),
    "Fraction": Fraction(1, 100),
    "Decimal": Decimal("0.01"),
    "tensor": torch.tensor(0.01),
    "tensor of integers": torch.tensor(1),
    "tensor of flags": torch.tensor(True),
}
FLAGS = {
    "np.bool_": np.bool_(True),
    "int": 1,
    "np.int64": np.int64(0),
    "tensor": torch.tensor(True),
    "Decimal": Decimal(1),
    "Fraction": Fraction(0),
    "array": np.array(True),
}


def made(cls, options):
    param = torch.nn.Parameter(torch.ones(2))
    return cls([{"params": [param], **options}]), param


def step(optimizer, param):
    param.grad = torch.full_like(param, 0.5)
    optimizer.step()


def header(path):
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(json.loads(raw[8 : 8 + length])["__metadata__"]["param_groups"])[0]


def resumed(cls, options, path, new=None):
    """An optimizer that goes on from another's file, and that both then do the same."""
    old, param = made(cls, options)
    step(old, param)
    checkpoint.save(old, path)
    again, other = made(cls, options if new is None else new)
    checkpoint.load(again, path)
    with torch.no_grad():
        other.copy_(param)
    for one in ((old, param), (again, other)):
        step(*one)
    assert torch.equal(param, other)
    return again.param_groups[0]


def options_of(name):
    return inspect.signature(getattr(optim, name)).parameters


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize(
    ("name", "option"),
    [(name, option) for name in cases.OPTIMIZERS for option in ("lr", "weight_decay") if option in options_of(name)],
)
def test_a_number_of_any_type(name, option, kind, tmp_path):
    value = NUMBERS[kind]
    plain = resumed(getattr(optim, name), {option: value}, tmp_path / "file", {option: 0.5})
    assert plain[option] == float(value)
    assert not isinstance(header(tmp_path / "file")[option], bool)
    assert float(resumed(getattr(optim, name), {option: value}, tmp_path / "file")[option]) == float(value)


@pytest.mark.parametrize("kind", FLAGS)
@pytest.mark.parametrize(
    ("name", "option"),
    [("Adam", "amsgrad"), ("AdamW", "maximize"), ("SGD", "nesterov"), ("RMSprop", "centered"), ("SGD", "averaged")],
)
def test_a_flag_of_any_type(name, option, kind, tmp_path):
    value = FLAGS[kind]
    options = {option: value, "momentum": 0.9} if name == "SGD" else {option: value}
    for new in (options, {**options, option: bool(value)}, {**options, option: False}):
        assert bool(resumed(getattr(optim, name), options, tmp_path / "file", new).get(option, False)) is bool(value)
    assert header(tmp_path / "file").get(option, False) is bool(value)


@pytest.mark.parametrize(
    "value",
    [
        np.arange(3),
        np.zeros((2, 2), dtype=np.float32),
        torch.arange(3),
        torch.ones(2, 2, dtype=torch.float64),
        "inf",
        "-inf",
        "nan",
        np.bool_(True),
        np.int64(3),
        (1, (2.0, "a")),
        [[1], [2, [3]]],
        None,
    ],
)
def test_what_users_keep_in_groups_is_the_same_again(value, tmp_path):
    found = resumed(optim.Adam, {"own": value}, tmp_path / "file")["own"]
    if hasattr(value, "shape") and value.shape:
        assert type(found) is type(value)
        assert found.dtype == value.dtype
        assert (found == value).all()
    else:
        assert found == value
        assert isinstance(found, bool) == isinstance(value, (bool, np.bool_))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({3: 4}, r"param_groups\[0\] has an option 3, expected a word"),
        ({"amsgrad": torch.ones(2)}, r"param_groups\[0\]\['amsgrad'\] is of type Tensor, expected a flag"),
        ({"own": {"a": 1}}, r"param_groups\[0\]\['own'\] is of type dict, expected None, a number"),
    ],
)
def test_what_has_no_place_in_a_file_is_an_error_before_there_is_one(options, message, tmp_path):
    optimizer, _ = made(optim.Adam, {})
    optimizer.param_groups[0].update(options)
    with pytest.raises(TypeError, match=message):
        checkpoint.save(optimizer, tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_an_array_of_another_shape_is_refused(tmp_path):
    old, _ = made(optim.Adam, {"own": np.arange(3)})
    checkpoint.save(old, tmp_path / "file")
    for own in (np.arange(2), torch.ones(3, 1)):
        new, _ = made(optim.Adam, {"own": own})
        before = copy.deepcopy(new.state_dict())
        with pytest.raises(ValueError, match=r"group 0: own is \[0, 1, 2\], expected numbers of shape"):
            checkpoint.load(new, tmp_path / "file")
        assert str(new.state_dict()) == str(before)


@pytest.mark.parametrize("call", [checkpoint.save, checkpoint.load])
def test_a_path_that_is_none(call):
    optimizer, _ = made(optim.Adam, {})
    with pytest.raises(TypeError, match="path is of type int, expected that of a file"):
        call(optimizer, 3)
    with pytest.raises(FileNotFoundError, match="path is empty, expected that of a file"):
        call(optimizer, "")
