"""The bounds, the sharpness and the scheduler are described, and what their descriptions show runs."""

import doctest
import importlib
import inspect
import re

import pytest

from torchpace import control

NAMES = [
    "CurvatureLR",
    "effective_lr",
    "max_stable_lr",
    "max_stable_lr_adam",
    "max_stable_lr_rmsprop",
    "retune",
    "scale_lr",
    "sharpness",
]


@pytest.mark.parametrize("name", NAMES)
def test_arguments_defaults_errors_paper_and_an_example(name):
    thing = getattr(control, name)
    assert name in control.__all__
    text = inspect.getdoc(thing)
    for section in ("Args:", "Raises:", "Paper:", "Example:", "math::" if inspect.isclass(thing) else ":math:"):
        assert section in text, section
    described = text[text.index("Args:") : text.index("Raises:")]
    for argument, parameter in inspect.signature(thing).parameters.items():
        entry = re.search(rf"^    {argument}: (.*?)(?=^    \w+: |\Z)", described, flags=re.M | re.S)
        assert entry, argument
        if parameter.default is not parameter.empty:
            assert "(default: " in re.sub(r"\s+", " ", entry[1]), argument
    found = doctest.DocTestFinder(recurse=False).find(thing, name, module=importlib.import_module(thing.__module__))
    runner = doctest.DocTestRunner()
    for test in found:
        runner.run(test)
    assert runner.tries > 0
    assert runner.failures == 0


@pytest.mark.parametrize("cls", [control.CurvatureLR, control.Sharpness, control.CurvatureCost])
def test_members_are_described(cls):
    for name, member in vars(cls).items():
        if not name.startswith("_") and (callable(member) or isinstance(member, property)):
            assert inspect.getdoc(member), name
    for field in getattr(cls, "__dataclass_fields__", ()):
        assert re.search(rf"^    {field}: ", inspect.getdoc(cls), flags=re.M), field
