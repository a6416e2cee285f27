"""What the documents show runs."""

import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest

import cases
from torchpace import optim

ROOT = Path(__file__).parents[1]


def test_the_readmes_examples_run():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


@pytest.mark.parametrize("name", cases.OPTIMIZERS)
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
