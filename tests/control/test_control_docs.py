"""Every public name of `torchpace.control` is described, and what its description shows runs."""

import dataclasses
import enum
import inspect

import pytest

import described
from torchpace import control

PUBLIC = [getattr(control, name) for name in control.__all__]
# Those that users call; the others are what they get back, and an error.
CALLED = [
    thing
    for thing in PUBLIC
    if not (
        dataclasses.is_dataclass(thing) or (inspect.isclass(thing) and issubclass(thing, enum.Enum | Exception | tuple))
    )
]


@pytest.mark.parametrize("thing", CALLED, ids=lambda thing: thing.__name__)
def test_arguments_defaults_errors_and_an_example(thing):
    described.check_arguments(thing)
    described.check_examples(thing)


@pytest.mark.parametrize("thing", PUBLIC, ids=lambda thing: thing.__name__)
def test_members_are_described(thing):
    assert inspect.getdoc(thing)
    if inspect.isclass(thing):
        described.check_members(thing)


@pytest.mark.parametrize("name", ["max_stable_lr", "scale_lr", "sharpness", "CurvatureLR", "linear_cka"])
def test_the_formula_and_the_paper(name):
    text = inspect.getdoc(getattr(control, name))
    assert ":math:" in text or "math::" in text
    assert "Paper" in text
