"""Fabric, and the optimizer that Lightning hands out: what the last step did is told through their wrappers."""

import lightning
import pytest
import torch
from lightning.fabric import Fabric

import cases
from torchpace import optim

each_optimizer = pytest.mark.parametrize("name", cases.OPTIMIZERS)
pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning warns of much


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))


@each_optimizer
def test_fabrics_optimizer_tells_what_the_last_step_did(name):
    fabric = Fabric(accelerator="cpu", devices=1)
    net = network()
    optimizer = getattr(optim, name)(net.parameters(), max_grad_norm=0.5)
    net, prepared = fabric.setup(net, optimizer)
    assert prepared is not optimizer
    assert isinstance(prepared, getattr(optim, name))
    assert (prepared.last_path, prepared.grad_norm) == (None, None)
    norms = []
    for _ in range(2):
        prepared.zero_grad()
        fabric.backward(net(torch.ones(4, 6)).square().sum())
        expected = torch.nn.utils.get_total_norm([param.grad for param in net.parameters()])
        prepared.step()
        assert prepared.last_path == optimizer.last_path == "fused"
        torch.testing.assert_close(prepared.grad_norm, expected)
        norms.append(prepared.grad_norm.item())
    assert norms[0] != norms[1]


@pytest.mark.parametrize("fused", [None, True])
def test_fabric_clips_as_the_optimizer_can(fused):
    """It refuses to clip for an optimizer that unscales in its step, and asks the wrapper."""
    from lightning.fabric.plugins.precision.amp import _optimizer_handles_unscaling

    net = network()
    _, prepared = Fabric(accelerator="cpu", devices=1).setup(net, optim.AdamW(net.parameters(), fused=fused))
    assert _optimizer_handles_unscaling(prepared) is bool(fused)


@each_optimizer
def test_lightnings_optimizer_tells_what_the_last_step_did(name):
    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net, self.told = network(), []

        def configure_optimizers(self):
            return getattr(optim, name)(self.net.parameters(), max_grad_norm=0.5)

        def training_step(self, batch):
            optimizer = self.optimizers()
            assert type(optimizer) is not getattr(optim, name)
            self.told.append((optimizer.last_path, optimizer.grad_norm))
            return self.net(batch).square().sum()

    module = Module()
    quiet = dict.fromkeys(["enable_checkpointing", "enable_model_summary", "enable_progress_bar", "logger"], False)
    trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", devices=1, **quiet)
    trainer.fit(module, torch.utils.data.DataLoader(torch.ones(12, 6), batch_size=4))
    assert [path for path, _ in module.told] == [None, "fused", "fused"]
    assert module.told[0][1] is None
    assert all(norm > 0 for _, norm in module.told[1:])
