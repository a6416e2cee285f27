"""The gallery: every script at reduced size, the command, the index, and what a failing check does."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from torchpace import optim
from torchpace.gallery import __main__ as command
from torchpace.gallery import _run
from torchpace.gallery._page import Page
from torchpace.gallery.effects import every_rule

FAST = ("sharp_and_flat", "clipping")


@pytest.mark.parametrize("name", _run.NAMES)
def test_every_script_passes_its_checks_and_draws(name, tmp_path, capsys):
    page = _run.run(name, tmp_path, quick=True)
    assert [str(check) for check in page.checks if not check.passed] == []
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert printed.startswith(f"== {name}: {_run.summary(name)}")
    assert printed.count("pass  ") == len(page.checks) > 0
    assert len(page.lines) > 2
    for axis in page.figure.axes:
        # Axes that share theirs with others are labelled once.
        assert axis.get_title() or axis.get_ylabel()
    assert any(axis.get_xlabel() for axis in page.figure.axes)
    assert any(axis.get_title() for axis in page.figure.axes)
    assert covered(page.figure) == []


def covered(figure):
    """The lines that run beneath a legend, or beneath a text that stands on its own."""
    figure.canvas.draw()
    found = []
    for axis in figure.axes:
        boxes = [text.get_window_extent() for text in axis.texts if text.get_bbox_patch() is None]
        boxes += [] if axis.get_legend() is None else [axis.get_legend().get_window_extent()]
        for line in [line for other in figure.axes if same_place(axis, other) for line in other.get_lines()]:
            points = line.get_transform().transform(np.column_stack(line.get_data()).astype(float))
            for start, end in itertools.pairwise(points):
                way = start + (end - start) * np.linspace(0, 1, 20)[:, None]
                if any(box.contains(*point) for box in boxes for point in way):
                    found.append((axis.get_title(), line.get_label()))
                    break
    return found


def same_place(axis, other):
    return axis.bbox.bounds == other.bbox.bounds


def test_what_lies_beneath_a_legend_is_seen():
    for loc, expected in (("lower right", [("", "falls")]), ("upper right", [])):
        axis = Page("a").one_axes()
        axis.plot([0, 1], [1, 0], label="falls")
        axis.legend(loc=loc)
        assert covered(axis.figure) == expected


def test_figures_draw_all_that_they_tell_of(tmp_path):
    """All steps of a race, and all rates of a table."""
    page = _run.run("narrow_valley", tmp_path, quick=True)
    for axis in page.figure.axes:
        (path,) = axis.get_lines()
        steps = int(re.search(r"(\d+) steps", axis.get_title())[1])
        assert len(path.get_xdata()) == steps + 1
        assert np.hypot(path.get_xdata()[-1], path.get_ydata()[-1]) < 2e-3
    page = _run.run("double_well", tmp_path, quick=True)
    names = [text.get_text().partition(":")[0] for text in page.figure.axes[1].texts]
    assert names == [line.partition("  ")[0] for line in page.lines[2:]]
    assert len(names) == 7


def test_every_rule_of_the_package_is_in_the_valley(tmp_path, monkeypatch):
    """With a row of the table, a curve and a path, here of a coarser grid."""
    monkeypatch.setattr(every_rule, "GRID", torch.logspace(-4, 3, 15, dtype=torch.float64))
    monkeypatch.setattr(every_rule, "FINE", 3)
    ours = [cls for cls in vars(optim).values() if isinstance(cls, type) and hasattr(cls, "last_path")]
    every = {"plain descent", *(cls.__name__ for cls in ours)}
    assert {rule.name for rule in every_rule.rules()} == every
    assert every >= {"Muon", "ScheduleFreeSGD", *every_rule.WITHOUT_AXES, *every_rule.BY_COORDINATE}
    page = _run.run("every_rule", tmp_path, quick=True)
    *paths, curves, ends = page.figure.axes
    assert {line.partition("  ")[0] for line in page.lines[2:]} == every
    assert {line.get_label() for line in curves.get_lines()} == every
    assert {axis.get_title().partition(",")[0] for axis in paths} == every
    assert [len(line.get_ydata()) for line in ends.get_lines()] == [len(every)] * 2


def test_rules_in_the_valley_step_as_optimizers_of_their_own(monkeypatch):
    """Whether the rates are groups of one or not; and averages are seen in eval mode."""
    rates, axes = torch.tensor([0.3, 0.01], dtype=torch.float64), every_rule.FORMS["turned"]
    for name in ("Adam", "ScheduleFreeAdamW"):
        rule = every_rule.Rule(name, getattr(optim, name))
        together = every_rule.descend(rule, rates, axes)
        monkeypatch.setattr(every_rule, "APART", {name})
        assert torch.equal(every_rule.descend(rule, rates, axes), together)
        for place, rate in enumerate(rates.tolist()):
            param = torch.nn.Parameter(every_rule.START @ axes.T)
            optimizer = rule.cls([param], lr=rate, weight_decay=0)
            for _ in range(every_rule.STEPS):
                param.grad = (param.detach() @ axes * every_rule.CURVATURES) @ axes.T
                optimizer.step()
            if name == "ScheduleFreeAdamW":
                optimizer.eval()
            torch.testing.assert_close(together[-1, place], param.detach() @ axes, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["clipping", "curvature_rate", "divergence_guard", "resonance"])
def test_no_floor_is_drawn_that_is_none(name, tmp_path):
    """On a logarithmic scale a curve that falls goes on falling; one that is cut is cut where the axis says so."""
    page = _run.run(name, tmp_path, quick=True)
    for axis in page.figure.axes:
        for line in axis.get_lines():
            values = np.asarray(line.get_ydata(), dtype=float)
            if axis.get_yscale() == "log" and len(values) > 20:
                flat = (values[1:] == values[:-1]) & (values[1:] > 0)
                assert not flat.any() or f"cut at {values[1:][flat].max():.0e}".replace("+0", "") in axis.get_ylabel()


def test_the_names_are_those_of_the_scripts():
    folder = Path(_run.script("clipping").__file__).parent
    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == set(_run.NAMES)


def test_list(capsys):
    assert command.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(_run.NAMES)
    assert all(re.fullmatch(r"\w+ +\S.*[.?]", line) for line in lines)


def test_all_writes_an_index(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "NAMES", FAST)
    assert command.main(["--all", "--quick", "--out", str(tmp_path / "new")]) == 0
    page = (tmp_path / "new" / "index.html").read_text()
    for name in FAST:
        assert f'<img src="{name}.png" alt="{_run.summary(name).replace(chr(39), "&#x27;")}">' in page
        assert (tmp_path / "new" / f"{name}.png").exists()
        assert f'href="#{name}"' in page
    assert "6 of 6 checks pass" in page
    assert "0 fail" in capsys.readouterr().out


def test_a_check_that_fails_is_exit_status_1(tmp_path, capsys, monkeypatch):
    from torchpace.gallery.effects import sharp_and_flat

    real = sharp_and_flat.run

    def wrong(page):
        real(page)
        page.check("one that is wrong", 1.0, 2.0, 0.5)

    monkeypatch.setattr(sharp_and_flat, "run", wrong)
    assert command.main(["sharp_and_flat", "clipping", "--quick", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "FAIL  one that is wrong: 1, expected 2 within 0.5" in printed
    assert printed.splitlines()[-1] == "sharp_and_flat: FAIL  one that is wrong: 1, expected 2 within 0.5"
    assert "1 fail" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no_such"], "NAME is 'no_such', expected one of: schedules, "),
        ([], "nothing to run: give a NAME, --all, or --list"),
    ],
)
def test_wrong_commands_are_exit_status_2(arguments, words, capsys):
    with pytest.raises(SystemExit) as raised:
        command.main(arguments)
    assert raised.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("missing", "name", "words"),
    [
        ("matplotlib", "clipping", "error: the gallery needs matplotlib: pip install 'torchpace[gallery]'"),
        ("sklearn", "digits_batch", "error: the digits need scikit-learn: pip install 'torchpace[gallery]'"),
    ],
)
def test_without_what_the_extra_brings(missing, name, words, tmp_path):
    code = f"""
import sys
class Hide:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == {missing!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Hide())
from torchpace.gallery.__main__ import main
assert main(["--list"]) == 0
sys.exit(main([{name!r}, "--quick", "--out", {str(tmp_path)!r}]))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stderr.splitlines() == [words]


def test_checks():
    page = Page("a")
    page.check("in", 1.0, 1.1, 0.2)
    page.check("out", 1.0, 1.1, 0.05)
    page.check("not a number", float("nan"), 1.0, 1.0)
    page.holds("in", 1.0, low=1.0, high=1.0)
    page.holds("out", 1.0, low=1.1)
    page.says("out", "left", "right")
    assert [check.passed for check in page.checks] == [True, False, False, True, False, False]
    assert not page.passed


def test_rates_are_checked_within_three_binomial_errors():
    """At 1,000 runs of probability 0.1 the error is 0.0095."""
    page = Page("a")
    for hits in (72, 71, 128, 129):
        page.rate("share", hits, 1000, 0.1)
    assert [check.passed for check in page.checks] == [True, False, True, False]
    page = Page("a")
    for hits in (0, 1):
        page.rate("never", hits, 1000, 0.0)
    for hits in (1000, 999):
        page.rate("always", hits, 1000, 1.0)
    assert [check.passed for check in page.checks] == [True, False, True, False]
    page = Page("a")
    for hits in (266, 267, 364, 365):
        page.rate("between", hits, 1000, 0.31, 0.32)
    assert [check.passed for check in page.checks] == [False, True, True, False]


def test_tables_are_aligned():
    page = Page("a")
    page.table(("name", "x"), [("long name", 1.23456), ("b", 1000)])
    assert page.lines == ["name           x", "long name  1.235", "b          1,000"]


def test_a_script_without_checks_is_an_error(tmp_path, monkeypatch):
    from torchpace.gallery.effects import clipping

    monkeypatch.setattr(clipping, "run", lambda page: page.axes())
    with pytest.raises(RuntimeError, match="clipping made no figure or no checks"):
        _run.run("clipping", tmp_path)
