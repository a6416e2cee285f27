"""Equal to torch to the bit, on both ways: the step in Rust and torch's own."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import cases
from cases import OURS, TORCHS
from torchpace import _native
from trees import BEGINS_IN_TURN, plain

each = pytest.mark.parametrize("schedule", cases.SCHEDULERS, ids=str)


# Schedulers are stepped without their optimizer here; test_dropin.py looks at warnings.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def pair(schedule, **options):
    optimizers = cases.scheduled(**options), cases.scheduled(**options)
    for optimizer in optimizers:
        optimizer._opt_called = True
    return [
        (schedule.make(library, optimizer), optimizer)
        for library, optimizer in zip((OURS, TORCHS), optimizers, strict=True)
    ]


@each
@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_ten_thousand_steps(schedule, optimizer):
    (ours, our_optimizer), (theirs, their_optimizer) = pair(schedule, optimizer=optimizer)
    fast = 0
    for step in range(10_000):
        done = _native.advance(ours)
        fast += done
        if not done:
            ours.step()
        theirs.step()
        assert cases.settings(our_optimizer) == cases.settings(their_optimizer), step
        assert ours.get_last_lr() == theirs.get_last_lr()
    # torch takes the first step, and those at which another scheduler begins.
    assert fast >= 10_000 - 6
    assert plain(ours.state_dict()) == plain(theirs.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())


@each
def test_the_types_of_what_is_kept(schedule):
    (ours, _), (theirs, _) = pair(schedule)
    for _ in range(50):
        ours.step()
        theirs.step()
    types = {key: type(value) for key, value in vars(theirs).items() if key not in {"_schedulers", "optimizer"}}
    assert {key: type(value) for key, value in vars(ours).items() if key in types} == types


@each
def test_tensor_lr(schedule):
    (ours, our_optimizer), (theirs, their_optimizer) = pair(schedule, lr=torch.tensor(0.1))
    tensors = [group["lr"] for group in our_optimizer.param_groups]
    for _ in range(300):
        ours.step()
        theirs.step()
        assert cases.settings(our_optimizer) == cases.settings(their_optimizer)
    assert all(a is group["lr"] for a, group in zip(tensors, our_optimizer.param_groups, strict=True))
    assert not any(a is b for a, b in zip(ours.get_last_lr(), tensors, strict=True))


@each
def test_integer_lr(schedule):
    (ours, our_optimizer), (theirs, their_optimizer) = pair(schedule, lr=1, groups=2)
    for optimizer in (our_optimizer, their_optimizer):
        optimizer.param_groups[0]["lr"] = 2
    for _ in range(100):
        ours.step()
        theirs.step()
        assert repr(cases.settings(our_optimizer)) == repr(cases.settings(their_optimizer))


def test_three_betas():
    schedule = cases.Schedule("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 5})
    (ours, our_optimizer), (theirs, their_optimizer) = pair(schedule, optimizer="Adam")
    for optimizer in (our_optimizer, their_optimizer):
        optimizer.param_groups[0]["betas"] = (0.9, 0.99, 0.5)
        optimizer.param_groups[1]["betas"] = [0.9, 0.99, 0.5]
    for _ in range(30):
        ours.step()
        theirs.step()
        assert cases.settings(our_optimizer) == cases.settings(their_optimizer)
    assert our_optimizer.param_groups[0]["betas"][1:] == (0.99, 0.5)


numbers = st.floats(-2, 2) | st.integers(-3, 3) | st.sampled_from([0.0, -0.0, 1e-300, 1e300, 0.5, 1.0])
small = st.integers(-1, 12)
shares = st.floats(0, 1) | st.sampled_from([0, 1])


def options(**strategies):
    return st.fixed_dictionaries(strategies)


ARGUMENTS = {
    "StepLR": options(step_size=small, gamma=numbers),
    "MultiStepLR": options(milestones=st.lists(small, max_size=5), gamma=numbers),
    "ConstantLR": options(factor=shares, total_iters=small),
    "LinearLR": options(start_factor=shares, end_factor=shares, total_iters=small),
    "ExponentialLR": options(gamma=numbers),
    "PolynomialLR": options(total_iters=small, power=numbers),
    "CosineAnnealingLR": options(T_max=small, eta_min=numbers),
    "CosineAnnealingWarmRestarts": options(T_0=small, T_mult=st.integers(0, 3), eta_min=numbers),
    "CyclicLR": options(
        base_lr=numbers,
        max_lr=numbers | st.lists(numbers, min_size=2, max_size=2),
        step_size_up=small,
        step_size_down=st.none() | small,
        mode=st.sampled_from(["triangular", "triangular2", "exp_range"]),
        gamma=numbers,
        scale_fn=st.none() | st.just(lambda x: x / 2),
        scale_mode=st.sampled_from(["cycle", "iterations"]),
        cycle_momentum=st.booleans(),
    ),
    "OneCycleLR": options(
        max_lr=numbers | st.lists(numbers, min_size=2, max_size=2),
        total_steps=small,
        pct_start=st.floats(0, 1),
        anneal_strategy=st.sampled_from(["cos", "linear"]),
        cycle_momentum=st.booleans(),
        div_factor=st.sampled_from([1.0, 25.0, 3]),
        three_phase=st.booleans(),
    ),
    "SWALR": options(
        swa_lr=numbers | st.lists(numbers, min_size=2, max_size=2),
        anneal_epochs=small,
        anneal_strategy=st.sampled_from(["cos", "linear"]),
    ),
    "LambdaLR": options(lr_lambda=st.sampled_from([lambda e: 0.9**e, lambda e: e // 3, lambda e: 1 / (e - 3)])),
    "MultiplicativeLR": options(lr_lambda=st.sampled_from([lambda e: 0.9, lambda e: 1 / (e - 3)])),
}
inner = st.one_of(
    [
        st.builds(cases.Schedule, st.just(name), ARGUMENTS[name])
        for name in ("StepLR", "LinearLR", "CosineAnnealingLR", "ExponentialLR", "LambdaLR")
    ]
)
SCHEDULES = [st.builds(cases.Schedule, st.just(name), arguments) for name, arguments in ARGUMENTS.items()]
SCHEDULES += [
    st.builds(
        lambda milestones, inner: cases.Schedule("SequentialLR", {"milestones": milestones}, tuple(inner)),
        st.lists(st.integers(0, 9), min_size=2, max_size=2),
        st.lists(inner, min_size=3, max_size=3),
    ),
    st.builds(
        lambda inner: cases.Schedule("ChainedScheduler", {}, tuple(inner)), st.lists(inner, min_size=2, max_size=2)
    ),
]
attributes = st.sampled_from(
    ["gamma", "step_size", "T_max", "eta_min", "total_iters", "last_epoch", "power", "T_cur", "_step_count", "factor"]
)
moves = st.one_of(
    st.tuples(st.just("step"), st.integers(1, 12)),
    st.tuples(st.just("epoch"), st.integers(-1, 20) | st.floats(0, 20)),
    st.tuples(st.just("load"), st.just(0)),
    st.tuples(st.just("swap"), st.just(0)),
    st.tuples(st.just("lr"), numbers),
    st.tuples(attributes, st.integers(1, 9) | st.floats(0.1, 2)),
)


def outcome(call, *arguments):
    """What a call gives, or the error that it raises."""
    try:
        return call(*arguments)
    except Exception as error:
        return type(error), str(error)


def move(kind, value, scheduler, optimizer, other):
    if kind == "step":
        for _ in range(value):
            scheduler.step()
    elif kind == "epoch":
        scheduler.step(value)
    elif kind == "load":
        scheduler.load_state_dict(copy.deepcopy(scheduler.state_dict()))
    elif kind == "swap":
        scheduler.load_state_dict(copy.deepcopy(other))
    elif kind == "lr":
        optimizer.param_groups[0]["lr"] = value
    elif hasattr(scheduler, kind):
        setattr(scheduler, kind, value)


@given(
    schedule=st.one_of(SCHEDULES),
    moves=st.lists(moves, max_size=9),
    lr=st.sampled_from([0.1, 1, 0.0, torch.tensor(0.1), torch.tensor([0.1], dtype=torch.float64)]),
    optimizer=st.sampled_from(["SGD", "Adam", "Adagrad"]),
)
@settings(max_examples=600, deadline=None)
def test_any_arguments_and_any_interleaving(schedule, moves, lr, optimizer):
    made = []
    for library in (OURS, TORCHS):
        set_up = cases.scheduled(optimizer, lr=lr.clone() if isinstance(lr, torch.Tensor) else lr)
        set_up._opt_called = True
        made.append((outcome(schedule.make, library, set_up), set_up))
    (ours, our_optimizer), (theirs, their_optimizer) = made
    if isinstance(theirs, tuple):
        assert ours == theirs
        return
    for kind, value in moves:
        # Taken before: a load takes what the other one has.
        our_state, their_state = ours.state_dict(), theirs.state_dict()
        result = outcome(move, kind, value, ours, our_optimizer, their_state)
        assert result == outcome(move, kind, value, theirs, their_optimizer, our_state)
        # As text, in which NaN equals NaN.
        assert repr(cases.settings(our_optimizer)) == repr(cases.settings(their_optimizer))
        assert repr(plain(ours.state_dict())) == repr(plain(theirs.state_dict()))
        if result is not None:
            return


@given(
    mode=st.sampled_from(["min", "max"]),
    threshold_mode=st.sampled_from(["rel", "abs"]),
    patience=st.integers(0, 2),
    cooldown=st.integers(0, 2),
    min_lr=st.sampled_from([0, 0.01, [0.01, 0.02]]),
    metrics=st.lists(st.floats(), max_size=30),
)
@settings(max_examples=100, deadline=None)
def test_plateau(metrics, **options):
    (ours, our_optimizer), (theirs, their_optimizer) = pair(cases.Schedule("ReduceLROnPlateau", options))
    for metric in metrics:
        ours.step(metric)
        theirs.step(metric)
        assert cases.settings(our_optimizer) == cases.settings(their_optimizer)
    assert repr(ours.state_dict()) == repr(theirs.state_dict())


def resumes(schedule):
    """Whether a run resumed is one from the start, which ours begins in turn under every torch."""
    begins = BEGINS_IN_TURN or min(schedule.options.get("milestones", [1]), default=1) > 0
    return schedule.scheduler != "ChainedScheduler" and (begins or schedule.scheduler != "SequentialLR")


@given(
    schedule=st.one_of(SCHEDULES).filter(resumes),
    last_epoch=st.integers(0, 30),
    inner_too=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_any_arguments_resumed_at_any_step(schedule, last_epoch, inner_too):
    """Equal to a run of ours, which is equal to torch's; torch itself resumes only some classes."""

    def run():
        scheduler = schedule.make(OURS, straight)
        for _ in range(last_epoch + 1):
            scheduler.step()
        return scheduler

    straight, resumed = cases.scheduled(), cases.scheduled()
    straight._opt_called = True
    expected = outcome(run)
    if isinstance(expected, tuple):
        return
    for group, saved in zip(resumed.param_groups, straight.param_groups, strict=True):
        group.update({key: value for key, value in saved.items() if key != "params"}, lr=0.7)
    if inner_too:
        more = [dict(one.options, last_epoch=last_epoch) for one in schedule.inner]
        inner = [cases.Schedule(one.scheduler, new) for one, new in zip(schedule.inner, more, strict=True)]
        schedule = cases.Schedule(schedule.scheduler, schedule.options, tuple(inner))
    found = outcome(lambda: schedule.make(OURS, resumed, last_epoch=last_epoch))
    if inner_too and isinstance(found, tuple):
        return  # an inner one fails at that step, which it would not have made
    for _ in range(3):
        assert repr(cases.settings(resumed)) == repr(cases.settings(straight))
        assert found.last_epoch == expected.last_epoch
        result = outcome(expected.step)
        assert outcome(found.step) == result
        if result is not None:
            return
