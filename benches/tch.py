"""Run benches/tch.rs by the command that is given, and write its rows to benches/record/<machine>/<date>-tch.csv.

`make bench-tch RECORD=1` does it. The line above the rows ends with what other processes took of the processors.
"""

import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import records


def main():
    machine, date, torch, commit, _ = records.about().split("; ")
    begin, others = time.perf_counter(), records.others()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        subprocess.run(sys.argv[1:], env={**os.environ, "RECORD": str(path)}, check=True)
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    others = (records.others() - others) / (time.perf_counter() - begin)
    about = f"{machine}; {date}; {torch}; {commit}; make bench-tch RECORD=1 (others: {others:.0%} of a core)"
    records.write("-tch", about, rows)


if __name__ == "__main__":
    main()
