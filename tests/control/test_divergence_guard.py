"""The guard takes back steps that diverge, and is not there where none does."""

import itertools
import json
import math
import signal
import statistics
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

import cases
import torchpace.optim
from torchpace.control import DivergenceError, DivergenceGuard, GuardEvent
from trainings import MAKERS, SCHEDULERS, Training, maker

LIBRARIES = [torchpace.optim, torch.optim]


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Tensors this small would wait for threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Valley:
    """A function of one point, its optimizer and guard."""

    def __init__(
        self, lr, function=lambda x: (x**2 / 2).sum(), start=1.0, library=torchpace.optim, guard=None, **options
    ):
        self.x = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
        self.optimizer = library.SGD([self.x], lr=lr, **options)
        self.function = function
        self.guard = DivergenceGuard(self.optimizer, **(guard or {}))

    def closure(self):
        self.optimizer.zero_grad()
        loss = self.function(self.x)
        loss.backward()
        return loss

    def kinds(self):
        return [event.kind for event in self.guard.events]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("eta", [2.1, 2.4, 4.8, 8.0])
def test_what_diverges_without_it_converges_under_it(eta, library):
    plain, guarded = Valley(eta, library=library), Valley(eta, library=library)
    for _ in range(100):
        plain.optimizer.step(plain.closure)
        guarded.guard.step(guarded.closure)
    assert abs(plain.x.item()) > 1e4
    assert abs(guarded.x.item()) < 1e-12
    assert guarded.optimizer.param_groups[0]["lr"] == eta


@pytest.mark.parametrize("eta", [2.1, 2.4, 4.8, 8.0])
def test_by_the_loss_alone_it_stays_bounded(eta):
    valley = Valley(eta, guard={"on": "loss"})
    for _ in range(300):
        valley.guard.step(valley.closure)
        assert abs(valley.x.item()) < 10
    # At 8 the halved rate is twice the curvature's inverse, where the orbit neither grows nor shrinks.
    assert abs(valley.x.item()) <= (1.0 if eta == 8 else 1e-12)
    assert valley.guard.rejections > 0


def test_a_stable_passage_near_a_saddle_is_let_through():
    valley = Valley(0.3, lambda w: w**4 / 20 - 0.9 * w**2, 1e-3)
    norms = []
    for _ in range(60):
        valley.guard.step(valley.closure)
        norms.append(abs(valley.x.grad.item()))
    assert norms[1] / norms[0] == pytest.approx(1.54, abs=1e-3)
    assert valley.x.item() == pytest.approx(3.0)
    assert valley.guard.events == []


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5])
def test_stable_oscillations_of_momentum_are_let_through(share, nesterov):
    curvatures = torch.tensor([1.0, 0.1, 0.01], dtype=torch.float64)
    bound = 2 * 1.9 / (2.8 if nesterov else 1)
    start = [1.0, 1.0, 1.0]
    valley = Valley(share * bound, lambda x: (curvatures * x**2).sum() / 2, start, momentum=0.9, nesterov=nesterov)
    for _ in range(500):
        valley.guard.step(valley.closure)
    assert valley.guard.events == []


@pytest.mark.parametrize("on", ["gradient", "loss"])
def test_where_the_loss_is_to_rise(on):
    valley = Valley(4.8, lambda x: -(x**2) / 2, maximize=True, guard={"on": on})
    for _ in range(100):
        valley.guard.step(valley.closure)
    assert abs(valley.x.item()) < 1e-12
    assert valley.guard.events[0].loss < 0


def test_momentum_beyond_its_bound_is_caught():
    valley = Valley(6.0, momentum=0.9)
    for _ in range(300):
        valley.guard.step(valley.closure)
    assert abs(valley.x.item()) < 1e-3
    assert valley.guard.rejections > 0


def test_at_the_noise_floor_nothing_is_rejected():
    """There losses and norms change by large factors, by rounding alone."""
    torch.manual_seed(0)
    inputs, targets = torch.randn(50, 3), torch.randn(50)
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizer = torchpace.optim.SGD([weight], lr=0.5)
    guard = DivergenceGuard(optimizer)

    def closure():
        optimizer.zero_grad()
        loss = (inputs @ weight - targets).square().mean() / 2
        loss.backward()
        return loss

    for _ in range(500):
        guard.step(closure)
    assert weight.grad.norm() < 1e-6
    assert guard.events == []


def guard_of(training, **options):
    return DivergenceGuard(
        training.optimizer,
        model=training.model,
        scheduler=training.schedulers,
        scaler=training.scaler,
        **options,
    )


@settings(max_examples=60, deadline=None)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step:UserWarning")
def test_where_nothing_is_taken_back_it_leaves_no_trace(data):
    name = data.draw(st.sampled_from(sorted(MAKERS)))
    scheduler = data.draw(st.sampled_from(SCHEDULERS))
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
    scaler, set_to_none = data.draw(st.booleans()), data.draw(st.booleans())
    on = data.draw(st.sampled_from(["gradient", "loss"]))
    written = []
    for guarded in (False, True):
        training = Training(MAKERS[name], scheduler, dtype, scaler=scaler)
        guard = guard_of(training, on=on, ratio=1e30) if guarded else None
        for _ in range(4):
            training.step(set_to_none, guard)
        written.append(training.written())
    assert written[0] == written[1]
    assert guard.evaluations == (8 if on == "gradient" else 4)
    assert (guard.steps, guard.events) == (4, [])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step:UserWarning")
def test_a_step_that_cannot_be_made_leaves_everything_as_it_was(data):
    """By whatever fails, and at whichever call of the closure."""
    training = Training(
        MAKERS[data.draw(st.sampled_from(sorted(MAKERS)))],
        data.draw(st.sampled_from(SCHEDULERS)),
        data.draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16])),
        scaler=data.draw(st.booleans()),
    )
    guard = guard_of(training, max_retries=2)
    for _ in range(data.draw(st.integers(0, 2))):
        training.step(data.draw(st.booleans()), guard)
    error = data.draw(st.sampled_from([KeyboardInterrupt, ValueError, DivergenceError]))
    call = data.draw(st.integers(1, 2))
    closure, calls = training.closure(data.draw(st.booleans())), []

    def failing():
        calls.append(1)
        loss = closure()
        if len(calls) < call:
            return loss
        if error is DivergenceError:
            return loss * float("nan")  # at every try
        raise error("from the closure")

    state, objects, numbers = training.written(), training.objects(), (guard.lr_factor, guard.calm_steps)
    with pytest.raises(error):
        guard.step(failing)
    assert training.written() == state
    assert training.objects() == objects
    assert (guard.lr_factor, guard.calm_steps) == numbers


# One may fall into a callback of the garbage collector's, where Python can only report it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timers")
def test_an_interrupt_by_a_signal_at_any_moment():
    """Wherever it comes, all is as before the step, and no hook stays; unless the step was complete."""

    def interrupt(*_):
        if armed:
            raise KeyboardInterrupt

    random, armed, outcomes = Random(0), [], []
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for trial in range(100):
            training = Training(MAKERS[random.choice(sorted(MAKERS))], "ExponentialLR")
            optimizer = training.optimizer
            guard = guard_of(training)
            guard.lr_factor = 0.5
            training.step(guard=guard)
            for group in optimizer.param_groups:
                group["lr"] *= random.choice([1, 1e4])  # at which steps are taken back
            closure, state, done = training.closure(), training.written(), []
            try:
                armed.append(trial)
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-4, 1.5e-2))
                guard.step(closure)
                done.append(trial)
                armed.clear()
            except (KeyboardInterrupt, DivergenceError):
                armed.clear()
            signal.setitimer(signal.ITIMER_REAL, 0)
            outcomes.append(bool(done))
            assert done or training.written() == state
            assert not optimizer._optimizer_step_pre_hooks
            assert not optimizer._optimizer_step_post_hooks
            assert torch.is_grad_enabled()
    finally:
        torch.set_grad_enabled(True)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not all(outcomes)


@pytest.mark.parametrize("name", MAKERS)
def test_a_step_tried_again_is_a_step_at_the_lower_rate(name):
    """Which is made from the same state, bit for bit."""
    plain = Training(MAKERS[name])
    plain.step()
    plain.step()
    rates = [group["lr"] for group in plain.optimizer.param_groups]
    for group in plain.optimizer.param_groups:
        group["lr"] *= 0.5 * 0.5
    plain.step()
    for group, rate in zip(plain.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    written = plain.written()
    guarded = Training(MAKERS[name])
    guard = guard_of(guarded)
    guarded.step()
    guarded.step()
    closure, calls = guarded.closure(), []

    def twice_not_finite():
        calls.append(1)
        return closure() * (float("inf") if len(calls) in (2, 3) else 1)

    guard.step(twice_not_finite)
    assert guarded.written() == written
    assert len(calls) == 4
    assert [(event.kind, event.lr_factor) for event in guard.events] == [("non-finite", 0.5), ("non-finite", 0.25)]


@pytest.mark.parametrize("chainable", [True, False])
def test_a_scheduler_never_sees_the_factor(chainable):
    plain, guarded = Valley(8.0), Valley(8.0)
    schedulers = []
    for valley in (plain, guarded):
        make = lr_scheduler.ExponentialLR if chainable else lr_scheduler.CosineAnnealingLR
        schedulers.append(make(valley.optimizer, 0.99 if chainable else 100))
        for _ in range(20):
            if valley is guarded:
                valley.guard.step(valley.closure)
            else:
                valley.optimizer.step(valley.closure)
            schedulers[-1].step()
    assert guarded.guard.lr_factor < 1
    assert schedulers[0].state_dict() == schedulers[1].state_dict()
    assert cases.settings(plain.optimizer) == cases.settings(guarded.optimizer)


def test_hooks_see_the_schedulers_rate_and_may_step_it():
    valley = Valley(8.0)
    seen = []
    scheduler = lr_scheduler.ExponentialLR(valley.optimizer, 0.5)
    valley.guard = DivergenceGuard(valley.optimizer, scheduler=scheduler)
    valley.optimizer.register_step_pre_hook(lambda *_: seen.append(valley.optimizer.param_groups[0]["lr"]))
    valley.optimizer.register_step_post_hook(lambda *_: scheduler.step())
    valley.guard.step(valley.closure)
    assert valley.guard.lr_factor == 0.125
    assert seen == [8.0] * 4
    assert valley.optimizer.param_groups[0]["lr"] == 4.0
    assert scheduler.last_epoch == 1


def test_groups_tensor_rates_and_one_rate_for_two_groups():
    shared, own = torch.tensor(8.0), torch.tensor(4.0)
    xs = [torch.nn.Parameter(torch.ones(1)) for _ in range(4)]
    rates = [shared, shared, own, 0.5]
    optimizer = torch.optim.SGD([{"params": [x], "lr": lr} for x, lr in zip(xs, rates, strict=True)], lr=1.0)
    guard = DivergenceGuard(optimizer)

    def closure():
        optimizer.zero_grad()
        loss = sum((x**2).sum() / 2 for x in xs)
        loss.backward()
        return loss

    guard.step(closure)
    assert guard.lr_factor == 0.25
    assert [round(x.item(), 6) for x in xs] == [-1.0, -1.0, 0.0, 0.875]
    assert all(group["lr"] is rate for group, rate in zip(optimizer.param_groups, rates, strict=True))
    assert (shared.item(), own.item()) == (8.0, 4.0)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("fused", [None, True])
def test_a_scaler_skips_as_without_the_guard(library, fused):
    written = []
    for guarded in (False, True):
        training = Training(maker("Adam", library, fused=fused, lr=0.01), scaler=True)
        training.model[4].weight.data *= 1000
        training.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=2, backoff_factor=2.0**-60)
        guard = guard_of(training) if guarded else None
        scales = []
        for _ in range(5):
            training.step(guard=guard)
            scales.append(training.scaler.get_scale())
        written.append(training.written())
        assert scales[0] < 2.0**127
    assert written[0] == written[1]
    assert [event.kind for event in guard.events] == ["skipped"]
    assert guard.steps == 4


def test_divergence_under_a_scaler_and_a_closure_that_unscales():
    for unscales in (False, True):
        x = torch.nn.Parameter(torch.tensor(1.0))
        optimizer = torchpace.optim.SGD([x], lr=4.8)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        guard = DivergenceGuard(optimizer, scaler=scaler)

        def closure(x=x, optimizer=optimizer, scaler=scaler, unscales=unscales):
            optimizer.zero_grad()
            loss = x**2 / 2
            scaler.scale(loss).backward()
            if unscales:
                scaler.unscale_(optimizer)
            return loss

        for _ in range(30):
            guard.step(closure)
        assert abs(x.item()) < 1e-6
        assert [event.kind for event in guard.events] == ["growth", "no descent"]
        assert guard.events[0].ratio == pytest.approx(3.8)
        assert scaler.state_dict()["_growth_tracker"] == 30


def test_an_overflow_of_the_scaled_gradient_ahead_is_no_fault():
    """The scale is at fault, which the next step lowers."""
    x = torch.nn.Parameter(torch.tensor(1.0))
    optimizer = torch.optim.SGD([x], lr=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    guard = DivergenceGuard(optimizer, scaler=scaler)

    def closure():
        optimizer.zero_grad()
        loss = -(x**2) / 2  # falls, while its gradient grows
        scaler.scale(loss).backward()
        return loss

    guard.step(closure)
    assert (x.item(), guard.events) == (2.0, [])


def test_autocast_around_it_does_not_hide_the_new_weights():
    """Its cache holds those of before the step."""
    torch.manual_seed(0)
    model, inputs = torch.nn.Linear(4, 1), torch.randn(16, 4)
    optimizer = torchpace.optim.SGD(model.parameters(), lr=100.0)
    guard = DivergenceGuard(optimizer, model=model)

    def closure():
        optimizer.zero_grad()
        loss = model(inputs).square().mean()
        loss.backward()
        return loss

    with torch.autocast("cpu", dtype=torch.bfloat16):
        guard.step(closure)
    assert [event.kind for event in guard.events][:1] == ["growth"]


def test_a_disabled_scaler_is_none():
    valley = Valley(4.8)
    valley.guard = DivergenceGuard(valley.optimizer, scaler=torch.amp.GradScaler("cpu", enabled=False))
    valley.guard.step(valley.closure)
    assert valley.guard.lr_factor == 0.25


def test_a_loss_that_is_not_finite_to_begin_with():
    valley = Valley(0.1, lambda x: x * float("nan"))
    with pytest.raises(DivergenceError, match=r"the loss is nan and the gradient norm nan before the step"):
        valley.guard.step(valley.closure)
    assert (valley.x.item(), valley.x.grad) == (1.0, None)
    assert valley.kinds() == ["failed"]
    assert isinstance(DivergenceError(), RuntimeError)


def test_bounded_tries():
    valley = Valley(1e9, guard={"max_retries": 3})
    with pytest.raises(DivergenceError, match=r"at every learning rate down to 0\.125 times"):
        valley.guard.step(valley.closure)
    assert valley.guard.evaluations == 1 + 4
    assert valley.x.item() == 1.0
    assert valley.guard.lr_factor == 1.0
    assert valley.kinds() == ["growth"] * 4 + ["failed"]


def test_the_factor_recovers_after_calm_steps():
    valley = Valley(1.5, guard={"recover_after": 7})
    valley.guard.lr_factor = 0.25
    factors = []
    for _ in range(20):
        valley.guard.step(valley.closure)
        factors.append(valley.guard.lr_factor)
    assert factors == [0.25] * 6 + [0.5] * 7 + [1.0] * 7
    assert [(event.step, event.kind) for event in valley.guard.events] == [(6, "recovered"), (13, "recovered")]


def test_after_one_mad_rate_it_is_soon_back():
    """Once a larger rate was seen to hold, the next follows after a window: 100 + 7 * 10 steps, not 800."""
    valley = Valley(1.5)
    rate = valley.optimizer.param_groups[0]["lr"]
    valley.optimizer.param_groups[0]["lr"] = 384.0
    valley.guard.step(valley.closure)
    valley.optimizer.param_groups[0]["lr"] = rate
    assert valley.guard.lr_factor == 2.0**-8
    factors = []
    for _ in range(200):
        valley.guard.step(valley.closure)
        factors.append(valley.guard.lr_factor)
    assert [factors.index(2.0**-power) + 1 for power in range(7, -1, -1)] == [100, 110, 120, 130, 140, 150, 160, 170]
    assert not valley.guard.recovering


def test_after_one_mad_batch_it_is_soon_back():
    """Whose loss is a thousand times as steep."""
    valley, steep = Valley(1.5), 1.0
    valley.function = lambda x: steep * x**2 / 2
    for step in range(240):
        steep = 1e3 if step == 30 else 1.0
        with torch.no_grad():
            valley.x.copy_(valley.x.sign() * valley.x.abs().clamp(min=1e-3))  # as in noise
        valley.guard.step(valley.closure)
        if step == 30:
            assert valley.guard.lr_factor <= 2.0**-9
    assert valley.guard.lr_factor == 1.0


@pytest.mark.parametrize(("window", "recover_after", "steps"), [(20, 100, 240), (5, 100, 135), (50, 10, 80)])
def test_by_the_loss_it_is_soon_back_too(window, recover_after, steps):
    valley = Valley(1.5, guard={"on": "loss", "window": window, "recover_after": recover_after})
    valley.guard.lr_factor = 2.0**-8
    for step in range(steps):
        assert valley.guard.lr_factor < 1, step
        valley.guard.step(valley.closure)
    assert valley.guard.lr_factor == 1


def test_a_rejection_ends_the_recovery():
    """The rate is above the bound: it is tried a hundred calm steps after each rejection, and no oftener."""
    valley = Valley(2.4)
    kinds = []
    for step in range(450):
        before = len(valley.guard.events)
        valley.guard.step(valley.closure)
        kinds += [(step, event.kind, event.lr_factor) for event in valley.guard.events[before:]]
        assert valley.guard.recovering == (kinds != [] and kinds[-1][1] == "recovered" and kinds[-1][2] < 1)
    rises = [step for step, kind, _ in kinds if kind == "recovered"]
    assert len(rises) >= 3
    assert all(later - sooner >= 100 for sooner, later in itertools.pairwise(rises))
    assert abs(valley.x.item()) < 1e-12


def test_what_fails_leaves_the_recovery_as_it_was():
    valley = Valley(1.5, guard={"max_retries": 1})
    valley.guard.lr_factor, valley.guard.recovering, valley.guard.calm_steps = 0.25, True, 7
    closure, calls = valley.closure, []

    def failing():
        calls.append(1)
        return closure() * (math.nan if len(calls) > 1 else 1)

    with pytest.raises(DivergenceError):
        valley.guard.step(failing)
    assert (valley.guard.lr_factor, valley.guard.recovering, valley.guard.calm_steps) == (0.25, True, 7)


def test_it_tells_what_it_has_done():
    valley = Valley(4.8)
    for _ in range(3):
        valley.guard.step(valley.closure)
    assert repr(valley.guard) == (
        "DivergenceGuard(SGD, on='gradient', lr_factor=0.25, calm_steps=2, steps=3, evaluations=8, rejections=2, "
        "events=2)"
    )
    assert "on='loss'" in repr(Valley(1.0, guard={"on": "loss"}).guard)


def test_state_of_plain_values():
    first = Valley(2.4)
    for _ in range(7):
        first.guard.step(first.closure)
    state = json.loads(json.dumps(first.guard.state_dict()))
    second = Valley(2.4, start=first.x.item())
    second.guard.load_state_dict(state)
    assert second.guard.events == first.guard.events
    assert isinstance(second.guard.events[0], GuardEvent)
    for _ in range(300):
        first.guard.step(first.closure)
        second.guard.step(second.closure)
        assert first.x.item() == second.x.item()
    assert first.guard.state_dict() == second.guard.state_dict()
    before = second.guard.state_dict()
    for missing in ("lr_factor", "recovering", "past", "events"):
        with pytest.raises(KeyError, match=f"state_dict has no '{missing}', found only"):
            second.guard.load_state_dict({name: value for name, value in state.items() if name != missing})
    assert second.guard.state_dict() == before


def test_a_state_that_does_not_fit_changes_nothing():
    valley = Valley(2.4)
    for _ in range(20):
        valley.guard.step(valley.closure)
    before, events = valley.guard.state_dict(), valley.guard.events
    event = before["events"][0]
    theirs = lr_scheduler.StepLR(valley.optimizer, 1).state_dict()
    number = "expected a number > 0, at most 1"
    for wrong, error, words in (
        (None, TypeError, "state_dict is of type NoneType, expected a dict"),
        (theirs, KeyError, r"state_dict has no 'calm_steps', found only \['_get_lr_called_within_step'"),
        ({"lr_factor": 0.0}, ValueError, rf"state_dict\['lr_factor'\] is 0.0, {number}"),
        ({"lr_factor": math.nan}, ValueError, rf"state_dict\['lr_factor'\] is nan, {number}"),
        ({"lr_factor": "1"}, TypeError, r"state_dict\['lr_factor'\] is '1', expected a number"),
        ({"recovering": 1}, TypeError, r"state_dict\['recovering'\] is 1, expected True or False"),
        ({"calm_steps": -1}, ValueError, r"state_dict\['calm_steps'\] is -1, expected a whole number >= 0"),
        ({"steps": 1.5}, ValueError, r"state_dict\['steps'\] is 1.5, expected a whole number >= 0"),
        ({"evaluations": None}, TypeError, r"state_dict\['evaluations'\] is None, expected a number"),
        ({"past": 3}, TypeError, r"state_dict\['past'\] is of type int, expected a list"),
        ({"past": [(1.0,)]}, TypeError, r"state_dict\['past'\]\[0\] is \(1.0,\), expected a loss and a gradient norm"),
        (
            {"past": [(1.0, 1.0), (math.nan, 1.0)]},
            ValueError,
            r"state_dict\['past'\]\[1\]\[0\] is nan, expected a finite",
        ),
        ({"past": [(1.0, -1.0)]}, ValueError, r"state_dict\['past'\]\[0\]\[1\] is -1.0, expected a norm"),
        ({"events": [3]}, TypeError, r"state_dict\['events'\]\[0\] is of type int, expected a dict"),
        ({"events": [event, {}]}, KeyError, r"state_dict\['events'\]\[1\] has no 'step', found only"),
        (
            {"events": [{**event, "kind": "fun"}]},
            ValueError,
            r"state_dict\['events'\]\[0\]\['kind'\] is 'fun', expected one",
        ),
        (
            {"events": [{**event, "loss": None}]},
            TypeError,
            r"state_dict\['events'\]\[0\]\['loss'\] is None, expected a number",
        ),
        (
            {"events": [{**event, "lr_factor": 2}]},
            ValueError,
            rf"state_dict\['events'\]\[0\]\['lr_factor'\] is 2, {number}",
        ),
    ):
        with pytest.raises(error, match=words):
            valley.guard.load_state_dict(wrong if wrong is None or wrong is theirs else {**before, **wrong})
        assert valley.guard.state_dict() == before
        assert valley.guard.events is events


class Batches(Valley):
    """A valley whose loss a batch shifts."""

    shift = 0.0

    def closure(self):
        self.optimizer.zero_grad()
        loss = self.function(self.x) + self.shift
        loss.backward()
        return loss


def test_by_the_loss_an_odd_batch_is_not_blamed_on_the_state():
    valley = Batches(0.1, guard={"on": "loss", "every": 2})
    twin = Batches(0.1)
    for step in range(30):
        valley.shift = twin.shift = 1e3 if step % 7 == 6 else 0.0
        valley.guard.step(valley.closure)
        twin.optimizer.step(twin.closure)
        assert valley.x.item() == twin.x.item()
        assert valley.x.grad.item() == twin.x.grad.item()
    assert valley.guard.events == []
    assert valley.guard.evaluations > 30  # it looked


def test_by_the_loss_a_batch_that_is_not_finite_raises_and_makes_no_step():
    valley = Batches(0.1, guard={"on": "loss", "every": 2})
    for _ in range(5):
        valley.guard.step(valley.closure)
    before = valley.x.item()
    valley.shift = float("nan")
    with pytest.raises(DivergenceError, match="the loss is nan, at all 3 snapshots too: no step has been made"):
        valley.guard.step(valley.closure)
    assert valley.x.item() == before
    valley.shift = 0.0
    valley.guard.step(valley.closure)


def test_by_the_loss_it_goes_back_to_a_good_snapshot():
    valley = Valley(0.5, guard={"on": "loss", "every": 3, "ring": 2})
    points = []
    for _ in range(7):
        points.append(valley.x.item())
        valley.guard.step(valley.closure)
    with torch.no_grad():
        valley.x.fill_(float("inf"))
    loss = valley.guard.step(valley.closure)
    assert loss.item() == points[6] ** 2 / 2  # the snapshot of the seventh step
    assert valley.x.item() == points[6] * 0.75
    assert valley.kinds() == ["non-finite"]
    assert valley.optimizer.param_groups[0]["lr"] == 0.5


def test_by_the_loss_it_gives_up_at_last():
    valley = Valley(0.5, guard={"on": "loss", "every": 3, "max_retries": 2})
    valley.guard.step(valley.closure)
    for _ in range(2):
        with torch.no_grad():
            valley.x.fill_(float("inf"))
        valley.guard.step(valley.closure)
    with torch.no_grad():
        valley.x.fill_(1e9)
    with pytest.raises(DivergenceError, match=r"\(explosion\) after going back 2 times"):
        valley.guard.step(valley.closure)
    assert valley.x.item() == 1e9
    assert valley.kinds() == ["non-finite", "non-finite", "failed"]


def test_bytes_of_the_copies():
    for on in ("gradient", "loss"):
        valley = Valley(0.1, momentum=0.9, guard={"on": on})
        assert valley.guard.nbytes == 0
        valley.guard.step(valley.closure)
        valley.optimizer.zero_grad()
        valley.guard.step(valley.closure)
        assert valley.guard.nbytes == (16 if on == "gradient" else 8)  # the ring's was taken before the first step


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"on": "norm"}, ValueError, "on is 'norm', expected 'gradient' or 'loss'"),
        ({"ratio": 1}, ValueError, "ratio is 1, expected a finite number > 1"),
        ({"ratio": math.nan}, ValueError, "ratio is nan, expected a finite number > 1"),
        ({"factor": 1.0}, ValueError, "factor is 1.0, expected a number between 0 and 1"),
        ({"max_retries": -1}, ValueError, "max_retries is -1, expected at least 0"),
        ({"window": 0}, ValueError, "window is 0, expected at least 1"),
        ({"recover_after": 0}, ValueError, "recover_after is 0, expected at least 1"),
        ({"rise": -1}, ValueError, "rise is -1, expected a finite number >= 0"),
        ({"ring": 0}, ValueError, "ring is 0, expected at least 1"),
        ({"every": 0}, ValueError, "every is 0, expected at least 1"),
        ({"model": 3}, TypeError, "model holds a int, expected Module"),
        ({"scheduler": 3}, TypeError, "scheduler holds a int, expected LRScheduler"),
        ({"scaler": 3}, TypeError, "scaler holds a int, expected GradScaler"),
        ({"generators": 3}, TypeError, "generators holds a int, expected Generator"),
    ],
)
def test_bad_arguments(options, error, message):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))])
    with pytest.raises(error, match=message):
        DivergenceGuard(optimizer, **options)


def test_other_wrong_things():
    with pytest.raises(TypeError, match="optimizer is of type int, expected an Optimizer"):
        DivergenceGuard(3)
    with pytest.raises(TypeError, match="optimizer is an LBFGS, which evaluates by itself"):
        DivergenceGuard(torch.optim.LBFGS([torch.nn.Parameter(torch.ones(1))]))
    valley = Valley(0.1)
    with pytest.raises(TypeError, match="closure returned NoneType, expected the loss, one number"):
        valley.guard.step(lambda: None)
    with pytest.raises(TypeError, match="closure returned Tensor, expected the loss, one number"):
        valley.guard.step(lambda: torch.ones(2))


@pytest.mark.parametrize(
    ("name", "rate", "on"), [("SGD", 3.0, "gradient"), ("RMSprop", 0.3, "gradient"), ("RMSprop", 0.3, "loss")]
)
def test_a_network_that_diverges_without_it(name, rate, on):
    """One run is chance: the medians of five."""
    plain, guarded = ([digits_loss(name, rate, how, seed) for seed in range(5)] for how in (None, on))
    assert statistics.median(plain) > 1
    assert statistics.median(guarded) < 0.5


def digits_loss(name, rate, on, seed):
    """The loss on all digits after five epochs."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    inputs, targets = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
    torch.manual_seed(seed)
    linear, entropy = torch.nn.Linear, torch.nn.functional.cross_entropy
    layers = [linear(64, 64), torch.nn.ReLU(), torch.nn.Dropout(0.1), linear(64, 64), torch.nn.ReLU(), linear(64, 10)]
    model = torch.nn.Sequential(*layers)
    optimizer = getattr(torchpace.optim, name)(model.parameters(), lr=rate)
    stepper = DivergenceGuard(optimizer, model=model, on=on) if on else optimizer
    order = torch.Generator().manual_seed(seed + 1)
    for _ in range(5):
        for batch in torch.randperm(len(inputs), generator=order).split(32):

            def closure(batch=batch):
                optimizer.zero_grad()
                loss = entropy(model(inputs[batch]), targets[batch])
                loss.backward()
                return loss

            stepper.step(closure)
    model.eval()
    with torch.no_grad():
        return entropy(model(inputs), targets).item()
