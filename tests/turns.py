"""The Python side of `python_and_rust_take_turns` in tests/tch.rs, which calls it with the folder that both write to.

For each of its cases: a run of ten steps, a file after the fifth, and the second half of the run whose first is Rust's.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from torchpace import optim, schedule
from torchpace.optim import checkpoint

KINDS = {"Float": torch.float32, "Double": torch.float64, "BFloat16": torch.bfloat16}
SHAPES = [(40, 30), (), (3, 1, 5), (0, 4), (257,)]


def numbers(seed, size, kind):
    places = torch.arange(torch.Size(size).numel())
    return (((places * 7919 + seed * 104_729) % 1999).double() / 1000.0 - 1.0).reshape(size).to(kind)


def loss(params, seed):
    pulls = [numbers(seed + 17 * k, param.shape, param.dtype) for k, param in enumerate(params)]
    parts = [(p * pull + p * p * 0.5).sum(dtype=torch.float64) for p, pull in zip(params, pulls, strict=True)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


class Run:
    def __init__(self, case, folder):
        self.folder = folder / case["folder"]
        kind = KINDS[case["kind"]]
        self.params = {f"p{k}": numbers(k, size, kind).requires_grad_() for k, size in enumerate(SHAPES)}
        values = list(self.params.values())
        given = {"own": list(self.params.items()), "none": values, "one": [("p", value) for value in values]}
        self.optimizer = getattr(optim, case["class"])(given[case["names"]], **case["options"])

    def resume(self, name):
        for key, value in load_file(self.folder / f"{name}-weights.safetensors").items():
            self.params[key].data.copy_(value)
        checkpoint.load(self.optimizer, self.folder / f"{name}.safetensors")

    def steps(self, steps):
        scheduler = schedule.cosine(20).on(self.optimizer)
        scheduler.seek(steps[0])
        for step in steps:
            self.optimizer.zero_grad()
            loss(list(self.params.values()), step).backward()
            self.optimizer.step()
            assert self.optimizer.last_path == "fused"
            scheduler.step()

    def save(self, name):
        weights = {key: param.detach() for key, param in self.params.items()}
        save_file(weights, self.folder / f"{name}-weights.safetensors")
        checkpoint.save(self.optimizer, self.folder / f"{name}.safetensors")


def main(folder):
    torch.set_num_threads(1)
    for case in json.loads((folder / "cases.json").read_text()):
        whole = Run(case, folder)
        whole.steps(range(5))
        whole.save("python-half")
        whole.steps(range(5, 10))
        whole.save("python-whole")
        # The names in Rust's file are all its own.
        turn = Run({**case, "names": "own" if case["names"] == "own" else "none"}, folder)
        turn.resume("rust-half")
        turn.steps(range(5, 10))
        turn.save("python-after-rust")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
