"""What the benchmarks write to benches/record/<machine>/: rows as CSV below a line of machine, commit and command."""

import csv
import datetime
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benches" / "record"


def machine():
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        model = models[0].partition(":")[2].strip() if models else model
    return f"{model}, {os.cpu_count()} cores"


def commit():
    try:
        command = ["git", "describe", "--always", "--dirty"]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return run.stdout.strip() or "unknown"


def about(where=None):
    """One line: where (this machine, if nothing else is said), when and what."""
    command = shlex.join(["python", f"benches/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    return f"{where or machine()}; {datetime.date.today()}; torch {torch.__version__}; commit {commit()}; {command}"


def others():
    """Seconds of processor time that other processes have used so far, or the host has kept (Linux; elsewhere 0)."""
    if not Path("/proc/stat").exists():
        return 0.0
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    ticks = user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])


def write(kind, line, rows):
    """Write <date><kind>.csv; `line` is what `about()` said before the run, which may outlast a commit or a day."""
    where, date = line.split("; ")[:2]
    folder = FOLDER / "".join(c if c.isalnum() else "-" for c in where).strip("-").lower()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{date}{kind}.csv"
    with path.open("w", newline="") as file:
        file.write(f"# {line}\n")
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    print(f"\nrecorded in {path.relative_to(ROOT)}")
