"""Runs scripts of the gallery, prints what they found, and writes their figures."""

from __future__ import annotations

import html
import importlib
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import torch

from torchpace.gallery._page import Page

# In the order of the index.
NAMES = (
    "schedules",
    "performance_scheduling",
    "stability_bound",
    "feature_scaling",
    "batch_size",
    "momentum",
    "clipping",
    "monitor",
    "representations",
    "double_well",
    "many_basins",
    "narrow_valley",
    "every_rule",
    "plateau_exit",
    "sharp_and_flat",
    "resonance",
    "digits_cyclical",
    "digits_batch",
    "divergence_guard",
    "digits_guard",
    "curvature_rate",
    "edge_of_stability",
)


def script(name: str) -> ModuleType:
    """The module of a script."""
    return importlib.import_module(f"torchpace.gallery.effects.{name}")


def summary(name: str) -> str:
    """What a script shows: the first line of its docstring."""
    return (script(name).__doc__ or "").partition("\n")[0]


def run(name: str, out: Path, *, quick: bool = False) -> Page:
    """Run one script, print its tables and checks, and write its figure to ``out/name.png``."""
    begin = time.perf_counter()
    page = Page(name, quick)
    print(f"== {name}: {summary(name)}", flush=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the tensors are small, and threads would only wait for each other
    try:
        # A script seeds its own generators; whatever it draws besides is the same in any order of scripts.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            script(name).run(page)
    finally:
        torch.set_num_threads(threads)
    if page.figure is None or not page.checks:
        raise RuntimeError(f"the script {name} made no figure or no checks, expected both")
    path = out / f"{name}.png"
    page.figure.savefig(path)
    print("\n".join(page.lines))
    print("\n".join(map(str, page.checks)))
    print(f"   {path}, {time.perf_counter() - begin:.1f} s\n", flush=True)
    return page


def index(pages: Sequence[Page], out: Path) -> Path:
    """Write ``out/index.html``: every figure, what it shows, its tables and checks."""
    parts = []
    for page in pages:
        text = html.escape("\n".join([*page.lines, "", *map(str, page.checks)]))
        heading = html.escape(page.name.replace("_", " "))
        about = html.escape((script(page.name).__doc__ or "").strip())
        parts.append(
            f'<section id="{page.name}"><h2>{heading}</h2>\n<p>{about}</p>\n'
            f'<img src="{page.name}.png" alt="{html.escape(summary(page.name))}">\n'
            f"<details><summary>{_score(page)}</summary><pre>{text}</pre></details></section>"
        )
    links = " · ".join(f'<a href="#{page.name}">{html.escape(page.name.replace("_", " "))}</a>' for page in pages)
    path = out / "index.html"
    path.write_text(_HTML.format(links=links, sections="\n".join(parts)), encoding="utf-8")
    return path


def _score(page: Page) -> str:
    passed = sum(check.passed for check in page.checks)
    return f"{passed} of {len(page.checks)} checks pass"


_HTML = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>torchpace gallery</title>
<meta name="viewport" content="width=device-width">
<style>
body {{ font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; }}
img {{ max-width: 100%; }} pre {{ overflow-x: auto; font-size: 13px; }} p {{ white-space: pre-line; }}
</style></head><body>
<h1>The learning rate, effect by effect</h1>
<p>{links}</p>
{sections}
</body></html>
"""
