"""What `torchpace.control` does with the modes of the schedule-free optimizers."""

import copy

import pytest
import torch

from torchpace import control, optim

OPTIONS = {"ScheduleFreeAdamW": {"lr": 0.05}, "ScheduleFreeSGD": {"lr": 0.2}}
each_name = pytest.mark.parametrize("name", OPTIONS)


def train(optimizer, net, steps):
    for seed in range(steps):
        inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        net(inputs).square().mean().backward()
        optimizer.step()


def make(name):
    torch.manual_seed(0)
    net = torch.nn.Linear(4, 2)
    optimizer = getattr(optim, name)(net.parameters(), **OPTIONS[name])
    train(optimizer, net, 3)
    return net, optimizer


def everything(net, optimizer):
    return copy.deepcopy((net.state_dict(), optimizer.state_dict()))


@each_name
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_snapshot_brings_the_mode_back_with_the_weights(name, mode):
    net, optimizer = make(name)
    getattr(optimizer, mode)()
    before = everything(net, optimizer)
    snapshot = control.Snapshot(net, optimizer).take()
    optimizer.train()
    train(optimizer, net, 2)
    if mode == "train":
        optimizer.eval()
    snapshot.restore()
    torch.testing.assert_close(everything(net, optimizer), before, rtol=0, atol=0)
    optimizer.train()
    train(optimizer, net, 2)


@each_name
def test_rules_that_are_not_known_are_refused(name):
    net, optimizer = make(name)
    with pytest.raises(TypeError, match=f"optimizer is {name}, expected SGD"):
        control.CurvatureLR(optimizer, lambda: net(torch.ones(8, 4)).square().mean())
