"""Write the README's table of benchmarks from the newest record of benches/step.py; with `--check`, only compare."""

import argparse
import csv
import textwrap

from records import FOLDER, ROOT

BEGIN, END = "<!-- benchmark table: benches/table.py -->", "<!-- end -->"
OPTIMIZERS = ("SGD momentum", "RMSprop", "AdamW")
VARIANTS = ("default", "foreach", "fused")
MISSING = {("RMSprop", "fused"): "none in torch"}
README = ROOT / "README.md"


def newest():
    return max(FOLDER.glob("*/????-??-??.csv"), key=lambda path: (path.name, path))


def read(path):
    """The first line, and the rows; before there was a column for it, all were float32."""
    about, *lines = path.read_text().splitlines()
    return about.removeprefix("# "), [{"dtype": "float32"} | row for row in csv.DictReader(lines)]


def place(row):
    threads = "1 thread" if row["threads"] == "1" else f"{row['threads']} threads"
    return f"{float(row['ratio']):.2f} ({row['optimizer']} on {row['list']}, {row['dtype']}, {threads})"


def extremes(whom, rows):
    """A sentence on the lowest and the highest ratio, if there are rows."""
    if not rows:
        return []
    low, high = (place(end(rows, key=lambda row: float(row["ratio"]))) for end in (min, max))
    return [f"Against {whom} the rows of all types and numbers of threads lie between {low} and {high}."]


def table(path):
    about, rows = read(path)
    threads = max(int(row["threads"]) for row in rows)
    shown = {
        (row["list"], row["optimizer"], row["against"]): f"{float(row['ratio']):.2f}"
        for row in rows
        if row["dtype"] == "float32" and int(row["threads"]) == threads
    }
    lines = [
        f"float32, {threads} threads; all rows are in `{path.relative_to(ROOT)}`:",
        f"{about}.",
        "",
        "| list | optimizer | " + " | ".join(f"against {variant}" for variant in VARIANTS) + " |",
        "| --- " * (2 + len(VARIANTS)) + "|",
    ]
    for name in dict.fromkeys(row["list"] for row in rows):
        for optimizer in OPTIMIZERS:
            cells = [MISSING.get((optimizer, variant)) or shown[name, optimizer, variant] for variant in VARIANTS]
            lines.append(f"| {name} | {optimizer} | " + " | ".join(cells) + " |")
    clip = [row for row in rows if row["optimizer"] == "AdamW clip"]
    step = [row for row in rows if row["optimizer"] != "AdamW clip"]
    sentences = [
        *extremes("torch's fused step", [row for row in step if row["against"] == "fused"]),
        *extremes("its compiled step", [row for row in step if row["against"] == "compiled"]),
        *extremes("`clip_grad_norm_` and then the fused step", [row for row in clip if row["against"] == "fused"]),
    ]
    return "\n".join([BEGIN, *lines, "", textwrap.fill(" ".join(sentences), 120), END])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if the README differs")
    options = parser.parse_args()
    readme = README.read_text()
    begin, end = readme.index(BEGIN), readme.index(END) + len(END)
    written = readme[:begin] + table(newest()) + readme[end:]
    if options.check and written != readme:
        raise SystemExit("README.md is not what the newest record says: run python benches/table.py")
    if not options.check:
        README.write_text(written)


if __name__ == "__main__":
    main()
