"""Without a torch that is new enough, the import says which version it found and which it needs."""

import subprocess
import sys

import pytest

OLD = """
import sys, types
torch = types.ModuleType("torch")
torch.__version__ = {version!r}
sys.modules["torch"] = torch
"""
NONE = """
import sys
sys.modules.pop("torch", None)
class Hide:
    def find_spec(self, name, *_):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
sys.meta_path.insert(0, Hide())
"""


@pytest.mark.parametrize(
    ("prelude", "found"),
    [
        (OLD.format(version="2.9.1+cu128"), "found 2.9.1+cu128"),
        (OLD.format(version="1.13.0"), "found 1.13.0"),
        (OLD.format(version="unknown"), "found unknown"),
        (NONE, "found none"),
    ],
)
@pytest.mark.parametrize("statement", ["import torchpace", "from torchpace import optim"])
def test_too_old_or_missing(prelude, found, statement):
    run = subprocess.run([sys.executable, "-c", prelude + statement], capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith("ImportError: torchpace needs torch >= 2.10, " + found)


def test_a_torch_without_the_exchange_api():
    code = """
import torch
del torch.Tensor.__dlpack_c_exchange_api__
import torchpace
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 1
    assert "ImportError: torchpace reads tensors through the DLPack C exchange API, version 1" in run.stderr


def test_the_import_loads_no_compiler():
    """It takes longer to load than the rest of torch."""
    code = """
import sys, torch
assert "torch._dynamo" not in sys.modules
import torchpace
print("torch._dynamo" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "False", run.stderr
