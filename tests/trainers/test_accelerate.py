"""Short runs under accelerate with our optimizers and schedules, against the same runs with torch's."""

import accelerate
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from torchpace import optim, schedule

pytestmark = pytest.mark.filterwarnings("ignore", "error:.*scheduler")


@pytest.fixture(autouse=True)
def _alone():
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    yield
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


class Run:
    """A small network in training, and what it did."""

    def __init__(self, configure, accumulate=1):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)).double()
        inputs = torch.randn(64, 6, dtype=torch.float64)
        batches = DataLoader(TensorDataset(inputs, inputs.sum(1, keepdim=True).tanh()), batch_size=16)
        optimizer, scheduler = configure(model.parameters())
        self.accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
        self.model, self.optimizer, self.batches, self.scheduler = self.accelerator.prepare(
            model, optimizer, batches, scheduler
        )
        self.rates, self.losses = [], []

    def epochs(self, count):
        for _ in range(count):
            for inputs, targets in self.batches:
                with self.accelerator.accumulate(self.model):
                    loss = torch.nn.functional.mse_loss(self.model(inputs), targets)
                    self.accelerator.backward(loss)
                    if self.accelerator.sync_gradients:
                        self.accelerator.clip_grad_norm_(self.model.parameters(), 0.5)
                    self.rates.append(self.optimizer.param_groups[0]["lr"])
                    self.optimizer.step()
                    self.scheduler.step()
                    self.optimizer.zero_grad()
                self.losses.append(loss.item())
        return self


@pytest.mark.parametrize("accumulate", [1, 2])
def test_swapping_the_import_changes_nothing(accumulate):
    runs = []
    for library in (optim, torch.optim):

        def configure(params, library=library):
            optimizer = library.AdamW(params, lr=0.02)
            return optimizer, library.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=10)

        runs.append(Run(configure, accumulate).epochs(5))
    ours, torchs = runs
    assert ours.rates == torchs.rates
    assert len(set(ours.rates)) > 8
    assert ours.losses == pytest.approx(torchs.losses, rel=1e-11)
    assert ours.losses[-1] < ours.losses[0]


def drop_in(params):
    optimizer = optim.Adam(params, lr=0.02)
    return optimizer, optim.lr_scheduler.CosineAnnealingLR(optimizer, 24)


def composed(params):
    optimizer = optim.Adam(params, lr=0.02)
    return optimizer, schedule.warmup(6).then(schedule.cosine(18)).on(optimizer)


@pytest.mark.parametrize("configure", [drop_in, composed])
def test_a_run_goes_on_from_a_checkpoint(configure, tmp_path):
    whole = Run(configure).epochs(6)
    half = Run(configure).epochs(3)
    half.accelerator.save_state(str(tmp_path))
    rest = Run(configure)
    rest.accelerator.load_state(str(tmp_path))
    rest.epochs(3)
    assert half.rates + rest.rates == whole.rates
    assert half.losses + rest.losses == whole.losses


def test_a_plateau_after_a_warmup():
    def configure(params):
        optimizer = optim.SGD(params, lr=0.1)
        return optimizer, schedule.warmup(2, start=0.5).then(schedule.plateau(0.5, patience=1)).on(optimizer)

    run = Run(configure)
    rates = []
    for metric in (None, None, 4.0, 4.0, 4.0, 3.0, 3.0, 3.0):
        rates.append(run.optimizer.param_groups[0]["lr"])
        run.optimizer.step()
        run.scheduler.step(metric)
    assert rates == pytest.approx([0.05, 0.075, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05])
