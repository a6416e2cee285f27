"""The program that the type checkers read (`make lint`) does what it says."""

import runpy
from pathlib import Path


def test_what_is_right_runs(tmp_path: Path) -> None:
    runpy.run_path(str(Path(__file__).with_name("script.py")))["right"](tmp_path)
