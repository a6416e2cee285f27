"""Schedules at work on optimizers, torch's and ours."""

import copy
import io
import pickle
import warnings
import weakref

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import ChainedScheduler, LRScheduler, ReduceLROnPlateau, SequentialLR

import cases
from torchpace import optim
from torchpace.schedule import (
    PlateauScheduler,
    Scheduler,
    constant,
    cosine,
    cyclic,
    exponential,
    linear,
    one_cycle,
    plateau,
    step,
    warmup,
)

CURVE = warmup(5, start=0.1).then(cosine(20, floor=0.01))

each_optimizer = pytest.mark.parametrize("module", [torch.optim, optim], ids=["torch", "ours"])


def param():
    return torch.nn.Parameter(torch.ones(2))


def sgd(*lrs, module=torch.optim, **options):
    optimizer = module.SGD([{"params": [param()], "lr": lr} for lr in lrs or (0.1,)], lr=1.0, **options)
    optimizer._opt_called = True  # as if it had stepped, which schedulers look for
    return optimizer


def of(optimizer, name="lr"):
    return [group[name] for group in optimizer.param_groups]


@each_optimizer
def test_each_group_follows_from_its_own_base(module):
    optimizer = sgd(0.1, 0.3, module=module)
    scheduler = CURVE.on(optimizer)
    assert isinstance(scheduler, LRScheduler)
    assert not isinstance(scheduler, ReduceLROnPlateau)
    for t in range(40):
        assert of(optimizer) == [CURVE(t, 0.1), CURVE(t, 0.3)] == scheduler.get_last_lr() == scheduler.get_lr()
        assert scheduler.last_epoch == t
        optimizer.step()
        scheduler.step()
    assert scheduler.base_lrs == [0.1, 0.3] == of(optimizer, "initial_lr")


@each_optimizer
def test_the_optimizer_moves_by_the_scheduled_rate(module):
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = module.SGD([weight], lr=0.5)
    scheduler = linear(4).on(optimizer)
    for _ in range(4):
        weight.grad = torch.ones(1, dtype=torch.float64)
        optimizer.step()
        scheduler.step()
    assert weight.item() == -0.5 * (1 + 0.75 + 0.5 + 0.25)


def test_momentum_betas_weight_decay_and_any_number_at_once():
    optimizer = optim.AdamW([{"params": [param()]}, {"params": [param()], "betas": (0.8, 0.99)}], lr=0.1)
    optimizer._opt_called = True
    for group in optimizer.param_groups:
        group["mine"] = 3
    schedulers = [
        CURVE.on(optimizer),
        linear(10, end=0.5).on(optimizer, "betas[0]"),
        constant(0.9).on(optimizer, "beta2"),
        linear(10).on(optimizer, "weight_decay"),
        step(2, 0.5).on(optimizer, "mine"),
    ]
    for _ in range(5):
        for scheduler in schedulers:
            scheduler.step()
    assert of(optimizer) == [CURVE(5, 0.1)] * 2
    assert of(optimizer, "betas") == [(0.9 * 0.75, 0.999 * 0.9), (0.8 * 0.75, 0.99 * 0.9)]
    assert of(optimizer, "weight_decay") == [0.005] * 2
    assert of(optimizer, "mine") == [0.75] * 2
    assert of(optimizer, "initial_lr") == [0.1] * 2
    assert of(optimizer, "initial_betas[0]") == [0.9, 0.8]


def test_one_cycle_of_rate_and_momentum():
    optimizer = sgd(0.1, momentum=0.9)
    rate, momentum = one_cycle(10), one_cycle(10, start=1, peak=0.5, end=1)
    both = rate.on(optimizer), momentum.on(optimizer, "momentum")
    for t in range(12):
        assert of(optimizer) == [rate(t, 0.1)]
        assert of(optimizer, "momentum") == [momentum(t, 0.9)]
        for scheduler in both:
            scheduler.step()


def test_a_schedule_of_another_option_leaves_no_trace_of_the_rate():
    optimizer = sgd(0.1, momentum=0.9)
    scheduler = linear(10).on(optimizer, "momentum")
    assert "initial_lr" not in optimizer.param_groups[0]
    optimizer.param_groups[0]["lr"] = 0.7
    scheduler.step()
    assert scheduler.get_last_lr() == scheduler.get_lr() == of(optimizer) == [0.7]
    assert CURVE.on(optimizer).base_lrs == [0.7]


def test_groups_may_have_schedules_of_their_own():
    optimizer = sgd(0.1, 0.2, 0.4)
    first = linear(10).on(optimizer, groups=0)
    assert ["initial_lr" in group for group in optimizer.param_groups] == [True, False, False]
    others = constant(0.5).on(optimizer, groups=[1, 2])
    first.step()
    others.step()
    assert of(optimizer) == [linear(10)(1, 0.1), 0.1, 0.2]
    assert others.get_last_lr() == of(optimizer)
    optimizer.add_param_group({"params": [param()], "lr": 7.0})
    others.step()
    assert of(optimizer)[3] == 7.0


def test_a_late_group_starts_from_its_own_value_at_the_present_step():
    optimizer = sgd(0.1, momentum=0.9)
    schedulers = linear(10).on(optimizer), linear(10).on(optimizer, "momentum")
    optimizer.add_param_group({"params": [param()], "lr": 0.4})
    for scheduler in schedulers:
        scheduler.step()
    assert of(optimizer) == [linear(10)(1, 0.1), linear(10)(1, 0.4)]
    assert of(optimizer, "momentum") == [linear(10)(1, 0.9)] * 2
    assert schedulers[0].base_lrs == [0.1, 0.4]


@pytest.mark.parametrize("share", [0.1, 1.0, 3.0])
@pytest.mark.parametrize(
    "curve",
    [CURVE, cyclic(3), one_cycle(20), exponential(0.9), step(2), linear(9, end=0.5) * cosine(20), 2 * linear(30)],
)
def test_a_late_group_keeps_its_proportion(curve, share):
    optimizer = sgd(0.3, 0.1)
    scheduler = curve.on(optimizer)
    for _ in range(4):
        scheduler.step()
    optimizer.add_param_group({"params": [param()], "lr": share * of(optimizer)[1]})
    for _ in range(10):
        scheduler.step()
        assert of(optimizer)[2] == pytest.approx(share * of(optimizer)[1], rel=1e-12)
    assert of(optimizer)[:2] == [curve(14, 0.3), curve(14, 0.1)]
    assert of(optimizer, "initial_lr")[2] == scheduler.base_values[2] == pytest.approx(share * 0.1)


@pytest.mark.parametrize("seek", [False, True])
def test_a_late_group_keeps_its_proportion_above_a_least_rate_and_after_a_jump(seek):
    optimizer = sgd(0.1)
    scheduler = linear(10).above(0.02).on(optimizer)
    scheduler.seek(5)  # at 0.06
    optimizer.add_param_group({"params": [param()], "lr": 0.03})
    if seek:
        scheduler.seek(6)
    else:
        scheduler.step()
    assert of(optimizer) == pytest.approx([0.052, 0.028])
    assert scheduler.base_values == pytest.approx([0.1, 0.04])


def test_a_late_group_whose_rate_the_schedule_never_gives_starts_from_it():
    for curve, rate, expected in [
        (warmup(10), 0.2, warmup(10)(1, 0.2)),  # at 0, whatever the base
        (constant(0.5).rebase(1), 0.2, 0.5),
        (linear(10).above(0.05), 0.01, linear(10).above(0.05)(1, 0.01)),  # below the least
        (linear(10).clamp(high=0.05), 0.2, 0.05),
    ]:
        optimizer = sgd(0.1)
        scheduler = curve.on(optimizer)
        optimizer.add_param_group({"params": [param()], "lr": rate})
        scheduler.step()
        assert of(optimizer)[1] == pytest.approx(expected), curve
        assert scheduler.base_values[1] == rate


def test_a_late_group_may_say_its_base():
    optimizer = sgd(0.1)
    scheduler = CURVE.on(optimizer)
    scheduler.seek(12)
    optimizer.add_param_group({"params": [param()], "lr": 7.0, "initial_lr": 0.4})
    scheduler.step()
    assert of(optimizer) == [CURVE(13, 0.1), CURVE(13, 0.4)]


def test_a_late_group_of_another_option_has_its_value_for_the_base():
    """A momentum is seldom given to it in proportion: it is the optimizer's default."""
    optimizer = sgd(0.1, momentum=0.9)
    scheduler = linear(10).on(optimizer, "momentum")
    scheduler.seek(5)
    optimizer.add_param_group({"params": [param()]})
    scheduler.step()
    assert of(optimizer, "momentum") == [linear(10)(6, 0.9)] * 2


def test_tensors_are_filled_in_place():
    rate = torch.tensor(0.5)
    beta, other = torch.tensor(0.75), torch.tensor(0.5)
    optimizer = torch.optim.Adam([param()], lr=rate, betas=(beta, other))
    optimizer._opt_called = True
    schedulers = linear(10).on(optimizer), linear(10).on(optimizer, "beta1")
    group = optimizer.param_groups[0]
    for scheduler in schedulers:
        for _ in range(5):
            scheduler.step()
    assert group["lr"] is rate
    assert group["betas"][0] is beta
    assert (rate.item(), beta.item()) == (0.25, 0.375)
    last = schedulers[0].get_last_lr()[0]
    last.fill_(7.0)
    assert rate.item() == 0.25
    assert group["initial_lr"].item() == 0.5
    state = schedulers[0].state_dict()
    assert state["base_values"] == [0.5]
    assert type(state["base_values"][0]) is float


def test_integers_in_tensors_are_not_filled_with_fractions():
    optimizer = sgd(0.1)
    optimizer.param_groups[0]["lr"] = torch.tensor(1)
    scheduler = linear(10).on(optimizer)
    scheduler.step()
    assert of(optimizer) == [0.9]
    assert of(optimizer, "initial_lr") == [1.0]


def test_a_metric_is_taken_for_a_step_with_torchs_warning():
    warned = (
        r"The epoch parameter in `scheduler.step\(\)` .* Call seek\(step\) to go to a step; only the scheduler of a"
    )
    scheduler = CURVE.on(sgd())
    for loss, at in ((torch.tensor(2.5), 2.5), (3.0, 3), (4, 4)):
        with pytest.warns(UserWarning, match=warned) as caught:
            scheduler.step(loss)
        assert caught[0].filename == __file__
        assert (repr(scheduler.last_epoch), scheduler.get_last_lr()) == (repr(at), [CURVE(at, 0.1)])
    follows = warmup(2).then(plateau()).on(sgd())
    with pytest.warns(UserWarning, match=warned):
        follows.step(1.0, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler.step()
        scheduler.seek(2)
        follows.step(1.0)


def test_going_to_a_step_is_as_many_steps():
    for target in (0, 1, 7, 1000):
        stepped, sought, told = sgd(0.1, 0.3), sgd(0.1, 0.3), sgd(0.1, 0.3)
        one, two, three = CURVE.on(stepped), CURVE.on(sought), CURVE.on(told)
        for _ in range(target):
            one.step()
        two.seek(target)
        with pytest.warns(UserWarning, match="epoch parameter"):
            three.step(target)
        assert of(stepped) == of(sought) == of(told)
        assert one.state_dict() == two.state_dict()
        one.step()
        two.step()
        assert of(stepped) == of(sought)


def test_another_base():
    optimizer = sgd(0.1, 0.3)
    scheduler = CURVE.on(optimizer)
    scheduler.seek(7)
    scheduler.rebase(0.5)
    assert of(optimizer) == [CURVE(7, 0.5)] * 2
    scheduler.rebase([0.5, 0.25])
    assert of(optimizer) == [CURVE(7, 0.5), CURVE(7, 0.25)]
    assert of(optimizer, "initial_lr") == [0.5, 0.25]
    for bad in (float("nan"), [0.1], [0.1, float("inf")]):
        with pytest.raises(ValueError, match="expected a finite number, or one for each of 2 groups"):
            scheduler.rebase(bad)


@each_optimizer
@pytest.mark.parametrize("at", [0, 1, 4, 5, 30])
def test_a_run_goes_on_from_its_state(module, at):
    optimizer = sgd(0.1, 0.3, module=module, momentum=0.9)
    schedulers = [CURVE.on(optimizer), cyclic(3).on(optimizer, "momentum")]
    for _ in range(at):
        for scheduler in schedulers:
            scheduler.step()
    file = io.BytesIO()
    torch.save([optimizer.state_dict(), *(scheduler.state_dict() for scheduler in schedulers)], file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)

    resumed = sgd(7.0, 8.0, module=module, momentum=0.1)
    again = [CURVE.on(resumed), cyclic(3).on(resumed, "momentum")]
    for scheduler, state in zip(again, saved[1:], strict=True):
        scheduler.load_state_dict(state)
    assert of(resumed) == of(optimizer)  # before the optimizer's state as well as after
    resumed.load_state_dict(saved[0])
    for _ in range(10):
        assert of(resumed) == of(optimizer)
        assert of(resumed, "momentum") == of(optimizer, "momentum")
        for scheduler in [*schedulers, *again]:
            scheduler.step()


def test_a_state_that_does_not_fit_changes_nothing():
    optimizer = sgd(0.1, momentum=0.9)
    scheduler = linear(10).on(optimizer)
    scheduler.step()
    before = of(optimizer)
    good = scheduler.state_dict()
    with pytest.raises(ValueError, match="the state is of a schedule for 'momentum', expected 'lr'"):
        scheduler.load_state_dict(linear(10).on(optimizer, "momentum").state_dict())
    with pytest.raises(ValueError, match="the state is of 2 groups, expected at most 1"):
        scheduler.load_state_dict({**good, "base_values": [0.1, 0.2]})
    with pytest.raises(KeyError, match="last_epoch"):
        scheduler.load_state_dict({name: value for name, value in good.items() if name != "last_epoch"})
    assert scheduler.state_dict() == good
    assert of(optimizer) == before


def test_last_epoch_resumes_from_the_initial_values():
    optimizer = sgd(0.1)
    with pytest.raises(KeyError, match="initial_lr"):
        CURVE.on(optimizer, last_epoch=3)
    assert of(optimizer) == [0.1]
    optimizer.param_groups[0]["initial_lr"] = 0.4
    scheduler = CURVE.on(optimizer, last_epoch=3)
    assert scheduler.last_epoch == 4
    assert of(optimizer) == [CURVE(4, 0.4)]
    optimizer = sgd(0.1, 0.2, momentum=0.9)
    optimizer.param_groups[1]["initial_momentum"] = 0.5
    CURVE.on(optimizer, "momentum", groups=1, last_epoch=3)  # needs no initial value of what is not its own
    assert of(optimizer, "momentum") == [0.9, CURVE(4, 0.5)]
    assert not any("initial_lr" in group for group in optimizer.param_groups)
    with pytest.raises(KeyError, match="initial_dampening"):
        CURVE.on(optimizer, "dampening", last_epoch=3)


def test_what_a_user_writes_lasts_until_the_next_step():
    optimizer = sgd(0.1)
    scheduler = CURVE.on(optimizer)
    optimizer.param_groups[0]["lr"] = 5.0
    assert scheduler.get_last_lr() == [5.0]
    scheduler.step()
    assert of(optimizer) == [CURVE(1, 0.1)]


def test_pickles_and_copies_with_its_optimizer():
    optimizer = sgd(0.1)
    scheduler = CURVE.on(optimizer)
    scheduler.seek(3)
    for again in (pickle.loads(pickle.dumps(scheduler)), copy.deepcopy(scheduler)):
        again.step()
        assert of(again.optimizer) == [CURVE(4, 0.1)]
    assert of(optimizer) == [CURVE(3, 0.1)]


def test_a_step_before_the_optimizers_warns_once():
    optimizer = torch.optim.SGD([param()], lr=0.1)
    scheduler = CURVE.on(optimizer)
    with pytest.warns(UserWarning, match=r"call optimizer.step\(\) first"):
        scheduler.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler.step()


@pytest.mark.parametrize(
    ("param_name", "error", "message"),
    [
        ("momentun", KeyError, r"param_groups\[0\] has no option 'momentun', expected one of \['lr', 'momentum'"),
        ("foreach", TypeError, r"param_groups\[0\]: foreach is None, expected a number"),
        ("nesterov", TypeError, r"param_groups\[0\]: nesterov is False, expected a number"),
        ("lr[0]", KeyError, r"param_groups\[0\] has no lr\[0\]: lr is 0.1"),
        ("beta1", KeyError, r"param_groups\[0\] has no option 'betas'"),
        (3, TypeError, "param is 3, expected the name of an option"),
    ],
)
def test_options_that_cannot_be_scheduled(param_name, error, message):
    optimizer = sgd(0.1)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(error, match=message):
        CURVE.on(optimizer, param_name)
    assert optimizer.state_dict() == before


@pytest.mark.parametrize("groups", [[], 2, -1, [0, 2], ["first"]])
def test_groups_that_there_are_not(groups):
    with pytest.raises(ValueError, match="expected None or indices from 0 to 1"):
        CURVE.on(sgd(0.1, 0.2), groups=groups)


def test_only_optimizers():
    with pytest.raises(TypeError, match="int is not an Optimizer"):
        CURVE.on(3)


@pytest.mark.parametrize("epoch", [-1, float("nan"), float("inf")])
def test_steps_out_of_range(epoch):
    scheduler = CURVE.on(sgd())
    with pytest.raises(ValueError, match="expected a finite number >= 0"):
        scheduler.step(epoch)
    with pytest.raises(ValueError, match="expected a finite number >= 0"):
        scheduler.seek(epoch)
    assert scheduler.last_epoch == 0


def test_reprs():
    optimizer = sgd(0.1, 0.3, momentum=0.9)
    assert repr(linear(10).on(optimizer)) == (
        "Scheduler(linear(steps=10, start=1, end=0), param='lr', last_epoch=0, base_values=[0.1, 0.3])"
    )
    scheduler = plateau().on(optimizer, "momentum", groups=1)
    scheduler.step(1.0)
    assert repr(scheduler) == (
        f"PlateauScheduler({plateau()!r}, param='momentum', groups=[1], last_epoch=1, base_values=[None, 0.9])"
    )


def test_what_schedulers_are_made_of():
    optimizer = sgd()
    assert Scheduler(optimizer, linear(10)).get_last_lr() == [0.1]  # as torch's, and so as trainers make them
    with pytest.raises(TypeError, match="Schedule is not an Optimizer"):
        Scheduler(linear(10), optimizer)
    for cls in (Scheduler, PlateauScheduler):
        with pytest.raises(TypeError, match="schedule is of type float, expected a schedule"):
            cls(optimizer, 0.1)
    with pytest.raises(ValueError, match=r"schedule is plateau\(.*\), which follows a metric: expected a PlateauSched"):
        Scheduler(optimizer, plateau())
    with pytest.raises(ValueError, match="contains no plateau, expected one"):
        PlateauScheduler(optimizer, linear(10))


def test_a_turn_in_torchs_sequence_sets_any_option():
    optimizer = sgd(0.1, momentum=0.8)
    turns = [constant(0.5).on(optimizer, "momentum"), linear(10).on(optimizer, "momentum")]
    optimizer.param_groups[0]["initial_lr"] = 0.1  # which torch's sequences read
    sequence = SequentialLR(optimizer, turns, milestones=[2])
    momenta = []
    for _ in range(5):
        momenta += of(optimizer, "momentum")
        sequence.step()
    assert momenta == [0.4, 0.4, *(linear(10)(t, 0.8) for t in range(3))]
    assert of(optimizer) == [0.1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's imports
@each_optimizer
@pytest.mark.parametrize("through", cases.NO_METHODS.values(), ids=cases.NO_METHODS)
def test_a_step_that_is_no_method(module, through):
    optimizer = module.SGD([param()], lr=0.5)
    (weight,) = optimizer.param_groups[0]["params"]
    optimizer.step = through(optimizer.step)
    scheduler = linear(10).on(optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        weight.grad = torch.ones(2)
        optimizer.step()
        scheduler.step()  # does not warn of a step that was left out
    assert weight.tolist() == [0.5, 0.5]
    assert of(optimizer) == [0.45]
    optimizer = module.SGD([param()], lr=0.5)
    optimizer.step = through(optimizer.step)
    with pytest.warns(UserWarning, match=r"call optimizer.step\(\) first"):
        linear(10).on(optimizer).step()


def test_inside_torchs_own_compositions():
    optimizer = sgd(0.1)
    sequence = SequentialLR(optimizer, [constant(0.5).on(optimizer), linear(10).on(optimizer)], milestones=[3])
    rates = []
    for _ in range(6):
        rates += of(optimizer)
        sequence.step()
    assert rates == [0.05] * 3 + [linear(10)(t, 0.1) for t in range(3)]
    optimizer = sgd(0.1, momentum=0.9)
    chain = ChainedScheduler([linear(10).on(optimizer), linear(10).on(optimizer, "momentum")], optimizer)
    chain.step()
    assert (of(optimizer), of(optimizer, "momentum")) == ([linear(10)(1, 0.1)], [linear(10)(1, 0.9)])


def test_user_subclasses():
    class Mine(Scheduler):
        pass

    optimizer = sgd(0.1)
    assert Mine(optimizer, exponential(0.5)).get_last_lr() == [0.1]


def test_nothing_keeps_the_optimizer_alive():
    optimizer = sgd(0.1)
    CURVE.on(optimizer).step()
    gone = weakref.ref(optimizer)
    del optimizer
    import gc

    gc.collect()
    assert gone() is None


def test_ten_thousand_steps_are_the_array():
    optimizer = sgd(0.1)
    scheduler = cyclic(17, shape="sine").on(optimizer)
    rates = []
    for _ in range(10_000):
        rates += of(optimizer)
        scheduler.step()
    assert np.array(rates).tobytes() == cyclic(17, shape="sine").values(0, 10_000, base=0.1).tobytes()
