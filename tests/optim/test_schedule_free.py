"""The schedule-free optimizers by hand: what they average, their two modes, and the states and arguments they take."""

import copy
import io
import math
import pickle
import re

import numpy as np
import pytest
import torch

from torchpace import optim
from torchpace.optim import _torch_schedulefree

NAMES = ["ScheduleFreeAdamW", "ScheduleFreeSGD"]
OPTIONS = {"ScheduleFreeAdamW": {"lr": 0.05}, "ScheduleFreeSGD": {"lr": 0.2}}
SLOTS = {"ScheduleFreeAdamW": ["z", "exp_avg_sq"], "ScheduleFreeSGD": ["z"]}
MODULES = {"fused": optim, "by torch": _torch_schedulefree}

each_name = pytest.mark.parametrize("name", NAMES)
each_module = pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
each_dtype = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64], ids=str
)


def leaves(dtype=torch.float64):
    return [torch.nn.Parameter(torch.linspace(1, 2, size).to(dtype)) for size in (60, 7)]


def make(name, module=optim, dtype=torch.float64, steps=3, **options):
    params = leaves(dtype)
    optimizer = getattr(module, name)(params, **{**OPTIONS[name], **options})
    train(optimizer, range(steps))
    return optimizer, params


def train(optimizer, seeds):
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        for group in optimizer.param_groups:
            for param in group["params"]:
                param.grad = torch.randn(param.shape, generator=generator, dtype=torch.float64).to(param.dtype)
        optimizer.step()


def values(params):
    return [param.detach().clone() for param in params]


def weights(module, steps, rates=None, **options):
    """The share of each point in the average after so many steps of a constant gradient, from where the points were."""
    param = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = module.ScheduleFreeSGD([param], **options)
    points = []
    for step in range(steps):
        if rates is not None:
            optimizer.param_groups[0]["lr"] = rates[step]
        param.grad = torch.ones(1, dtype=torch.float64)
        optimizer.step()
        points.append(optimizer.state[param]["z"].item())
    optimizer.eval()
    return param.item(), points


@each_module
def test_the_average_is_the_mean_of_the_points(module):
    mean, points = weights(module, 10, lr=0.5)
    assert points == pytest.approx([-0.5 * step for step in range(1, 11)], rel=1e-12)
    assert mean == pytest.approx(np.mean(points), rel=1e-12)


@each_module
def test_a_warmup_weighs_by_the_square_of_its_rate(module):
    mean, points = weights(module, 6, lr=0.5, warmup_steps=4)
    assert -np.diff([0, *points]) == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.5, 0.5], rel=1e-12)
    assert mean == pytest.approx(np.average(points, weights=[1, 4, 9, 16, 16, 16]), rel=1e-12)


@each_module
def test_options_of_the_weights(module):
    mean, points = weights(module, 5, lr=0.5, warmup_steps=4, weight_lr_power=0.0)
    assert mean == pytest.approx(np.mean(points), rel=1e-12)
    mean, points = weights(module, 5, lr=0.5, r=1.0)
    assert mean == pytest.approx(np.average(points, weights=[1, 2, 3, 4, 5]), rel=1e-12)
    mean, points = weights(module, 5, lr=0.5, warmup_steps=2.5, r=2.0, weight_lr_power=1.0)
    assert mean == pytest.approx(np.average(points, weights=[0.4, 4 * 0.8, 9, 16, 25]), rel=1e-12)


@each_module
def test_a_point_weighs_by_the_largest_rate_so_far(module):
    """So a rate that falls does not make later points count for less."""
    mean, points = weights(module, 5, rates=[1.0, 2.0, 0.5, 3.0, 0.0])
    assert -np.diff([0, *points]) == pytest.approx([1, 2, 0.5, 3, 0], rel=1e-12)
    assert mean == pytest.approx(np.average(points, weights=[1, 4, 4, 9, 9]), rel=1e-12)


@each_module
def test_a_rate_of_zero_at_first(module):
    """No weights yet, and no division by zero."""
    mean, points = weights(module, 4, rates=[0.0, 0.0, 1.0, 1.0])
    assert points == [0, 0, -1, -2]
    assert mean == pytest.approx(-1.5, rel=1e-12)
    assert weights(module, 3, lr=0.0) == (0.0, [0.0] * 3)


@each_name
@each_module
def test_the_first_step_leads_all_to_one_point(module, name):
    for dtype in (torch.float32, torch.float64):
        optimizer, params = make(name, module, dtype, steps=1, weight_decay=0.1)
        assert all(torch.equal(param, optimizer.state[param]["z"]) for param in params)
        before = values(params)
        optimizer.eval()
        assert all(torch.equal(param, old) for param, old in zip(params, before, strict=True))


@each_module
def test_three_sequences_of_sgd(module):
    """Of f(y) = y^2 / 2 with the rate 1/2 and the share 3/4: z is 1/2, then 1/4; x is 1/2, then 3/8."""
    param = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = module.ScheduleFreeSGD([param], lr=0.5, momentum=0.75)
    for expected_y, expected_z in ((0.5, 0.5), (0.75 * 0.375 + 0.25 * 0.25, 0.25)):
        param.grad = param.detach().clone()
        optimizer.step()
        assert (param.item(), optimizer.state[param]["z"].item()) == (expected_y, expected_z)
    optimizer.eval()
    assert param.item() == pytest.approx(0.375, rel=1e-15)
    optimizer.train()
    assert param.item() == pytest.approx(0.34375, rel=1e-15)


@each_name
@each_module
def test_the_three_sequences_of_the_paper(module, name):
    """All kept, along random gradients, with every option."""
    share, rate, decay, warmup, r = 0.7, 0.1, 0.05, 4, 0.5
    sharing = {"betas": (share, 0.9), "eps": 1e-3} if name == "ScheduleFreeAdamW" else {"momentum": share}
    param = torch.nn.Parameter(torch.linspace(-1, 1, 50, dtype=torch.float64))
    optimizer = getattr(module, name)([param], lr=rate, weight_decay=decay, warmup_steps=warmup, r=r, **sharing)
    x = y = z = param.detach().numpy().copy()
    square, total = np.zeros(50), 0.0
    for t in range(1, 31):
        grad = np.random.default_rng(t).standard_normal(50)
        param.grad = torch.from_numpy(grad)
        optimizer.step()
        direction = grad
        if name == "ScheduleFreeAdamW":
            square = 0.9 * square + 0.1 * grad**2
            direction = grad / (np.sqrt(square / (1 - 0.9**t)) + 1e-3)
        now = rate * min(1, t / warmup)
        total += t**r * now**2
        c = t**r * now**2 / total
        z = z - now * (direction + decay * y)
        x = (1 - c) * x + c * z
        y = (1 - share) * z + share * x
        np.testing.assert_allclose(param.detach().numpy(), y, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(optimizer.state[param]["z"].numpy(), z, rtol=1e-12, atol=1e-12)
        if t % 10 == 0:
            optimizer.eval()
            np.testing.assert_allclose(param.detach().numpy(), x, rtol=1e-12, atol=1e-12)
            optimizer.train()


@each_name
@each_dtype
@each_module
@pytest.mark.filterwarnings("ignore:Complex modules:UserWarning")
def test_modes_are_entered_once_and_bring_weights_back(module, dtype, name):
    optimizer, params = make(name, module, dtype)
    optimizer.train()
    y, versions = values(params), [param._version for param in params]
    assert optimizer.eval() is None
    x = values(params)
    assert not any(torch.equal(*pair) for pair in zip(x, y, strict=True))
    assert all(param._version > version for param, version in zip(params, versions, strict=True))
    assert [group["train_mode"] for group in optimizer.param_groups] == [False]
    optimizer.eval()
    assert all(torch.equal(*pair) for pair in zip(params, x, strict=True))
    assert optimizer.train() is None
    few = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(values(params), y, rtol=few, atol=few)
    assert all(param.requires_grad and param.grad_fn is None for param in params)
    share = 0.9
    for param, average in zip(params, x, strict=True):
        z = optimizer.state[param]["z"]
        expected = (1 - share) * z.to(torch.complex128) + share * average.to(torch.complex128)
        torch.testing.assert_close(param.detach().to(torch.complex128), expected, rtol=2 * few, atol=2 * few)


@each_name
@each_module
def test_weights_do_not_drift_with_the_modes(module, name):
    """To and fro a thousand times: roundings, and no growth."""
    optimizer, params = make(name, module, torch.float32)
    before = values(params)
    for _ in range(1000):
        optimizer.eval()
        optimizer.train()
    torch.testing.assert_close(values(params), before, rtol=1e-5, atol=1e-5)


@each_name
@each_module
def test_a_step_in_eval_mode_is_refused_before_its_closure(module, name):
    optimizer, params = make(name, module)
    optimizer.eval()
    before, called = copy.deepcopy((params, optimizer.state_dict())), []
    message = r"^param_groups\[0\] is in eval mode.*call optimizer.train\(\) before step"
    for arguments in ((), (lambda: called.append(1),)):
        with pytest.raises(RuntimeError, match=message):
            optimizer.step(*arguments)
    assert not called
    torch.testing.assert_close((params, optimizer.state_dict()), before, rtol=0, atol=0)
    optimizer.train()
    train(optimizer, [4])


@each_name
def test_a_closure_steps_as_a_loop(name):
    by_closure, by_loop = leaves(), leaves()
    optimizers = [getattr(optim, name)(params, **OPTIONS[name]) for params in (by_closure, by_loop)]

    def closure(params):
        for param in params:
            param.grad = None
        loss = sum(param.square().sum() for param in params)
        loss.backward()
        return loss

    for _ in range(3):
        optimizers[0].step(lambda: closure(by_closure))
        closure(by_loop)
        optimizers[1].step()
    assert optimizers[0].last_path == "fused"
    assert all(torch.equal(*pair) for pair in zip(by_closure, by_loop, strict=True))


@each_name
@each_module
def test_modes_of_groups(module, name):
    """Each changes for itself; a step needs all in train mode; a new group is in the mode of the others."""
    params = leaves()
    optimizer = getattr(module, name)([{"params": [param]} for param in params], **OPTIONS[name])
    train(optimizer, range(3))
    y = values(params)
    optimizer.param_groups[1]["train_mode"] = False  # as if its parameter held its average
    with pytest.raises(RuntimeError, match=r"^param_groups\[1\] is in eval mode"):
        optimizer.step()
    optimizer.eval()
    assert torch.equal(params[1], y[1])
    assert not torch.equal(params[0], y[0])
    late, later = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
    optimizer.add_param_group({"params": [late], "lr": 0.5})
    optimizer.add_param_group({"params": [later], "train_mode": True})
    assert [group["train_mode"] for group in optimizer.param_groups] == [False, False, False, True]
    optimizer.train()
    assert [group["train_mode"] for group in optimizer.param_groups] == [True] * 4
    torch.testing.assert_close(params[0].detach(), y[0])
    assert late.tolist() == [1.0] * 3
    train(optimizer, [3])
    optimizer.eval()
    optimizer.train()


@each_name
@each_module
def test_parameters_without_state_stay(module, name):
    optimizer, params = make(name, module, steps=0)
    for switch in (optimizer.eval, optimizer.train):
        switch()
        assert all(torch.equal(*pair) for pair in zip(params, leaves(), strict=True))
    assert not optimizer.state


@each_name
@each_module
def test_a_late_parameter_begins_its_own_average(module, name):
    params, alone = leaves(), leaves()
    both = getattr(module, name)(params, **OPTIONS[name], warmup_steps=3)
    one = getattr(module, name)([alone[1]], **OPTIONS[name], warmup_steps=3)
    for step in range(6):
        params[0].grad = torch.ones_like(params[0])
        params[1].grad = alone[1].grad = None if step < 2 else torch.full_like(alone[1], step)
        both.step()
        one.step()
    both.eval()
    one.eval()
    assert torch.equal(params[1], alone[1])
    assert [both.state[param]["step"].item() for param in params] == [6, 4]


@each_name
@each_module
def test_state(module, name):
    optimizer, params = make(name, module, torch.bfloat16)
    for param in params:
        state = optimizer.state[param]
        assert list(state) == ["step", "weight_sum", "lr_max", *SLOTS[name]]
        assert (state["step"].dtype, state["step"].shape, state["step"].item()) == (torch.float32, (), 3)
        assert all((state[key].dtype, state[key].shape) == (torch.float64, ()) for key in ("weight_sum", "lr_max"))
        assert state["lr_max"].item() == OPTIONS[name]["lr"]
        assert state["weight_sum"].item() == pytest.approx(3 * OPTIONS[name]["lr"] ** 2, rel=1e-15)
        assert all(state[key].dtype == param.dtype and state[key].shape == param.shape for key in SLOTS[name])
    strided = torch.nn.Parameter(torch.randn(4, 3).t())
    optimizer = getattr(module, name)([strided], **OPTIONS[name])
    train(optimizer, range(1))
    z = optimizer.state[strided]["z"]
    assert (z.stride(), z.requires_grad) == (strided.stride(), False)


@each_name
def test_the_gradient_stays(name):
    for options in ({}, {"weight_decay": 0.1, "maximize": True, "max_grad_norm": 0.1, "clip_value": 0.01}):
        optimizer, params = make(name, steps=1, **options)
        before = [param.grad.clone() for param in params]
        optimizer.step()
        assert all(torch.equal(param.grad, grad) for param, grad in zip(params, before, strict=True))


@each_name
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(
    ("module", "way"),
    [*((module, way) for module in MODULES.values() for way in ("state_dict", "pickle", "deepcopy")), (optim, "file")],
    ids=[*(f"{module}-{way}" for module in MODULES for way in ("state_dict", "pickle", "deepcopy")), "fused-file"],
)
def test_a_run_goes_on_as_if_it_had_not_stopped(way, mode, module, name, tmp_path):
    whole, expected = make(name, module, torch.float32, steps=4)
    saved, params = make(name, module, torch.float32, steps=4)
    for optimizer in (whole, saved):
        getattr(optimizer, mode)()
    if way == "file":
        pytest.importorskip("safetensors", reason="checkpoints need safetensors")
        optim.checkpoint.save(saved, tmp_path / "file.safetensors")
        written = f'\\"train_mode\\": {"true" if mode == "train" else "false"}'.encode()
        assert written in (tmp_path / "file.safetensors").read_bytes()  # JSON within JSON, as in Rust
        again, moved = make(name, module, torch.float32, steps=0)
        optim.checkpoint.load(again, tmp_path / "file.safetensors")
    elif way == "state_dict":
        file = io.BytesIO()
        torch.save(saved.state_dict(), file)
        file.seek(0)
        again, moved = make(name, module, torch.float32, steps=0)
        again.load_state_dict(torch.load(file, weights_only=True))
    else:
        again = pickle.loads(pickle.dumps(saved)) if way == "pickle" else copy.deepcopy(saved)
        moved = again.param_groups[0]["params"]
    for param, other in zip(moved, params, strict=True):
        param.data.copy_(other.data)
    assert [group["train_mode"] for group in again.param_groups] == [mode == "train"]
    for optimizer in (whole, again):
        optimizer.train()
        train(optimizer, range(4, 8))
        optimizer.eval()
    assert all(torch.equal(*pair) for pair in zip(moved, expected, strict=True))


@each_name
def test_ours_and_torchs_operators_exchange_states(name):
    for first, second in ((optim, _torch_schedulefree), (_torch_schedulefree, optim)):
        saved, params = make(name, first, warmup_steps=5, weight_decay=0.1)
        again, moved = make(name, second, steps=0)
        again.load_state_dict(copy.deepcopy(saved.state_dict()))
        for param, other in zip(moved, params, strict=True):
            param.data.copy_(other.data)
        for optimizer in (saved, again):
            train(optimizer, range(3, 8))
            optimizer.eval()
        torch.testing.assert_close(moved, params, rtol=1e-12, atol=1e-12)


@each_module
def test_the_average_converges_where_a_constant_rate_does_not(module):
    """|a x - b| over lines through one point, at a constant rate: steps go on about the solution, the mean settles."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(200, 4, generator=generator, dtype=torch.float64)
    solution = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)

    def distance(cls, **options):
        weight = torch.nn.Parameter(torch.zeros(4, dtype=torch.float64))
        optimizer = cls([weight], **options)
        order = torch.Generator().manual_seed(1)
        for _ in range(4000):
            row = rows[torch.randint(len(rows), (), generator=order)]
            optimizer.zero_grad()
            ((weight - solution) @ row).abs().backward()
            optimizer.step()
        if hasattr(optimizer, "eval"):
            optimizer.eval()
        return (weight.detach() - solution).norm().item()

    plain = distance(torch.optim.SGD, lr=0.05)
    assert distance(module.ScheduleFreeSGD, lr=0.05) < plain / 3
    adam = distance(torch.optim.AdamW, lr=0.05, weight_decay=0.0)
    assert distance(module.ScheduleFreeAdamW, lr=0.05) < adam / 2


@each_name
def test_clipping_is_that_of_clipped_gradients(name):
    ours, theirs = leaves(), leaves()
    optimizer = getattr(optim, name)(ours, **OPTIONS[name], max_grad_norm=0.5, clip_value=0.1)
    other = getattr(optim, name)(theirs, **OPTIONS[name])
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        for param, twin in zip(ours, theirs, strict=True):
            param.grad = torch.randn(param.shape, generator=generator, dtype=torch.float64)
            twin.grad = param.grad.clone()
        torch.nn.utils.clip_grad_norm_(theirs, 0.5)
        torch.nn.utils.clip_grad_value_(theirs, 0.1)
        optimizer.step()
        other.step()
    optimizer.eval()
    other.eval()
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@each_name
def test_under_a_grad_scaler(name):
    """A step that overflowed leaves all as it was; the others are those without a scaler."""
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=1000)
    ours, theirs = leaves(torch.float32), leaves(torch.float32)
    optimizer, other = (getattr(optim, name)(params, **OPTIONS[name]) for params in (ours, theirs))
    for step in range(5):
        optimizer.zero_grad()
        other.zero_grad()
        scaler.scale(sum(param.square().sum() for param in ours)).backward()
        if step == 2:
            ours[1].grad[0] = math.inf
        else:
            sum(param.square().sum() for param in theirs).backward()
            other.step()
        scaler.step(optimizer)
        scaler.update()
    optimizer.eval()
    other.eval()
    torch.testing.assert_close(ours, theirs)
    assert optimizer.state[ours[0]]["step"].item() == 4
    scaler.scale(sum(param.square().sum() for param in ours)).backward()
    with pytest.raises(RuntimeError, match="is in eval mode"):
        scaler.step(optimizer)


@each_name
def test_a_skipped_first_step_begins_nothing(name):
    optimizer, params = make(name, steps=0, skip_grad_norm=1.0)
    train(optimizer, [0])
    assert optimizer.last_step_skipped
    for param in params:
        param.data.fill_(3.0)
        param.grad.zero_()
    optimizer.step()
    assert not optimizer.last_step_skipped
    assert all((optimizer.state[param]["z"] == 3).all() for param in params)


@each_name
def test_subclasses(name):
    base = getattr(optim, name)
    calls = []

    class Own(base):
        def step(self, closure=None):
            calls.append("step")
            return super().step(closure)

        def eval(self):
            calls.append("eval")
            super().eval()

    params, expected = leaves(), leaves()
    optimizer, plain = Own(params, **OPTIONS[name]), base(expected, **OPTIONS[name])
    for one in (optimizer, plain):
        train(one, range(2))
        one.eval()
    assert calls == ["step", "step", "eval"]
    assert all(torch.equal(*pair) for pair in zip(params, expected, strict=True))


@each_name
@each_module
def test_z_of_another_type(module, name):
    """A step keeps it, and so do the modes: half a parameter beside a wide z."""
    optimizer, params = make(name, module, torch.bfloat16)
    for param in params:
        state = optimizer.state[param]
        state["z"] = state["z"].float() + 1e-3
    y = values(params)
    optimizer.eval()
    for param, before in zip(params, y, strict=True):
        z = optimizer.state[param]["z"]
        expected = before.double() + (1 - 1 / 0.9) * (z.double() - before.double())
        torch.testing.assert_close(param.double(), expected, rtol=4e-3, atol=4e-3)
    optimizer.train()
    torch.testing.assert_close(values(params), y, rtol=1.6e-2, atol=1e-2)


@each_name
@each_module
def test_nothing_has_changed_where_a_mode_cannot_be_entered(module, name):
    optimizer, params = make(name, module)
    y = values(params)
    good = optimizer.state[params[1]]["z"]
    optimizer.state[params[1]]["z"] = good[:3]
    message = re.escape("param_groups[0]['params'][1]: z is of shape [3] on cpu, expected [7] on cpu")
    with pytest.raises(RuntimeError, match=message):
        optimizer.eval()
    optimizer.state[params[1]]["z"] = good
    group = optimizer.param_groups[0]
    option, value = ("momentum", 0.0) if "momentum" in group else ("betas", (0.0, 0.999))
    old, group[option] = group[option], value
    with pytest.raises(
        ValueError, match=r"^param_groups\[0\]: (momentum|betas\[0\]) is 0.0, expected a number > 0 and"
    ):
        optimizer.eval()
    group[option] = old
    assert all(torch.equal(*pair) for pair in zip(params, y, strict=True))
    assert group["train_mode"]
    optimizer.eval()


@each_name
def test_a_weight_that_cannot_be_is_named(name):
    optimizer, params = make(name, steps=1)
    before = copy.deepcopy((params, optimizer.state_dict()["state"]))
    for options, option in (({"r": math.nan}, "r"), ({"r": 1e10}, "r"), ({"weight_lr_power": math.nan}, "weight_lr")):
        kept = {key: optimizer.param_groups[0][key] for key in options}
        optimizer.param_groups[0].update(options)
        with pytest.raises((ValueError, RuntimeError), match=f'option "{option}'):
            optimizer.step()
        optimizer.param_groups[0].update(kept)
    torch.testing.assert_close((params, optimizer.state_dict()["state"]), before, rtol=0, atol=0)
    optimizer.step()


@each_name
@each_module
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "Invalid learning rate: -1.0"),
        ({"lr": torch.ones(2)}, "Tensor lr must be 1-element"),
        ({"betas": (1.0, 0.9)}, "Invalid beta parameter at index 0: 1.0, expected a number > 0 and < 1"),
        ({"betas": (0.0, 0.9)}, "Invalid beta parameter at index 0: 0.0, expected a number > 0 and < 1"),
        ({"betas": (0.9, 1.0)}, "Invalid beta parameter at index 1: 1.0"),
        ({"betas": (0.9, 0.99, 0.9)}, "Invalid betas: (0.9, 0.99, 0.9), expected two numbers"),
        ({"betas": 0.9}, "Invalid betas: 0.9, expected two numbers"),
        ({"momentum": 0.0}, "Invalid momentum value: 0.0, expected a number > 0 and < 1"),
        ({"momentum": 1.0}, "Invalid momentum value: 1.0, expected a number > 0 and < 1"),
        ({"momentum": math.nan}, "Invalid momentum value: nan, expected a number > 0 and < 1"),
        ({"eps": -1.0}, "Invalid epsilon value: -1.0"),
        ({"weight_decay": -1.0}, "Invalid weight_decay value: -1.0"),
        ({"warmup_steps": -1}, "Invalid warmup_steps value: -1"),
        ({"r": -0.5}, "Invalid r value: -0.5"),
        ({"weight_lr_power": math.nan}, "Invalid weight_lr_power value: nan"),
    ],
    ids=str,
)
def test_what_is_out_of_its_range(module, name, options, message):
    option = next(iter(options))
    if option in ("betas", "eps", "momentum") and (option == "momentum") != (name == "ScheduleFreeSGD"):
        with pytest.raises(TypeError, match=option):
            getattr(module, name)(leaves(), **options)
        return
    with pytest.raises(ValueError, match=re.escape(message)):
        getattr(module, name)(leaves(), **options)


@pytest.mark.parametrize("value", ["1", b"1", [], object(), 1j, np.ones(2), torch.ones(2), type], ids=repr)
@pytest.mark.parametrize("option", ["warmup_steps", "r", "weight_lr_power", "momentum"])
def test_what_is_no_number_is_named(option, value):
    with pytest.raises((TypeError, ValueError, RuntimeError)) as caught:
        optim.ScheduleFreeSGD(leaves(), **{option: value})
    assert re.search(rf"\b{option}\b", str(caught.value)), str(caught.value)


@each_name
def test_a_learning_rate_in_a_tensor(name):
    lr = OPTIONS[name]["lr"]
    _, expected = make(name, steps=5, warmup_steps=3)
    for rate in (torch.tensor(lr, dtype=torch.float64), torch.tensor([lr], dtype=torch.float64)):
        for module in MODULES.values():
            optimizer, params = make(name, module, steps=5, lr=rate, warmup_steps=3)
            torch.testing.assert_close(params, expected, rtol=1e-12, atol=1e-12)
            assert getattr(optimizer, "last_path", "fused") == "fused"


@each_name
def test_autograd_follows_torchs_operators(name):
    """The derivative by the learning rate after two steps is that of a difference."""

    def end(rate):
        lr = torch.tensor(rate, dtype=torch.float64, requires_grad=True)
        start = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
        param = start.clone()
        optimizer = getattr(optim, name)([param], lr=lr, differentiable=True)
        for grad in ([1.0, 2.0], [-0.5, 3.0]):
            param.grad = torch.tensor(grad, dtype=torch.float64)
            optimizer.step()
        assert optimizer.last_path == "torch: param_groups[0] has differentiable=True"
        return lr, param.sum()

    lr, total = end(0.3)
    (slope,) = torch.autograd.grad(total, lr)
    near = [end(0.3 + by)[1].item() for by in (1e-6, -1e-6)]
    assert slope.item() == pytest.approx((near[0] - near[1]) / 2e-6, rel=1e-6)


@each_name
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler
def test_compiled(name):
    """A step under torch.compile is traced in torch's operators, which read the numbers anew each time."""
    ours, expected = leaves(torch.float32), leaves(torch.float32)
    optimizer = getattr(optim, name)(ours, **OPTIONS[name], warmup_steps=3)
    plain = getattr(optim, name)(expected, **OPTIONS[name], warmup_steps=3)
    torch._dynamo.reset()
    step = torch.compile(optimizer.step, backend="eager")
    for seed in range(5):
        for params in (ours, expected):
            for param in params:
                param.grad = torch.randn(param.shape, generator=torch.Generator().manual_seed(seed))
        step()
        plain.step()
    optimizer.eval()
    plain.eval()
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
