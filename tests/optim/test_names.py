"""Every name of `torch.optim` and its modules is in ours, private ones too; what is ours is what is meant to be."""

import importlib
import subprocess
import sys
import types

import pytest
import torch

import cases

OURS = {
    "torch.optim": {*cases.IN_TORCH, *cases.APART, "lr_scheduler", "swa_utils"}
    | ({"functional"} if hasattr(torch.optim, "functional") else set()),
    "torch.optim.lr_scheduler": {*torch.optim.lr_scheduler.__all__, "_LRScheduler"},
    "torch.optim.swa_utils": {"SWALR"},
}
each_module = pytest.mark.parametrize("name", OURS)


def both(name):
    return importlib.import_module(name.replace("torch", "torchpace", 1)), importlib.import_module(name)


def of_the_language(name):
    return name.startswith("__") and name.endswith("__")


@each_module
def test_every_name_is_there(name):
    ours, torchs = both(name)
    missing = {key for key in vars(torchs) if not of_the_language(key) and not hasattr(ours, key)}
    assert not missing
    assert set(torchs.__all__) <= set(ours.__all__)
    assert {key for key in dir(torchs) if not of_the_language(key)} <= {*dir(ours)}


@each_module
def test_what_is_not_torchs_is_ours(name):
    ours, torchs = both(name)
    other = {key for key, value in vars(torchs).items() if not of_the_language(key) and getattr(ours, key) is not value}
    assert other == OURS[name]
    for key in other:
        mine, theirs = getattr(ours, key), getattr(torchs, key)
        assert isinstance(theirs, types.ModuleType) or issubclass(mine, theirs), key
        module = mine.__name__ if isinstance(theirs, types.ModuleType) else mine.__module__
        assert module.startswith("torchpace."), key


@each_module
def test_a_star_import_gives_torchs_names_alone(name):
    """And not `checkpoint`, say, which programs import from elsewhere."""
    ours, torchs = both(name)
    assert sorted(ours.__all__) == sorted(torchs.__all__)
    got = {}
    exec(f"from {ours.__name__} import *", got)
    for key in torchs.__all__:
        assert got[key] is getattr(ours, key)


@each_module
def test_a_name_that_is_nowhere_is_an_error(name):
    ours, _ = both(name)
    with pytest.raises(AttributeError, match=rf"module '{ours.__name__}' has no attribute 'no_such_name'"):
        _ = ours.no_such_name
    with pytest.raises(ImportError, match="cannot import name 'no_such_name'"):
        exec(f"from {ours.__name__} import no_such_name")


def test_old_names_of_the_schedulers_module():
    from torchpace.optim.lr_scheduler import EPOCH_DEPRECATION_WARNING, LRScheduler, _LRScheduler

    assert EPOCH_DEPRECATION_WARNING == torch.optim.lr_scheduler.EPOCH_DEPRECATION_WARNING
    assert issubclass(_LRScheduler, LRScheduler)

    class Harmonic(_LRScheduler):
        def get_lr(self):
            return [base / (1 + self.last_epoch) for base in self.base_lrs]

    optimizer = cases.scheduled(lr=1.0, groups=1)
    scheduler = Harmonic(optimizer)
    optimizer.step()
    scheduler.step()
    assert scheduler.get_last_lr() == [0.5]
    assert isinstance(scheduler, torch.optim.lr_scheduler._LRScheduler)


@pytest.mark.parametrize("statement", ["import torchpace", "from torchpace import optim", "import torchpace.optim"])
def test_modules_are_there_after_one_import(statement):
    """In a process that has imported nothing else."""
    code = f"""
{statement}
import sys
optim = sys.modules["torchpace.optim"]
print(sorted(name for name in ("checkpoint", "lr_scheduler", "swa_utils") if hasattr(optim, name)))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "['checkpoint', 'lr_scheduler', 'swa_utils']", run.stderr
