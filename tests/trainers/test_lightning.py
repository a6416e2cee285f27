"""Short runs under Lightning with our optimizers and schedules, against the same runs with torch's."""

import logging

import lightning
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch.utils.data import DataLoader, TensorDataset

from torchpace import optim, schedule

# Lightning warns of much; of schedulers nobody may.
pytestmark = pytest.mark.filterwarnings("ignore", "error:.*scheduler")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Module(lightning.LightningModule):
    """A small network; `configure` makes what Lightning asks for."""

    def __init__(self, configure, metrics=()):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)).double()
        self.configure, self.metrics = configure, metrics
        self.rates, self.losses = [], []

    def configure_optimizers(self):
        return self.configure(self.parameters())

    def loss(self, batch):
        inputs, targets = batch
        return torch.nn.functional.mse_loss(self.net(inputs), targets)

    def training_step(self, batch):
        loss = self.loss(batch)
        self.losses.append(loss.item())
        self.rates.append(self.optimizers().param_groups[0]["lr"])
        return loss

    def validation_step(self, batch):
        # A metric of our choosing, so that a plateau does what the test wants.
        metric = self.metrics[min(self.current_epoch, len(self.metrics) - 1)] if self.metrics else self.loss(batch)
        self.log("metric", torch.as_tensor(metric))


def loader():
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(64, 6, generator=generator, dtype=torch.float64)
    return DataLoader(TensorDataset(inputs, inputs.sum(1, keepdim=True).tanh()), batch_size=16)


def fit(module, epochs=6, ckpt_path=None, **options):
    quiet = dict.fromkeys(["enable_checkpointing", "enable_model_summary", "enable_progress_bar", "logger"], False)
    trainer = lightning.Trainer(max_epochs=epochs, accelerator="cpu", devices=1, **quiet, **options)
    trainer.fit(module, loader(), loader(), ckpt_path=ckpt_path, weights_only=True)
    return trainer


def each_step(scheduler):
    return {"scheduler": scheduler, "interval": "step"}


def test_swapping_the_import_changes_nothing():
    runs = []
    for library in (optim, torch.optim):

        def configure(params, library=library):
            optimizer = library.AdamW(params, lr=0.02)
            scheduler = library.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=24)
            return [optimizer], [each_step(scheduler)]

        module = Module(configure)
        fit(module, gradient_clip_val=0.5)
        runs.append(module)
    ours, torchs = runs
    assert ours.rates == torchs.rates
    assert len(set(ours.rates)) == 24
    assert ours.losses == pytest.approx(torchs.losses, rel=1e-11)
    assert ours.losses[-1] < ours.losses[0] / 2


@pytest.mark.parametrize("kind", ["ours", "composed"])
def test_a_run_goes_on_from_a_checkpoint(kind, tmp_path):
    def configure(params):
        optimizer = optim.Adam(params, lr=0.02)
        if kind == "ours":
            scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, 24)
        else:
            scheduler = schedule.warmup(6).then(schedule.cosine(18)).on(optimizer)
        return [optimizer], [each_step(scheduler)]

    whole = Module(configure)
    fit(whole)
    half = Module(configure)
    fit(half, epochs=3).save_checkpoint(tmp_path / "half.ckpt")
    rest = Module(configure)
    fit(rest, ckpt_path=tmp_path / "half.ckpt")
    assert half.rates + rest.rates == whole.rates
    assert half.losses + rest.losses == whole.losses


METRICS = [5.0, 4.0, 4.0, 4.0, 3.0, 3.0, 3.0, 3.0]


def test_a_plateau_gets_its_metric():
    runs = []
    for library in (optim, torch.optim):

        def configure(params, library=library):
            optimizer = library.SGD(params, lr=0.1)
            scheduler = library.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "metric"}}

        module = Module(configure, METRICS)
        fit(module, epochs=8)
        runs.append(module.rates[::4])
    assert runs[0] == runs[1] == [0.1] * 4 + [0.05] * 3 + [0.025]


def test_a_plateau_after_a_warmup():
    def configure(params):
        optimizer = optim.SGD(params, lr=0.1)
        scheduler = schedule.warmup(2, start=0.5).then(schedule.plateau(0.5, patience=1)).on(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "metric"}}

    module = Module(configure, METRICS)
    fit(module, epochs=8)
    # Two epochs of warmup, whose metrics (5, 4) do not count; then 4, 4, 3, 3, 3.
    assert module.rates[::4] == pytest.approx([0.05, 0.075, 0.1, 0.1, 0.1, 0.1, 0.1, 0.05])


def test_a_rate_that_goes_both_ways():
    def configure(params):
        optimizer = optim.SGD(params, lr=0.1)
        scheduler = schedule.plateau(0.5, patience=1, ceiling=4, raises=True).on(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "metric"}}

    module = Module(configure, [4.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    fit(module, epochs=8)
    assert module.rates[::4] == pytest.approx([0.1, 0.1, 0.2, 0.2, 0.4, 0.4, 0.2, 0.2])


@pytest.mark.parametrize("fused", [False, True])
def test_clipping_under_a_grad_scaler(fused):
    """Lightning refuses to clip for optimizers that unscale in their step: ours, as torch's, under `fused=True`."""
    module = Module(lambda params: optim.AdamW(params, lr=0.02, fused=fused))
    # As "16-mixed", which Lightning has for GPUs only.
    precision = MixedPrecision("bf16-mixed", "cpu")
    precision.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    if fused:
        with pytest.raises(RuntimeError, match="does not allow for gradient clipping"):
            fit(module, plugins=[precision], gradient_clip_val=0.5)
    else:
        fit(module, plugins=[precision], gradient_clip_val=0.5)
        assert module.losses[-1] < module.losses[0] / 2
