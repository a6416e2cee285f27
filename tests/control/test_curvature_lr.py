"""A learning rate that follows the curvature: what it sets, what it survives, and how it composes."""

import io
import itertools
import math

import pytest
import torch
from torch.nn import functional as F  # noqa: N812
from torch.optim.lr_scheduler import ChainedScheduler, ExponentialLR, LinearLR, SequentialLR

from torchpace import optim
from torchpace.control import (
    CurvatureCost,
    CurvatureLR,
    max_stable_lr,
    max_stable_lr_adam,
    max_stable_lr_rmsprop,
    sharpness,
)
from torchpace.schedule import linear, warmup

each_module = pytest.mark.parametrize("module", [torch.optim, optim], ids=["torch", "ours"])


class Bowl:
    """A quadratic with these curvatures along the axes, which may be changed."""

    def __init__(self, *curvatures, dtype=torch.float64):
        self.curvatures = torch.tensor(curvatures, dtype=dtype)
        self.theta = torch.nn.Parameter(torch.ones(len(curvatures), dtype=dtype))

    def loss(self):
        return (self.curvatures * self.theta.square()).sum() / 2


def train(optimizer, loss, scheduler, steps):
    rates = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


@each_module
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "dampening": 0.5},
        {"momentum": 0.8, "nesterov": True},
        {"weight_decay": 0.5},
        {"momentum": 0.9, "weight_decay": 2.0},
    ],
    ids=str,
)
def test_sgd_gets_its_share_of_its_own_bound(module, options):
    bowl = Bowl(4.0, 1.0, 0.5)
    optimizer = module.SGD([bowl.theta], lr=7.0, **options)
    scheduler = CurvatureLR(optimizer, bowl.loss, safety=0.7)
    bound = max_stable_lr(4.0, **options)
    assert scheduler.get_last_lr() == [optimizer.param_groups[0]["lr"]]
    assert scheduler.get_last_lr() == pytest.approx([0.7 * bound], rel=1e-9)
    assert scheduler.max_stable_lrs == pytest.approx([bound], rel=1e-9)


def test_the_averaged_momentum_of_ours():
    for nesterov in (False, True):
        bowl = Bowl(4.0)
        optimizer = optim.SGD([bowl.theta], lr=1.0, momentum=0.9, averaged=True, nesterov=nesterov)
        scheduler = CurvatureLR(optimizer, bowl.loss, safety=0.99, every=10**9)
        train(optimizer, bowl.loss, scheduler, 4000)
        assert bowl.theta.abs().max() < 1e-3
        optimizer.param_groups[0]["lr"] = 1.01 * scheduler.max_stable_lrs[0]
        with torch.no_grad():
            bowl.theta.fill_(1)
        for _ in range(2000):
            bowl.theta.grad = 4 * bowl.theta.detach()
            optimizer.step()
        assert bowl.theta.abs().max() > 1e3


def test_exactly_two_by_the_curvature():
    bowl = Bowl(4.0)
    scheduler = CurvatureLR(torch.optim.SGD([bowl.theta], lr=1.0), bowl.loss, safety=0.5)
    assert scheduler.get_last_lr() == pytest.approx([2 * 0.5 / 4], rel=1e-15)  # a root, squared


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_converges_where_a_fixed_rate_diverges(momentum):
    def run(scheduled):
        bowl = Bowl(100.0, 3.0, 1.0)
        optimizer = torch.optim.SGD([bowl.theta], lr=1.05 * max_stable_lr(100.0, momentum), momentum=momentum)
        if scheduled:
            train(optimizer, bowl.loss, CurvatureLR(optimizer, bowl.loss, every=50), 1500)
        else:
            train(optimizer, bowl.loss, LinearLR(optimizer, 1.0), 1500)
        return bowl.theta.detach().norm().item()

    assert run(scheduled=True) < 1e-6
    assert not run(scheduled=False) < 1e6


def test_follows_a_curvature_that_changes():
    bowl = Bowl(1.0)
    optimizer = torch.optim.SGD([bowl.theta], lr=1.0)
    scheduler = CurvatureLR(optimizer, bowl.loss, safety=0.5, every=3)
    assert train(optimizer, bowl.loss, scheduler, 2) == pytest.approx([1.0, 1.0])
    bowl.curvatures *= 10
    assert train(optimizer, bowl.loss, scheduler, 4) == pytest.approx([0.1] * 4)
    assert scheduler.cost.measurements == 3


def test_smoothing():
    bowl = Bowl(1.0)
    optimizer = torch.optim.SGD([bowl.theta], lr=1.0)
    scheduler = CurvatureLR(optimizer, bowl.loss, safety=0.5, every=1, smoothing=0.75)
    bowl.curvatures *= 5
    # The curvatures 1, then 5: 2, 2.75, 3.3125.
    assert train(optimizer, bowl.loss, scheduler, 3) == pytest.approx([1 / 2, 1 / 2.75, 1 / 3.3125])
    assert scheduler.max_stable_lrs == pytest.approx([2 / 3.3125])


def test_bounds_and_flat_places():
    for curvature, low, high, expected in (
        (10.0, 0.5, math.inf, 0.5),
        (0.1, 0.0, 3.0, 3.0),
        (0.0, 0.0, 3.0, 3.0),
        (-2.0, 0.0, 3.0, 3.0),
        (0.0, 0.0, math.inf, 0.7),  # as it was
    ):
        bowl = Bowl(curvature)
        optimizer = torch.optim.SGD([bowl.theta], lr=0.7)
        scheduler = CurvatureLR(optimizer, bowl.loss, min_lr=low, max_lr=high, every=1)
        assert scheduler.get_last_lr() == [expected]
        assert train(optimizer, bowl.loss, scheduler, 1) == [expected]
    bowl = Bowl(1.0)
    optimizer = torch.optim.SGD([bowl.theta], lr=0.7)
    scheduler = CurvatureLR(optimizer, bowl.loss, safety=0.5, every=1)
    bowl.curvatures *= 0
    assert train(optimizer, bowl.loss, scheduler, 2) == pytest.approx([1.0, 1.0])
    assert scheduler.max_stable_lrs == [math.inf]


def network():
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()
    with torch.no_grad():
        for param in model.parameters():
            param.copy_(torch.randn(param.shape, generator=generator) / 2)
    x = torch.randn(64, 5, generator=generator, dtype=torch.float64)
    return model, lambda: F.mse_loss(model(x), x[:, :1].sin())


@each_module
@pytest.mark.parametrize(
    ("name", "options", "bound"),
    [
        ("RMSprop", {"momentum": 0.5}, lambda found: max_stable_lr_rmsprop(found, 0.5)),
        ("RMSprop", {"centered": True}, max_stable_lr_rmsprop),
        ("Adagrad", {"lr_decay": 0.01}, max_stable_lr_rmsprop),
        ("Adam", {}, max_stable_lr_adam),
        ("Adam", {"betas": (0.5, 0.99)}, lambda found: max_stable_lr_adam(found, 0.5)),
        ("AdamW", {"weight_decay": 0.5}, lambda found: max_stable_lr_adam(found, 0.9, 0.5)),
    ],
    ids=str,
)
def test_adaptive_optimizers_by_the_preconditioned_sharpness(module, name, options, bound):
    model, loss = network()
    optimizer = getattr(module, name)(model.parameters(), lr=1e-3, **options)
    scheduler = CurvatureLR(optimizer, loss, safety=0.5, every=5, tol=1e-6)
    assert scheduler.get_last_lr() == [1e-3]  # there is no state to divide by
    assert scheduler.max_stable_lrs is None
    for step in range(1, 11):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        scheduler.step()
        if step in (1, 5, 10):
            expected = 0.5 * bound(sharpness(loss, model, optimizer=optimizer, tol=1e-6).value)
        assert scheduler.get_last_lr() == pytest.approx([expected], rel=1e-6)
    assert scheduler.cost.measurements == 3


def test_coupled_decay_of_adam_is_part_of_the_curvature():
    bowl = Bowl(3.0, 1.0)
    optimizer = torch.optim.Adam([bowl.theta], lr=1e-3, weight_decay=0.5)
    scheduler = CurvatureLR(optimizer, bowl.loss, safety=0.5)
    train(optimizer, bowl.loss, scheduler, 1)
    state = optimizer.state[bowl.theta]
    divisor = 0.1 * ((state["exp_avg_sq"] / 0.001).sqrt() + 1e-8)
    largest = ((bowl.curvatures + 0.5) / divisor).max().item()
    assert scheduler.max_stable_lrs == pytest.approx([max_stable_lr_adam(largest)], rel=1e-6)


def test_groups_unlike_in_rate_momentum_and_decay_are_bounded_together():
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    matrix = factor @ factor.T + 0.1 * torch.eye(4)
    parts = [torch.nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2)]

    def loss():
        theta = torch.cat(parts)
        return theta @ matrix @ theta / 2

    def make():
        with torch.no_grad():
            for part in parts:
                part.fill_(1)
        return torch.optim.SGD(
            [
                {"params": parts[:1], "lr": 0.3, "momentum": 0.9},
                {"params": parts[1:], "lr": 0.1, "momentum": 0.5, "nesterov": True, "weight_decay": 0.4},
            ],
            lr=1.0,
        )

    scheduler = CurvatureLR(make(), loss, safety=0.5, tol=1e-9)
    bounds = scheduler.max_stable_lrs
    assert bounds[0] == pytest.approx(3 * bounds[1])
    assert scheduler.get_last_lr() == pytest.approx([bound / 2 for bound in bounds])
    ends = []
    for share in (0.99, 1.01):
        optimizer = make()
        for group, bound in zip(optimizer.param_groups, bounds, strict=True):
            group["lr"] = share * bound
        for _ in range(6000):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
        ends.append(torch.cat(parts).norm().item())
    assert ends[0] < 1e-3
    assert ends[1] > 1e3


def test_a_warmup_multiplies_the_rate():
    bowl = Bowl(4.0)
    optimizer = torch.optim.SGD([bowl.theta], lr=1.0)
    scheduler = CurvatureLR(optimizer, bowl.loss, safety=0.5, min_lr=0.01, every=3, warmup=warmup(5).then(linear(5)))
    rates = [optimizer.param_groups[0]["lr"], *train(optimizer, bowl.loss, scheduler, 10)]
    assert rates == pytest.approx([0.25 * factor for factor in (0, 0.2, 0.4, 0.6, 0.8, 1, 0.8, 0.6, 0.4, 0.2, 0)])


@each_module
def test_after_a_warmup_in_a_sequence(module):
    bowl = Bowl(4.0, 1.0)
    optimizer = module.SGD([bowl.theta], lr=0.1)
    schedulers = module.lr_scheduler
    curvature = CurvatureLR(optimizer, bowl.loss, safety=0.5, every=2)
    sequence = schedulers.SequentialLR(
        optimizer, [schedulers.LinearLR(optimizer, 0.25, total_iters=4), curvature], milestones=[4]
    )
    bowl.curvatures *= 2  # known only by a measurement when its turn comes
    rates = [optimizer.param_groups[0]["lr"], *train(optimizer, bowl.loss, sequence, 6)]
    assert rates == pytest.approx([0.025, 0.04375, 0.0625, 0.08125, 0.125, 0.125, 0.125])
    assert curvature.cost.measurements == 3


def test_chained_with_a_scheduler_of_another_option():
    bowl = Bowl(4.0)
    optimizer = torch.optim.SGD([bowl.theta], lr=1.0, momentum=0.9)
    momentum = linear(10).on(optimizer, "momentum")
    chain = ChainedScheduler([momentum, CurvatureLR(optimizer, bowl.loss, safety=0.5, every=1)], optimizer)
    for step in range(1, 6):
        rate = train(optimizer, bowl.loss, chain, 1)
        assert rate == pytest.approx([0.5 * max_stable_lr(4.0, 0.9 * (1 - step / 10))])


def test_tensor_rates_are_filled_in_place():
    bowl = Bowl(4.0)
    rate = torch.tensor(1.0)
    optimizer = torch.optim.SGD([bowl.theta], lr=rate)
    scheduler = CurvatureLR(optimizer, bowl.loss, safety=0.5)
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate.item() == 0.25
    scheduler.load_state_dict(scheduler.state_dict())
    assert optimizer.param_groups[0]["lr"] is rate


def test_a_run_goes_on_from_its_state():
    def make():
        model, loss = network()
        optimizer = optim.Adam(model.parameters(), lr=1e-3)
        scheduler = CurvatureLR(optimizer, loss, safety=0.2, every=4, smoothing=0.5, warmup=warmup(8, start=0.1))
        return model, loss, optimizer, scheduler

    model, loss, optimizer, scheduler = make()
    train(optimizer, loss, scheduler, 6)
    file = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict(), scheduler.state_dict()], file)
    expected = train(optimizer, loss, scheduler, 7)
    file.seek(0)
    states = torch.load(file, weights_only=True)
    again, loss, optimizer, scheduler_again = make()
    for thing, state in zip((again, optimizer, scheduler_again), states, strict=True):
        thing.load_state_dict(state)
    assert scheduler_again.cost.measurements == 2
    assert optimizer.param_groups[0]["lr"] == scheduler_again.get_last_lr()[0]
    assert train(optimizer, loss, scheduler_again, 7) == expected
    assert all(map(torch.equal, again.parameters(), model.parameters()))
    for key in ("curvature", "rate", "products", "measurements", "last_epoch", "_last_lr", "_step_count", "base_lrs"):
        assert scheduler_again.state_dict()[key] == scheduler.state_dict()[key], key


def test_a_state_that_does_not_fit_changes_nothing():
    bowl = Bowl(4.0)
    optimizer = torch.optim.SGD([bowl.theta], lr=1.0)
    scheduler = CurvatureLR(optimizer, bowl.loss)
    state = scheduler.state_dict()
    theirs = ExponentialLR(torch.optim.SGD([bowl.theta], lr=1.0), 0.5).state_dict()
    for wrong, error, words in (
        ({k: v for k, v in state.items() if k != "curvature"}, KeyError, "state_dict has no 'curvature', found only"),
        (theirs, KeyError, "state_dict has no 'curvature', found only .*'gamma'"),
        ([], TypeError, "state_dict is of type list, expected a dict"),
        ({**state, "base_lrs": [1.0, 1.0]}, ValueError, r"state_dict\['base_lrs'\] has 2 entries, expected 1"),
        ({**state, "_last_lr": []}, ValueError, r"state_dict\['_last_lr'\] has 0 entries, expected 1"),
        ({**state, "_last_lr": 0.1}, TypeError, r"state_dict\['_last_lr'\] is of type float, expected a list"),
        ({**state, "last_epoch": -1}, ValueError, r"state_dict\['last_epoch'\] is -1, expected a whole number >= 0"),
        ({**state, "last_epoch": "3"}, TypeError, r"state_dict\['last_epoch'\] is '3', expected a number"),
        ({**state, "measurements": 1.5}, ValueError, r"state_dict\['measurements'\] is 1.5, expected a whole number"),
        (
            {**state, "base_lrs": [math.nan]},
            ValueError,
            r"state_dict\['base_lrs'\]\[0\] is nan, expected a finite number",
        ),
        ({**state, "base_lrs": [0.0]}, ValueError, r"initial_lr are \[0.0\], expected one > 0"),
        ({**state, "curvature": -1.0}, ValueError, r"state_dict\['curvature'\] is -1.0, expected a finite number >= 0"),
        ({**state, "rate": math.inf}, ValueError, r"state_dict\['rate'\] is inf"),
        ({**state, "seconds": None}, TypeError, r"state_dict\['seconds'\] is None, expected a number"),
    ):
        with pytest.raises(error, match=words):
            scheduler.load_state_dict(wrong)
        after = scheduler.state_dict()
        assert {**after, "total_seconds": 0} == {**state, "total_seconds": 0}
        assert optimizer.param_groups[0]["lr"] == state["_last_lr"][0]


def test_a_measurement_changes_nothing_of_the_training():
    def run(scheduled):
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1)
        )
        x = torch.randn(32, 4)

        def loss():
            return model(x).square().mean()

        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        scheduler = CurvatureLR(optimizer, loss, model=model, every=2, min_lr=0.01, max_lr=0.01)
        if not scheduled:
            scheduler = ExponentialLR(optimizer, 1.0)
        train(optimizer, loss, scheduler, 10)
        return [*model.state_dict().values(), torch.get_rng_state()]

    assert all(map(torch.equal, run(scheduled=True), run(scheduled=False)))


def test_an_error_in_the_loss_leaves_the_step_uncounted():
    bowl = Bowl(4.0)
    fails = False

    def loss():
        if fails:
            raise RuntimeError("no data")
        return bowl.loss()

    optimizer = torch.optim.SGD([bowl.theta], lr=1.0)
    scheduler = CurvatureLR(optimizer, loss, safety=0.5, every=2)
    train(optimizer, loss, scheduler, 1)
    fails = True
    with pytest.raises(RuntimeError, match="no data"):
        scheduler.step()
    assert scheduler.last_epoch == 1
    fails = False
    bowl.curvatures *= 2
    scheduler.step()
    assert scheduler.last_epoch == 2
    assert scheduler.get_last_lr() == pytest.approx([0.125])


def test_a_curvature_that_is_not_finite_is_a_warning():
    """At 0 the second derivative of x^(3/2) is infinite."""
    bowl, power = Bowl(4.0), 2.0
    optimizer = torch.optim.SGD([bowl.theta], lr=1.0)
    scheduler = CurvatureLR(optimizer, lambda: 2 * bowl.theta.pow(power).sum(), safety=0.5, every=1)
    optimizer.step()
    power = 1.5
    with torch.no_grad():
        bowl.theta.zero_()
    with pytest.warns(UserWarning, match="the curvature is not finite, so the learning rate stays as it is"):
        scheduler.step()
    assert scheduler.get_last_lr() == pytest.approx([0.25])


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_a_loss_that_is_not_finite_is_an_error_and_the_step_uncounted(bad):
    bowl, shift = Bowl(4.0), 0.0
    optimizer = torch.optim.SGD([bowl.theta], lr=1.0)
    scheduler = CurvatureLR(optimizer, lambda: bowl.loss() + shift, safety=0.5, every=1)
    optimizer.step()
    shift, state = bad, scheduler.state_dict()
    with pytest.raises(RuntimeError, match=f"the loss is not finite: it is {bad}"):
        scheduler.step()
    assert {**scheduler.state_dict(), "seconds": 0, "total_seconds": 0} == {**state, "seconds": 0, "total_seconds": 0}
    assert scheduler.get_last_lr() == pytest.approx([0.25])


def test_batches():
    theta = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    seen = []

    def loss(curvature):
        seen.append(curvature)
        return curvature * theta.square().sum() / 2

    optimizer = torch.optim.SGD([theta], lr=1.0)
    scheduler = CurvatureLR(optimizer, loss, itertools.count(1), batches=2, safety=0.5, every=1)
    optimizer.step()
    assert scheduler.get_last_lr() == pytest.approx([1 / 1.5])
    scheduler.step()
    assert scheduler.get_last_lr() == pytest.approx([1 / 3.5])  # an iterator goes on
    scheduler = CurvatureLR(optimizer, loss, [8.0, 1.0, 1.0], safety=0.5, every=1)
    scheduler.step()
    assert scheduler.get_last_lr() == pytest.approx([1 / 8])  # a list begins anew
    assert seen[-1] == 8.0
    with pytest.raises(ValueError, match="data has no batch"):
        CurvatureLR(optimizer, loss, iter([]))


def test_frozen_parameters_and_groups():
    bowl = Bowl(4.0)
    frozen = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    still = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([{"params": [bowl.theta, frozen]}, {"params": [still], "lr": 0.0}], lr=1.0)
    scheduler = CurvatureLR(optimizer, lambda: bowl.loss() + 50 * still.square().sum(), safety=0.5)
    assert scheduler.get_last_lr() == pytest.approx([0.25, 0.0])
    assert scheduler.max_stable_lrs == pytest.approx([0.5, 0.0])


def test_a_group_that_is_added_later():
    bowl, other = Bowl(4.0), Bowl(16.0)
    optimizer = torch.optim.SGD([bowl.theta], lr=1.0)
    scheduler = CurvatureLR(optimizer, lambda: bowl.loss() + other.loss(), safety=0.5, every=1)
    optimizer.step()
    assert scheduler.get_last_lr() == pytest.approx([0.25])
    optimizer.add_param_group({"params": [other.theta], "lr": 0.125})  # half the other's, and stays so
    scheduler.step()
    assert scheduler.get_last_lr() == pytest.approx([0.125, 0.0625])


def test_the_cost_is_reported():
    bowl = Bowl(4.0, 1.0)
    optimizer = torch.optim.SGD([bowl.theta], lr=1.0)
    scheduler = CurvatureLR(optimizer, bowl.loss, every=5)
    before = scheduler.cost
    assert isinstance(before, CurvatureCost)
    assert (before.measurements, before.products) == (1, 2)
    assert before.seconds > 0
    assert 0 < before.share <= 1
    train(optimizer, bowl.loss, scheduler, 10)
    assert (scheduler.cost.measurements, scheduler.cost.products) == (3, 6)
    assert before.seconds < scheduler.cost.seconds
    assert scheduler.cost.share < 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"safety": 0.0}, "safety is 0.0, expected a finite number > 0"),
        ({"every": 0}, "every is 0, expected a whole number >= 1"),
        ({"batches": 0}, "batches is 0, expected a whole number >= 1"),
        ({"smoothing": 1.0}, "smoothing is 1.0, expected a number >= 0 and < 1"),
        ({"min_lr": -1.0}, "min_lr is -1.0, expected a finite number >= 0"),
        ({"min_lr": 1.0, "max_lr": 0.5}, "max_lr is 0.5, expected a number >= min_lr, which is 1.0"),
        ({"max_lr": math.nan}, "max_lr is nan"),
        ({"method": "none"}, "method is 'none'"),
        ({"max_iter": 0}, "max_iter is 0"),
        ({"tol": -1.0}, "tol is -1.0"),
    ],
)
def test_arguments_out_of_their_range(options, message):
    bowl = Bowl(4.0)
    optimizer = torch.optim.SGD([bowl.theta], lr=1.0)
    with pytest.raises(ValueError, match=message):
        CurvatureLR(optimizer, bowl.loss, **options)
    assert optimizer.param_groups[0]["lr"] == 1.0


def test_arguments_of_another_type():
    bowl = Bowl(4.0)
    optimizer = torch.optim.SGD([bowl.theta], lr=1.0)
    for loss, options, words in (
        (3, {}, "loss is of type int, expected a function"),
        (bowl.loss, {"data": 3}, "data is of type int, expected batches"),
        (bowl.loss, {"model": 3}, "model is of type int, expected Module"),
        (bowl.loss, {"warmup": 0.5}, "warmup is of type float, expected a function of the step"),
        (bowl.loss, {"warmup": lambda step: "1"}, r"warmup\(0\) is '1', expected a number"),
    ):
        with pytest.raises(TypeError, match=words):
            CurvatureLR(optimizer, loss, **options)
        assert optimizer.param_groups[0]["lr"] == 1.0


def test_optimizers_that_have_no_bound():
    bowl = Bowl(4.0)
    with pytest.raises(TypeError, match="optimizer is NAdam, expected SGD"):
        CurvatureLR(torch.optim.NAdam([bowl.theta]), bowl.loss)
    with pytest.raises(TypeError, match="optimizer is int, expected SGD"):
        CurvatureLR(3, bowl.loss)
    with pytest.raises(ValueError, match=r"param_groups\[0\]: maximize is True, expected False"):
        CurvatureLR(torch.optim.SGD([bowl.theta], lr=1.0, maximize=True), bowl.loss)
    for name in ("Adam", "AdamW"):
        with pytest.raises(ValueError, match=r"param_groups\[0\]: cautious is True, expected False"):
            CurvatureLR(getattr(optim, name)([bowl.theta], lr=1.0, cautious=True), bowl.loss)
    with pytest.raises(ValueError, match=r"initial_lr are \[0.0\], expected one > 0"):
        CurvatureLR(torch.optim.SGD([bowl.theta], lr=0.0), bowl.loss)


def test_is_torchs_scheduler():
    bowl = Bowl(4.0)
    optimizer = torch.optim.SGD([bowl.theta], lr=1.0)
    scheduler = CurvatureLR(optimizer, bowl.loss)
    assert isinstance(scheduler, torch.optim.lr_scheduler.LRScheduler)
    assert isinstance(SequentialLR(optimizer, [scheduler], []), torch.optim.lr_scheduler.LRScheduler)
    with pytest.raises(KeyError, match="initial_lr"):
        CurvatureLR(torch.optim.SGD([bowl.theta], lr=1.0), bowl.loss, last_epoch=3)
