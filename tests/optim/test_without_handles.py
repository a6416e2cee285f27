"""Where torch is read through Python's objects and DLPack, what the tests of the plan say holds as well."""

import os
import pathlib
import subprocess
import sys

import pytest

FILES = ["apart", "late_slots", "lifetime", "many_threads", "paths", "plan", "torchs_inputs", "zero_grad"]


@pytest.mark.parametrize("name", FILES)
def test_without_handles(name):
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            pathlib.Path(__file__).parent / f"test_{name}.py",
        ],
        env=os.environ | {"TORCHPACE_HANDLES": "off"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-1000:]
