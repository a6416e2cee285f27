"""The demo runs, trains and writes its figure."""

import importlib.util
import re
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest
import torch

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


@pytest.mark.parametrize("epochs", [1, 2, 3, 20])
def test_the_rate_has_three_stages(epochs, monkeypatch):
    """Whatever the number of steps, and none of them is a few steps long."""
    spec = importlib.util.spec_from_file_location("demo", ROOT / "examples" / "demo.py")
    demo = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "demo", demo)
    spec.loader.exec_module(demo)
    task = demo.tasks()[0]
    task.epochs = epochs
    for steps in (task.steps, task.steps + 1, task.steps + 2):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        scheduler = task.scheduler(torch.optim, optimizer, steps)
        rates = []
        for _ in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        stages = [len(list(same)) for _, same in groupby(rates)]
        assert len(stages) == 3
        assert max(stages) - min(stages) <= 2
