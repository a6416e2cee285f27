"""Constructors take numbers of any type; what is none is torch's error with the argument's name in its text."""

import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

from torchpace import optim

OPTIONS = {
    "SGD": ("lr", "momentum", "weight_decay"),
    "RMSprop": ("lr", "alpha", "eps", "weight_decay", "momentum"),
    "Adagrad": ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps"),
    "Adam": ("lr", "eps", "weight_decay"),
    "AdamW": ("lr", "eps", "weight_decay"),
}
ROWS = [(name, option) for name, options in OPTIONS.items() for option in options]
NO_NUMBERS = ["0.1", None, 1j, [0.1], (), object(), np.ones(2), torch.ones(2), b"1", {}, int]
BETAS = [
    "ab",
    None,
    1j,
    3,
    (),
    (0.9,),
    [],
    {},
    {"a": 1},
    (None, 0.9),
    (0.9, "x"),
    (object(), 1),
    (np.ones(2), 0.9),
    int,
]
KINDS = {
    "np.float16": np.float16,
    "np.float32": np.float32,
    "np.float64": np.float64,
    "array": np.array,
    "Fraction": Fraction,
    "Decimal": Decimal,
    "tensor": torch.tensor,
}


def make(library, name, **options):
    return getattr(library, name)([torch.nn.Parameter(torch.ones(2))], **options)


def stepped(name, **options):
    optimizer = make(optim, name, **options)
    (param,) = optimizer.param_groups[0]["params"]
    for _ in range(3):
        param.grad = torch.full((2,), 0.5)
        optimizer.step()
    assert optimizer.last_path == "fused"
    return param.tolist()


def errors_agree(name, option, value):
    """Ours is of torch's type, and has the name in its own text, which pytest's `match` would find in notes too."""
    with pytest.raises(Exception, match=r".") as theirs:
        make(torch.optim, name, **{option: value})
    with pytest.raises(theirs.type) as ours:
        make(optim, name, **{option: value})
    text = str(ours.value)
    assert re.search(rf"\b{option}\b", text) or re.search("learning rate|Tensor lr", text), text


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
@pytest.mark.parametrize(("name", "option"), ROWS)
def test_what_is_no_number_is_named(name, option, value):
    errors_agree(name, option, value)


@pytest.mark.parametrize("value", BETAS, ids=repr)
@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_what_are_no_betas_are_named(name, value):
    errors_agree(name, "betas", value)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("params", [None, 3, 1.5, object()], ids=repr)
def test_what_are_no_parameters_are_named(name, params):
    with pytest.raises(TypeError, match=r"^params is .*, expected parameters, named parameters or groups: "):
        getattr(optim, name)(params)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "option"), ROWS)
def test_a_number_of_any_type(name, option, kind):
    assert stepped(name, **{option: KINDS[kind](0.5)}) == stepped(name, **{option: 0.5})


@pytest.mark.parametrize("first", [*KINDS, "int"])
@pytest.mark.parametrize("second", KINDS)
def test_betas_of_unlike_types(first, second):
    if "tensor" in (first, second) and first != second:
        with pytest.raises(ValueError, match="betas must be either both floats or both Tensors"):
            make(optim, "Adam", betas=(0.5 if first == "int" else KINDS[first](0.5), KINDS[second](0.5)))
        return
    one = 0 if first == "int" else 0.5
    betas = (0 if first == "int" else KINDS[first](0.5), KINDS[second](0.75))
    for name in ("Adam", "AdamW"):
        assert stepped(name, betas=betas) == stepped(name, betas=(float(one), 0.75))
