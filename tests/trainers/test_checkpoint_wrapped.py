"""Files of `torchpace.optim.checkpoint` through what trainers make of an optimizer."""

import accelerate
import pytest
import torch
from lightning.fabric import Fabric
from lightning.pytorch.core.optimizer import LightningOptimizer

from torchpace import optim
from torchpace.optim import checkpoint


def by_accelerate(model, optimizer):
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    return accelerate.Accelerator(cpu=True).prepare(model, optimizer)


def by_fabric(model, optimizer):
    return Fabric(accelerator="cpu", devices=1).setup(model, optimizer)


def by_lightning(model, optimizer):
    return model, LightningOptimizer(optimizer)


@pytest.mark.parametrize("wrap", [by_accelerate, by_fabric, by_lightning])
def test_wrapped_optimizers(wrap, tmp_path):
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2)
    plain = optim.Adam(layer.named_parameters(), lr=0.1)
    layer(torch.ones(1, 3)).sum().backward()
    plain.step()
    _, wrapped = wrap(layer, optim.Adam(layer.named_parameters(), lr=0.5))
    checkpoint.save(plain, tmp_path / "plain")
    checkpoint.load(wrapped, tmp_path / "plain")
    checkpoint.save(wrapped, tmp_path / "wrapped")
    again = optim.Adam(layer.named_parameters(), lr=0.7)
    checkpoint.load(again, tmp_path / "wrapped")
    for optimizer in (wrapped, again):
        assert optimizer.param_groups[0]["lr"] == 0.1
        assert optimizer.state.keys() == plain.state.keys()
        for param, entries in plain.state.items():
            torch.testing.assert_close(optimizer.state[param], entries, rtol=0, atol=0)
