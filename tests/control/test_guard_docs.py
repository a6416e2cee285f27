"""What the descriptions of the guard, the range test and the snapshot show runs, and every argument is described."""

import doctest
import importlib
import inspect
import re

import pytest

from torchpace import control

NAMES = ["DivergenceGuard", "Snapshot", "lr_range_test"]


@pytest.mark.parametrize("module", ["_divergence_guard", "_range_result", "_range_test", "_snapshot"])
def test_examples_run(module):
    results = doctest.testmod(importlib.import_module(f"torchpace.control.{module}"))
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.parametrize("name", NAMES)
def test_arguments_defaults_errors_and_an_example(name):
    described = getattr(control, name)
    text = inspect.getdoc(described)
    for section in ("Args:", "Raises:", "Example:"):
        assert section in text, section
    arguments = text[text.index("Args:") : text.index("Raises:")]
    for argument, parameter in inspect.signature(described).parameters.items():
        entry = re.search(rf"^    {argument}: (.*?)(?=^    \w+: |\Z)", arguments, flags=re.M | re.S)
        assert entry, argument
        if parameter.default is not parameter.empty:
            assert "(default: " in entry[1], argument


@pytest.mark.parametrize("name", [*NAMES, "DivergenceError", "GuardEvent", "RangeTest"])
def test_public_names_and_their_members_are_described(name):
    described = getattr(control, name)
    assert name in control.__all__
    assert inspect.getdoc(described)
    for member, value in vars(described).items() if inspect.isclass(described) else ():
        if not member.startswith("_") and (callable(value) or isinstance(value, property)):
            assert inspect.getdoc(value), member
