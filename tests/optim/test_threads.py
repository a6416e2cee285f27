"""A step computes without the GIL, and two of them side by side do not disturb each other."""

import os
import subprocess
import sys
import threading
import time

import pytest
import torch

from torchpace import optim


def trainer(size, seed):
    torch.manual_seed(seed)
    param = torch.nn.Parameter(torch.randn(size))
    param.grad = torch.randn(size)
    return optim.Adam([param], lr=0.1), param


def test_other_threads_run_during_a_step():
    optimizer, _ = trainer(5_000_000, 0)
    optimizer.step()
    turns, during = 0, 0

    def step():
        nonlocal during
        for _ in range(100):  # the main thread may be slow to wake up, so more than one chance
            before = turns
            optimizer._plan.step(optimizer.param_groups, optimizer.state, optimizer._new_state, 1)
            during = turns - before
            if during:
                return

    interval = sys.getswitchinterval()
    # Nobody loses the GIL but by giving it away: the main thread by sleeping, the other one only within its step.
    sys.setswitchinterval(1000)
    try:
        thread = threading.Thread(target=step)
        thread.start()
        while thread.is_alive():
            turns += 1
            time.sleep(0)
        thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert during > 0


FORK = """
import os, signal, torch
from torchpace import optim
param = torch.nn.Parameter(torch.ones(1_000_000))
param.share_memory_()
param.grad = torch.ones(1_000_000)
optimizer = optim.Adam([param], lr=0.1)
torch.set_num_threads(2)
optimizer.step()
child = os.fork()
if child == 0:
    signal.alarm(60)
    optimizer.step()
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert torch.allclose(param, torch.full_like(param, 0.8)), param
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_step_after_a_fork():
    """torch's own step waits for ever for threads that stayed behind."""
    run = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_two_optimizers_in_two_threads():
    expected = []
    for seed in (1, 2):
        optimizer, param = trainer(300_001, seed)
        for _ in range(20):
            optimizer.step()
        expected.append(param.detach())
    runs = [trainer(300_001, seed) for seed in (1, 2)]
    threads = [threading.Thread(target=lambda o=run[0]: [o.step() for _ in range(20)]) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(run[1], value) for run, value in zip(runs, expected, strict=True))
