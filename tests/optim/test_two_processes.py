"""Parameters spread over two processes: each steps on its shard, and norms are those of all."""

import subprocess
import sys

import pytest
import torch

from torchpace import optim

WORKER = """
import os, sys, warnings, torch, torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torchpace import optim
store, rank, out, name, path = sys.argv[1], int(sys.argv[2]), *sys.argv[3:]
warnings.simplefilter("ignore")
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
mesh = init_device_mesh("cpu", (2,))
def spread(value, placement):
    return distribute_tensor(value, mesh, [placement])
placements = [Shard(0), Shard(1), Replicate()]
values = [torch.arange(6.0).reshape(3, 2), torch.ones(2, 4), torch.full((5,), 2.0)]
params = [torch.nn.Parameter(spread(value, how)) for value, how in zip(values, placements)]
params.append(torch.nn.Parameter(torch.ones(3)))
optimizer = getattr(optim, name)(params, lr=0.1, max_grad_norm=1.0)
for step in range(3):
    for param, how in zip(params, placements):
        param.grad = spread(torch.full(param.shape, 0.5 + step), how)
    params[3].grad = torch.full((3,), 0.25)
    optimizer.step()
    assert optimizer.last_path == path, optimizer.last_path
full = [param.full_tensor().detach() if hasattr(param, "full_tensor") else param.detach() for param in params]
if rank == 0:
    torch.save({"params": full, "norm": optimizer.grad_norm}, out)
dist.barrier()
os._exit(0)  # torch's own taking down of the processes' group aborts once in a dozen runs (2.10, its optimizers too)
"""


SUMS = "torch: a parameter is spread over processes, and its update needs sums over all of it"


@pytest.mark.parametrize(("name", "path"), [("AdamW", "fused"), ("LAMB", SUMS), ("LARS", SUMS), ("Prodigy", SUMS)])
def test_shards_and_their_norms(tmp_path, name, path):
    arguments = [str(tmp_path / "store"), "{rank}", str(tmp_path / "out.pt"), name, path]
    command = [sys.executable, "-c", WORKER]
    workers = [
        subprocess.Popen([*command, *(text.format(rank=rank) for text in arguments)], stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    errors = [worker.communicate(timeout=120)[1].decode() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors
    found = torch.load(tmp_path / "out.pt", weights_only=True)

    params = [torch.arange(6.0).reshape(3, 2), torch.ones(2, 4), torch.full((5,), 2.0), torch.ones(3)]
    params = [torch.nn.Parameter(value) for value in params]
    optimizer = getattr(optim, name)(params, lr=0.1, max_grad_norm=1.0)
    for step in range(3):
        for param in params[:3]:
            param.grad = torch.full(param.shape, 0.5 + step)
        params[3].grad = torch.full((3,), 0.25)
        optimizer.step()
    torch.testing.assert_close(found["norm"], optimizer.grad_norm)
    for param, expected in zip(found["params"], params, strict=True):
        torch.testing.assert_close(param, expected.detach())
