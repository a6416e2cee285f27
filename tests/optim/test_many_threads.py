"""Threads that step on the same and on several optimizers, with state loaded and groups added meanwhile."""

import subprocess
import sys

import pytest

PROGRAM = """
import copy, sys, threading
import torch
from torchpace import optim

torch.set_num_threads(1)
count, rounds, shared, largest = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "shared", int(sys.argv[4])
sys.setswitchinterval(1e-5)
for round in range(rounds):
    def make():
        params = [torch.nn.Parameter(torch.ones(size)) for size in (4, 4, largest)]
        for param in params:
            param.grad = torch.ones_like(param)
        return optim.Adam(params, lr=1e-3)
    optimizers = [make()] * count if shared else [make() for _ in range(count)]
    barrier, errors = threading.Barrier(count), []
    def work(k):
        optimizer = optimizers[k]
        try:
            barrier.wait()
            optimizer.step()
            if k == 1 and round % 3 == 0:
                optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            if k == 0 and round % 3 == 1:
                late = torch.nn.Parameter(torch.ones(3))
                late.grad = torch.ones(3)
                optimizer.add_param_group({"params": [late]})
            if k == 0 and round % 3 == 2:
                optimizer.zero_grad()
            optimizer.step()
        except (KeyError, RuntimeError) as error:
            # state that is being loaded while another thread steps on it
            if "changed size" not in str(error) and not isinstance(error, KeyError):
                errors.append(error)
    threads = [threading.Thread(target=work, args=(k,)) for k in range(count)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert not errors, errors
print("done")
"""


@pytest.mark.parametrize("largest", [4, 300_000])  # with the GIL, and without it
@pytest.mark.parametrize("owner", ["shared", "own"])
@pytest.mark.parametrize("count", [2, 8])
def test_steps_of_many_threads_come_to_an_end(count, owner, largest):
    """In a process of its own, which a deadlock with the GIL held cannot stop from being ended."""
    arguments = [sys.executable, "-c", PROGRAM, str(count), "300" if count == 2 else "100", owner, str(largest)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "done"
