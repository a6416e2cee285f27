"""Schedulers that others make: LightningCLI out of a configuration, skorch out of a class and arguments."""

import logging
import sys

import lightning
import numpy as np
import pytest
import skorch
import torch
from lightning.pytorch.cli import LightningCLI
from skorch.callbacks import LRScheduler
from torch.utils.data import DataLoader, TensorDataset

from torchpace import optim, schedule

pytestmark = pytest.mark.filterwarnings("ignore", "error:.*scheduler")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Network(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, inputs):
        return self.layer(inputs)

    def training_step(self, batch):
        return self.layer(batch[0]).square().mean()

    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.ones(8, 2)), batch_size=2)


def warmed(steps: int, then: int) -> schedule.Schedule:
    """What a user writes for a composition of his own."""
    return schedule.warmup(steps, start=0.5).then(schedule.cosine(then))


def scheduler_of_the_command_line(**options):
    off = ("logger", "enable_progress_bar", "enable_checkpointing", "enable_model_summary")
    arguments = {f"trainer.{name}": "false" for name in off} | {"trainer.max_epochs": 3, "trainer.accelerator": "cpu"}
    arguments |= {"optimizer": "torch.optim.SGD", "optimizer.lr": 0.1, "optimizer.momentum": 0.8} | options
    before, sys.argv = sys.argv, ["program"]
    try:
        cli = LightningCLI(
            Network,
            run=False,
            args=[f"--{name}={value}" for name, value in arguments.items()],
            save_config_callback=None,
            seed_everything_default=False,
        )
    finally:
        sys.argv = before
    cli.trainer.fit(cli.model)
    return cli.trainer.lr_scheduler_configs[0].scheduler


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"schedule": "torchpace.schedule.linear", "schedule.steps": 10}, schedule.linear(10)),
        (
            {"schedule": f"{__name__}.warmed", "schedule.steps": 2, "schedule.then": 8},
            schedule.warmup(2, start=0.5).then(schedule.cosine(8)),
        ),
    ],
)
def test_lightning_builds_a_scheduler(options, expected):
    options = {f"lr_scheduler.{name}": value for name, value in options.items()}
    scheduler = scheduler_of_the_command_line(**{"lr_scheduler": "torchpace.schedule.Scheduler"} | options)
    assert type(scheduler) is schedule.Scheduler
    assert scheduler.schedule == expected
    assert scheduler.last_epoch == 3  # one an epoch
    assert scheduler.get_last_lr() == [expected(3, 0.1)]


def test_lightning_builds_one_of_the_momentum():
    scheduler = scheduler_of_the_command_line(
        **{
            "lr_scheduler": "torchpace.schedule.Scheduler",
            "lr_scheduler.schedule": "torchpace.schedule.constant",
            "lr_scheduler.schedule.factor": 0.5,
            "lr_scheduler.param": "momentum",
            "lr_scheduler.groups": "[0]",
        }
    )
    assert scheduler.optimizer.param_groups[0]["momentum"] == 0.4


def data():
    inputs = np.random.default_rng(0).normal(size=(64, 2)).astype("float32")
    return inputs, inputs.sum(1, keepdims=True)


@pytest.mark.parametrize("module", [torch.optim, optim], ids=["torch", "ours"])
def test_skorch_builds_a_scheduler(module):
    policy = LRScheduler(policy=schedule.Scheduler, schedule=schedule.linear(4))
    net = skorch.NeuralNetRegressor(
        Network, max_epochs=4, lr=0.1, optimizer=module.SGD, callbacks=[("rate", policy)], verbose=0, train_split=None
    )
    net.fit(*data())
    assert net.history[:, "event_lr"] == pytest.approx([0.1, 0.075, 0.05, 0.025])
    assert policy.simulate(5, 0.1).tolist() == pytest.approx([0.1, 0.075, 0.05, 0.025, 0])


def test_skorch_builds_one_that_follows_a_metric():
    policy = LRScheduler(
        policy=schedule.PlateauScheduler,
        monitor=lambda net: len(net.history),  # ever worse
        schedule=schedule.plateau(0.5, patience=1),
    )
    net = skorch.NeuralNetRegressor(
        Network, max_epochs=6, lr=0.1, optimizer=optim.SGD, callbacks=[("rate", policy)], verbose=0, train_split=None
    )
    net.fit(*data())
    assert net.history[:, "event_lr"] == pytest.approx([0.1, 0.1, 0.1, 0.05, 0.05, 0.025])
