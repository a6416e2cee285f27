"""What the documents show runs."""

import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest

import cases
from described import check_arguments, check_examples
from torchpace import optim
from torchpace.optim import lr_scheduler, swa_utils

ROOT = Path(__file__).parents[1]


def test_the_readmes_examples_run():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


@pytest.mark.parametrize("name", [*cases.OPTIMIZERS, *cases.APART])
def test_docstring_is_complete_and_its_example_runs(name):
    cls = getattr(optim, name)
    text = inspect.getdoc(cls)
    for section in ("Args:", "Raises:", "Differs from torch:", "Paper", "Example:", "State of a parameter:"):
        assert section in text, section
    described = text[text.index("Args:") : text.index("Raises:")]
    for argument in inspect.signature(cls).parameters:
        if not (name == "AdamW" and argument == "decoupled_weight_decay"):
            assert re.search(rf"\b{argument}\b", described), argument
    results = doctest.testmod(importlib.import_module(cls.__module__))
    assert results.attempted > 0
    assert results.failed == 0


def test_docstring_of_muon_groups_is_complete_and_its_example_runs():
    check_arguments(optim.muon_groups)
    check_examples(optim.muon_groups)


@pytest.mark.parametrize("name", [*lr_scheduler.__all__, "SWALR"])
def test_docstring_of_a_scheduler_is_complete_and_its_example_runs(name):
    cls = swa_utils.SWALR if name == "SWALR" else getattr(lr_scheduler, name)
    text = inspect.getdoc(cls)
    for section in ("Args:", "Raises:", "Matches torch:", "Differs from torch:", "Example:"):
        assert section in text, section
    described = text[text.index("Args:") : text.index("Raises:")]
    for argument in inspect.signature(cls).parameters:
        assert re.search(rf"\b{argument}\b", described), argument
    examples = doctest.DocTestFinder(recurse=False).find(cls, name)
    runner = doctest.DocTestRunner()
    for example in examples:
        runner.run(example)
    assert runner.summarize(verbose=False) == (0, runner.tries)
    assert runner.tries > 0
