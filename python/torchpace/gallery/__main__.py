"""``python -m torchpace.gallery``: the command."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from torchpace.gallery._page import MissingExtraError
from torchpace.gallery._run import NAMES, index, run, summary


def main(arguments: list[str] | None = None) -> int:
    """Run the scripts that the command line names; 0 if all checks pass, 1 if one fails, 2 for a wrong command."""
    parser = argparse.ArgumentParser(
        prog="python -m torchpace.gallery", description="Reproduce the effects of the learning rate, one script each."
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="what to run (see --list)")
    parser.add_argument("--all", action="store_true", help="run everything, and write an index.html")
    parser.add_argument(
        "--out", type=Path, default=Path("out/gallery"), help="folder for figures (default: out/gallery)"
    )
    parser.add_argument("--list", action="store_true", help="list the names and what they show")
    parser.add_argument("--quick", action="store_true", help="fewer seeds and shorter runs")
    options = parser.parse_args(arguments)
    if options.list:
        width = max(map(len, NAMES))
        print("\n".join(f"{name:{width}}  {summary(name)}" for name in NAMES))
        return 0
    for name in options.names:
        if name not in NAMES:
            parser.error(f"NAME is {name!r}, expected one of: {', '.join(NAMES)}")
    names = NAMES if options.all else options.names
    if not names:
        parser.error("nothing to run: give a NAME, --all, or --list")
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        pages = [run(name, options.out, quick=options.quick) for name in names]
    except MissingExtraError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.all:
        print(f"index: {index(pages, options.out)}")
    failed = [f"{page.name}: {check}" for page in pages for check in page.checks if not check.passed]
    print(f"{sum(len(page.checks) for page in pages) - len(failed)} checks pass, {len(failed)} fail")
    for line in failed:
        print(line)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
