"""Every public name is described, and what its description shows runs."""

import doctest
import importlib
import inspect
import pkgutil
import re

import pytest

from torchpace import schedule

MODULES = [f"torchpace.schedule.{module.name}" for module in pkgutil.iter_modules(schedule.__path__)]
FUNCTIONS = [name for name in schedule.__all__ if inspect.isfunction(getattr(schedule, name))]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_tell_arguments_defaults_errors_and_an_example(name):
    function = getattr(schedule, name)
    text = inspect.getdoc(function)
    for section in ("Args:", "Raises:", "Example:"):
        assert section in text, section
    described = text[text.index("Args:") : text.index("Raises:")]
    for argument, parameter in inspect.signature(function).parameters.items():
        entry = re.search(rf"^    {argument}: (.*?)(?=^    \w+: |\Z)", described, flags=re.M | re.S)
        assert entry, argument
        if parameter.default is not parameter.empty:
            assert "(default: " in entry[1], argument
    assert doctest.DocTestFinder().find(function)[0].examples


@pytest.mark.parametrize("cls", [schedule.Schedule, schedule.Scheduler, schedule.PlateauScheduler])
def test_methods_are_described(cls):
    for name, member in vars(cls).items():
        if not name.startswith("_") and callable(member):
            text = inspect.getdoc(member)
            assert text, name
            for argument in inspect.signature(getattr(cls, name)).parameters:
                assert argument in {"self", "style"} or argument in text, (name, argument)
