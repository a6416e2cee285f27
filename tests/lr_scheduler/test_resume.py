"""Resuming: the optimizer's state, a new scheduler and its in any order; states that do not fit change nothing."""

import copy
import io
import itertools
import math
import warnings
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import cases
from cases import OURS, TORCHS, Schedule
from torchpace import optim
from torchpace import schedule as composable
from trees import LEAVES, chain, sequence, short

# Schedulers are stepped without their optimizer here; test_like_torchs.py looks at warnings.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

ORDERS = [order for order in itertools.permutations("ONS") if order.index("N") < order.index("S")]
"""Of the optimizer's state, a new scheduler and the scheduler's state."""

LINEAR, EXPONENTIAL, CYCLIC, ONE_CYCLE = LEAVES[3], LEAVES[4], LEAVES[8], LEAVES[9]
TREES = [
    *cases.SCHEDULERS,
    *LEAVES,
    Schedule("ReduceLROnPlateau", {"factor": 0.5, "patience": 0, "min_lr": [0.0, 0.001]}),
    sequence(LINEAR, EXPONENTIAL),
    sequence(LINEAR, CYCLIC, ONE_CYCLE, at=(1, 4)),
    sequence(ONE_CYCLE, CYCLIC),
    sequence(LINEAR, Schedule("ReduceLROnPlateau", {"factor": 0.5, "patience": 0})),
    sequence(short(LINEAR, CYCLIC), LEAVES[7]),
    sequence(LINEAR, chain(EXPONENTIAL, short(LEAVES[6], LEAVES[0]))),
    chain(LINEAR, EXPONENTIAL, LEAVES[7]),
    chain(ONE_CYCLE, EXPONENTIAL),
    chain(short(LINEAR, LEAVES[7]), Schedule("ReduceLROnPlateau", {"factor": 0.5, "patience": 0})),
]
each = pytest.mark.parametrize("tree", TREES, ids=str)


def step(scheduler, metric):
    """A step of a scheduler that may need a metric."""
    try:
        scheduler.step()
    except TypeError:
        scheduler.step(metric)


def same(left, right):
    assert cases.settings(left) == cases.settings(right)


def through_a_file(*states):
    file = io.BytesIO()
    torch.save(states, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@each
@pytest.mark.parametrize("order", ORDERS, ids="".join)
@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
@pytest.mark.parametrize("at", [0, 1, 5, 9])
def test_any_order_gives_the_right_rate(tree, order, optimizer, at):
    run, resumed = cases.scheduled(optimizer, library=optim), cases.scheduled(optimizer, library=optim)
    straight, again = tree.make(OURS, run), None
    for index in range(at):
        step(straight, float(index))
    saved, state = through_a_file(run.state_dict(), straight.state_dict())
    for what in order:
        if what == "O":
            resumed.load_state_dict(saved)
        elif what == "N":
            again = tree.make(OURS, resumed)
        else:
            again.load_state_dict(state)
    for index in range(6):
        same(resumed, run)
        assert again.get_last_lr() == straight.get_last_lr() == [group["lr"] for group in run.param_groups]
        step(straight, float(index))
        step(again, float(index))


@each
@pytest.mark.parametrize("at", [1, 5, 9])
def test_without_the_optimizers_state_too(tree, at):
    """A scheduler's state puts learning rates and momenta in the groups of a fresh optimizer."""
    run, resumed = cases.scheduled(), cases.scheduled()
    straight = tree.make(OURS, run)
    for index in range(at):
        step(straight, float(index))
    again = tree.make(OURS, resumed)
    again.load_state_dict(copy.deepcopy(straight.state_dict()))
    for index in range(6):
        same(resumed, run)
        step(straight, float(index))
        step(again, float(index))


@each
def test_back_to_an_earlier_state(tree):
    """Of the same scheduler, with or without the optimizer's, in both orders."""
    optimizer = cases.scheduled()
    scheduler = tree.make(OURS, optimizer)
    for index in range(4):
        step(scheduler, float(index))
    saved, state, groups = optimizer.state_dict(), scheduler.state_dict(), cases.settings(optimizer)
    saved, state = copy.deepcopy([saved, state])
    for order in ("S", "SO", "OS"):
        for index in range(3):
            step(scheduler, float(index))
        for what in order:
            if what == "S":
                scheduler.load_state_dict(copy.deepcopy(state))
            else:
                optimizer.load_state_dict(saved)
        assert cases.settings(optimizer) == groups
        assert scheduler.get_last_lr() == [group["lr"] for group in groups]


@pytest.mark.parametrize("order", ORDERS, ids="".join)
def test_tensor_rates_are_filled_in_place(order):
    run, resumed = (cases.scheduled(lr=torch.tensor(0.1)) for _ in range(2))
    straight, again = OURS.LinearLR(run, 0.1, total_iters=9), None
    for _ in range(5):
        straight.step()
    saved, state = copy.deepcopy([run.state_dict(), straight.state_dict()])
    for what in order:
        if what == "O":
            resumed.load_state_dict(saved)
            tensors = [group["lr"] for group in resumed.param_groups]
        elif what == "N":
            again = OURS.LinearLR(resumed, 0.1, total_iters=9)
            tensors = [group["lr"] for group in resumed.param_groups]
        else:
            again.load_state_dict(state)
    assert all(group["lr"] is tensor for group, tensor in zip(resumed.param_groups, tensors, strict=True))
    for _ in range(9):
        same(resumed, run)
        straight.step()
        again.step()


SEVERAL = {
    "decay and milestones": lambda o: [OURS.ExponentialLR(o, 0.9), OURS.MultiStepLR(o, [4, 7])],
    "warmup that is over": lambda o: [OURS.LinearLR(o, 0.1, total_iters=2), OURS.StepLR(o, 2, 0.5)],
    "decay and plateau": lambda o: [OURS.ExponentialLR(o, 0.9), OURS.ReduceLROnPlateau(o, factor=0.5, patience=0)],
    "plateau first": lambda o: [OURS.ReduceLROnPlateau(o, factor=0.5, patience=0), OURS.ExponentialLR(o, 0.9)],
    "of ours and torch's": lambda o: [OURS.ExponentialLR(o, 0.9), TORCHS.MultiStepLR(o, [4, 7])],
    "rate and momentum": lambda o: [OURS.CosineAnnealingLR(o, 10), composable.cyclic(3).on(o, "momentum")],
}


@pytest.mark.parametrize("make", SEVERAL.values(), ids=SEVERAL)
@pytest.mark.parametrize("order", ORDERS, ids="".join)
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("at", range(9))
def test_several_schedulers_side_by_side(make, order, backwards, at):
    """Each knows only the learning rates of its own last step; those of the optimizer are of the last of all."""
    run, resumed = cases.scheduled(), cases.scheduled()
    straight, again = make(run), None
    for index in range(at):
        for scheduler in straight:
            step(scheduler, float(index))
    saved, states = copy.deepcopy([run.state_dict(), [scheduler.state_dict() for scheduler in straight]])
    for what in order:
        if what == "O":
            resumed.load_state_dict(saved)
        elif what == "N":
            again = make(resumed)
        else:
            pairs = list(zip(again, states, strict=True))
            for scheduler, state in pairs[::-1] if backwards else pairs:
                scheduler.load_state_dict(copy.deepcopy(state))
    for index in range(5):
        same(resumed, run)
        for scheduler in (*straight, *again):
            step(scheduler, float(index))


def test_a_rate_that_the_user_has_set_stays():
    """Between the last step and the checkpoint, or after the scheduler's first step: not the scheduler's to undo."""
    for order in ORDERS:
        run, resumed = cases.scheduled(), cases.scheduled()
        straight, again = OURS.ExponentialLR(run, 0.5), None
        straight.step()
        for group in run.param_groups:
            group["lr"] = 0.0123
        saved, state = copy.deepcopy([run.state_dict(), straight.state_dict()])
        for what in order:
            if what == "O":
                resumed.load_state_dict(saved)
            elif what == "N":
                again = OURS.ExponentialLR(resumed, 0.5)
            else:
                again.load_state_dict(state)
        assert [group["lr"] for group in resumed.param_groups] == [0.0123] * 2, order
    optimizer = cases.scheduled()
    scheduler = OURS.LinearLR(optimizer)
    optimizer.param_groups[0]["lr"] = 0.7
    scheduler.load_state_dict(scheduler.state_dict() | {"last_epoch": 3})
    assert optimizer.param_groups[0]["lr"] == 0.7


@pytest.mark.parametrize("tree", LEAVES, ids=str)
def test_a_scheduler_made_for_a_later_step_and_its_state(tree):
    """What the groups had before counts for nothing then."""
    run, resumed = cases.scheduled(), cases.scheduled()
    straight = tree.make(OURS, run)
    for _ in range(5):
        straight.step()
    for group, saved in zip(resumed.param_groups, run.param_groups, strict=True):
        group.update({key: value for key, value in saved.items() if key != "params"}, lr=0.7)
    again = tree.make(OURS, resumed, last_epoch=4)
    same(resumed, run)
    again.load_state_dict(copy.deepcopy(straight.state_dict()))
    for _ in range(5):
        same(resumed, run)
        straight.step()
        again.step()


def test_torch_leaves_another_rate_in_the_groups():
    for library, expected in ((TORCHS, 0.03), (OURS, 0.1 * 0.9**2)):
        run, resumed = cases.scheduled(), cases.scheduled()
        straight = library.LambdaLR(run, lambda step: 0.9**step if step else 0.3)
        for _ in range(2):
            straight.step()
        resumed.load_state_dict(run.state_dict())
        again = library.LambdaLR(resumed, lambda step: 0.9**step if step else 0.3)
        again.load_state_dict(straight.state_dict())
        assert again.get_last_lr() == straight.get_last_lr()
        assert resumed.param_groups[0]["lr"] == pytest.approx(expected)


def test_what_else_is_in_the_groups_stays():
    optimizer = cases.scheduled()
    run = cases.scheduled()
    straight = OURS.OneCycleLR(run, 0.1, 20)
    for _ in range(7):
        straight.step()
    optimizer.load_state_dict(run.state_dict())
    again = OURS.OneCycleLR(optimizer, 0.1, 20)
    optimizer.param_groups[0]["weight_decay"] = 0.5
    optimizer.param_groups[0]["mine"] = [1]
    again.load_state_dict(straight.state_dict())
    assert optimizer.param_groups[0]["weight_decay"] == 0.5
    assert optimizer.param_groups[0]["mine"] == [1]
    assert optimizer.param_groups[1]["lr"] == run.param_groups[1]["lr"]
    assert optimizer.param_groups[0]["momentum"] == run.param_groups[0]["momentum"]


def test_a_group_that_was_added_meanwhile():
    run, optimizer = cases.scheduled(), cases.scheduled()
    straight = OURS.ExponentialLR(run, 0.5)
    straight.step()
    optimizer.load_state_dict(run.state_dict())
    again = OURS.ExponentialLR(optimizer, 0.5)
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.3})
    again.load_state_dict(straight.state_dict())
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.025, 0.3]
    again.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.025, 0.0125, 0.15]


def test_nothing_is_kept_alive():
    import gc
    import weakref

    optimizer = cases.scheduled()
    scheduler = OURS.SequentialLR(optimizer, [OURS.ConstantLR(optimizer), OURS.CyclicLR(optimizer, 0.1, 0.2)], [3])
    scheduler.load_state_dict(scheduler.state_dict())
    gone = weakref.ref(scheduler), weakref.ref(optimizer)
    del scheduler
    gc.collect()
    assert gone[0]() is None
    del optimizer
    gc.collect()
    assert gone[1]() is None


# States that do not fit


def without(state, key):
    return {name: value for name, value in state.items() if name != key}


def bad_states():
    optimizer = cases.scheduled()
    optimizer._opt_called = True  # as if it had stepped, which schedulers look for
    made = {tree.scheduler: tree.make(OURS, optimizer).state_dict() for tree in (*TREES, *LEAVES)}
    of = made.__getitem__
    inner = of("ChainedScheduler")["_schedulers"]
    for name in ("SequentialLR", "ChainedScheduler"):
        state = of(name)
        yield name, without(state, "_schedulers"), KeyError, "the state has no '_schedulers', only"
        yield name, of("StepLR"), KeyError, f"the state has no '_schedulers', only .* the state of a {name}"
        yield name, state | {"_schedulers": inner * 9}, IndexError, "has 18 entries, expected at most"
        yield name, state | {"_schedulers": inner[0]}, TypeError, "the state's _schedulers is {.*}, expected a list"
        yield name, state | {"_schedulers": [*inner[:1], 3]}, TypeError, "is of type int, expected a dict"
        wrong = [inner[0], inner[0] | {"last_epoch": "x"}]
        yield name, state | {"_schedulers": wrong}, TypeError, "last_epoch is 'x', expected a number"
    for name in ("LambdaLR", "MultiplicativeLR"):
        state = of(name)
        yield name, without(state, "lr_lambdas"), KeyError, "the state has no 'lr_lambdas', only"
        yield name, state | {"lr_lambdas": [None, None, {}]}, IndexError, "has 3 entries, expected at most 2"
        yield name, state | {"lr_lambdas": 3}, TypeError, "lr_lambdas is 3, expected a list"
        yield name, state | {"lr_lambdas": [3, None]}, TypeError, r"lr_lambdas\[0\] is 3, expected a dict or None"
    state = of("CyclicLR")
    yield "CyclicLR", without(state, "_scale_fn_custom"), KeyError, "the state has no '_scale_fn_custom'"
    yield (
        "CyclicLR",
        state | {"_scale_fn_custom": {"a": 1}},
        AttributeError,
        "_scale_fn_custom is {'a': 1}, expected None",
    )
    yield "CyclicLR", state | {"_scale_fn_custom": 3}, TypeError, "_scale_fn_custom is 3, expected a dict or None"
    state = of("ReduceLROnPlateau")
    yield "ReduceLROnPlateau", state | {"mode": "auto"}, ValueError, "mode is 'auto', expected 'min' or 'max'"
    wrong = state | {"threshold_mode": "percent"}
    yield "ReduceLROnPlateau", wrong, ValueError, "threshold_mode is 'percent', expected 'rel' or 'abs'"
    for name, state in made.items():
        for wrong in (None, [1], 3):
            yield name, wrong, TypeError, f"the state of {name} is of type .*, expected a dict"
        for key in {"last_epoch", "_step_count"} & state.keys():
            for value in ("three", None, [3]):
                yield name, state | {key: value}, TypeError, f"{key} is .*, expected a number"


@pytest.mark.parametrize(("name", "state", "error", "message"), list(bad_states()))
def test_a_bad_state_is_named_and_changes_nothing(name, state, error, message):
    tree = next(tree for tree in (*TREES, *LEAVES) if tree.scheduler == name)
    optimizer = cases.scheduled()
    scheduler = tree.make(OURS, optimizer)
    for index in range(5):
        step(scheduler, float(index))
    before, groups, given = copy.deepcopy([scheduler.state_dict(), cases.settings(optimizer), state])
    with pytest.raises(error, match=message):
        scheduler.load_state_dict(state)
    assert repr(scheduler.state_dict()) == repr(before)
    assert cases.settings(optimizer) == groups
    assert repr(state) == repr(given)


def test_an_error_on_the_way_changes_nothing():
    class Picky(OURS.StepLR):
        def load_state_dict(self, state_dict):
            super().load_state_dict(state_dict)
            raise RuntimeError("not this one")

    optimizer = cases.scheduled()
    parts = [OURS.LambdaLR(optimizer, Counting()), OURS.ExponentialLR(optimizer, 0.5), Picky(optimizer, 2)]
    scheduler = OURS.ChainedScheduler(parts)
    for _ in range(3):
        scheduler.step()
    before, groups = copy.deepcopy([scheduler.state_dict(), cases.settings(optimizer)])
    other = copy.deepcopy(before)
    other["_schedulers"][0]["lr_lambdas"][0]["factor"] = 7
    other["_schedulers"][1]["gamma"] = 7
    with pytest.raises(RuntimeError, match="not this one"):
        scheduler.load_state_dict(other)
    assert scheduler.state_dict() == before
    assert cases.settings(optimizer) == groups


class Counting:
    """A factor with attributes, which are in the state."""

    def __init__(self):
        self.factor = 0.5

    def __call__(self, step):
        return self.factor**step


def test_a_state_may_be_loaded_again():
    """torch takes entries out of CyclicLR's and leaves them out."""
    for library, twice in ((OURS, True), (TORCHS, False)):
        scheduler = library.CyclicLR(cases.scheduled(), 0.1, 0.2)
        state = scheduler.state_dict()
        scheduler.load_state_dict(state)
        assert ("_scale_fn_custom" in state) == twice
    scheduler.load_state_dict(scheduler.state_dict())


VALUES = st.none() | st.integers(-2, 9) | st.floats() | st.text(max_size=2) | st.lists(st.floats(-1, 1), max_size=3)


@given(
    st.sampled_from(LEAVES),
    st.dictionaries(
        st.sampled_from(["gamma", "base_lrs", "_last_lr", "T_max", "eta_min", "total_iters", "mode", "max_lrs", "new"]),
        VALUES,
        max_size=3,
    ),
)
@settings(max_examples=200, deadline=None)
def test_what_torch_accepts_is_accepted(tree, entries):
    """And nothing else is refused: whatever is in a state becomes an attribute."""
    found = []
    for library in (OURS, TORCHS):
        scheduler = tree.make(library, cases.scheduled())
        state = scheduler.state_dict() | entries
        scheduler.load_state_dict(copy.deepcopy(state))
        found.append(repr({key: value for key, value in scheduler.state_dict().items() if key != "_scale_fn_ref"}))
    assert found[0] == found[1]


# An optimizer's step that is no method


@pytest.mark.filterwarnings("default::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("library", [torch.optim, optim], ids=["torch", "ours"])
@pytest.mark.parametrize("through", cases.NO_METHODS.values(), ids=cases.NO_METHODS)
def test_a_step_that_is_no_method(library, through):
    def wrapped():
        optimizer = cases.scheduled(library=library)
        optimizer.step = through(optimizer.step)
        return optimizer

    for tree in (*LEAVES, sequence(LINEAR, EXPONENTIAL), chain(LINEAR, EXPONENTIAL)):
        optimizer = wrapped()
        scheduler = tree.make(OURS, optimizer)
        if tree is LEAVES[0]:
            (weight,) = optimizer.param_groups[0]["params"]
            weight.grad = torch.ones(2)
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)
                optimizer.step()
                scheduler.step()  # does not warn of a step that was left out
            assert weight.tolist() == pytest.approx([-0.1, -0.1])
    with pytest.warns(UserWarning, match="Detected call of"):
        OURS.StepLR(wrapped(), 3).step()
    with pytest.raises(AttributeError, match="__func__"):
        TORCHS.StepLR(wrapped(), 3)


def test_users_classes_with_constructors_of_their_own():
    class Mine(OURS.LRScheduler):
        def __init__(self, name, optimizer, factor):
            self.name, self.factor = name, factor
            super().__init__(optimizer)

        def get_lr(self):
            return [base * self.factor**self.last_epoch for base in self.base_lrs]

    class Mixed(OURS.LRScheduler, TORCHS.StepLR):
        def __init__(self, optimizer):
            super().__init__(optimizer, 1, 0.5)

    for make in (lambda o: Mine("mine", o, factor=0.5), Mixed):
        run, resumed = cases.scheduled(), cases.scheduled()
        run.step, resumed.step = partial(run.step, None), partial(resumed.step, None)
        straight = make(run)
        for _ in range(3):
            straight.step()
        resumed.load_state_dict(run.state_dict())
        again = make(resumed)
        again.load_state_dict(straight.state_dict())
        same(resumed, run)
        assert resumed.param_groups[0]["lr"] == pytest.approx(0.0125)


def test_names_that_torchs_module_has_besides():
    for name in vars(torch.optim.lr_scheduler).keys() - {"__warningregistry__"}:  # where Python notes warnings
        assert hasattr(optim.lr_scheduler, name), name
    assert optim.lr_scheduler.EPOCH_DEPRECATION_WARNING == torch.optim.lr_scheduler.EPOCH_DEPRECATION_WARNING
    assert issubclass(optim.lr_scheduler._LRScheduler, torch.optim.lr_scheduler._LRScheduler)
    assert issubclass(optim.lr_scheduler._LRScheduler, optim.lr_scheduler.LRScheduler)
    with pytest.raises(AttributeError, match=r"module 'torchpace.optim.lr_scheduler' has no attribute 'Noam'"):
        _ = optim.lr_scheduler.Noam
    assert math.isinf(optim.lr_scheduler.inf)
