"""Instructions of a step of Adam on 500 tensors of 16, ours and torch's, counted by valgrind's callgrind.

Counts do not depend on what else the machine does. Starting torch under valgrind takes two minutes. To its programs
valgrind shows a CPU without AVX-512, so what is counted is the code for AVX2.
"""

import argparse
import gc
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

import torchpace
from against import TORCHS
from lists import LISTS
from step import tensors

MARK = "getsid"  # a function of libc that nobody else calls: callgrind writes a file whenever it is entered


def counted(steps):
    """What runs inside of valgrind: each arm between two marks."""
    torch.set_num_threads(1)
    gc.disable()
    groups = LISTS["500 x 16"]()
    optimizers = [torchpace.optim.Adam(tensors(groups, torch.float32))]
    optimizers += [torch.optim.Adam(tensors(groups, torch.float32), **TORCHS[name]) for name in names()[1:]]
    for optimizer in optimizers:
        optimizer.step()
        optimizer.step()
    os.getsid(0)
    for optimizer in optimizers:
        for _ in range(steps):
            optimizer.step()
        os.getsid(0)
    if optimizers[0].last_path != "fused":
        raise SystemExit(f"our step was not fused: {optimizers[0].last_path}")


def names():
    return ["ours", *TORCHS]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=4, help="steps to count, after two others (default: 4)")
    parser.add_argument("--inside", action="store_true", help="make the steps; this is how valgrind is given it")
    options = parser.parse_args()
    if options.inside:
        counted(options.steps)
        return
    if shutil.which("valgrind") is None:
        raise SystemExit("error: valgrind not found: install it (Debian: apt install valgrind)")
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", f"--dump-before={MARK}"]
        command += [sys.executable, __file__, "--inside", "--steps", str(options.steps)]
        run = subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": "0"}, stderr=subprocess.PIPE, text=True)
        # out.1 is all before the first mark, and each later one what ran between two.
        files = [Path(folder, f"out.{2 + k}") for k in range(len(names()))]
        if run.returncode != 0 or not files[-1].exists():
            raise SystemExit(f"{run.stderr}\nerror: nothing counted (valgrind's exit status {run.returncode})")
        counts = [int(re.search(r"^totals: (\d+)", file.read_text(), re.MULTILINE)[1]) for file in files]
    print(f"Adam on 500 x 16, float32, one thread, torch {torch.__version__}: instructions a step")
    for name, count in zip(names(), counts, strict=True):
        print(f"{name:8}{count / options.steps:14,.0f}{count / counts[0]:8.2f} times ours")


if __name__ == "__main__":
    main()
