"""Every public name is described, and what its description shows runs."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import described
from torchpace import schedule

MODULES = [f"torchpace.schedule.{module.name}" for module in pkgutil.iter_modules(schedule.__path__)]
FUNCTIONS = [name for name in schedule.__all__ if inspect.isfunction(getattr(schedule, name))]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_tell_arguments_defaults_errors_and_an_example(name):
    described.check_arguments(getattr(schedule, name))
    described.check_examples(getattr(schedule, name))


@pytest.mark.parametrize("cls", [schedule.Schedule, schedule.Scheduler, schedule.PlateauScheduler])
def test_methods_are_described(cls):
    for name, member in vars(cls).items():
        if not name.startswith("_") and callable(member):
            text = inspect.getdoc(member)
            assert text, name
            for argument in inspect.signature(getattr(cls, name)).parameters:
                assert argument in {"self", "style"} or argument in text, (name, argument)
