"""The README's table of benchmarks is the newest record's."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_readme_has_the_newest_record():
    run = subprocess.run([sys.executable, ROOT / "benches" / "table.py", "--check"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
