"""Write the README's tables of benchmarks from the newest records; with `--check`, only compare."""

import argparse
import csv
import textwrap

from records import FOLDER, ROOT

OPTIMIZERS = ("SGD momentum", "RMSprop", "AdamW")
VARIANTS = ("default", "foreach", "fused")
MISSING = {("RMSprop", "fused"): "none in torch"}
LISTS = ("500 x 16", "ResNet-50", "GPT-2 small", "1 x 124M")
README = ROOT / "README.md"
END = "<!-- end -->"


def read(path):
    """The first line, and the rows; before there was a column for it, all were float32."""
    about, *lines = path.read_text().splitlines()
    return about.removeprefix("# "), [{"dtype": "float32"} | row for row in csv.DictReader(lines)]


def threads(count):
    return "1 thread" if int(count) == 1 else f"{count} threads"


def place(row):
    """The ratio, and in which row it stands."""
    where = f"{row['optimizer']} on {row['list']}" if "list" in row else f"{row['optimizer']}, {row['task']}"
    loop = f", {row['loop']}" if row.get("loop", "plain") != "plain" else ""
    return f"{float(row['ratio']):.2f} ({where}{loop}, {row['dtype']}, {threads(row['threads'])})"


def extremes(rows):
    """The lowest and the highest ratio."""
    return [place(end(rows, key=lambda row: float(row["ratio"]))) for end in (min, max)]


def grid(head, lines):
    return [f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *lines]]


def caption(what, path, about):
    return [f"{what}; all rows are in `benches/record/{path.parent.name}/{path.name}`:", f"{about}.", ""]


def lines(shown, names, times):
    """Those lines of a table whose rows were measured."""
    for name in names:
        for optimizer in OPTIMIZERS:
            keys = [(name, optimizer, time, variant) for time in times for variant in VARIANTS]
            cells = [MISSING.get((optimizer, key[-1])) or shown.get(key) for key in keys]
            if all(cells):
                yield [name, optimizer, *cells]


def step_table(path):
    """Steps of the same gradients again and again: of some lists, in float32 on all threads."""
    about, rows = read(path)
    most = max(int(row["threads"]) for row in rows)
    shown = {
        (row["list"], row["optimizer"], "step", row["against"]): f"{float(row['ratio']):.2f}"
        for row in rows
        if row["dtype"] == "float32" and int(row["threads"]) == most
    }
    clip = [row for row in rows if row["optimizer"] == "AdamW clip"]
    step = [row for row in rows if row["optimizer"] != "AdamW clip"]
    groups = {
        "torch's fused step": [row for row in step if row["against"] == "fused"],
        "its compiled step": [row for row in step if row["against"] == "compiled"],
        "`clip_grad_norm_` and then the fused step": [row for row in clip if row["against"] == "fused"],
        "our own step of AdamW, for what torch lacks,": [row for row in step if row["against"] == "our AdamW"],
    }
    sentences = [
        "Against {} the rows of all types and numbers of threads lie between {} and {}.".format(whom, *extremes(some))
        for whom, some in groups.items()
        if some
    ]
    return [
        *caption(f"float32, {threads(most)}", path, about),
        *grid(["list", "optimizer", *(f"against {variant}" for variant in VARIANTS)], lines(shown, LISTS, ["step"])),
        "",
        textwrap.fill(" ".join(sentences), 120),
    ]


def closest(rows):
    """Of each row of loop.py the ratio against the fastest of torch's arms, by time: of the step, of the whole.

    What torch lacks has no such arm.
    """
    found = {"step": {}, "whole": {}}
    for row in rows:
        if row["against"] not in VARIANTS:
            continue
        of = found[row["time"]]
        key = tuple(row[name] for name in ("task", "loop", "optimizer", "dtype", "threads"))
        of[key] = min(of.get(key, row), row, key=lambda row: float(row["ratio"]))
    return {which: list(of.values()) for which, of in found.items()}


def loop_table(path):
    """Steps in training: of all networks, in float32 on the least threads."""
    about, rows = read(path)
    least = min(int(row["threads"]) for row in rows)
    shown = {
        (row["task"], row["optimizer"], row["time"], row["against"]): f"{float(row['ratio']):.2f}"
        for row in rows
        if row["dtype"] == "float32" and row["loop"] == "plain" and int(row["threads"]) == least
    }
    names = dict.fromkeys(row["task"] for row in rows)
    sentences = []
    for which, what in {"step": "the step's ratio", "whole": "the whole iteration's"}.items():
        closer = closest(rows)[which]
        slower = sum(float(row["ratio"]) < 1 for row in closer)
        surely = sum(float(row["high"]) < 1 for row in closer)
        sentences.append(
            f"{what} lies between {' and '.join(extremes(closer))}, and is below 1 in {slower} of {len(closer)} rows, "
            f"in {surely} of them with its upper quartile"
        )
    whom = "In all loops, types and numbers of threads, against whichever of torch's arms is the fastest:"
    head = [f"{which}, {variant}" for which in ("step", "iteration") for variant in VARIANTS]
    return [
        *caption(f"float32, {threads(least)}", path, about),
        *grid(["network", "optimizer", *head], lines(shown, names, ["step", "whole"])),
        "",
        textwrap.fill(f"{whom} {'; '.join(sentences)}.", 120),
    ]


# What stands in the comment before a table, the names of its records, and what makes it.
TABLES = [
    ("loop", "*/????-??-??-loop.csv", loop_table),
    ("step", "*/????-??-??.csv", step_table),
]


def filled(readme, folder):
    """The README with the tables of the newest records in the folder."""
    for name, pattern, table in TABLES:
        begin = f"<!-- {name} table: benches/table.py -->"
        before, found, rest = readme.partition(begin)
        _, ended, after = rest.partition(END)
        if not found or not ended:
            raise SystemExit(f"README.md has no '{begin}' with '{END}' after it")
        records = sorted(folder.glob(pattern), key=lambda path: (path.name, path))
        written = table(records[-1]) if records else [f"(`benches/{name}.py --record` has not been run yet.)"]
        readme = "\n".join([before + begin, *written, END]) + after
    return readme


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if the README differs")
    options = parser.parse_args()
    readme = README.read_text()
    written = filled(readme, FOLDER)
    if options.check and written != readme:
        raise SystemExit("README.md is not what the newest records say: run python benches/table.py")
    if not options.check:
        README.write_text(written)


if __name__ == "__main__":
    main()
