"""In torch's place: names, classes, arguments, errors, warnings, checkpoints, subclasses."""

import copy
import functools
import inspect
import io
import pickle
import subprocess
import sys
import warnings

import pytest
import torch

import cases
from cases import OURS, TORCHS
from torchpace import _native, optim
from torchpace.optim import lr_scheduler, swa_utils

each = pytest.mark.parametrize("schedule", cases.SCHEDULERS, ids=str)
NAMES = [*torch.optim.lr_scheduler.__all__, "SWALR"]


def made(schedule, library=OURS, steps=0, **options):
    optimizer = cases.scheduled(**options)
    optimizer._opt_called = True
    scheduler = schedule.make(library, optimizer)
    for _ in range(steps):
        scheduler.step()
    return scheduler, optimizer


def test_names():
    assert lr_scheduler.__all__ == torch.optim.lr_scheduler.__all__
    assert swa_utils.__all__ == torch.optim.swa_utils.__all__
    for name in NAMES:
        ours, theirs = getattr(OURS, name), getattr(TORCHS, name)
        assert issubclass(ours, theirs)
        assert ours is not theirs
        assert issubclass(ours, OURS.LRScheduler)
        assert ours.__module__.startswith("torchpace.")
    assert {schedule.scheduler for schedule in cases.SCHEDULERS} == set(NAMES) - {"LRScheduler", "ReduceLROnPlateau"}
    assert swa_utils.AveragedModel is torch.optim.swa_utils.AveragedModel


def test_the_module_is_the_same_by_every_way():
    code = """
import torchpace.optim.lr_scheduler as a
from torchpace import optim
from torchpace.optim import lr_scheduler as b
print(a is b is optim.lr_scheduler, a.__name__)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.split() == ["True", "torchpace.optim.lr_scheduler"], run.stderr


@pytest.mark.parametrize("name", NAMES)
def test_arguments(name):
    ours = dict(inspect.signature(getattr(OURS, name)).parameters)
    theirs = dict(inspect.signature(getattr(TORCHS, name)).parameters)
    if name == "OneCycleLR":
        assert ours.pop("past_end").kind is inspect.Parameter.KEYWORD_ONLY
    assert [(p.name, p.kind, p.default) for p in ours.values()] == [
        (p.name, p.kind, p.default) for p in theirs.values()
    ]


WRONG = [
    ("LRScheduler", lambda m, o: m.LRScheduler(o)),
    ("LRScheduler", lambda m, o: m.LRScheduler("SGD")),
    ("LambdaLR", lambda m, o: m.LambdaLR(o, [abs])),
    ("MultiplicativeLR", lambda m, o: m.MultiplicativeLR(o, 3)),
    ("StepLR", lambda m, o: m.StepLR(o)),
    ("StepLR", lambda m, o: m.StepLR("SGD", 3)),
    ("StepLR", lambda m, o: m.StepLR(o, 3, last_epoch=2)),
    ("ConstantLR", lambda m, o: m.ConstantLR(o, 2.0)),
    ("LinearLR", lambda m, o: m.LinearLR(o, 0.0)),
    ("LinearLR", lambda m, o: m.LinearLR(o, 0.1, 2.0)),
    ("SequentialLR", lambda m, o: m.SequentialLR(o, [], [])),
    ("SequentialLR", lambda m, o: m.SequentialLR(o, [m.StepLR(o, 1)], [3])),
    ("SequentialLR", lambda m, o: m.SequentialLR(o, [3], [])),
    ("SequentialLR", lambda m, o: m.SequentialLR(o, [m.StepLR(cases.scheduled(groups=1), 1)], [])),
    ("ChainedScheduler", lambda m, o: m.ChainedScheduler([])),
    ("ChainedScheduler", lambda m, o: m.ChainedScheduler([m.StepLR(o, 1), 3])),
    ("ReduceLROnPlateau", lambda m, o: m.ReduceLROnPlateau(o, factor=1.0)),
    ("ReduceLROnPlateau", lambda m, o: m.ReduceLROnPlateau(o, "least")),
    ("ReduceLROnPlateau", lambda m, o: m.ReduceLROnPlateau(o).step()),
    ("CyclicLR", lambda m, o: m.CyclicLR(o, 0.1, [0.2])),
    ("CyclicLR", lambda m, o: m.CyclicLR(o, 0.1, 0.2, mode="round")),
    ("CyclicLR", lambda m, o: m.CyclicLR(cases.scheduled("Adagrad"), 0.1, 0.2)),
    ("CosineAnnealingWarmRestarts", lambda m, o: m.CosineAnnealingWarmRestarts(o, 0)),
    ("CosineAnnealingWarmRestarts", lambda m, o: m.CosineAnnealingWarmRestarts(o, 1, 0)),
    ("CosineAnnealingWarmRestarts", lambda m, o: m.CosineAnnealingWarmRestarts(o, 1).step(-1)),
    ("OneCycleLR", lambda m, o: m.OneCycleLR(o, 0.1)),
    ("OneCycleLR", lambda m, o: m.OneCycleLR(o, 0.1, 10, pct_start=2.0)),
    ("OneCycleLR", lambda m, o: m.OneCycleLR(o, 0.1, 10, anneal_strategy="fast")),
    ("SWALR", lambda m, o: m.SWALR(o, 0.1, -1)),
    ("SWALR", lambda m, o: m.SWALR(o, 0.1, anneal_strategy="fast")),
    ("SWALR", lambda m, o: m.SWALR(o, [0.1])),
]


@pytest.mark.parametrize(("name", "wrong"), WRONG)
def test_errors(name, wrong):
    found = []
    for library in (OURS, TORCHS):
        with pytest.raises((TypeError, ValueError, KeyError, NotImplementedError)) as error:
            wrong(library, cases.scheduled())
        found.append((error.type, str(error.value).partition("\n")[0]))
    assert found[0] == found[1]


def warned(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [(warning.category, str(warning.message)) for warning in caught]


@each
def test_warnings(schedule):
    """Of a step before the optimizer's, of an epoch, of an optimizer whose step was replaced, of get_lr."""

    def use(library, replaced):
        optimizer = cases.scheduled()
        scheduler = schedule.make(library, optimizer)
        if replaced:
            optimizer.step = lambda: None
        scheduler.step()
        scheduler.step()
        if schedule.scheduler not in {"SequentialLR", "ChainedScheduler"}:
            scheduler.step(5)
            scheduler.get_lr()

    for replaced in (False, True):
        expected = warned(lambda replaced=replaced: use(TORCHS, replaced))
        assert warned(lambda replaced=replaced: use(OURS, replaced)) == expected
        assert expected


@each
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_checkpoints_both_ways(schedule):
    for saving, loading in ((OURS, TORCHS), (TORCHS, OURS)):
        saver, saver_optimizer = made(schedule, saving, steps=25)
        loader, loader_optimizer = made(schedule, loading)
        file = io.BytesIO()
        state = saver.state_dict()
        torch.save([state, saver_optimizer.state_dict()], file)
        file.seek(0)
        state, optimizer_state = torch.load(file, weights_only=True)
        loader.load_state_dict(state)
        loader_optimizer.load_state_dict(optimizer_state)
        for _ in range(100):
            saver.step()
            loader.step()
            assert cases.settings(saver_optimizer) == cases.settings(loader_optimizer)


@each
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "through", [lambda pair: pickle.loads(pickle.dumps(pair)), copy.deepcopy], ids=["pickle", "copy"]
)
def test_pickling(schedule, through):
    pair = made(schedule, steps=25)
    scheduler, optimizer = through(pair)
    assert scheduler.optimizer is optimizer is not pair[1]
    for _ in range(100):
        pair[0].step()
        scheduler.step()
        assert cases.settings(optimizer) == cases.settings(pair[1])
    assert _native.advance(scheduler)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_lambda_is_the_one_thing_that_does_not_pickle():
    for make in (lambda o: OURS.LambdaLR(o, lambda e: 1.0), lambda o: OURS.MultiplicativeLR(o, lambda e: 1.0)):
        with pytest.raises((pickle.PicklingError, AttributeError)):
            pickle.dumps(make(cases.scheduled()))
    pickle.loads(pickle.dumps(OURS.ReduceLROnPlateau(cases.scheduled())))
    pickle.loads(pickle.dumps(OURS.OneCycleLR(cases.scheduled(), 0.1, 10, past_end="hold"))).step()


# Subclasses, and what else a user may change


class Harmonic:
    def get_lr(self):
        return [base / (1 + self.last_epoch) for base in self.base_lrs]


class Slower:
    def get_lr(self):
        return [lr * 0.5 for lr in super().get_lr()]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("mixin", "name", "arguments"),
    [
        (Harmonic, "LRScheduler", ()),
        (Slower, "StepLR", (3,)),
        (Slower, "CosineAnnealingLR", (7,)),
        (Slower, "CyclicLR", (0.01, 0.1)),
        (Slower, "OneCycleLR", (0.1, 100)),
        (Slower, "CosineAnnealingWarmRestarts", (7,)),
    ],
)
def test_subclasses(mixin, name, arguments):
    optimizers = cases.scheduled(), cases.scheduled()
    ours, theirs = (
        type("Users", (mixin, getattr(library, name)), {})(optimizer, *arguments)
        for library, optimizer in zip((OURS, TORCHS), optimizers, strict=True)
    )
    for _ in range(40):
        ours.step()
        theirs.step()
        assert cases.settings(optimizers[0]) == cases.settings(optimizers[1])
    assert not _native.advance(ours)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_subclass_that_overrides_nothing_is_as_fast():
    class Logged(OURS.StepLR):
        """With an argument more."""

        def __init__(self, optimizer, name):
            self.name = name
            super().__init__(optimizer, 3)

    scheduler = Logged(cases.scheduled(), "run")
    scheduler.step()
    assert _native.advance(scheduler)
    assert scheduler.state_dict()["name"] == "run"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_is_set_on_an_instance_counts():
    scheduler, optimizer = made(cases.SCHEDULERS[0], steps=3)
    scheduler.get_lr = lambda: [0.25, 0.5]
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.5]
    assert scheduler.last_epoch == 4


def counting(step, calls):
    calls.append(1)
    step()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_inner_schedulers_may_be_torchs_or_wrapped():
    for library in (OURS, TORCHS):
        optimizers = cases.scheduled(), cases.scheduled()
        ours, theirs = (
            outer.SequentialLR(o, [inner.LinearLR(o, 0.5), inner.ChainedScheduler([inner.StepLR(o, 3)])][:1], [])
            for outer, inner, o in zip((OURS, TORCHS), (library, TORCHS), optimizers, strict=True)
        )
        calls = []
        for at in range(30):
            if at == 20:
                inner_step = ours._schedulers[0].step
                ours._schedulers[0].step = functools.partial(counting, inner_step, calls)
            ours.step()
            theirs.step()
            assert cases.settings(optimizers[0]) == cases.settings(optimizers[1])
        assert len(calls) == 10


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_optimizer_that_hands_on_its_groups():
    class Wrapped(torch.optim.Optimizer):
        def __init__(self, inner):
            self.inner = inner

        param_groups = property(lambda self: self.inner.param_groups)
        defaults = property(lambda self: self.inner.defaults)

        def step(self, closure=None):
            self.inner.step(closure)

    inner = cases.scheduled()
    scheduler = OURS.ExponentialLR(Wrapped(inner), 0.5)
    for _ in range(3):
        scheduler.step()
    assert inner.param_groups[0]["lr"] == 0.0125
    assert _native.advance(scheduler)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_function_that_raises_leaves_what_torch_leaves():
    def fails(step):
        if step == 5:
            raise RuntimeError("here")
        return 0.5**step

    states = []
    for library in (OURS, TORCHS):
        optimizer = cases.scheduled()
        scheduler = library.SequentialLR(optimizer, [library.LambdaLR(optimizer, fails)], [])
        for _ in range(4):
            scheduler.step()
        with pytest.raises(RuntimeError, match="here"):
            scheduler.step()
        state = scheduler.state_dict()
        scheduler.step()
        states.append((state, scheduler.get_last_lr()))
    assert states[0] == states[1]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_nothing_is_written_where_torch_takes_over():
    scheduler, optimizer = made(cases.Schedule("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1}), steps=3)
    optimizer.param_groups[1]["lr"] = torch.tensor(0.1)
    before, groups = dict(vars(scheduler)), cases.settings(optimizer)
    assert not _native.advance(scheduler)
    assert (dict(vars(scheduler)), cases.settings(optimizer)) == (before, groups)
    assert not _native.advance(3)
    assert not _native.advance(OURS.LRScheduler)


def test_no_scheduler_of_that_name():
    with pytest.raises(ValueError, match='no scheduler is named "Noam"'):
        _native.Formula("Noam")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_no_object_of_rust_in_a_state_dict():
    def types(value):
        if isinstance(value, dict):
            return {one for pair in value.items() for part in pair for one in types(part)}
        return {one for part in value for one in types(part)} if isinstance(value, list | tuple) else {type(value)}

    for schedule in cases.SCHEDULERS:
        scheduler, _ = made(schedule, steps=3)
        assert types(scheduler.state_dict()) <= {int, float, bool, str, type(None)}, schedule


def test_on_our_optimizers():
    optimizer = cases.scheduled("AdamW", library=optim)
    scheduler = lr_scheduler.OneCycleLR(optimizer, 0.1, 20)
    for _ in range(19):
        for group in optimizer.param_groups:
            group["params"][0].grad = torch.ones(2)
        optimizer.step()
        scheduler.step()
    assert optimizer.last_path == "fused"
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 / 25 / 1e4)
