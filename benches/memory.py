"""Peak memory of a step of AdamW on one tensor of 124 million float32, beyond what was allocated before it.

Each arm is a process of its own, and the peak is Linux's: VmHWM of /proc/self/status, reset before the step.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import torch

import records
import torchpace
from against import TORCHS
from lists import LISTS
from step import tensors

ARMS = {"ours": {}} | TORCHS


def status(name):
    """A figure of /proc/self/status, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024 / 1e6


def peak(arm):
    """Peak of the third step, in MB; the first makes the state."""
    module = torchpace.optim if arm == "ours" else torch.optim
    optimizer = module.AdamW(tensors(LISTS["1 x 124M"](), torch.float32), **ARMS[arm])
    optimizer.step()
    optimizer.step()
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew at VmRSS
    before = status("VmRSS")
    optimizer.step()
    return status("VmHWM") - before


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arm", choices=list(ARMS), help="only this one, in this process: prints the number")
    parser.add_argument("--record", action="store_true", help="write the rows to benches/record/")
    options = parser.parse_args()
    if not Path("/proc/self/clear_refs").exists():
        raise SystemExit("error: no /proc/self/clear_refs: the peak is measured on Linux only")
    if options.arm:
        print(peak(options.arm))
        return
    about = records.about()
    print(f"{about}; torchpace {torchpace.__version__}")
    print("AdamW on 1 x 124M, float32: a parameter is 496 MB. Peak of a step beyond what was there before:\n")
    rows = []
    for arm in ARMS:
        command = [sys.executable, __file__, "--arm", arm]
        megabytes = float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        print(f"{arm:10}{megabytes:10.1f} MB", flush=True)
        rows.append({"arm": arm, "peak_mb": f"{megabytes:.1f}"})
    if options.record:
        records.write("-memory", about, rows)


if __name__ == "__main__":
    main()
