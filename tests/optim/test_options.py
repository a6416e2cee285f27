"""Options that torch lacks: the variants of the rules, and what becomes of options in groups and checkpoints."""

import copy
import io
import pickle

import pytest
import torch

import cases
from cases import Case
from torchpace import optim

CLIPPING = {"max_grad_norm": 1.5, "clip_value": 0.25, "nonfinite_norm": "skip"}
OWN = [
    Case("SGD", {"momentum": 0.9, "averaged": True} | CLIPPING),
    Case("RMSprop", {"eps_inside": True} | CLIPPING),
    Case("Adagrad", {"mean": True, "eps_inside": True} | CLIPPING),
    Case("Adam", CLIPPING),
    Case("AdamW", CLIPPING),
]
SHAPES = [(3, 4), (5,), ()]

each_own = pytest.mark.parametrize("case", OWN, ids=lambda case: case.optimizer)


def own(case):
    """Those options of a case that torch lacks."""
    return {name: value for name, value in case.options.items() if name != "momentum"}


def torchs_options(case):
    return {name: value for name, value in case.options.items() if name == "momentum"}


def params(shapes=SHAPES, dtype=torch.float64):
    return [
        torch.nn.Parameter(torch.linspace(1, 2, 12, dtype=dtype)[: torch.Size(shape).numel()].reshape(shape))
        for shape in shapes
    ]


def step(optimizer, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for group in optimizer.param_groups:
        for param in group["params"]:
            param.grad = torch.randn(param.shape, generator=generator, dtype=param.dtype)
    optimizer.step()


def values(optimizer):
    return [param.detach().clone() for group in optimizer.param_groups for param in group["params"]]


def assert_goes_on_as(optimizer, other):
    """Both step alike, fused."""
    for seed in (7, 8):
        step(optimizer, seed)
        step(other, seed)
    assert optimizer.last_path == other.last_path == "fused"
    assert all(torch.equal(left, right) for left, right in zip(values(optimizer), values(other), strict=True))


# The variants.


# Cautious updates are compared with those by torch's operators, in test_cautious.py: without caution as well NumPy's
# numbers may be closer to float64 than torch's and ours.
@pytest.mark.parametrize("size", [1, 0])
@pytest.mark.parametrize("case", [case for case in cases.VARIANTS if not case.options.get("cautious")], ids=str)
def test_a_variant_in_float32_is_as_near_to_the_rule_as_naive_float32(case, size):
    start = [size * value for value in cases.tensors(2, torch.float32)]
    grads = [cases.tensors(100 + number, torch.float32) for number in range(12)]
    expected = cases.train_reference(case, start, grads)
    naive = cases.train_reference(case, start, grads, torch.float32)
    optimizer, moved = cases.train(case.ours, case.options, start, grads)
    assert optimizer.last_path == "fused"
    assert cases.distance(moved, expected) <= 1.1 * cases.distance(naive, expected)


def test_the_mean_of_adagrad_is_its_sum_at_a_rate_that_grows_with_the_root():
    """Of the steps that the parameter itself has made: the second one's first gradient is late."""
    grads = [cases.tensors(number, torch.float64, [(6,), (7,)]) for number in range(6)]
    grads[0][1] = grads[1][1] = grads[4][0] = None
    start = cases.tensors(9, torch.float64, [(6,), (7,)])
    _, means = cases.train(optim.Adagrad, {"mean": True, "eps": 0.0, "lr": 0.1}, start, grads)
    for place, rate in enumerate((0.1, 0.02)):  # the rates of cases.two_groups
        sums = torch.nn.Parameter(start[place].clone())
        optimizer = torch.optim.Adagrad([sums], eps=0.0)
        for t, grad in enumerate(row[place] for row in grads if row[place] is not None):
            sums.grad = grad.clone()
            optimizer.param_groups[0]["lr"] = rate * (t + 1) ** 0.5
            optimizer.step()
        torch.testing.assert_close(means[place], sums, rtol=1e-12, atol=1e-12)


def test_averaged_momentum_tends_to_a_constant_gradient():
    grad = torch.tensor([2.0, -3.0], dtype=torch.float64)
    param = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = optim.SGD([param], lr=0.1, momentum=0.9, averaged=True)
    for t in range(1, 301):
        param.grad = grad.clone()
        optimizer.step()
        momentum = optimizer.state[param]["momentum_buffer"]
        torch.testing.assert_close(momentum, (1 - 0.9**t) * grad, rtol=1e-12, atol=0)
    torch.testing.assert_close(momentum, grad, rtol=1e-12, atol=0)


def test_averaged_nesterov_momentum_tends_to_a_longer_step():
    """As documented: the gradient and all of its average."""
    grad, param = torch.tensor([2.0, -3.0], dtype=torch.float64), torch.zeros(2, dtype=torch.float64).requires_grad_()
    optimizer = optim.SGD([param], lr=0.1, momentum=0.9, averaged=True, nesterov=True)
    for _ in range(301):
        before = param.detach().clone()
        param.grad = grad.clone()
        optimizer.step()
    torch.testing.assert_close(before - param.detach(), 0.1 * 1.9 * grad, rtol=1e-10, atol=0)


def test_averaged_momentum_differs_from_dampening_by_the_first_step_alone():
    """torch takes the first gradient whole: 0.9 g too much, of which each step keeps 0.9."""
    grads = [torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(t)) for t in range(8)]
    ours, theirs = (torch.nn.Parameter(torch.zeros(5, dtype=torch.float64)) for _ in range(2))
    averaged = optim.SGD([ours], momentum=0.9, averaged=True)
    damped = torch.optim.SGD([theirs], momentum=0.9, dampening=0.9)
    for t, grad in enumerate(grads):
        ours.grad, theirs.grad = grad.clone(), grad.clone()
        averaged.step()
        damped.step()
        gap = damped.state[theirs]["momentum_buffer"] - averaged.state[ours]["momentum_buffer"]
        torch.testing.assert_close(gap, 0.9 ** (t + 1) * grads[0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.0}, {"momentum": 0.9, "dampening": 0.1}], ids=str)
def test_averaged_momentum_needs_momentum_without_dampening(options):
    with pytest.raises(ValueError, match="Averaged momentum requires a momentum and zero dampening"):
        optim.SGD(params(), averaged=True, **options)
    optimizer = optim.SGD(params(), momentum=0.9)
    late = {"params": params([(2,)]), "averaged": True} | ({"momentum": 0.0} | options)
    with pytest.raises(ValueError, match="Averaged momentum requires a momentum and zero dampening"):
        optimizer.add_param_group(late)


@pytest.mark.parametrize("name", ["Adam", "RAdam", "NAdam"])
def test_cautious_decay_is_decoupled(name):
    options = {"cautious_weight_decay": True, "weight_decay": 0.1}
    with pytest.raises(ValueError, match="Cautious weight decay requires decoupled_weight_decay=True"):
        getattr(optim, name)(params(), **options)
    optimizer = getattr(optim, name)(params(), decoupled_weight_decay=True, **options)
    with pytest.raises(ValueError, match="Cautious weight decay requires decoupled_weight_decay=True"):
        optimizer.add_param_group({"params": params([(2,)]), "decoupled_weight_decay": False})
    assert len(optimizer.param_groups) == 1


def test_cautious_decay_spares_what_moves_away_from_zero():
    weight = torch.nn.Parameter(torch.tensor([1.0, -1.0, 1.0, -1.0]))
    optimizer = optim.Lion([weight], lr=0.25, weight_decay=0.5, cautious_weight_decay=True)
    weight.grad = torch.tensor([2.0, -2.0, -2.0, 2.0])
    optimizer.step()
    assert weight.tolist() == [0.625, -0.625, 1.25, -1.25]


@pytest.mark.parametrize(
    ("name", "option"),
    [("SGD", "mean"), ("Adam", "eps_inside"), ("AdamW", "averaged"), ("RAdam", "cautious"), ("LAMB", "cautious")],
)
def test_a_variant_of_another_rule_is_unknown(name, option):
    with pytest.raises(TypeError, match=option):
        getattr(optim, name)(params(), **{option: True})


@pytest.mark.parametrize(
    ("name", "option", "options"),
    [
        ("SGD", "averaged", {"momentum": 0.9}),
        ("RMSprop", "eps_inside", {}),
        ("Adagrad", "mean", {}),
        ("Adagrad", "eps_inside", {}),
        ("AdamW", "cautious_weight_decay", {}),
        ("Lion", "cautious_weight_decay", {"weight_decay": 0.1}),
        ("AdEMAMix", "cautious_weight_decay", {"weight_decay": 0.1}),
        ("Adam", "cautious", {}),
        ("AdamW", "cautious", {}),
        ("Lion", "cautious", {}),
        ("AdEMAMix", "cautious", {}),
    ],
)
def test_torch_cannot_step_by_a_variant(name, option, options):
    store = torch.ones(4)
    shared = [torch.nn.Parameter(store[:3]), torch.nn.Parameter(store[1:])]
    optimizer = getattr(optim, name)(shared, **{option: True}, **options)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(RuntimeError, match=f"^{option}=True needs the fused step.*tensors of the step share memory"):
        step(optimizer)
    assert store.tolist() == [1.0] * 4
    assert optimizer.last_path is None
    torch.testing.assert_close(optimizer.state_dict()["state"], before["state"])


# Groups and checkpoints.


@each_own
def test_options_that_are_off_leave_torchs_groups_to_the_letter(case):
    off = {"max_grad_norm": None, "clip_value": None, "nonfinite_norm": "propagate"}
    off |= dict.fromkeys(own(case).keys() - off.keys(), False)
    theirs = case.torchs(params(), **torchs_options(case))
    for options in ({}, off):
        ours = case.ours(params(), **torchs_options(case), **options)
        assert ours.state_dict()["param_groups"] == theirs.state_dict()["param_groups"]
        assert ours.defaults == theirs.defaults


@each_own
def test_a_torch_checkpoint_keeps_the_options(case):
    theirs = case.torchs(cases.two_groups(params()), **torchs_options(case))
    step(theirs)
    ours = case.ours(cases.two_groups(params(), clip_value=0.125), **case.options)
    ours.load_state_dict(theirs.state_dict())
    first, second = ours.param_groups
    assert {name: first[name] for name in own(case)} == own(case)
    assert {name: second[name] for name in own(case)} == own(case) | {"clip_value": 0.125}
    same = case.ours(cases.two_groups(params(), clip_value=0.125), **case.options)
    same.load_state_dict(copy.deepcopy(theirs.state_dict()))
    assert_goes_on_as(ours, same)
    assert ours.grad_norm is not None


@each_own
def test_a_checkpoint_with_options_goes_into_torchs_optimizer(case):
    ours = case.ours(params(), **case.options)
    step(ours)
    saved = io.BytesIO()
    torch.save(ours.state_dict(), saved)
    saved.seek(0)
    theirs = case.torchs(params(), foreach=False)
    theirs.load_state_dict(torch.load(saved, weights_only=True))
    assert {name: theirs.param_groups[0][name] for name in own(case)} == own(case)
    step(theirs)
    assert all(param.isfinite().all() for param in values(theirs))


@each_own
def test_a_checkpoint_with_options_brings_them_along(case):
    ours = case.ours(params(), **case.options)
    step(ours)
    plain = case.ours(params())
    plain.load_state_dict(copy.deepcopy(ours.state_dict()))
    for old, new in zip(values(ours), plain.param_groups[0]["params"], strict=True):
        new.data = old
    assert_goes_on_as(plain, ours)
    assert torch.equal(plain.grad_norm, ours.grad_norm)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))], ids=["copy", "pickle"])
@each_own
def test_copies_keep_the_options(case, copied):
    ours = case.ours(params(), **case.options)
    step(ours)
    twin = copied(ours)
    assert twin.defaults == ours.defaults
    assert {name: twin.param_groups[0][name] for name in own(case)} == own(case)
    assert_goes_on_as(twin, ours)
    assert torch.equal(twin.grad_norm, ours.grad_norm)
    twin.add_param_group({"params": params([(2,)])})
    assert {name: twin.param_groups[1][name] for name in own(case)} == own(case)


@each_own
def test_a_group_added_later_has_the_options(case):
    early = case.ours(cases.two_groups(params(), clip_value=0.125), **case.options)
    first, second = cases.two_groups(params(), clip_value=0.125)
    late = case.ours([first], **case.options)
    late.add_param_group(second)
    assert {name: late.param_groups[1][name] for name in own(case)} == own(case) | {"clip_value": 0.125}
    assert_goes_on_as(late, early)


@pytest.mark.parametrize("tracked", [False, True])
@each_own
def test_options_changed_in_a_group_take_effect_at_the_next_step(case, tracked):
    """Switched on after two steps without, and off again after two more. A list makes a group's options uncertain."""
    off = {"max_grad_norm": None, "clip_value": None, "nonfinite_norm": "propagate"}
    off |= dict.fromkeys(own(case).keys() - off.keys(), False)
    changing = case.ours(params(), **torchs_options(case))
    for seed, options in enumerate([off, off, own(case), own(case), off, off]):
        anew = case.ours(params(), **torchs_options(case), **options)
        anew.load_state_dict(copy.deepcopy(changing.state_dict()))
        anew.param_groups[0].update(options)
        for old, new in zip(values(changing), anew.param_groups[0]["params"], strict=True):
            new.data = old
        changing.param_groups[0].update(options)
        if tracked:
            changing.param_groups[0]["note"] = []
        before = values(changing)
        step(changing, seed)
        step(anew, seed)
        assert changing.last_path == "fused"
        assert all(torch.equal(left, right) for left, right in zip(values(changing), values(anew), strict=True))
        assert not any(torch.equal(left, right) for left, right in zip(values(changing), before, strict=True))
        assert (changing.grad_norm is None) == (options is off)


def test_one_option_changed_at_a_time():
    """Each alone, seen in the parameter."""
    param = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = optim.SGD([param], lr=1.0)
    group, moved = optimizer.param_groups[0], []
    for change in (
        {},
        {"clip_value": 2.0},
        {"clip_value": 1.0},
        {"max_grad_norm": 0.5},
        {"clip_value": None},
        {"max_grad_norm": None},
        {"maximize": True},
        {"lr": 0.5},
    ):
        group.update(change)
        before = param.item()
        param.grad = torch.full((1,), 3.0, dtype=torch.float64)
        optimizer.step()
        moved.append(before - param.item())
    half = 3 * 0.5 / (3 + 1e-6)
    assert moved == pytest.approx([3.0, 2.0, 1.0, half, half, 3.0, -3.0, -1.5], rel=1e-12)
