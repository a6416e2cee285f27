"""LightningCLI, and jsonargparse beneath it, which read constructors: options of ours are taken, wrong ones refused."""

import sys

import lightning
import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch.cli import LightningCLI, OptimizerCallable

import cases
from torchpace import optim

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning warns of much

OURS = {
    "SGD": {"momentum": 0.9, "averaged": True},
    "RMSprop": {"eps_inside": True},
    "Adagrad": {"mean": True, "eps_inside": True},
    "Adam": {"betas": (0.8, 0.9)},
    "AdamW": {"betas": (0.8, 0.9), "cautious_weight_decay": True},
    "Adadelta": {"rho": 0.8},
    "Adamax": {"betas": (0.8, 0.9)},
    "RAdam": {"betas": (0.8, 0.9), "decoupled_weight_decay": True},
    "Rprop": {"etas": (0.4, 1.3)},
    "NAdam": {"momentum_decay": 0.1},
    "ASGD": {"lambd": 0.1, "t0": 10.0},
    "Lion": {"betas": (0.8, 0.9), "cautious": True},
    "LAMB": {"betas": (0.8, 0.9), "trust_clip": True, "bias_correction": False},
    "LARS": {"momentum": 0.8, "trust_coefficient": 0.5, "eps": 0.5},
    "AdEMAMix": {"betas": (0.8, 0.9, 0.99), "alpha": 4.0, "beta3_warmup": 10, "alpha_warmup": 2.5},
    "Prodigy": {"d_coef": 2.0, "betas": (0.8, 0.9), "beta3": 0.9, "growth_rate": 1.5},
    "Adafactor": {"d": 2.0, "beta2_decay": -0.5},
    "Muon": {"ns_coefficients": "polar_express", "ns_dtype": "float32"},
    "ScheduleFreeAdamW": {"betas": (0.8, 0.9), "warmup_steps": 10},
    "ScheduleFreeSGD": {"momentum": 0.8, "r": 0.5},
}
COMMON = {"lr": 0.25, "max_grad_norm": 0.5, "clip_value": 0.125, "nonfinite_norm": "skip"}
WRONG = [("no_such_option", 1), ("max_grad_norm", "wide"), ("nonfinite_norm", "stop"), ("clip_value", [1])]

each_optimizer = pytest.mark.parametrize("name", cases.OPTIMIZERS)
each_class = pytest.mark.parametrize("name", [*cases.OPTIMIZERS, *cases.OVER_ALL, *cases.APART])


class Module(lightning.LightningModule):
    """Its optimizer comes from the command line."""

    def __init__(self, optimizer: OptimizerCallable = torch.optim.SGD):
        super().__init__()
        self.net, self.optimizer = torch.nn.Linear(3, 1), optimizer

    def configure_optimizers(self):
        return self.optimizer(self.parameters())


class Plain(lightning.LightningModule):
    """Its optimizer is added by the CLI."""

    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(3, 1)

    def training_step(self, batch):
        return self.net(batch).square().sum()

    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.ones(8, 3), batch_size=4)


class Renamed(optim.AdamW):
    """A user's, with an argument of its own and the rest passed on."""

    def __init__(self, params, warm: int = 3, **kwargs):
        super().__init__(params, **kwargs)
        self.warm = warm


def arguments(options, prefix):
    return [
        f"--{prefix}.{name}={list(value) if isinstance(value, tuple) else value}" for name, value in options.items()
    ]


def parser():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(torch.optim.Optimizer, "optimizer", skip={"params"}, instantiate=False)
    return parser


@each_class
def test_jsonargparse_takes_every_option(name):
    options = COMMON | OURS[name]
    path = f"torchpace.optim.{name}"
    found = parser().parse_args([f"--optimizer={path}", *arguments(options, "optimizer")]).optimizer
    assert found.get("dict_kwargs") is None
    cls = getattr(optim, found.class_path.rpartition(".")[2])
    optimizer = cls([torch.zeros(2, 2, requires_grad=True)], **found.init_args)
    assert {key: optimizer.defaults[key] for key in options} == options


@pytest.mark.parametrize(("option", "value"), WRONG)
@each_class
def test_jsonargparse_refuses_what_is_wrong(name, option, value):
    with pytest.raises(Exception, match=option):
        parser().parse_args([f"--optimizer=torchpace.optim.{name}", *arguments({option: value}, "optimizer")])


def test_jsonargparse_finds_our_options_behind_a_users_class():
    options = ["--optimizer.warm=5", "--optimizer.max_grad_norm=0.5", "--optimizer.amsgrad=true"]
    found = parser().parse_args([f"--optimizer={__name__}.Renamed", *options]).optimizer
    assert found.get("dict_kwargs") is None
    assert (found.init_args.warm, found.init_args.max_grad_norm, found.init_args.amsgrad) == (5, 0.5, True)
    with pytest.raises(Exception, match="averaged"):
        parser().parse_args([f"--optimizer={__name__}.Renamed", "--optimizer.averaged=true"])


def command_line(monkeypatch, model, args, **options):
    monkeypatch.setattr(sys, "argv", ["program"])
    quiet = dict.fromkeys(["enable_checkpointing", "enable_model_summary", "enable_progress_bar", "logger"], False)
    defaults = {"accelerator": "cpu", "devices": 1, "max_epochs": 1, **quiet}
    return LightningCLI(model, trainer_defaults=defaults, args=args, save_config_callback=None, **options)


@each_optimizer
def test_lightnings_command_line_makes_the_optimizer(name, monkeypatch):
    options = COMMON | OURS[name]
    args = [f"--model.optimizer=torchpace.optim.{name}", *arguments(options, "model.optimizer")]
    optimizer = command_line(monkeypatch, Module, args, run=False).model.configure_optimizers()
    assert type(optimizer) is getattr(optim, name)
    assert {key: optimizer.defaults[key] for key in options} == options
    with pytest.raises(SystemExit):
        command_line(monkeypatch, Module, [*args, "--model.optimizer.no_such_option=1"], run=False)


@each_optimizer
def test_lightnings_command_line_trains_with_it(name, monkeypatch):
    options = COMMON | OURS[name]
    args = ["fit", f"--optimizer=torchpace.optim.{name}", *arguments(options, "optimizer")]
    trainer = command_line(monkeypatch, Plain, args).trainer
    (optimizer,) = trainer.optimizers
    assert (type(optimizer), optimizer.last_path) == (getattr(optim, name), "fused")
    assert optimizer.grad_norm > 0
    assert {key: optimizer.param_groups[0][key] for key in options} == options
