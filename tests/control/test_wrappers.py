"""Optimizers and schedulers as trainers hand them out, in wrappers, several in one: `control` sees within."""

import math
import warnings

import pytest
import torch
from torch.optim import lr_scheduler

import torchpace.optim
from torchpace.control import CurvatureLR, DivergenceGuard, Snapshot, lr_range_test, max_stable_lr, sharpness
from torchpace.optim import _unwrap
from trainings import bits
from wrappers import PLAIN, WRAPPERS, Delegate, Engined, Lookahead, Prepared, PreparedScheduler, Several

KINDS = {
    "our Adam": (torchpace.optim.Adam, {"lr": 0.01}),
    "torch's Adam": (torch.optim.Adam, {"lr": 0.01}),
    "our SGD": (torchpace.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
}
each_wrapper = pytest.mark.parametrize("name", WRAPPERS)


class Wrapped:
    """A network, a wrapper's steps on it, and all that they change, written down."""

    def __init__(self, name, kind="our Adam", **options):
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1))
        cls, ours = KINDS[kind]
        self.optimizer, self.inner = WRAPPERS[name](self.model.parameters(), cls, **{**ours, **options})
        self.inputs = torch.randn(16, 4)

    def loss(self, model=None, batch=None):
        return (self.model(self.inputs) - 1).square().mean()

    def closure(self):
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        return loss

    def step(self):
        self.closure()
        self.optimizer.step()

    def written(self):
        numbers = {id(param): number for number, param in enumerate(self.model.parameters())}
        owners = [part for part in _parts(self.optimizer, self.inner) if hasattr(part, "state")]
        return [
            [bits(param) for param in self.model.parameters()],
            [(numbers[id(param)], bits(entry)) for owner in owners for param, entry in owner.state.items()],
            [bits({k: v for k, v in group.items() if k != "params"}) for one in owners for group in one.param_groups],
            [(getattr(one, "count", None), bits(getattr(one, "slow", None))) for one in owners],
        ]


def _parts(whole, inner):
    """What is known here of a wrapper's parts, without the code under test."""
    found, ahead = [], [whole, *inner]
    while ahead:
        one = ahead.pop(0)
        if all(one is not other for other in found):
            found.append(one)
            names = ("optimizer", "base", "base_optimizer", "optim")
            ahead += [getattr(one, name) for name in names if hasattr(one, name)]
            ahead += list(one) if isinstance(one, list) else list(getattr(one, "optimizers", []))
    return found


@each_wrapper
@pytest.mark.parametrize("kind", KINDS)
def test_a_snapshot_puts_all_back(name, kind):
    wrapped = Wrapped(name, kind)
    wrapped.step()
    snapshot = Snapshot(wrapped.model, wrapped.optimizer).take()
    state = wrapped.written()
    for _ in range(3):
        wrapped.step()
    later = wrapped.written()
    assert later != state
    for group in _unwrap.groups(wrapped.optimizer):
        group["lr"] = 7.0
    snapshot.restore()
    assert wrapped.written() == state
    for _ in range(3):
        wrapped.step()
    assert wrapped.written() == later


@each_wrapper
def test_a_snapshot_from_before_the_first_step(name):
    wrapped = Wrapped(name)
    snapshot, state = Snapshot((), wrapped.optimizer).take(), wrapped.written()
    wrapped.step()
    assert wrapped.written() != state
    snapshot.restore()
    assert wrapped.written() == state


@each_wrapper
def test_a_range_test_leaves_no_trace(name):
    wrapped = Wrapped(name, lr=0.0123)
    wrapped.step()
    state, seen = wrapped.written(), []

    def loss(model, batch):
        seen.append([group["lr"] for one in wrapped.inner for group in one.param_groups])
        return wrapped.loss()

    found = lr_range_test(wrapped.model, wrapped.optimizer, loss, [None], low=1e-4, high=1.0, steps=15, progress=False)
    assert wrapped.written() == state
    assert found.losses[0][-1] != found.losses[0][0]
    # The rates of the sweep are those that are stepped at.
    assert [rates[0] for rates in seen][: len(found.losses[0])] == found.lrs[: len(found.losses[0])]
    assert all(len(set(rates)) == 1 for rates in seen)


@pytest.mark.parametrize("name", PLAIN)
def test_a_range_test_finds_what_it_finds_without_the_wrapper(name):
    bare, wrapped = Wrapped("prepared", lr=0.0123), Wrapped(name, lr=0.0123)
    options = {"low": 1e-4, "high": 1.0, "steps": 15, "progress": False}
    (inner,) = bare.inner
    expected = lr_range_test(bare.model, inner, bare.loss, [None], **options)
    assert lr_range_test(wrapped.model, wrapped.optimizer, wrapped.loss, [None], **options) == expected


def test_unlike_rates_of_several_optimizers_keep_their_proportion():
    params = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    fast, slow = torchpace.optim.SGD(params[:1], lr=0.5), torch.optim.Adam(params[1:], lr=0.05)
    seen = []

    def loss(model, batch):
        seen.append((fast.param_groups[0]["lr"], slow.param_groups[0]["lr"]))
        return sum(param.square().sum() for param in params)

    model = torch.nn.ParameterList(params)
    found = lr_range_test(model, Several(fast, slow), loss, [None], high=1e-3, steps=4, progress=False)
    assert seen == [pytest.approx((lr, lr / 10)) for lr in found.lrs]
    assert (fast.param_groups[0]["lr"], slow.param_groups[0]["lr"]) == (0.5, 0.05)


class Valley:
    """Descent on x^2/2 in two dimensions, at a rate above the bound, by a wrapper."""

    def __init__(self, name, lr, library=torchpace.optim, **guard):
        self.xs = [torch.nn.Parameter(torch.ones(1, dtype=torch.float64)) for _ in range(2)]
        self.optimizer, self.inner = WRAPPERS[name](self.xs, library.SGD, lr=lr)
        self.guard = DivergenceGuard(self.optimizer, **guard)

    def closure(self):
        self.optimizer.zero_grad()
        loss = sum((x**2).sum() / 2 for x in self.xs)
        loss.backward()
        return loss

    def rates(self):
        return [group["lr"] for one in _parts(self.optimizer, self.inner) for group in getattr(one, "param_groups", [])]


@each_wrapper
@pytest.mark.parametrize("library", [torchpace.optim, torch.optim], ids=["ours", "torch's"])
@pytest.mark.parametrize("eta", [5.0, 8.0])
def test_the_guard_takes_back_steps_of_all(name, library, eta):
    valley = Valley(name, eta, library)
    # What the inner optimizers' own hooks see is the rate that was set.
    seen = []
    for one in valley.inner:
        one.register_step_pre_hook(lambda optimizer, *_: seen.append(optimizer.param_groups[0]["lr"]))
    for _ in range(100):
        valley.guard.step(valley.closure)
    assert max(abs(x.item()) for x in valley.xs) < 1e-8
    assert valley.guard.rejections > 0
    assert set(valley.rates()) == {eta}
    if name in PLAIN and name != "sharded":
        assert set(seen) == {eta}
    for one in _parts(valley.optimizer, valley.inner):
        if "_optimizer_step_pre_hooks" in vars(one) if hasattr(one, "__dict__") else False:
            assert len(one._optimizer_step_pre_hooks) <= 1
            assert not one._optimizer_step_post_hooks


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("on", ["gradient", "loss"])
def test_the_guard_does_what_it_does_without_the_wrapper(name, on):
    bare, wrapped = Valley("prepared", 4.8, on=on), Valley(name, 4.8, on=on)
    (bare.optimizer,) = bare.inner
    bare.guard = DivergenceGuard(bare.optimizer, on=on)
    for _ in range(60):
        for valley in (bare, wrapped):
            valley.guard.step(valley.closure)
        assert [x.item() for x in bare.xs] == [x.item() for x in wrapped.xs]
    assert wrapped.guard.state_dict() == bare.guard.state_dict()
    assert bare.guard.events


@each_wrapper
@pytest.mark.parametrize("on", ["gradient", "loss"])
def test_a_guarded_step_that_fails_leaves_all_as_it_was(name, on):
    wrapped = Wrapped(name)
    guard = DivergenceGuard(wrapped.optimizer, model=wrapped.model, max_retries=1, on=on)
    guard.step(wrapped.closure)
    state, calls = wrapped.written(), []

    def failing():
        calls.append(1)
        loss = wrapped.closure()
        if on == "gradient" and len(calls) < 2:
            return loss
        raise ValueError("from the closure")

    with pytest.raises(ValueError, match="from the closure"):
        guard.step(failing)
    assert wrapped.written() == state


@pytest.mark.parametrize("name", ["prepared", "twice prepared", "several prepared"])
def test_a_wrapper_that_has_the_scaler_steps_and_updates_it(name):
    """As accelerate under float16. What the guard does is what it does with the scaler in its own hands."""
    wrap = {
        "prepared": Prepared,
        "twice prepared": lambda optimizer, scaler: Prepared(Prepared(optimizer, scaler)),
        "several prepared": lambda optimizer, scaler: Several(Prepared(optimizer, scaler)),
    }[name]
    written, scales = [], []
    for brings in (False, True):
        x = torch.nn.Parameter(torch.tensor(1.0))
        optimizer = torchpace.optim.SGD([x], lr=4.8)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=5, backoff_factor=2.0**-60)
        whole = wrap(optimizer, scaler) if brings else optimizer
        guard = DivergenceGuard(whole, scaler=None if brings else scaler)

        def closure(x=x, whole=whole, scaler=scaler):
            whole.zero_grad()
            loss = x**2 * 3
            scaler.scale(loss).backward()
            return loss

        xs = []
        for _ in range(30):
            guard.step(closure)
            xs.append(x.item())
            scales.append(scaler.get_scale())
        written.append((xs, guard.state_dict(), scaler.state_dict()))
        assert abs(x.item()) < 0.01
    assert written[0] == written[1]
    assert written[0][1]["events"][0]["kind"] == "skipped"
    assert scales[:30] == scales[30:]


def test_an_optimizer_that_knows_a_trainer_with_a_scaler():
    """Its step is not scaled, for it is no wrapper."""

    class Trainer:
        scaler = None

    x = torch.nn.Parameter(torch.tensor(1.0))
    optimizer = torch.optim.SGD([x], lr=4.8)
    optimizer.trainer = Trainer()
    optimizer.trainer.scaler = torch.amp.GradScaler("cpu")
    guard = DivergenceGuard(optimizer)
    assert guard.scaler is None

    def closure():
        optimizer.zero_grad()
        loss = x**2 / 2
        loss.backward()
        return loss

    guard.step(closure)
    assert guard.lr_factor == 0.25


def test_a_snapshot_and_a_range_test_see_to_the_scaler_of_a_wrapper():
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=1)
    optimizer = Prepared(torchpace.optim.SGD(model.parameters(), lr=0.1), scaler)
    inputs = torch.randn(8, 3)

    def loss(model, batch):
        return (model(inputs) - 1).square().mean()

    snapshot = Snapshot(model, optimizer).take()
    scaler.scale(loss(model, None)).backward()
    optimizer.step()
    assert scaler.get_scale() == 16
    snapshot.restore()
    assert scaler.get_scale() == 8
    bare = lr_range_test(model, optimizer.optimizer, loss, [None], steps=5, progress=False)
    assert lr_range_test(model, optimizer, loss, [None], steps=5, progress=False) == bare
    assert scaler.get_scale() == 8


def test_schedulers_as_trainers_hand_them_out():
    for wrap in (
        lambda scheduler, optimizer: PreparedScheduler(scheduler, [optimizer]),
        lambda scheduler, _: scheduler,
    ):
        x = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
        optimizer = Prepared(torchpace.optim.SGD([x], lr=8.0))
        scheduler = wrap(lr_scheduler.ExponentialLR(optimizer.optimizer, 0.5), optimizer)
        inner = getattr(scheduler, "scheduler", scheduler)
        snapshot = Snapshot((), optimizer, scheduler).take()
        optimizer.optimizer.step()
        scheduler.step()
        assert (inner.last_epoch, optimizer.param_groups[0]["lr"]) == (1, 4.0)
        snapshot.restore()
        assert (inner.last_epoch, optimizer.param_groups[0]["lr"], scheduler.get_last_lr()) == (0, 8.0, [8.0])
        guard = DivergenceGuard(optimizer, scheduler=scheduler)

        # Stepped by a hook, and taken back with the step.
        optimizer.optimizer.register_step_post_hook(lambda *_, scheduler=scheduler: scheduler.step())

        def closure(x=x, optimizer=optimizer):
            optimizer.zero_grad()
            loss = (x**2).sum() / 2
            loss.backward()
            return loss

        guard.step(closure)
        assert guard.rejections == 3
        assert inner.last_epoch == 1
        assert optimizer.param_groups[0]["lr"] == 4.0


@pytest.mark.parametrize("wrap", [Prepared, Delegate, Lookahead, Engined], ids=lambda wrap: wrap.__name__)
@pytest.mark.parametrize("library", [torchpace.optim, torch.optim], ids=["ours", "torch's"])
def test_curvature_of_wrapped_optimizers(wrap, library):
    theta = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))

    def loss():
        return (torch.tensor([4.0, 1.0]) * theta.square()).sum() / 2

    optimizer = library.SGD([theta], lr=1.0, momentum=0.9)
    scheduler = CurvatureLR(wrap(optimizer), loss, safety=0.5)
    assert scheduler.get_last_lr() == pytest.approx([0.5 * max_stable_lr(4.0, 0.9)])
    assert optimizer.param_groups[0]["lr"] == scheduler.get_last_lr()[0]
    optimizer = library.Adam([theta], lr=1e-3)
    loss().backward()
    optimizer.step()
    expected = sharpness(loss, [theta], optimizer=optimizer).value
    assert sharpness(loss, [theta], optimizer=wrap(optimizer)).value == expected
    assert expected != pytest.approx(4.0)


@pytest.mark.parametrize(
    "name", [name for name in WRAPPERS if "several" not in name and name not in ("named", "listed")]
)
@pytest.mark.parametrize("library", [torchpace.optim, torch.optim], ids=["ours", "torch's"])
def test_steps_are_at_the_curvatures_rate_whatever_the_wrapper(name, library):
    """Some step by copies of the groups."""
    theta = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))

    def loss():
        return (torch.tensor([4.0, 1.0]) * theta.square()).sum() / 2

    optimizer, inner = WRAPPERS[name]([theta], library.SGD, lr=1e-3)
    seen = []
    inner[-1].register_step_pre_hook(lambda *_: seen.append(_unwrap.innermost(optimizer)[0].param_groups[0]["lr"]))
    scheduler = CurvatureLR(optimizer, loss, safety=0.5, warmup=lambda step: 1 / (step + 1), every=2)
    state = scheduler.state_dict()
    rates = []
    for _ in range(3):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.zero_grad() if hasattr(optimizer, "zero_grad") else inner[0].zero_grad()
        loss().backward()
        optimizer.step()
        scheduler.step()
    assert seen == rates == pytest.approx([0.25, 0.125, 0.25 / 3], rel=1e-3)
    scheduler.load_state_dict(state)
    optimizer.step()
    assert seen[-1] == rates[0]


def test_curvature_of_several_optimizers():
    params = [torch.nn.Parameter(torch.ones(1, dtype=torch.float64)) for _ in range(2)]

    def loss():
        return 4 * params[0].square().sum() + params[1].square().sum()

    loss().backward()
    adam, sgd = torchpace.optim.Adam(params[:1]), torch.optim.SGD(params[1:], lr=0.1)
    whole = Several(adam, Prepared(sgd))
    whole.step()
    alone = sharpness(lambda: 4 * params[0].square().sum(), params[:1], optimizer=adam).value
    expected = max(alone, 2.0)
    assert sharpness(loss, params, optimizer=whole).value == pytest.approx(expected)
    with pytest.raises(TypeError, match="optimizer is Several, which holds 2 optimizers, expected one"):
        CurvatureLR(whole, loss)


def test_what_a_wrapper_knows_and_does_not_step_is_left_alone():
    """A trainer knows all optimizers."""
    mine, other = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer, stranger = torch.optim.SGD([mine], lr=0.1), torch.optim.SGD([other], lr=0.1)
    engined = Engined(optimizer, [stranger])
    assert _unwrap.innermost(engined) == [optimizer]
    snapshot = Snapshot((), engined).take()
    other.data.add_(1)
    stranger.param_groups[0]["lr"] = optimizer.param_groups[0]["lr"] = 5.0
    snapshot.restore()
    assert (other.tolist(), stranger.param_groups[0]["lr"], optimizer.param_groups[0]["lr"]) == ([2, 2], 5.0, 0.1)


@pytest.mark.parametrize("scheduled", [False, True])
def test_a_step_without_a_closure_is_called_without_one(scheduled):
    """Also where a scheduler has put a function in the place of the step."""

    class Alone(torch.optim.SGD):
        def step(self):
            super().step()

    model = torch.nn.Linear(3, 1)
    optimizer = Alone(model.parameters(), lr=0.1)
    if scheduled:
        lr_scheduler.StepLR(optimizer, 1)
    found = lr_range_test(
        model, optimizer, lambda model, batch: model(torch.ones(2, 3)).square().mean(), [0], progress=False, steps=20
    )
    assert found.losses[0][-1] != found.losses[0][0]
    DivergenceGuard(optimizer)


def test_hooks_that_torch_does_not_call():
    """Of a step that was replaced: the rate is lowered all the same, and is as before afterwards."""
    x = torch.nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
    optimizer = torchpace.optim.SGD([x], lr=4.8)
    plain = type(optimizer).step.__wrapped__
    optimizer.step = lambda closure=None: plain(optimizer)
    guard = DivergenceGuard(optimizer)

    def closure():
        optimizer.zero_grad()
        loss = x**2 / 2
        loss.backward()
        return loss

    for _ in range(30):
        guard.step(closure)
    assert abs(x.item()) < 1e-6
    assert optimizer.param_groups[0]["lr"] == 4.8


def test_wrappers_that_cannot_be():
    class Broken:
        optimizer = property(lambda self: 1 / 0)

        def step(self):
            pass

    for thing in (Broken(), Several(), torch.nn.Linear(1, 1), Several):
        with pytest.raises(TypeError, match=r"optimizers holds a \w+, expected Optimizer"):
            Snapshot((), [thing])
        with pytest.raises(TypeError, match=r"optimizer is of type .*, expected"):
            DivergenceGuard(thing)
        with pytest.raises(TypeError, match=r"optimizer is of type .*, expected"):
            lr_range_test(torch.nn.Linear(1, 1), thing, lambda model, batch: 0, [1])
    with pytest.raises(TypeError, match="schedulers holds a Several, expected LRScheduler"):
        Snapshot((), (), [Several(torch.optim.SGD([torch.ones(1)]))])
    with pytest.raises(TypeError, match="optimizer is an LBFGS"):
        DivergenceGuard(Prepared(torch.optim.LBFGS([torch.ones(1)])))


@pytest.fixture
def _process_group():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("_process_group")
@pytest.mark.parametrize("kind", KINDS)
def test_torchs_own_wrappers(kind):
    from torch.distributed.algorithms.model_averaging.averagers import PeriodicModelAverager

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself
        from torch.distributed.optim import PostLocalSGDOptimizer, ZeroRedundancyOptimizer

    cls, options = KINDS[kind]
    for wrap in (
        lambda params: ZeroRedundancyOptimizer(params, cls, **options),
        lambda params: PostLocalSGDOptimizer(cls(params, **options), PeriodicModelAverager(2)),
    ):
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 1)
        optimizer, inputs = wrap(list(model.parameters())), torch.randn(8, 4)
        inner = optimizer.optim

        def loss(model, batch, inputs=inputs):
            return (model(inputs) - 1).square().mean()

        def closure(model=model, optimizer=optimizer, loss=loss):
            optimizer.zero_grad()
            value = loss(model, None)
            value.backward()
            return value

        def written(model=model, inner=inner, optimizer=optimizer):
            groups = [*inner.param_groups, *optimizer.param_groups]
            return (
                [bits(param) for param in model.parameters()],
                [bits(inner.state[param]) for param in model.parameters() if param in inner.state],
                [bits({name: value for name, value in group.items() if name != "params"}) for group in groups],
            )

        closure()
        optimizer.step()
        state = written()
        snapshot = Snapshot(model, optimizer).take()
        optimizer.step()
        assert written() != state
        snapshot.restore()
        assert written() == state
        found = lr_range_test(model, optimizer, loss, [None], steps=9, progress=False)
        assert written() == state
        assert found == lr_range_test(model, inner, loss, [None], steps=9, progress=False)
        for group in optimizer.param_groups:
            group["lr"] = 1e3
        rates = [group["lr"] for group in optimizer.param_groups]
        guard = DivergenceGuard(optimizer, max_retries=20)
        before = loss(model, None).item()
        for _ in range(20):
            guard.step(closure)
        assert guard.rejections > 0
        assert math.isfinite(loss(model, None).item())
        assert loss(model, None).item() < before
        assert [group["lr"] for group in optimizer.param_groups] == rates
