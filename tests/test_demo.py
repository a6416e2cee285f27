"""The demo runs, trains and writes its figure."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_one_epoch(tmp_path):
    run = subprocess.run(
        [sys.executable, ROOT / "examples" / "demo.py", "--epochs", "2", "--out", tmp_path],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    rows = re.findall(r"^(torchpace|torch default|torch fused) +([\d.]+) +([\d.]+)% ", run.stdout, flags=re.MULTILINE)
    assert [name for name, *_ in rows] == ["torchpace", "torch default", "torch fused"] * 2
    for ours, theirs in ((rows[0], rows[1]), (rows[3], rows[4])):
        assert abs(float(ours[1]) - float(theirs[1])) < 0.01
        assert float(ours[2]) > 60
    assert (tmp_path / "demo.png").stat().st_size > 10_000
    assert "100%" in run.stderr  # the progress bar
