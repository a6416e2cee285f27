"""What a public name's description has to have."""

import doctest
import importlib
import inspect
import re


def check_arguments(thing):
    """That there is an example, and each argument is described with its default."""
    text, parameters = inspect.getdoc(thing), inspect.signature(thing).parameters
    for section in ("Example:", *(["Args:", "Raises:"] if parameters else [])):
        assert section in text, section
    if not parameters:
        return
    described = text[text.index("Args:") : text.index("Raises:")]
    for argument, parameter in parameters.items():
        entry = re.search(rf"^    {argument}: (.*?)(?=^    \w+: |\Z)", described, flags=re.M | re.S)
        assert entry, argument
        if parameter.default is not parameter.empty:
            assert "(default: " in re.sub(r"\s+", " ", entry[1]), argument


def check_examples(thing):
    """That there are examples, and they run."""
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder().find(thing, thing.__name__, module=importlib.import_module(thing.__module__)):
        runner.run(test)
    assert runner.tries > 0
    assert runner.failures == 0


def check_members(cls):
    """That methods, properties and the fields of a dataclass are described."""
    for name, member in vars(cls).items():
        if not name.startswith("_") and (callable(member) or isinstance(member, property)):
            assert inspect.getdoc(member), name
    for field in getattr(cls, "__dataclass_fields__", ()):
        assert re.search(rf"^    {field}: ", inspect.getdoc(cls), flags=re.M), field
