"""The README's tables of benchmarks are the newest records'."""

import csv
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from torchpace import optim

ROOT = Path(__file__).parents[1]
EMPTY = """First
<!-- loop table: benches/table.py -->
what was here
<!-- end -->
between
<!-- step table: benches/table.py -->
<!-- end -->
last
"""


@pytest.fixture
def bench(monkeypatch):
    """The modules of benches, by name."""
    monkeypatch.syspath_prepend(ROOT / "benches")
    yield importlib.import_module
    for path in (ROOT / "benches").glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.fixture
def filled(bench, tmp_path):
    """The README above with the tables of the records in `tmp_path`."""
    return lambda: bench("table").filled(EMPTY, tmp_path)


def record(path, about, rows):
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        file.write(f"# {about}\n")
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def loop_row(task, optimizer, against, time, ratio, high=9.0, loop="plain", dtype="float32", threads=1):
    names = {"task": task, "loop": loop, "optimizer": optimizer, "dtype": dtype, "threads": threads, "time": time}
    return names | {"against": against, "ratio": f"{ratio:.3f}", "low": "0.100", "high": f"{high:.3f}"}


def step_row(name, optimizer, against, ratio, threads=2):
    names = {"list": name, "optimizer": optimizer, "dtype": "float32", "threads": threads, "against": against}
    return names | {"ratio": f"{ratio:.3f}", "low": "0.100", "high": "9.000"}


def both(task, optimizer, ratios, **others):
    """Rows of the step and of the whole iteration, whose ratios are a tenth of the step's."""
    for against, ratio in ratios.items():
        yield loop_row(task, optimizer, against, "step", ratio, **others)
        yield loop_row(task, optimizer, against, "whole", ratio / 10, **others)


def cells(text):
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]


def test_the_readme_has_the_newest_records():
    run = subprocess.run([sys.executable, ROOT / "benches" / "table.py", "--check"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_a_readme_without_records_says_so(filled):
    text = filled()
    assert text.count("has not been run yet") == 2
    assert "what was here" not in text
    assert [text.index(part) for part in ("First", "between", "last")] == sorted(
        map(text.index, ["First", "between", "last"])
    )


def test_a_readme_without_the_comments_is_an_error(bench, tmp_path):
    for text in ("nothing", EMPTY.replace("<!-- end -->", "")):
        with pytest.raises(SystemExit, match="loop table"):
            bench("table").filled(text, tmp_path)


def test_the_newest_record_of_each_kind_counts(filled, tmp_path):
    for day, ratio in (("2026-01-09", 7), ("2026-01-10", 3), ("2025-12-31", 5)):
        for kind in ("-loop", "", "-memory"):
            rows = both("net", "AdamW", dict.fromkeys(("default", "foreach", "fused"), ratio))
            if kind != "-loop":
                rows = [
                    step_row("500 x 16", "AdamW", against, 10 * ratio) for against in ("default", "foreach", "fused")
                ]
            record(tmp_path / "machine" / f"{day}{kind}.csv", f"a machine; {day}", list(rows))
    loop, step = filled().split("between\n")
    assert cells(loop)[2:] == [["net", "AdamW", "3.00", "3.00", "3.00", "0.30", "0.30", "0.30"]]
    assert cells(step)[2:] == [["500 x 16", "AdamW", "30.00", "30.00", "30.00"]]
    for text, name in ((loop, "2026-01-10-loop.csv"), (step, "2026-01-10.csv")):
        assert f"`benches/record/machine/{name}`:\na machine; 2026-01-10." in text


def test_a_table_of_loops_shows_the_plain_loop_and_tells_of_all(filled, tmp_path):
    rows = [
        *both("small", "SGD momentum", {"default": 3, "foreach": 2, "fused": 1.5}),
        *both("small", "RMSprop", {"default": 6, "foreach": 5}),
        *both("small", "AdamW", {"default": 9, "foreach": 7, "fused": 4}, threads=2),
        *both("small", "AdamW", {"default": 9, "foreach": 7, "fused": 0.9}, loop="clip"),
        *both("large", "Adam", {"default": 9, "foreach": 8, "fused": 0.8}, high=0.95, dtype="bfloat16"),
        *both("small", "Lion", {"our AdamW": 0.1, "fused AdamW": 20}),
    ]
    record(tmp_path / "machine" / "2026-01-10-loop.csv", "about", rows)
    text = filled()
    # Nothing of AdamW is plain and on one thread, and of Adam nothing is in float32.
    assert cells(text)[2:] == [
        ["small", "SGD momentum", "3.00", "2.00", "1.50", "0.30", "0.20", "0.15"],
        ["small", "RMSprop", "6.00", "5.00", "none in torch", "0.60", "0.50", "none in torch"],
    ]
    text = re.sub(r"\s+", " ", text)
    assert "0.80 (Adam, large, bfloat16, 1 thread) and 5.00 (RMSprop, small, float32, 1 thread)" in text
    assert "is below 1 in 2 of 5 rows, in 1 of them with its upper quartile" in text
    assert "0.08 (Adam, large, bfloat16, 1 thread) and 0.50 (RMSprop, small, float32, 1 thread)" in text
    assert "is below 1 in 5 of 5 rows, in 1 of them with its upper quartile" in text


def test_what_the_loop_records_is_what_the_table_reads(bench, filled, tmp_path, monkeypatch):
    records = bench("records")
    monkeypatch.setattr(records, "ROOT", tmp_path)
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    arguments = ["--tasks", "LSTM", "--optimizers", "RMSprop", "--loops", "plain", "LambdaLR, EMA", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", ["loop.py", *arguments, "--dtypes", "float32", "--seconds", "0", "--record"])
    threads = torch.get_num_threads()
    try:
        bench("loop").main()
    finally:
        torch.set_num_threads(threads)
    assert [line[:2] for line in cells(filled())[2:]] == [["LSTM", "RMSprop"]]
    (path,) = tmp_path.glob("*/*-loop.csv")
    _, rows = bench("table").read(path)
    assert len(rows) == 2 * 2 * 2  # loops, times, torch's arms
    for row in rows:
        assert float(row["our_loss"]) == pytest.approx(float(row["loss"]), rel=1e-4)


def test_a_table_of_steps_tells_of_what_torch_lacks(filled, tmp_path):
    rows = [
        *(step_row("500 x 16", "AdamW", against, 5) for against in ("default", "foreach", "fused")),
        step_row("GPT-2 small", "Lion", "our AdamW", 1.25),
        step_row("GPT-2 small", "LAMB", "our AdamW", 0.8),
        step_row("GPT-2 small", "LAMB", "fused AdamW", 0.1),
    ]
    record(tmp_path / "machine" / "2026-01-10.csv", "about", rows)
    text = filled()
    assert cells(text)[2:] == [["500 x 16", "AdamW", "5.00", "5.00", "5.00"]]
    text = re.sub(r"\s+", " ", text)
    assert "Against torch's fused step the rows of all types and numbers of threads lie between 5.00" in text
    lion, lamb = (f"({name} on GPT-2 small, float32, 2 threads)" for name in ("Lion", "LAMB"))
    assert "Against our own step of AdamW, for what torch lacks, the rows" in text
    assert f"between 0.80 {lamb} and 1.25 {lion}" in text


def test_every_optimizer_has_a_row(bench):
    ours = {cls.__name__ for cls in vars(optim).values() if isinstance(cls, type) and hasattr(cls, "last_path")}
    for rows in (bench("against").EVERY, bench("step").CASES):
        assert {kind for kind, _ in rows.values()} == ours
    assert bench("loop").RATES.keys() == bench("against").EVERY.keys()


@pytest.mark.parametrize(
    ("row", "arms"),
    [
        (("SGD", {"momentum": 0.9}), ["default", "foreach", "fused", "compiled"]),
        (("NAdam", {}), ["default", "foreach", "compiled"]),
        (("Muon", {}), ["default"]),
        (("Lion", {}), ["our AdamW", "fused AdamW"]),
        (("AdamW", {"cautious": True}), ["our AdamW", "fused AdamW"]),
        (("AdamW", {"max_grad_norm": 1.0}), ["default", "foreach", "fused", "compiled"]),
    ],
)
def test_a_row_is_measured_against_torchs_optimizer_or_adamw(bench, row, arms):
    ours, *others = bench("against").contenders(*row).items()
    assert ours == ("ours", (optim, *row))
    assert [name for name, _ in others] == arms
    for _, contender in others:
        assert contender.on([torch.zeros(2, 2, requires_grad=True)]).param_groups
        assert contender.is_ours() == (contender.module is optim)
        assert contender.is_ours() or "max_grad_norm" not in contender.options


def test_arms_of_a_step_share_their_state(bench):
    step = bench("step")
    for kind in ("NAdam", "LAMB", "ScheduleFreeAdamW", "Muon"):
        contenders = bench("against").contenders(kind, {})
        names = [name for name in contenders if name not in ("ours", "compiled")]
        groups = step.tensors([[(3, 4)]], torch.float32)
        (param,) = groups[0]["params"]
        made = {name: contenders[name].on([dict(group) for group in groups]) for name in ("ours", *names)}
        step.share(made)
        states = [optimizer.state[param] for optimizer in made.values()]
        first = states[1]
        for state in states:
            common = [slot for slot in state if slot in first]
            assert common
            assert all(state[slot] is first[slot] for slot in common)
        for optimizer in made.values():
            optimizer.step()
