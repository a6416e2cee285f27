"""The schedule-free optimizers by hand: the average, the two modes, and checkpoints."""

import copy
import io
import pickle

import pytest
import torch

from torchpace import optim
from torchpace.optim import _torch_schedulefree

NAMES = ["ScheduleFreeAdamW", "ScheduleFreeSGD"]
each_class = pytest.mark.parametrize(
    "cls", [getattr(module, name) for name in NAMES for module in (optim, _torch_schedulefree)],
    ids=lambda cls: f"{cls.__module__.rsplit('.', 1)[-1]}-{cls.__name__}",
)  # fmt: skip
each_name = pytest.mark.parametrize("name", NAMES)


def leaves(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in [(6, 5), (4,), (), (0,)]]


def give_grads(params, seed):
    generator = torch.Generator().manual_seed(seed)
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator).to(param.dtype)


def train(optimizer, seeds):
    params = [param for group in optimizer.param_groups for param in group["params"]]
    for seed in seeds:
        give_grads(params, seed)
        optimizer.step()
    return [param.detach().clone() for param in params]


def equal(left, right):
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_by_hand():
    """lr 1/4 on y^2 / 2 from 1, beta 1/2: z = 3/4, 9/16 at y = 3/4; x = 3/4, 21/32; y = 39/64."""
    param = torch.nn.Parameter(torch.ones((), dtype=torch.float64))
    optimizer = optim.ScheduleFreeSGD([param], lr=0.25, momentum=0.5)
    for expected_z, expected_y in ((3 / 4, 3 / 4), (9 / 16, 39 / 64)):
        param.grad = param.detach().clone()
        optimizer.step()
        assert (optimizer.state[param]["z"].item(), param.item()) == (expected_z, expected_y)
    optimizer.eval()
    assert param.item() == 21 / 32
    optimizer.train()
    assert param.item() == 39 / 64
    assert optimizer.state[param]["weight_sum"].item() == 2 / 16
    assert optimizer.state[param]["lr_max"].item() == 1 / 4


def test_the_average_is_better_than_the_last_point():
    """Noisy gradients at a constant rate: the points go on wandering, the average does not."""
    torch.manual_seed(0)
    target = torch.randn(200)
    param = torch.nn.Parameter(torch.zeros(200))
    plain = torch.nn.Parameter(torch.zeros(200))
    free, descent = optim.ScheduleFreeSGD([param], lr=0.5), optim.SGD([plain], lr=0.5)
    for _ in range(400):
        noise = torch.randn(200)
        param.grad, plain.grad = param.detach() - target + noise, plain.detach() - target + noise
        free.step()
        descent.step()
    free.eval()
    distance, wandering = (param - target).square().mean(), (plain - target).square().mean()
    assert wandering > 0.25  # lr / (2 - lr) of the noise's variance
    assert distance < wandering / 10


@each_class
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64], ids=str
)
def test_modes_come_back(cls, dtype):
    params = leaves(dtype)
    optimizer = cls(params, lr=0.01)
    before = train(optimizer, range(4))
    optimizer.eval()
    averages = [param.detach().clone() for param in params]
    optimizer.eval()  # which is where they are
    assert equal(params, averages)
    assert not equal(params, before)
    optimizer.train()
    optimizer.train()
    rounding = torch.finfo(dtype).eps
    for param, was in zip(params, before, strict=True):
        torch.testing.assert_close(param.detach(), was, rtol=4 * rounding, atol=4 * rounding)
    train(optimizer, [5])


@each_class
def test_no_step_in_eval_mode(cls):
    params = leaves()
    optimizer = cls(params)
    train(optimizer, [0])
    optimizer.eval()
    before = [param.detach().clone() for param in params]
    give_grads(params, 1)
    called = []
    with pytest.raises(RuntimeError, match=r"param_groups\[0\] is in eval mode.*call optimizer.train\(\) before step"):
        optimizer.step(lambda: called.append(1))
    assert not called
    assert equal(params, before)
    assert all(optimizer.state[param]["step"] == 1 for param in params)


@each_class
def test_modes_before_the_first_step(cls):
    params = leaves()
    before = [param.detach().clone() for param in params]
    optimizer = cls(params)
    assert optimizer.param_groups[0]["train_mode"] is True
    optimizer.eval()
    assert equal(params, before)
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(3))]})
    assert [group["train_mode"] for group in optimizer.param_groups] == [False, False]
    optimizer.train()
    train(optimizer, [0])


@each_class
@pytest.mark.parametrize("in_eval", [False, True])
def test_checkpoints_know_the_mode(cls, in_eval):
    params = leaves()
    optimizer = cls(params, warmup_steps=3, r=1.0)
    train(optimizer, range(3))
    if in_eval:
        optimizer.eval()
    file = io.BytesIO()
    torch.save({"params": [param.detach() for param in params], "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    others = [torch.nn.Parameter(param.clone()) for param in saved["params"]]
    other = cls(others, warmup_steps=3, r=1.0)
    other.load_state_dict(saved["optimizer"])
    assert [group["train_mode"] for group in other.param_groups] == [not in_eval]
    for one in (optimizer, other):
        one.train()
    assert equal(train(optimizer, [7, 8]), train(other, [7, 8]))


@each_name
def test_copies(name):
    optimizer = getattr(optim, name)(leaves())
    train(optimizer, range(2))
    optimizer.eval()
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        other.train()
        theirs = train(other, [3])
        mine = copy.deepcopy(optimizer)
        mine.train()
        assert equal(train(mine, [3]), theirs)


@each_name
def test_a_checkpoint_of_the_authors_package(name):
    """Which counts once for a group, in its options."""
    params = leaves()
    optimizer = getattr(optim, name)(params, lr=0.1)
    train(optimizer, range(3))
    saved = copy.deepcopy(optimizer.state_dict())
    for entries in saved["state"].values():
        del entries["step"], entries["weight_sum"], entries["lr_max"]
    for group in saved["param_groups"]:
        group.update(k=3, weight_sum=3 * 0.1**2, lr_max=0.1, scheduled_lr=0.1, train_mode=True)
    others = [torch.nn.Parameter(param.detach().clone()) for param in params]
    other = getattr(optim, name)(others, lr=0.1)
    other.load_state_dict(saved)
    for mine, theirs in zip(train(optimizer, [5]), train(other, [5]), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert other.last_path == "fused"


@each_name
def test_late_parameters_have_an_average_of_their_own(name):
    first, late = leaves()[0], torch.nn.Parameter(torch.ones(4))
    optimizer = getattr(optim, name)([first, late], lr=0.1)
    for seed in range(5):
        give_grads([first], seed)
        optimizer.step()
    late.grad = torch.ones(4)
    optimizer.step()
    alone = torch.nn.Parameter(torch.ones(4))
    other = getattr(optim, name)([alone], lr=0.1)
    alone.grad = torch.ones(4)
    other.step()
    assert torch.equal(alone, late)
    assert [int(optimizer.state[param]["step"]) for param in (first, late)] == [6, 1]


@each_name
def test_gradients_stay(name):
    params = leaves()
    optimizer = getattr(optim, name)(params, weight_decay=0.5, max_grad_norm=0.1)
    give_grads(params, 0)
    before = [param.grad.clone() for param in params]
    optimizer.step()
    assert equal([param.grad for param in params], before)


@each_name
@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_shares_out_of_their_range(name, share):
    options, word = ({"momentum": share}, "momentum") if name.endswith("SGD") else ({"betas": (share, 0.9)}, "beta")
    with pytest.raises(ValueError, match=rf"Invalid {word}.*expected a number > 0 and < 1"):
        getattr(optim, name)(leaves(), **options)


@each_name
def test_versions_are_counted_by_modes(name):
    params = leaves()
    optimizer = getattr(optim, name)(params)
    train(optimizer, [0])
    before = [param._version for param in params]
    optimizer.eval()
    assert all(param._version > version for param, version in zip(params[:3], before, strict=False))


@each_name
def test_a_skipped_step_weighs_nothing(name):
    params = leaves()
    optimizer = getattr(optim, name)(params, nonfinite_norm="skip")
    train(optimizer, range(2))
    before = copy.deepcopy(optimizer.state_dict()["state"])
    give_grads(params, 3)
    params[0].grad[0, 0] = float("nan")
    optimizer.step()
    assert optimizer.last_step_skipped
    for key, entries in optimizer.state_dict()["state"].items():
        assert all(torch.equal(entries[entry], before[key][entry]) for entry in entries)
