"""Arrows of the layer diagram in CONTRIBUTING.md point down only."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]

# Each Rust module and the modules of the crate that it may use.
RUST = {
    "error": set(),
    "number": set(),
    "lr_scheduler": set(),
    "rule": {"number", "error"},
    "rules": {"rule", "number", "error"},
    "tensor": {"error"},
    "check": {"error"},
    "schedule": {"check", "error"},
    "theory": {"check", "error"},
    "batch": {"tensor", "rule", "error"},
    "cpu": {"batch", "tensor", "rule", "number", "error"},
    "cuda": {"batch", "tensor", "rule", "number", "error"},
    "py": {"batch", "cpu", "cuda", "lr_scheduler", "rules", "rule", "schedule", "tensor", "theory", "error"},
    "tch": {"batch", "cpu", "cuda", "rules", "rule", "schedule", "tensor", "error"},
}

# Each Python package and what it may import of the project.
PYTHON = {
    "torchpace": {
        "torchpace._requires",
        "torchpace.control",
        "torchpace.optim",
        "torchpace.schedule",
        "torchpace._native",
    },
    "torchpace.control": {"torchpace._native", "torchpace.control", "torchpace.optim", "torchpace.schedule"},
    "torchpace.gallery": {"torchpace.control", "torchpace.gallery", "torchpace.optim", "torchpace.schedule"},
    "torchpace.gallery.effects": {"torchpace.control", "torchpace.gallery", "torchpace.optim", "torchpace.schedule"},
    "torchpace.optim": {"torchpace._native", "torchpace.optim"},
    "torchpace.optim.lr_scheduler": {"torchpace._native", "torchpace._noted_step", "torchpace.optim.lr_scheduler"},
    "torchpace.schedule": {"torchpace._native", "torchpace._noted_step", "torchpace.schedule"},
}


def rust_uses(path):
    text = re.sub(r"//.*", "", path.read_text())
    text = text.split("#[cfg(test)]")[0]
    for group in re.findall(r"\bcrate::(\w+|\{[^}]*\})", text):
        yield from re.findall(r"\w+", group) if group.startswith("{") else [group]


def test_rust_modules_use_only_what_is_below():
    seen = set()
    for path in sorted((ROOT / "src").rglob("*.rs")):
        module = path.relative_to(ROOT / "src").parts[0].removesuffix(".rs")
        if module == "lib":
            continue
        seen.add(module)
        upward = set(rust_uses(path)) - RUST[module] - {module}
        assert not upward, f"{path.relative_to(ROOT)} uses {sorted(upward)}"
    assert seen == RUST.keys()


def test_only_the_faces_know_python_and_torch():
    for path in (ROOT / "src").rglob("*.rs"):
        parts = path.relative_to(ROOT / "src").parts
        assert "py" in parts or not re.search(r"\bpyo3::", path.read_text()), path
        assert "tch" in parts or not re.search(r"\btch::|\btorch_sys::", path.read_text()), path


def test_python_packages_import_only_what_is_below():
    for path in sorted((ROOT / "python").rglob("*.py")):
        package = ".".join(path.relative_to(ROOT / "python").parent.parts)
        imported = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                imported |= names if node.module == "torchpace" else {node.module}
        ours = {name for name in imported if name.partition(".")[0] == "torchpace"}
        upward = {name for name in ours if not any(name == ok or name.startswith(f"{ok}.") for ok in PYTHON[package])}
        assert not upward, f"{path.relative_to(ROOT)} imports {sorted(upward)}"


def test_the_checks_can_fail(tmp_path):
    bad = tmp_path / "bad.rs"
    bad.write_text("use crate::{cpu::Batch, error::Error};\nuse crate::py; // use crate::rules")
    assert set(rust_uses(bad)) >= {"cpu", "error", "py"}
    assert "rules" not in set(rust_uses(bad))


def test_the_files_that_may_hold_unsafe_code():
    allowed = {
        "batch/mod.rs",
        "batch/task.rs",
        "cpu/element.rs",
        "cpu/isa.rs",
        "cpu/lanes.rs",
        "cpu/nested.rs",
        "cpu/norm.rs",
        "cpu/pack.rs",
        "cpu/pool.rs",
        "cpu/registers.rs",
        "cpu/run.rs",
        "cpu/sweep.rs",
        "cpu/vectors.rs",
        "cuda/device.rs",
        "cuda/driver.rs",
        "cuda/launch.rs",
        "cuda/nvrtc.rs",
        "py/dlpack.rs",
        "py/drive.rs",
        "py/memory.rs",
        "py/state.rs",
        "py/threads.rs",
        "py/torch.rs",
        "tch/drive.rs",
        "tch/memory.rs",
        "tch/steps.rs",
        "tch/version.rs",
        "tensor/view.rs",
    }
    found = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src").rglob("*.rs")
        if "allow(unsafe_code)" in path.read_text()
    }
    assert found == allowed
