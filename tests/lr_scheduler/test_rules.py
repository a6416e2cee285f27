"""Where torch fails and ours works: each rule beside torch's failure."""

import copy
import warnings

import pytest
import torch

import cases
from cases import OURS, TORCHS
from torchpace import optim, schedule

pytestmark = pytest.mark.filterwarnings("ignore:Detected call of:UserWarning")

each = pytest.mark.parametrize("schedule", cases.SCHEDULERS, ids=str)
RESUMABLE = [schedule for schedule in cases.SCHEDULERS if schedule.scheduler != "ChainedScheduler"]
each_resumable = pytest.mark.parametrize("schedule", RESUMABLE, ids=str)


def rates(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


def late(optimizer, lr=0.05, **options):
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(2))], "lr": lr, **options})


# Beginning at a later step


@each_resumable
@pytest.mark.parametrize("last_epoch", [0, 3, 19, 77, 400])
def test_last_epoch_gives_the_state_of_a_run(schedule, last_epoch):
    run = cases.scheduled()
    straight = schedule.make(OURS, run)
    for _ in range(last_epoch + 1):
        straight.step()
    resumed_optimizer = cases.scheduled()
    # As loaded from a checkpoint, but for a learning rate that is wrong.
    for group, saved in zip(resumed_optimizer.param_groups, run.param_groups, strict=True):
        group.update({key: copy.copy(value) for key, value in saved.items() if key != "params"}, lr=0.7)
    resumed = schedule.make(OURS, resumed_optimizer, last_epoch=last_epoch)
    assert resumed.last_epoch == last_epoch + 1
    for _ in range(120):
        assert cases.settings(resumed_optimizer) == cases.settings(run)
        assert resumed.get_last_lr() == straight.get_last_lr()
        straight.step()
        resumed.step()


@pytest.mark.parametrize(
    "name", ["StepLR", "MultiStepLR", "ExponentialLR", "CosineAnnealingLR", "PolynomialLR", "SWALR"]
)
def test_torch_keeps_the_rate_that_it_finds(name):
    schedule = next(schedule for schedule in cases.SCHEDULERS if schedule.scheduler == name)
    optimizer = cases.scheduled()
    schedule.make(TORCHS, optimizer)
    optimizer.param_groups[0]["lr"] = 0.7
    schedule.make(TORCHS, optimizer, last_epoch=77)
    assert optimizer.param_groups[0]["lr"] == 0.7 or name == "SWALR"
    ours = cases.scheduled()
    schedule.make(OURS, ours)
    ours.param_groups[0]["lr"] = 0.7
    schedule.make(OURS, ours, last_epoch=77)
    assert ours.param_groups[0]["lr"] != optimizer.param_groups[0]["lr"]


def test_torchs_sequence_begins_at_step_0_whatever_last_epoch_says():
    schedule = next(schedule for schedule in cases.SCHEDULERS if schedule.scheduler == "SequentialLR")
    optimizer = cases.scheduled()
    scheduler = schedule.make(TORCHS, optimizer, last_epoch=10)
    assert (scheduler.last_epoch, scheduler._schedulers[0].last_epoch) == (11, 0)
    assert optimizer.param_groups[0]["lr"] == 0.1 * 0.1
    optimizer = cases.scheduled()
    scheduler = schedule.make(OURS, optimizer, last_epoch=10)
    assert (scheduler.last_epoch, scheduler._schedulers[0].last_epoch) == (11, 11)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * (0.1 + 0.9 * 11 / 20))


def test_torchs_warm_restarts_lose_count():
    schedule = cases.Schedule("CosineAnnealingWarmRestarts", {"T_0": 10, "T_mult": 2})
    periods = []
    for library in (TORCHS, OURS):
        optimizer = cases.scheduled()
        schedule.make(library, optimizer)
        periods.append(schedule.make(library, optimizer, last_epoch=35).T_i)
    assert periods == [20, 40]


@each_resumable
def test_last_epoch_without_initial_lr(schedule):
    messages = []
    for library in (OURS, TORCHS):
        if schedule.scheduler == "SequentialLR":
            inner = [cases.Schedule(one.scheduler, one.options | {"last_epoch": 3}) for one in schedule.inner]
            schedule = cases.Schedule("SequentialLR", schedule.options, tuple(inner))
        with pytest.raises(KeyError) as error:
            schedule.make(library, cases.scheduled(), last_epoch=3)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_last_epoch_with_a_tensor_lr_fills_it():
    optimizer = cases.scheduled(lr=torch.tensor(0.1))
    run = cases.scheduled(lr=torch.tensor(0.1))
    straight = OURS.CosineAnnealingLR(run, 10)
    for _ in range(5):
        straight.step()
    tensor = optimizer.param_groups[0]["lr"]
    for group, saved in zip(optimizer.param_groups, run.param_groups, strict=True):
        group["initial_lr"] = saved["initial_lr"].clone()
    OURS.CosineAnnealingLR(optimizer, 10, last_epoch=4)
    assert optimizer.param_groups[0]["lr"] is tensor
    assert cases.settings(optimizer) == cases.settings(run)


def test_beginning_later_hides_no_warning():
    """The steps made up for are no sign that the optimizer has stepped."""
    optimizer = cases.scheduled()
    OURS.StepLR(optimizer, 3)
    scheduler = OURS.StepLR(optimizer, 3, last_epoch=4)
    with pytest.warns(UserWarning, match=r"Detected call of `lr_scheduler.step\(\)` before"):
        scheduler.step()


# Groups that are added later


def least(schedule):
    """The learning rate above which groups are in proportion."""
    return schedule.options.get("eta_min", 0.0)


@each
@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
@pytest.mark.parametrize(("at", "share"), [(0, 0.1), (1, 0.1), (30, 0.1), (30, 3.0), (75, 1.0)])
def test_a_late_group_keeps_its_proportion(schedule, optimizer, at, share):
    optimizer = cases.scheduled(optimizer, library=optim)
    alone = cases.scheduled(optimizer.__class__.__name__)
    scheduler, unchanged = schedule.make(OURS, optimizer), schedule.make(OURS, alone)
    for _ in range(at):
        scheduler.step()
        unchanged.step()
    floor = least(schedule)
    late(optimizer, lr=floor + share * (optimizer.param_groups[1]["lr"] - floor))
    for _ in range(100):
        scheduler.step()
        unchanged.step()
        # The others do not notice.
        assert cases.settings(optimizer)[:2] == cases.settings(alone)
        last, third = optimizer.param_groups[1:]
        assert third["lr"] - floor == pytest.approx(share * (last["lr"] - floor), rel=1e-9, abs=1e-15)
    if schedule.scheduler not in {"CyclicLR", "OneCycleLR"}:
        assert third["initial_lr"] - floor == pytest.approx(share * (last["initial_lr"] - floor))
    for key in {"momentum", "betas", "max_momentum", "base_momentum"} & last.keys():
        assert third[key] == last[key]
    assert len(scheduler.get_last_lr()) == 3


def test_a_late_group_at_a_tenth_under_one_cycle():
    """As finetuning adds it: at a tenth of the present rate of the first group."""
    for make in (
        lambda optimizer: OURS.OneCycleLR(optimizer, 1.0, total_steps=100),
        lambda optimizer: OURS.CyclicLR(optimizer, 0.01, 1.0, step_size_up=20),
    ):
        optimizer = cases.scheduled(groups=1)
        scheduler = make(optimizer)
        for _ in range(12):
            scheduler.step()
        late(optimizer, lr=optimizer.param_groups[0]["lr"] / 10)
        for _ in range(80):
            scheduler.step()
            head, tenth = rates(optimizer)
            assert tenth == pytest.approx(head / 10, rel=1e-12)


@pytest.mark.parametrize("name", ["CosineAnnealingLR", "CosineAnnealingWarmRestarts"])
@pytest.mark.parametrize("lr", [1e-3, 5e-4, 0.0])
def test_a_late_group_not_above_the_least_rate(name, lr):
    """Its proportion is that of the learning rates themselves then, and it never leaves what lies between the two."""
    optimizer = cases.scheduled()
    scheduler = getattr(OURS, name)(optimizer, 10, eta_min=1e-3)
    for _ in range(5):
        scheduler.step()
    first = lr / optimizer.param_groups[1]["lr"] * 0.05
    late(optimizer, lr=lr)
    for _ in range(40):
        scheduler.step()
        assert min(lr, first) - 1e-12 <= optimizer.param_groups[2]["lr"] <= max(1e-3, first) + 1e-12
    assert optimizer.param_groups[2]["initial_lr"] == pytest.approx(first)


def as_if_from_the_start(schedule):
    """A late group that says with what it would have begun, beside one that was there from the start."""
    optimizer = cases.scheduled(groups=2, lr=0.1)
    scheduler = schedule.make(OURS, optimizer)
    for _ in range(10):
        scheduler.step()
    late(optimizer, lr=7.0, initial_lr=optimizer.param_groups[1]["initial_lr"])
    for _ in range(50):
        scheduler.step()
        assert optimizer.param_groups[2]["lr"] == pytest.approx(optimizer.param_groups[1]["lr"], rel=1e-12)
    return optimizer.param_groups


@pytest.mark.parametrize(
    "schedule",
    [
        cases.Schedule("LambdaLR", {"lr_lambda": [lambda step: 1.0, lambda step: 0.9**step]}),
        cases.Schedule("CosineAnnealingWarmRestarts", {"T_0": 7, "eta_min": 1e-3}),
        cases.Schedule("CyclicLR", {"base_lr": [0.1, 0.05], "max_lr": [0.2, 0.3], "step_size_up": 7}),
        cases.Schedule("OneCycleLR", {"max_lr": [0.2, 0.3], "total_steps": 70}),
    ],
    ids=str,
)
def test_a_late_group_is_where_it_would_be(schedule):
    _, second, third = as_if_from_the_start(schedule)
    assert third["momentum"] == second["momentum"]


def test_late_groups_where_the_others_are_at_0():
    """There is no proportion: their learning rate is what they begin with."""
    optimizer = cases.scheduled(groups=1)
    scheduler = OURS.LambdaLR(optimizer, lambda step: step / 10)
    late(optimizer, lr=0.5)
    scheduler.step()
    assert rates(optimizer) == pytest.approx([0.01, 0.05])
    optimizer = cases.scheduled(groups=1)
    scheduler = OURS.CyclicLR(optimizer, 0.0, 1.0, step_size_up=4)
    late(optimizer, lr=0.5)
    scheduler.step()
    assert rates(optimizer) == pytest.approx([0.25, 0.625])
    optimizer = cases.scheduled(groups=1)
    scheduler = OURS.SWALR(optimizer, 0.0, anneal_epochs=1)
    scheduler.step()
    assert rates(optimizer) == [0.0]
    late(optimizer, lr=0.5)
    scheduler.step()
    assert rates(optimizer) == [0.0, 0.0]


def test_several_late_groups_at_once_and_one_after_the_other():
    optimizer = cases.scheduled(groups=1)
    scheduler = OURS.OneCycleLR(optimizer, 1.0, total_steps=100)
    for share in (0.5, 2.0, 0.0):
        late(optimizer, lr=share * optimizer.param_groups[0]["lr"])
    for _ in range(7):
        scheduler.step()
    late(optimizer, lr=3 * optimizer.param_groups[1]["lr"])
    late(optimizer, lr=4 * optimizer.param_groups[0]["lr"])
    for _ in range(50):
        scheduler.step()
        head, *others = rates(optimizer)
        assert others == pytest.approx([share * head for share in (0.5, 2.0, 0.0, 1.5, 4.0)])


def test_late_groups_of_other_types_than_the_others():
    for lr, late in ((torch.tensor(0.1), 0.01), (0.1, torch.tensor(0.01))):
        optimizer = cases.scheduled(lr=lr)
        scheduler = OURS.CosineAnnealingWarmRestarts(optimizer, 5)
        scheduler.step()
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))], "lr": late})
        share = float(late) / float(optimizer.param_groups[1]["lr"])
        for _ in range(9):
            scheduler.step()
            assert type(optimizer.param_groups[2]["lr"]) is type(late)
            assert float(optimizer.param_groups[2]["lr"]) == pytest.approx(
                share * float(optimizer.param_groups[1]["lr"]), rel=1e-6
            )


def test_a_late_group_is_multiplied_with_the_others():
    optimizer = cases.scheduled()
    scheduler = OURS.StepLR(optimizer, 2, gamma=0.5)
    scheduler.step()
    late(optimizer, lr=1.0)
    scheduler.step()
    assert rates(optimizer) == [0.05, 0.025, 0.5]
    with pytest.warns(UserWarning, match="epoch parameter"):
        scheduler.step(6)
    assert rates(optimizer) == [0.0125, 0.00625, 0.125]


@pytest.mark.parametrize("name", ["LambdaLR", "CyclicLR", "OneCycleLR", "CosineAnnealingWarmRestarts", "SWALR"])
def test_torch_raises_for_a_late_group(name):
    schedule = next(schedule for schedule in cases.SCHEDULERS if schedule.scheduler == name)
    optimizer = cases.scheduled()
    scheduler = schedule.make(TORCHS, optimizer)
    late(optimizer)
    with pytest.raises((ValueError, KeyError)):
        scheduler.step()


def test_a_late_group_under_a_plateau():
    for library, fails in ((TORCHS, True), (OURS, False)):
        optimizer = cases.scheduled()
        scheduler = library.ReduceLROnPlateau(optimizer, patience=0, min_lr=[0.0, 0.04])
        late(optimizer, lr=0.005)
        scheduler.step(1.0)
        if fails:
            with pytest.raises(RuntimeError, match="number of param groups"):
                scheduler.step(2.0)
        else:
            scheduler.step(2.0)
            assert rates(optimizer)[1:] == pytest.approx([0.04, 0.004])


def test_a_state_dict_taken_before_does_not_change():
    optimizer = cases.scheduled()
    scheduler = OURS.CyclicLR(optimizer, 0.01, 0.1)
    state = scheduler.state_dict()
    before = copy.deepcopy(state)
    late(optimizer)
    scheduler.step()
    assert state == before


# A plateau among others


def test_torch_refuses_a_plateau_among_others():
    optimizer = cases.scheduled()
    plateau = TORCHS.ReduceLROnPlateau(optimizer)
    with pytest.raises(ValueError, match="does not support `ReduceLROnPlateau`"):
        TORCHS.SequentialLR(optimizer, [TORCHS.StepLR(optimizer, 3), plateau], [3])
    with pytest.raises(ValueError, match="does not support `ReduceLROnPlateau`"):
        TORCHS.ChainedScheduler([TORCHS.StepLR(optimizer, 3), plateau])


@pytest.mark.parametrize("library", [OURS, TORCHS], ids=["ours", "torchs"])
def test_a_plateau_after_a_warmup(library):
    optimizer = cases.scheduled()
    warmup = OURS.LinearLR(optimizer, start_factor=0.25, total_iters=3)
    plateau = library.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    scheduler = OURS.SequentialLR(optimizer, [warmup, plateau], [3])
    assert rates(optimizer) == [0.025, 0.0125]
    scheduler.step()  # needs none
    scheduler.step(9.0)  # takes none
    assert plateau.last_epoch == 0
    with pytest.raises(TypeError, match=r"SequentialLR.step\(\) needs metrics at step 3: .* ReduceLROnPlateau"):
        scheduler.step()
    assert scheduler.last_epoch == 2
    scheduler.step(1.0)
    assert plateau.best == 1.0
    before = rates(optimizer)
    scheduler.step(torch.tensor(2.0))
    assert rates(optimizer) == [rate * 0.5 for rate in before] == scheduler.get_last_lr()
    assert scheduler.last_epoch == 4

    state = scheduler.state_dict()
    other_optimizer = cases.scheduled()
    other = OURS.SequentialLR(
        other_optimizer,
        [OURS.LinearLR(other_optimizer, 0.25, total_iters=3), library.ReduceLROnPlateau(other_optimizer)],
        [3],
    )
    other.load_state_dict(state)
    assert other._schedulers[1].best == 1.0
    assert other.last_epoch == 4


def test_a_plateau_before_another():
    optimizer = cases.scheduled()
    plateau = OURS.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    scheduler = OURS.SequentialLR(optimizer, [plateau, OURS.ExponentialLR(optimizer, 0.5)], [3])
    assert rates(optimizer) == scheduler.get_last_lr() == [0.1, 0.05]
    with pytest.raises(TypeError, match="needs metrics at step 1"):
        scheduler.step()
    scheduler.step(1.0)
    scheduler.step(2.0)
    assert rates(optimizer) == [0.05, 0.025]
    scheduler.step()
    assert rates(optimizer) == [0.1, 0.05]
    scheduler.step()
    assert rates(optimizer) == [0.05, 0.025]


def test_a_plateau_in_a_chain_and_the_chain_in_a_sequence():
    optimizer = cases.scheduled()
    plateau = OURS.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    chain = OURS.ChainedScheduler([OURS.ExponentialLR(optimizer, 0.9), plateau])
    with pytest.raises(TypeError, match=r"ChainedScheduler.step\(\) needs metrics: .* ReduceLROnPlateau"):
        chain.step()
    assert rates(optimizer) == [0.1, 0.05]
    chain.step(1.0)
    chain.step(2.0)
    assert rates(optimizer) == pytest.approx([0.1 * 0.9**2 * 0.5, 0.05 * 0.9**2 * 0.5])
    assert chain.get_last_lr() == rates(optimizer)
    scheduler = OURS.SequentialLR(optimizer, [OURS.LinearLR(optimizer, 0.5, total_iters=2), chain], [2])
    scheduler.step()
    with pytest.raises(TypeError, match="needs metrics at step 2"):
        scheduler.step()
    scheduler.step(3.0)
    assert plateau.last_epoch == 3


def test_a_chain_with_a_plateau_comes_first():
    optimizer = cases.scheduled()
    plateau = OURS.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    chain = OURS.ChainedScheduler([OURS.ConstantLR(optimizer, 0.5, 3), plateau])
    scheduler = OURS.SequentialLR(optimizer, [chain, OURS.ExponentialLR(optimizer, 0.5)], [4])
    seen = []
    for metric in (1.0, 2.0, 0.5):
        seen.append(optimizer.param_groups[0]["lr"])
        scheduler.step(metric)
    assert [*seen, optimizer.param_groups[0]["lr"]] == [0.05, 0.05, 0.025, 0.05]
    assert "last_epoch" not in chain.state_dict()


def test_a_sequence_or_chain_that_begins_at_a_milestone():
    def build(library, optimizer):
        chain = library.ChainedScheduler([library.ConstantLR(optimizer, 0.5, 2), library.ExponentialLR(optimizer, 0.9)])
        inner = library.SequentialLR(
            optimizer, [library.ConstantLR(optimizer, 0.25, 9), library.StepLR(optimizer, 1, 0.5)], [2]
        )
        return library.SequentialLR(optimizer, [library.ConstantLR(optimizer, 0.1, 9), chain, inner], [2, 5])

    optimizer = cases.scheduled()
    scheduler = build(TORCHS, optimizer)
    scheduler.step()
    with pytest.raises(NotImplementedError):
        scheduler.step()
    optimizer = cases.scheduled()
    scheduler = build(OURS, optimizer)
    seen = []
    for _ in range(10):
        seen.append(optimizer.param_groups[0]["lr"] * 10)
        scheduler.step()
    assert seen == pytest.approx([0.1, 0.1, 0.5, 0.45, 0.81, 0.25, 0.25, 1.0, 0.5, 0.25])
    assert scheduler.last_epoch == 10
    optimizer = cases.scheduled()
    resumed = OURS.SequentialLR(optimizer, build(OURS, optimizer)._schedulers, [2, 5], last_epoch=7)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
    assert resumed.last_epoch == 8
    assert "last_epoch" not in resumed._schedulers[1].state_dict()


def test_a_plateau_is_passed_over_while_steps_are_made_up_for():
    optimizer = cases.scheduled()
    schedulers = [OURS.LinearLR(optimizer, 0.5, total_iters=2), OURS.ReduceLROnPlateau(optimizer)]
    scheduler = OURS.SequentialLR(optimizer, schedulers, [2], last_epoch=5)
    assert scheduler.last_epoch == 6
    scheduler.step(1.0)


def test_a_metric_that_nobody_takes():
    for make in (
        lambda library, optimizer: library.SequentialLR(optimizer, [library.StepLR(optimizer, 3)], []),
        lambda library, optimizer: library.ChainedScheduler([library.StepLR(optimizer, 3)]),
    ):
        messages = []
        for library in (OURS, TORCHS):
            with pytest.raises(TypeError) as error:
                make(library, cases.scheduled()).step(1.0)
            messages.append(str(error.value))
        assert messages[0] == messages[1]


# One cycle, and on


def one_cycle(strategy="cos", library=OURS, **options):
    optimizer = cases.scheduled()
    return library.OneCycleLR(optimizer, 0.1, total_steps=10, anneal_strategy=strategy, **options), optimizer


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("strategy", ["cos", "linear"])
def test_hold(strategy, fast):
    scheduler, optimizer = one_cycle(strategy, past_end="hold")
    if not fast:
        scheduler.get_lr = scheduler.get_lr  # an attribute: torch's way
    for _ in range(9):
        scheduler.step()
    end = [{key: group[key] for key in ("lr", "momentum")} for group in optimizer.param_groups]
    assert end[0] == {"lr": pytest.approx(0.1 / 25 / 1e4), "momentum": pytest.approx(0.95)}
    for _ in range(30):
        scheduler.step()
        assert [{key: group[key] for key in ("lr", "momentum")} for group in optimizer.param_groups] == end
    assert scheduler.last_epoch == 39


@pytest.mark.parametrize("strategy", ["cos", "linear"])
def test_extend(strategy):
    scheduler, optimizer = one_cycle(strategy, past_end="extend")
    theirs, their_optimizer = one_cycle(strategy, TORCHS)
    for _ in range(10):
        scheduler.step()
        theirs.step()
        assert cases.settings(optimizer) == cases.settings(their_optimizer)
    rises = []
    for _ in range(8):
        scheduler.step()
        rises.append(optimizer.param_groups[0]["lr"])
        assert optimizer.param_groups[0]["momentum"] == pytest.approx(0.95)
    assert scheduler.last_epoch == 18
    assert scheduler.total_steps == 10
    if strategy == "linear":
        assert rises == [0.0] * 8
    else:  # as many steps up again as it took down from step 2 to 9: the highest at 16
        assert rises.index(max(rises)) == 5
        assert max(rises) == pytest.approx(0.1)


def test_past_the_end_by_default_and_wrong_arguments():
    for library in (OURS, TORCHS):
        scheduler, _ = one_cycle(library=library)
        for _ in range(10):
            scheduler.step()
        with pytest.raises(ValueError, match=r"Tried to step 11 times\. The specified number of total steps is 10"):
            scheduler.step()
    with pytest.raises(ValueError, match="past_end is 'stop', expected one of 'raise', 'hold', 'extend'"):
        one_cycle(past_end="stop")


def test_past_end_is_in_the_state_dict_only_if_set():
    assert "past_end" not in one_cycle()[0].state_dict()
    held = one_cycle(past_end="hold")[0]
    assert held.state_dict()["past_end"] == "hold"
    held.load_state_dict(one_cycle(library=TORCHS)[0].state_dict())
    assert held.past_end == "hold"


# Automatic mixed precision


def amp_step(optimizer, scheduler, grad):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    scaler.scale(torch.ones(()))
    for group in optimizer.param_groups:
        for param in group["params"]:
            param.grad = torch.full_like(param, grad)
    scaler.step(optimizer)
    scaler.update()
    scheduler.step()


@pytest.mark.filterwarnings("default::UserWarning")
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda optimizer: OURS.StepLR(optimizer, 3),
        lambda optimizer: TORCHS.StepLR(optimizer, 3),
        lambda optimizer: schedule.step(3).on(optimizer),
    ],
    ids=["ours", "torchs", "composable"],
)
def test_a_step_that_the_scaler_skipped_was_not_forgotten(make, fused):
    optimizer = cases.scheduled(library=optim, fused=fused)
    before = [param.clone() for group in optimizer.param_groups for param in group["params"]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        amp_step(optimizer, make(optimizer), torch.inf)
    after = [param for group in optimizer.param_groups for param in group["params"]]
    assert all(map(torch.equal, before, after))


@pytest.mark.parametrize("library", [OURS, TORCHS], ids=["ours", "torchs"])
def test_on_torchs_optimizer_torchs_warning_stays(library):
    optimizer = cases.scheduled()
    with pytest.warns(UserWarning, match="Detected call of"):
        amp_step(optimizer, library.StepLR(optimizer, 3), torch.inf)


def test_on_ours_a_step_that_was_forgotten_is_warned_of():
    optimizer = cases.scheduled(library=optim)
    with pytest.warns(UserWarning, match="Detected call of"):
        OURS.StepLR(optimizer, 3).step()


@pytest.mark.parametrize("shape", ["sequence of chains", "sequence of sequences", "chain of sequences"])
def test_a_late_group_keeps_its_proportion_where_a_later_scheduler_has_another_base(shape):
    """OneCycleLR sets `initial_lr`, which is not what the schedulers made before it begin with."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0, momentum=0.9)
    first, second = (OURS.LambdaLR(optimizer, lambda step: 0.9**step) for _ in range(2))
    last = OURS.OneCycleLR(optimizer, 1.0, 30)
    if shape == "sequence of chains":
        scheduler = OURS.SequentialLR(optimizer, [OURS.ChainedScheduler([first, second]), last], [4])
    elif shape == "sequence of sequences":
        scheduler = OURS.SequentialLR(optimizer, [first, OURS.SequentialLR(optimizer, [second, last], [2])], [3])
    else:
        scheduler = OURS.ChainedScheduler([OURS.SequentialLR(optimizer, [first, last], [4])])
    for step in range(10):
        if step == 1:
            late = torch.nn.Parameter(torch.ones(1))
            optimizer.add_param_group({"params": [late], "lr": optimizer.param_groups[0]["lr"] / 10})
        optimizer.step()
        scheduler.step()
        if step >= 1:
            rate, share = (group["lr"] for group in optimizer.param_groups)
            assert share == pytest.approx(rate / 10, rel=1e-9), step
