"""Arrows of the layer diagram in CONTRIBUTING.md point down only."""

import ast
import re
from pathlib import Path

import pytest

from rust_files import Crate, circles

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


# Circles of files within `src`, and why they may stay.
CIRCLES = {
    # A schedule is a tree: those made of others hold schedules, and `Schedule` is one of them or a curve.
    ("schedule/change.rs", "schedule/compose.rs", "schedule/curve.rs", "schedule/tree.rs"),
}


def test_rust_modules_use_only_what_is_below():
    modules = {path.relative_to(ROOT / "src").parts[0].removesuffix(".rs") for path in (ROOT / "src").rglob("*.rs")}
    assert modules - {"lib"} == RUST.keys()
    for file, path in Crate(ROOT / "src").used():
        module = file.parts[0].removesuffix(".rs")
        assert module == "lib" or {*path[:1]} <= RUST[module] | {module}, f"{file} uses {'::'.join(path)}"


def test_rust_files_do_not_need_each_other_in_a_circle():
    """All circles are among those named above, and those are still there."""
    found = circles(Crate(ROOT / "src").imports())
    named = {frozenset(files) for files in CIRCLES}
    assert not found - named, f"new circles: {[sorted(files) for files in found - named]}"
    assert not named - found, f"circles that are gone: {[sorted(files) for files in named - found]}"


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


def crate(folder, files):
    """A crate of these files, by name."""
    for name, text in files.items():
        path = folder / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Crate(folder / "src")


@pytest.mark.parametrize(
    "text",
    [
        "use crate::{low::Low, a::{self, b::{C, D as E}}};",
        "use crate::a::b::*;",
        "pub(crate) use super::a::b::C;",
        "fn f(x: &'static crate::a::b::C) -> char { 'x' }",
        "mod inner { use super::super::a::b::C; }",
        'const TEXT: &str = "\\""; use crate::a::b::C; const REST: &str = r#"""#;',
        "#[cfg(test)] mod tests { use crate::low; } use crate::a::b::C;",
        "macro_rules! m { () => { $crate::a::b::C } }",
    ],
)
def test_what_a_rust_file_uses_is_seen(tmp_path, text):
    files = {"lib.rs": "mod a; mod low; mod top;", "a/mod.rs": "pub mod b;", "a/b.rs": "pub struct C;", "low.rs": ""}
    found = crate(tmp_path, files | {"top.rs": text})
    assert "a" in {path[0] for file, path in found.used() if file == Path("top.rs")}
    assert Path("a/b.rs") in found.imports()[Path("top.rs")]


@pytest.mark.parametrize(
    "text",
    [
        "// use crate::a::C;",
        "/* use crate::a::C; */",
        "/// [`C`](crate::a::C)\nstruct S;",
        'const TEXT: &str = "use crate::a::C;";',
        "#[cfg(test)] use crate::a::C;",
        "#[cfg(test)]\nmod tests { use crate::a::C; fn f() { crate::a::f() } }",
        "use ::a::C;",
        "fn f() { Vec::a::C() }",
    ],
)
def test_what_a_rust_file_does_not_use_is_not_seen(tmp_path, text):
    found = crate(tmp_path, {"lib.rs": "mod a; mod top;", "a.rs": "pub struct C;", "top.rs": text})
    assert not found.imports()[Path("top.rs")]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({"a.rs": "use crate::b;", "b.rs": "use super::a::A;"}, [{"a.rs", "b.rs"}], id="two files"),
        pytest.param(
            {
                "a.rs": "use crate::b::B;",
                "b.rs": "use crate::c::C;",
                "c.rs": "fn f() { super::a::f() }",
                "d.rs": "use crate::a;",
            },
            [{"a.rs", "b.rs", "c.rs"}],
            id="three files, and one above them",
        ),
        pytest.param(
            {"a.rs": "use crate::b;", "b.rs": "use crate::a;", "c.rs": "use crate::d;", "d.rs": "use crate::{a, c};"},
            [{"a.rs", "b.rs"}, {"c.rs", "d.rs"}],
            id="two circles",
        ),
        pytest.param({"a.rs": "use crate::b; use crate::c;", "b.rs": "use crate::c;", "c.rs": ""}, [], id="none"),
        pytest.param(
            {"p/mod.rs": "mod a; mod b; pub use a::A;", "p/a.rs": "use super::b::B; pub struct A;", "p/b.rs": ""},
            [],
            id="a parent that only declares",
        ),
        pytest.param(
            {"p.rs": "mod a; pub use a::a; const N: f64 = 1.0;", "p/a.rs": "use super::N; pub fn a() {}"},
            [],
            id="a parent that only declares a child with a function of its name",
        ),
        pytest.param(
            {"p/mod.rs": "mod a; fn f() { a::g() } pub fn h() {}", "p/a.rs": "fn g() { super::h() }"},
            [{"p/mod.rs", "p/a.rs"}],
            id="a parent that uses its child",
        ),
        pytest.param(
            {
                "p/mod.rs": "mod a; pub use a::A; pub struct P(A);",
                "p/a.rs": "pub struct A; impl A { fn f(_: super::P) {} }",
            },
            [{"p/mod.rs", "p/a.rs"}],
            id="a parent that passes on what it uses, too",
        ),
        pytest.param(
            {
                "p.rs": "mod a; mod b; pub use b::B;",
                "p/a.rs": "use super::B; pub struct A;",
                "p/b.rs": "use super::a::A; pub struct B;",
            },
            [{"p/a.rs", "p/b.rs"}],
            id="by way of what the parent passes on",
        ),
        pytest.param(
            {
                "p.rs": "mod a; mod b; pub use b::*;",
                "p/a.rs": "fn f(_: super::B) {}",
                "p/b.rs": "use super::a; pub enum B {}",
            },
            [{"p/a.rs", "p/b.rs"}],
            id="by way of all that the parent passes on",
        ),
        pytest.param(
            {"a.rs": "use crate::b;", "b.rs": "#[cfg(test)] mod tests { use crate::a; }"}, [], id="for tests alone"
        ),
    ],
)
def test_circles_of_rust_files_are_found(tmp_path, files, expected):
    declared = "".join(f"mod {name.partition('/')[0].removesuffix('.rs')};" for name in files if name.count("/") < 1)
    found = crate(tmp_path, {"lib.rs": declared} | files)
    assert circles(found.imports()) == {frozenset(files) for files in expected}


def test_the_files_that_may_hold_unsafe_code():
    allowed = {
        "batch/mod.rs",
        "batch/scalar.rs",
        "batch/task.rs",
        "cpu/adafactor/collect.rs",
        "cpu/adafactor/kernel.rs",
        "cpu/adafactor/matrices.rs",
        "cpu/adafactor/means.rs",
        "cpu/adafactor/narrow.rs",
        "cpu/adafactor/operand.rs",
        "cpu/adafactor/run.rs",
        "cpu/adafactor/vectors.rs",
        "cpu/element.rs",
        "cpu/isa.rs",
        "cpu/lanes.rs",
        "cpu/nested.rs",
        "cpu/norm.rs",
        "cpu/pack.rs",
        "cpu/piece.rs",
        "cpu/pool.rs",
        "cpu/registers.rs",
        "cpu/run.rs",
        "cpu/sums.rs",
        "cpu/sweep.rs",
        "cpu/vectors.rs",
        "cuda/device.rs",
        "cuda/driver.rs",
        "cuda/launch.rs",
        "cuda/nvrtc.rs",
        "cuda/put.rs",
        "py/grads.rs",
        "py/list.rs",
        "py/plan/drive.rs",
        "py/plan/layouts.rs",
        "py/plan/state.rs",
        "py/step/collect.rs",
        "py/step/find.rs",
        "py/step/ready.rs",
        "py/step/resolve.rs",
        "py/step/run.rs",
        "py/step/see.rs",
        "py/torch/attribute.rs",
        "py/torch/dlpack.rs",
        "py/torch/handles.rs",
        "py/torch/learn.rs",
        "py/torch/library.rs",
        "py/torch/look.rs",
        "py/torch/mod.rs",
        "tch/drive.rs",
        "tch/memory.rs",
        "tch/steps.rs",
        "tch/threads.rs",
        "tch/version.rs",
        "tensor/view.rs",
    }
    found = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src").rglob("*.rs")
        if "allow(unsafe_code)" in path.read_text()
    }
    assert found == allowed
