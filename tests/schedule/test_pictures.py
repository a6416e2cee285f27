"""Pictures of schedules and schedulers, and that drawing one changes nothing."""

import copy
import math
import sys

import matplotlib
import pytest
import torch
from torch.optim import lr_scheduler

from torchpace.schedule import constant, cosine, exponential, function, linear, plateau, plot, preview, warmup

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def _close():
    yield
    matplotlib.pyplot.close("all")


def sgd(lr=0.1):
    optimizer = torch.optim.SGD(
        [{"params": [torch.nn.Parameter(torch.ones(2))]}, {"params": [torch.nn.Parameter(torch.ones(3))], "lr": 0.7}],
        lr=lr,
        momentum=0.9,
    )
    for group in optimizer.param_groups:
        for param in group["params"]:
            param.grad = torch.ones_like(param)
    optimizer.step()
    optimizer._opt_called = True  # as if it had stepped, which schedulers look for
    return optimizer


def drawn(axes):
    (line,) = axes.get_lines()
    return list(line.get_xdata()), list(line.get_ydata())


TORCHS = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, [lambda t: 0.9**t, lambda t: 1.0]),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda t: 0.9),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 3, 0.5),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [3, 7, 7]),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 10),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 10),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 3, mode="triangular2"),
    "CyclicLR of a function": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 3, scale_fn=lambda x: 0.5**x),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.3, 30),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3, 2),
    "SWALR": lambda o: torch.optim.swa_utils.SWALR(o, 0.05, 5),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.1, 4), lr_scheduler.CosineAnnealingLR(o, 9)], [4]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.LinearLR(o), lr_scheduler.ExponentialLR(o, 0.9)], o
    ),
    "ours": lambda o: warmup(4).then(cosine(10)).on(o),
}


def frozen(scheduler):
    """All that a scheduler and its optimizer hold, for comparison."""

    def of(one):
        entries = {name: value for name, value in vars(one).items() if name != "optimizer"}
        nested = [of(inner) for inner in entries.pop("_schedulers", [])]
        return copy.deepcopy({name: value for name, value in entries.items() if not callable(value)}), nested

    optimizer = scheduler.optimizer
    params = [param for group in optimizer.param_groups for param in group["params"]]
    tensors = [(param.tolist(), param.grad.tolist(), param._version) for param in params]
    return of(scheduler), copy.deepcopy(optimizer.state_dict()), tensors, sorted(vars(optimizer))


@pytest.mark.parametrize("name", TORCHS)
@pytest.mark.parametrize("before", [0, 5])
def test_a_scheduler_in_use_is_drawn_as_it_will_go_and_left_as_it_is(name, before):
    optimizer = sgd()
    scheduler = TORCHS[name](optimizer)
    for _ in range(before):
        scheduler.step()
    was = frozen(scheduler)
    x, y = drawn(plot(scheduler, 20, group=1))
    preview(scheduler, 20, param="momentum")
    assert str(frozen(scheduler)) == str(was)
    first = getattr(scheduler, "last_epoch", 0)  # torch's ChainedScheduler does not count
    assert x == list(range(first, first + 20))
    rates = []
    for _ in range(20):
        rates.append(optimizer.param_groups[1]["lr"])
        scheduler.step()
    assert y == rates


def test_the_comparison_can_fail():
    scheduler = TORCHS["SequentialLR"](sgd())
    was = frozen(scheduler)
    scheduler._schedulers[1].last_epoch += 1
    assert str(frozen(scheduler)) != str(was)


def test_no_warning_of_an_optimizer_that_has_not_stepped():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    scheduler = lr_scheduler.StepLR(optimizer, 3)
    assert len(drawn(plot(scheduler, 9))[0]) == 9
    with pytest.warns(UserWarning, match="before `optimizer.step"):
        scheduler.step()


def test_one_cycle_is_drawn_up_to_its_end():
    scheduler = lr_scheduler.OneCycleLR(sgd(), 0.3, 30)
    steps = len(drawn(plot(scheduler))[0])
    for _ in range(1, steps):
        scheduler.step()
    with pytest.raises(ValueError, match="Tried to step"):
        scheduler.step()


def test_a_tensor_rate_is_not_touched():
    rate = torch.tensor(0.5)
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(1))], lr=rate)
    optimizer.step()
    scheduler = lr_scheduler.ExponentialLR(optimizer, 0.5)
    version = rate._version
    assert drawn(plot(scheduler, 3))[1] == [0.5, 0.25, 0.125]
    assert (rate.item(), rate._version) == (0.5, version)


def test_a_metric_has_no_curve():
    with pytest.raises(ValueError, match="ReduceLROnPlateau follows a metric, so it has no curve to draw"):
        plot(lr_scheduler.ReduceLROnPlateau(sgd()), 5)
    ours = warmup(2, start=0.5).then(plateau(0.5, patience=0)).on(sgd())
    for one in (None, None, 1.0, 2.0):
        ours.step(one)
    assert drawn(plot(ours, 3))[1] == [0.05] * 3


def test_schedules_are_drawn():
    x, y = drawn(linear(4).plot(base=2, color="red"))
    assert (x, y) == ([0, 1, 2, 3, 4], [2, 1.5, 1, 0.5, 0])
    axes = exponential(0.9).plot(steps=7)
    assert axes.get_xlabel() == "step"
    assert linear(4).plot(ax=axes) is axes
    assert [len(line.get_xdata()) for line in axes.get_lines()] == [7, 5]
    assert len(drawn(exponential(0.9).plot())[0]) == 1000


BILLION = 10**9


def test_a_schedule_in_tokens_is_sampled():
    s = warmup(BILLION // 10).then(cosine(9 * BILLION // 10))
    assert s.preview(width=20) == "▁▅████▇▇▆▆▅▄▃▃▂▂▁▁▁▁ 0 to 1 in 1000000001 steps"
    x, y = drawn(s.plot())
    assert (len(x), x[0], x[-1]) == (10_000, 0, BILLION)
    assert all(step == int(step) for step in x)
    assert y == s(x).tolist()
    seen = []
    function(lambda t: seen.append(t) or 1.0).preview(BILLION)
    assert (len(seen), seen[0], seen[-1]) == (10_000, 0, BILLION - 1)
    x, y = drawn(plot(s.on(sgd()), BILLION, group=1))
    assert (len(x), x[-1], y) == (10_000, BILLION - 1, s(x, 0.7).tolist())
    assert preview(s.on(sgd()), BILLION + 1, width=20) == "▁▅████▇▇▆▆▅▄▃▃▂▂▁▁▁▁ 0 to 0.1 in 1000000001 steps"


def test_up_to_ten_thousand_steps_none_is_left_out():
    spike = function(lambda t: float(t == 7_777))
    assert spike.preview(10_000).endswith(" 0 to 1 in 10000 steps")
    assert drawn(spike.plot(10_000))[0] == list(range(10_000))
    assert preview(lr_scheduler.MultiStepLR(sgd(), [7_777]), 10_000).endswith(" 0.01 to 0.1 in 10000 steps")
    x, y = drawn(plot(lr_scheduler.StepLR(sgd(), 15_000), 20_001))
    assert (len(x), x[-1], y[0], y[-1]) == (10_000, 20_000, 0.1, 0.1 * 0.1)


def test_a_line_of_text():
    assert linear(7).preview() == "█▇▆▅▄▃▂▁ 0 to 1 in 8 steps"
    assert linear(7, start=0, end=1).preview(base=0.5) == "▁▂▃▄▅▆▇█ 0 to 0.5 in 8 steps"
    assert function(lambda t: [0, 1, math.nan, math.inf][t]).preview(4) == "▁█?? 0 to 1 in 4 steps"
    assert function(lambda t: math.nan).preview(2) == "?? nan to nan in 2 steps"
    assert constant().preview(5) == "▁▁▁▁▁ 1 to 1 in 5 steps"
    assert preview(cosine(1000), width=1).startswith("█ ")
    assert len(cosine(1000).preview().split()[0]) == 60
    assert preview(lr_scheduler.StepLR(sgd(), 2, 0.5), 4) == "██▁▁ 0.05 to 0.1 in 4 steps"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: linear(5).preview(0), ValueError, "steps is 0, expected a whole number >= 1"),
        (lambda: linear(5).plot(-1), ValueError, "steps is -1, expected a whole number >= 1"),
        (lambda: linear(5).preview(width=0), ValueError, "width is 0, expected a whole number >= 1"),
        (lambda: preview(3), TypeError, "int is neither a schedule nor a scheduler"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"plot needs matplotlib: pip install 'torchpace\[plot\]'"):
        linear(5).plot()


def test_without_numpy(monkeypatch):
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(ImportError, match="values need NumPy: pip install numpy"):
        linear(5).values(0, 5)
    assert linear(5)(1) == 0.8
