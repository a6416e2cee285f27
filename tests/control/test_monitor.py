"""The monitor's verdicts on runs whose state is known, and its bookkeeping."""

import doctest
import inspect
import io
import math
from collections import Counter

import pytest
import torch

from torchpace import optim
from torchpace.control import Monitor, Verdict, _monitor
from torchpace.control._sketch import Sketch
from torchpace.gallery import labelled

PER_KIND = 3
TWICE = torch.ones(3)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("label", labelled.LABELS)
def test_the_confusion_table_of_runs_held_out(label):
    """Other seeds than the gallery's, and than those the thresholds were chosen on."""
    seeds = range(labelled.FIRST_HELD_OUT_SEED + 5000, labelled.FIRST_HELD_OUT_SEED + 5000 + PER_KIND)
    said = Counter(str(monitor.verdict) for _, _, monitor in labelled.runs({label: labelled.HELD_OUT[label]}, seeds))
    assert said[label] >= 0.9 * said.total(), said


def quadratic_run(monitor, weight, lr, steps, curvature=1.0):
    optimizer = optim.SGD([weight], lr=lr)
    for _ in range(steps):
        loss = 0.5 * (curvature * weight.detach().square()).sum()
        weight.grad = curvature * weight.detach()
        monitor.observe(loss)
        optimizer.step()


def test_one_run_from_progress_to_a_critical_point_and_through_oscillation():
    weight = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    monitor = Monitor([weight], window=20)
    said = []
    for lr, steps in ((0.05, 20), (1.99, 20), (0.3, 100)):
        quadratic_run(monitor, weight, lr, steps)
        said.append(monitor.verdict)
        assert monitor.explain().startswith(f"{monitor.verdict}: ")
    assert said == ["progress", "oscillation", "critical point"]


def test_advice_of_every_verdict():
    for verdict, word in (
        ("progress", "go on"),
        ("oscillation", "lower the rate"),
        ("critical point", "done, or at a saddle"),
        ("noise floor", "average the weights, or lower the rate"),
    ):
        kind = labelled.TUNING[verdict][0]
        generator = torch.Generator().manual_seed(0)
        monitor = labelled.judge(kind(generator), generator)
        assert monitor.explain().startswith(f"{verdict}: ")
        assert monitor.explain().endswith(f"{word}.")


def test_unknown_until_the_window_is_full():
    weight = torch.nn.Parameter(torch.ones(3))
    monitor = Monitor([weight], window=16)
    quadratic_run(monitor, weight, 0.1, 15)
    assert monitor.verdict is Verdict.UNKNOWN
    assert monitor.signs is None
    assert monitor.explain() == "unknown: 15 of 16 steps seen."
    quadratic_run(monitor, weight, 0.1, 1)
    assert monitor.verdict == "progress"
    monitor.reset()
    assert monitor.verdict == "unknown"


@pytest.mark.parametrize("bad", ["loss", "gradient"])
def test_what_is_not_finite_is_diverged(bad):
    weight = torch.nn.Parameter(torch.ones(3))
    monitor = Monitor([weight], window=16)
    quadratic_run(monitor, weight, 0.1, 15)
    weight.grad = torch.full((3,), math.inf if bad == "gradient" else 1.0)
    monitor.observe(math.nan if bad == "loss" else 1.0)
    assert monitor.verdict == "diverged"
    assert "go back to a checkpoint" in monitor.explain()


@pytest.mark.parametrize("bad", [math.inf, math.nan, 1e30])
def test_after_a_step_that_was_skipped_it_judges_as_before(bad):
    """As under a GradScaler, whose first steps overflow."""
    weight = torch.nn.Parameter(torch.ones(3))
    monitor = Monitor([weight], window=16)
    weight.grad = torch.full((3,), bad)
    monitor.observe(1.0)
    quadratic_run(monitor, weight, 0.02, 32)
    assert monitor.verdict == "progress"


@pytest.mark.parametrize("huge", [1e154, 1e308])
def test_huge_losses_are_no_error(huge):
    weight = torch.nn.Parameter(torch.ones(3))
    monitor = Monitor([weight], window=16)
    weight.grad = torch.ones(3)
    for step in range(16):
        monitor.observe(-huge if step % 2 else huge)
    assert isinstance(monitor.explain(), str)


def test_the_signs_of_a_run_worked_out_by_hand():
    """At rate 1.9 and curvature 1, x is multiplied by -0.9 each step."""
    weight = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    monitor = Monitor([weight], window=16)
    quadratic_run(monitor, weight, 1.9, 16)
    gradients = 2 * (-0.9) ** torch.arange(16, dtype=torch.float64)
    signs = monitor.signs
    assert signs.correlation == pytest.approx(-1)
    assert signs.shrinkage == pytest.approx(0.9 ** (16 / 16))
    assert signs.norm == pytest.approx(float(gradients.square().mean().sqrt()))
    means = gradients.reshape(2, 8).mean(1)
    assert signs.persistent == pytest.approx(float(means[0] * means[1] / gradients.square().mean()))
    first = float(gradients[:8].square().mean().sqrt())
    assert signs.relative_norm == pytest.approx(signs.norm / first)
    losses = 0.5 * gradients.square()
    steps = torch.arange(16, dtype=torch.float64) - 7.5
    assert signs.fall == pytest.approx(-15 * float(steps @ losses / steps.square().sum()))


def test_in_noise_at_rest_successive_gradients_correlate_by_minus_half_the_rate():
    """What the docstring says of the oscillation's threshold."""
    for rate in (0.2, 1.0, 1.6):
        generator = torch.Generator().manual_seed(1)
        weight = torch.nn.Parameter(torch.zeros(400, dtype=torch.float64))
        optimizer, monitor = optim.SGD([weight], lr=rate), Monitor([weight], window=200)
        for _ in range(300):
            weight.grad = weight.detach() + torch.randn(400, dtype=torch.float64, generator=generator)
            monitor.observe(0.5 * weight.detach().square().sum())
            optimizer.step()
        assert monitor.signs.correlation == pytest.approx(-rate / 2, abs=0.03)


def test_a_longer_window_sees_smaller_progress():
    """Gradients with a mean that makes a tenth of their mean square, and a loss that tells nothing."""
    for window, expected in ((50, "noise floor"), (200, "progress")):
        generator = torch.Generator().manual_seed(0)
        weight = torch.nn.Parameter(torch.zeros(50))
        monitor = Monitor([weight], window=window)
        for _ in range(window):
            weight.grad = 0.1**0.5 + 0.9**0.5 * torch.randn(50, generator=generator)
            monitor.observe(1.0)
        assert monitor.verdict == expected
        assert monitor.signs.persistent == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64])
def test_a_sketch_keeps_inner_products_on_average(dtype):
    """Exact for small tensors; for large ones unbiased, over seeds, within 1 / sqrt(width)."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(5,), (), (0, 3), (33, 129)]
    params = [torch.zeros(shape, dtype=dtype, requires_grad=True) for shape in shapes]

    def fill():
        for param in params:
            param.grad = torch.randn(param.shape, generator=generator, dtype=torch.float32).to(dtype)
        params[3].grad = params[3].grad.t().contiguous().t()  # any layout
        real = [torch.view_as_real(p.grad) if p.is_complex() else p.grad for p in params]
        return torch.cat([grad.reshape(-1).double() for grad in real])

    ratios, errors = [], []
    for seed in range(60):
        sketch = Sketch(params, 64, seed)
        full, first = fill(), sketch()
        other, second = fill(), sketch()
        ratios.append(float(first.double() @ first.double() / (full @ full)))
        errors.append(float((first.double() @ second.double() - full @ other) / (full.norm() * other.norm())))
    for values, middle in ((ratios, 1.0), (errors, 0.0)):
        values = torch.tensor(values)
        assert float(values.mean()) == pytest.approx(middle, abs=4 * float(values.std()) / math.sqrt(60) + 2e-3)
        assert float(values.std()) < 3 / math.sqrt(64)


def test_small_gradients_are_kept_as_they_are():
    params = [
        torch.zeros(3, 4, requires_grad=True),
        torch.zeros(7, requires_grad=True),
        torch.zeros(2, requires_grad=True),
    ]
    params[0].grad = torch.arange(12.0).reshape(3, 4).t().contiguous().t()
    params[2].grad = torch.tensor([5.0, 6.0]).double().float()
    expected = [*map(float, range(12)), *[0.0] * 7, 5.0, 6.0]
    assert Sketch(params, 16, 0)().tolist() == expected


def test_a_sketch_of_layers_whose_rows_sum_to_0():
    """As a classifier's last layer: without signs the sums along the rows would hide it."""
    weight = torch.zeros(10, 64, requires_grad=True)
    row = torch.randn(64, generator=torch.Generator().manual_seed(0))
    weight.grad = torch.cat([row.repeat(5, 1), -row.repeat(5, 1)])
    values = torch.tensor([float(Sketch([weight], 64, seed)().square().sum()) for seed in range(200)])
    assert float(values.mean()) == pytest.approx(float(weight.grad.square().sum()), rel=0.3)


def test_the_monitor_sees_a_large_network_as_a_small_one():
    """Through a sketch of 64 numbers, of 10,000: the verdicts are those of the whole gradients."""
    for lr, expected in ((0.1, "progress"), (1.99, "oscillation")):
        weight = torch.nn.Parameter(torch.randn(10_000, generator=torch.Generator().manual_seed(0)))
        monitor = Monitor([weight], window=20, width=64)
        quadratic_run(monitor, weight, lr, 20)
        assert monitor.verdict == expected


def test_a_state_dict_goes_on_as_if_nothing_had_been():
    def new():
        weight = torch.nn.Parameter(torch.linspace(-1, 1, 40))
        return weight, Monitor([weight], window=16, width=16)

    whole_weight, whole = new()
    quadratic_run(whole, whole_weight, 1.95, 37)
    weight, monitor = new()
    quadratic_run(monitor, weight, 1.95, 21)
    file = io.BytesIO()
    torch.save(monitor.state_dict(), file)
    file.seek(0)
    again = Monitor([weight], window=16, width=16)
    again.load_state_dict(torch.load(file, weights_only=True))
    assert again.signs == monitor.signs
    quadratic_run(again, weight, 1.95, 16)
    assert again.signs == pytest.approx(whole.signs, rel=1e-6)
    assert monitor.signs != again.signs  # what was loaded is not shared


def test_a_state_dict_of_another_monitor():
    monitor = Monitor([torch.zeros(40)], window=16, width=16)
    with pytest.raises(ValueError, match=r"window, width and seed \[50, 1024, 0\], expected \[16, 16, 0\]"):
        monitor.load_state_dict(Monitor([torch.zeros(40)]).state_dict())
    small = torch.zeros(10, requires_grad=True)
    small.grad = torch.ones(10)
    other = Monitor([small], window=16, width=16)
    other.observe(1.0)
    with pytest.raises(ValueError, match="the state's last has 10 numbers, expected 16: it is of other parameters"):
        monitor.load_state_dict(other.state_dict())
    with pytest.raises(KeyError, match="state_dict has no 'before', found only"):
        monitor.load_state_dict({})
    assert monitor.verdict == "unknown"


def test_a_state_that_does_not_fit_changes_nothing():
    weight = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    monitor = Monitor([weight], window=16, width=16)
    quadratic_run(monitor, weight, 0.1, 21)
    good, signs, shown = monitor.state_dict(), monitor.signs, str(monitor.state_dict())
    for wrong, error, words in (
        (3, TypeError, "state_dict is of type int, expected a dict"),
        ({**good, "count": -1}, ValueError, r"state_dict\['count'\] is -1, expected a whole number >= 0"),
        ({**good, "count": 15}, ValueError, r"state_dict\['losses'\] has 16 entries, expected 15"),
        ({**good, "losses": [1.0]}, ValueError, r"state_dict\['losses'\] has 1 entries, expected 16"),
        ({**good, "squares": good["squares"][1:]}, ValueError, r"state_dict\['squares'\] has 15 entries, expected 16"),
        ({**good, "products": ["1"] * 16}, TypeError, r"state_dict\['products'\]\[0\] is '1', expected a number"),
        ({**good, "squares": [-1.0] * 16}, ValueError, r"state_dict\['squares'\]\[0\] is -1.0, expected a number >= 0"),
        ({**good, "last": None}, TypeError, r"state_dict\['last'\] is of type NoneType, expected a tensor"),
        ({**good, "before": [1.0]}, TypeError, r"state_dict\['before'\] is of type list, expected a tensor"),
        ({**good, "sum": torch.ones(4)}, ValueError, "the state's sum has 4 numbers, expected 3"),
        ({**good, "count": 24}, TypeError, r"state_dict\['sum'\] is of type Tensor, expected None at this count"),
        ({**good, "greatest": -1.0}, ValueError, r"state_dict\['greatest'\] is -1.0, expected a number >= 0"),
        ({**good, "product": None}, TypeError, r"state_dict\['product'\] is None, expected a number"),
        ({**good, "setup": 3}, TypeError, r"state_dict\['setup'\] is of type int, expected a list"),
        ({**good, "setup": [16, 16, 1]}, ValueError, "the state is of window, width and seed"),
    ):
        with pytest.raises(error, match=words):
            monitor.load_state_dict(wrong)
        assert (str(monitor.state_dict()), monitor.signs) == (shown, signs)
    # What is not finite was seen so.
    monitor.load_state_dict({**good, "losses": [math.nan] * 16})
    assert monitor.verdict == "diverged"


@pytest.mark.parametrize(
    ("params", "options", "error", "words"),
    [
        ([], {}, ValueError, "params is empty"),
        ([1.0], {}, TypeError, r"params\[0\] is of type float, expected a tensor"),
        (
            torch.ones(3, 2),
            {},
            TypeError,
            "params is of type Tensor, expected a module, or tensors, named tensors or gr",
        ),
        (torch.nn.Parameter(torch.ones(3)), {}, TypeError, "params is of type Parameter, expected a module"),
        ({"a": torch.ones(3)}, {}, TypeError, "params is of type dict, expected a module"),
        ([{"params": [1.0]}], {}, TypeError, r"params\[0\]\['params'\]\[0\] is of type float, expected a tensor"),
        ([("a", 1.0)], {}, TypeError, r"params\[0\] \(a\) is of type float, expected a tensor"),
        ([torch.ones(3).int()], {}, ValueError, r"params\[0\] is torch.int32, expected a floating-point"),
        ([TWICE, TWICE], {}, ValueError, r"params\[1\] is params\[0\] again, expected each parameter once"),
        (torch.nn.ReLU(), {}, ValueError, "params is empty"),
        ([torch.ones(1)], {"window": 15}, ValueError, "window is 15, expected an even number, at least 16"),
        ([torch.ones(1)], {"window": 17}, ValueError, "window is 17"),
        ([torch.ones(1)], {"grad_tol": -1.0}, ValueError, "grad_tol is -1.0, expected a finite number >= 0"),
        ([torch.ones(1)], {"grad_tol": math.nan}, ValueError, "grad_tol is nan"),
        ([torch.ones(1)], {"width": 8}, ValueError, "width is 8, expected at least 16"),
    ],
)
def test_arguments(params, options, error, words):
    with pytest.raises(error, match=words):
        Monitor(params, **options)


def test_no_gradient_at_all_is_no_critical_point():
    """As after zero_grad: nothing was seen, so nothing can be told."""
    model = torch.nn.Linear(3, 2)
    monitor, optimizer = Monitor(model, window=16), optim.SGD(model.parameters(), lr=0.1)
    for _ in range(16):
        loss = model(torch.ones(4, 3)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        with pytest.raises(RuntimeError, match="no parameter has a gradient: call observe after backward and before"):
            monitor.observe(loss)
    assert monitor.verdict == "unknown"
    # One is enough.
    model.bias.grad = torch.ones(2)
    monitor.observe(1.0)
    assert monitor.state_dict()["count"] == 1


def test_parameters_in_every_form():
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    model(torch.ones(4, 3)).sum().backward()
    halves = [{"params": model[0].parameters()}, {"params": list(model[1].named_parameters()), "lr": 3.0}]
    states = []
    for params in (
        model,
        model.parameters(),
        model.named_parameters(),
        halves,
        optim.SGD(model.parameters(), lr=1.0).param_groups,
    ):
        monitor = Monitor(params)
        monitor.observe(1.0)
        states.append(str(monitor.state_dict()))
        assert "4 parameters" in repr(monitor)
    assert len(set(states)) == 1


def test_it_tells_what_it_has_seen():
    weight = torch.nn.Parameter(torch.ones(3))
    monitor = Monitor([weight], window=16)
    assert repr(monitor) == "Monitor(1 parameters, window=16, seen=0, verdict='unknown')"
    quadratic_run(monitor, weight, 0.1, 20)
    assert repr(monitor) == "Monitor(1 parameters, window=16, seen=20, verdict='progress')"


def test_what_cannot_be_observed():
    weight = torch.nn.Parameter(torch.ones(3))
    monitor = Monitor([weight])
    with pytest.raises(ValueError, match=r"loss has shape \[2\], expected one number"):
        monitor.observe(torch.ones(2))
    weight.grad = torch.sparse_coo_tensor([[0]], [1.0], (3,), check_invariants=True)
    with pytest.raises(TypeError, match="expected a strided one"):
        monitor.observe(1.0)
    assert monitor.state_dict()["count"] == 0


def test_it_changes_nothing_and_keeps_no_graph():
    model = torch.nn.Linear(40, 30)
    monitor = Monitor(model.parameters(), width=16)
    random = torch.get_rng_state()
    loss = model(torch.ones(2, 40)).square().mean()
    loss.backward()
    before = [param.grad.clone() for param in model.parameters()]
    random = torch.get_rng_state()
    monitor.observe(loss)
    assert all(torch.equal(old, param.grad) for old, param in zip(before, model.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), random)
    assert not monitor._seen[0][0].requires_grad
    with torch.no_grad():
        loss.fill_(7.0)
    assert monitor._seen[0][0] != 7.0


def test_the_docstring_runs_and_tells_all_arguments():
    results = doctest.testmod(_monitor)
    assert results.attempted > 0
    assert results.failed == 0
    for argument in inspect.signature(Monitor).parameters:
        assert f"        {argument}: " in Monitor.__doc__.replace("\n", "\n    ")
