"""Muon on matrices: its numbers against the naive rule and torch's class, whatever they are laid out like."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch

import reference
from cases import distance
from matrices import DTYPES, NEW, SHAPES, WIDE, leaves, normal, train
from reference.muon import orthogonal
from torchpace import optim
from torchpace.optim import _muon_step, _newton_schulz

TORCHS = [
    {},
    {"lr": 0.05, "weight_decay": 0.0},
    {"lr": 0.05, "nesterov": False},
    {"lr": 0.05, "momentum": 0.0, "weight_decay": 0.3},
    {"lr": 0.05, "adjust_lr_fn": "match_rms_adamw"},
    {"lr": 0.05, "adjust_lr_fn": "original", "ns_steps": 3, "ns_coefficients": (2.0, -1.5, 0.5)},
    {"lr": 0.05, "eps": 10.0},
]
OURS = [
    {"lr": 0.05, "maximize": True},
    {"lr": 0.05, "ns_coefficients": "quintic", "ns_steps": 4},
    {"lr": 0.05, "ns_coefficients": "polar_express"},
    {"lr": 0.05, "ns_coefficients": [(3.0, -4.0, 2.0), (2.0, -1.5, 0.5)]},
    {"lr": 0.05, "ns_coefficients": ((2.0, -1.5, 0.5),) * 7, "ns_steps": 7},
    {"lr": 0.2, "weight_decay": 0.9, "cautious_weight_decay": True},
    {"lr": 0.2, "weight_decay": 0.9, "cautious_weight_decay": True, "maximize": True, "nesterov": False},
]
each_shape = pytest.mark.parametrize("shapes", SHAPES)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def by_reference(shapes, options, dtype=torch.float64, steps=range(4)):
    """In float64, from the values and along the gradients that those of `dtype` have."""
    thetas = [value.double().numpy() for value in normal(shapes, dtype)]
    states = [{} for _ in thetas]
    for step in steps:
        for at, grad in enumerate(normal(shapes, dtype, seed=step + 1)):
            if thetas[at].size:
                thetas[at] = reference.muon(thetas[at], grad.double().numpy(), states[at], **options)
    return [torch.from_numpy(theta) for theta in thetas]


@each_dtype
@each_shape
@pytest.mark.parametrize("options", TORCHS, ids=str)
def test_as_close_to_the_exact_step_as_torchs(options, shapes, dtype):
    shapes = SHAPES[shapes]
    params, twins = leaves(shapes, dtype), leaves(shapes, dtype)
    ours, theirs = optim.Muon(params, **options), torch.optim.Muon(twins, **options)
    train(ours, params)
    train(theirs, twins)
    exact = by_reference(shapes, options, dtype)
    assert ours.last_path == "fused"
    assert distance(params, exact) <= 1.1 * distance(twins, exact) + 1e-12
    if dtype in WIDE:
        # No further apart than products in bfloat16 make it.
        assert distance(params, twins) <= 0.1 * distance(normal(shapes, dtype), exact)
    assert ours.state_dict()["param_groups"] == theirs.state_dict()["param_groups"]


@pytest.mark.parametrize("shapes", [*SHAPES, *NEW])
@pytest.mark.parametrize("options", TORCHS + OURS, ids=str)
def test_in_float32_it_is_the_exact_step(options, shapes):
    if shapes in NEW and options.get("adjust_lr_fn") == "original":
        options = options | {"adjust_lr_fn": None}
    shapes = (SHAPES | NEW)[shapes]
    params = leaves(shapes, torch.float64)
    optimizer = optim.Muon(params, ns_dtype=torch.float32, **options)
    train(optimizer, params)
    assert optimizer.last_path == "fused"
    torch.testing.assert_close(params, by_reference(shapes, options), rtol=1e-5, atol=2e-5)


def test_unclamped_learning_rates(monkeypatch):
    """From torch 2.14 on its constructor takes them; the step does in any case."""
    params = leaves([(4, 9), (9, 4)], torch.float64)
    optimizer = optim.Muon(params, lr=0.1, ns_dtype="float32")
    optimizer.param_groups[0]["adjust_lr_fn"] = "spectral_unclamped"
    train(optimizer, params)
    expected = by_reference([(4, 9), (9, 4)], {"lr": 0.1, "adjust_lr_fn": "spectral_unclamped"})
    torch.testing.assert_close(params, expected, rtol=1e-5, atol=2e-5)


def spectrum(values, columns):
    """A matrix of these singular values."""
    rows = len(values)
    left, right = (np.linalg.qr(normal([(size, rows)], seed=size)[0].numpy())[0] for size in (rows, columns))
    return torch.from_numpy(left * values @ right.T)


@pytest.mark.parametrize("express", [False, True], ids=["quintic", "polar express"])
@pytest.mark.parametrize("least", [1.0, 1e-3, 1e-6, 0.0])
@pytest.mark.parametrize("columns", [48, 96, 97, 200, 1000])
def test_singular_values_far_apart(columns, least, express):
    """In the Gram form, which wide matrices go through, small ones are no noise."""
    values = np.logspace(0, np.log10(least), 48) if least else np.arange(48) % 12 == 0
    matrix = spectrum(values, columns)
    steps = _newton_schulz.POLAR_EXPRESS if express else (_newton_schulz.QUINTIC,) * 5
    exact = orthogonal(matrix.numpy(), steps, 1e-7, express)
    (found,) = _newton_schulz.orthogonalized([matrix], torch.float32, steps, 1e-7, express)
    assert np.linalg.norm(found.numpy() - exact, 2) < 3e-4
    (found,) = _newton_schulz.orthogonalized([matrix], torch.bfloat16, steps, 1e-7, express)
    error, naive = (
        np.linalg.norm(one.double().numpy() - exact, 2) for one in (found, in_bfloat16(matrix, steps, express))
    )
    assert error <= 1.1 * naive


def in_bfloat16(matrix, steps, express):
    """One matrix, one product after the other, as torch's class has it."""
    x = matrix.bfloat16()
    x = x / (x.norm() * 1.02 + 1e-6 if express else x.norm().clamp(min=1e-7))
    for a, b, c in steps:
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def test_polar_express_makes_it_orthogonal():
    matrix = spectrum(np.linspace(0.05, 1, 20), 30)
    (found,) = _newton_schulz.orthogonalized([matrix], torch.float32, _newton_schulz.POLAR_EXPRESS, 1e-7, True)
    assert np.linalg.svd(found.numpy(), compute_uv=False) == pytest.approx(np.ones(20), abs=0.15)


@pytest.mark.parametrize("most", [1, 3000, 10**9])
@each_dtype
def test_batches_change_nothing(dtype, most, monkeypatch):
    shapes = SHAPES["blocks"] + NEW["convolutions"]
    expected = leaves(shapes, dtype)
    for param in expected:
        train(optim.Muon([param], lr=0.1, ns_dtype="float32"), [param])
    monkeypatch.setattr(_muon_step, "_BATCH", most)
    params = [torch.nn.Parameter(param.detach().clone()) for param in leaves(shapes, dtype)]
    seeds = [normal([param.shape], seed=step + 1)[0] for step in range(4) for param in params]
    optimizer = optim.Muon(params, lr=0.1, ns_dtype="float32")
    for step in range(4):
        for at, param in enumerate(params):
            param.grad = seeds[step * len(params) + at].to(dtype)
        optimizer.step()
    near = {"rtol": 1e-5, "atol": 1e-5} if dtype in WIDE else {"rtol": 1e-2, "atol": 1e-2}
    torch.testing.assert_close(params, expected, **near)


def test_a_batch_has_no_more_bytes_than_stated(monkeypatch):
    sizes = []
    whole = _newton_schulz.orthogonalized
    monkeypatch.setattr(
        _newton_schulz, "orthogonalized", lambda batch, *rest: sizes.append(len(batch)) or whole(batch, *rest)
    )
    monkeypatch.setattr(_muon_step, "_BATCH", 3 * 32 * 16 * 2)
    params = leaves([(32, 16), (16, 32)] * 4)
    train(optim.Muon(params), params, range(1))
    assert sizes == [3, 3, 2]


def test_groups_share_the_products(monkeypatch):
    """Options that the products do not depend on may differ in a batch."""
    batches = []
    whole = _newton_schulz.orthogonalized
    monkeypatch.setattr(
        _newton_schulz, "orthogonalized", lambda batch, *rest: batches.append(len(batch)) or whole(batch, *rest)
    )

    def run(cls):
        params = leaves([(24, 24), (24, 36), (24, 24), (36, 24), (24, 24)])
        groups = [
            {"params": params[:2], "lr": 0.1},
            {"params": params[2:4], "momentum": 0.5, "weight_decay": 0.5},
            {"params": params[4:], "nesterov": False, "adjust_lr_fn": "match_rms_adamw"},
        ]
        optimizer = cls(groups, lr=0.02)
        return train(optimizer, params)

    torch.testing.assert_close(run(optim.Muon), run(torch.optim.Muon), rtol=1e-5, atol=1e-5)
    assert batches == [3, 2] * 4


LAYOUTS = {
    "transposed": ((12, 20), lambda value: value.mT.contiguous().mT),
    "gaps": ((12, 20), lambda value: torch.zeros(12, 41).index_copy_(1, torch.arange(0, 40, 2), value)[:, :40:2]),
    "offset": ((12, 20), lambda value: torch.cat([torch.zeros(5), value.flatten()])[5:].view(12, 20)),
    "channels_last": ((8, 4, 3, 3), lambda value: value.contiguous(memory_format=torch.channels_last)),
    "permuted": ((4, 3, 5), lambda value: value.permute(2, 0, 1).contiguous().permute(1, 2, 0)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("where", ["param", "grad", "momentum"])
def test_layouts(layout, where):
    shape, lay = LAYOUTS[layout]
    (start,) = normal([shape], torch.float32)
    expected = torch.nn.Parameter(start.clone())
    train(optim.Muon([expected], lr=0.1), [expected], range(3))
    param = torch.nn.Parameter(lay(start.clone()) if where == "param" else start.clone())
    assert not (where == "param" and layout != "offset" and param.is_contiguous())
    optimizer = optim.Muon([param], lr=0.1)
    if where == "momentum":
        optimizer.state[param]["momentum_buffer"] = lay(torch.zeros(shape))
    for step in range(3):
        (grad,) = normal([shape], torch.float32, seed=step + 1)
        param.grad = lay(grad) if where == "grad" else grad
        optimizer.step()
    assert optimizer.last_path == "fused"
    torch.testing.assert_close(param, expected, rtol=1e-5, atol=1e-5)
    if where == "param" and layout == "gaps":
        assert param.untyped_storage().nbytes() == 12 * 41 * 4
        assert not param.detach().as_strided((12, 20), (41, 2), 1).any()


def test_a_gradient_that_is_expanded():
    (param, twin) = (torch.nn.Parameter(torch.ones(6, 4)) for _ in range(2))
    param.grad, twin.grad = torch.ones(4).expand(6, 4), torch.ones(6, 4)
    optim.Muon([param], max_grad_norm=0.5).step()
    optim.Muon([twin], max_grad_norm=0.5).step()
    assert torch.equal(param, twin)


def test_a_convolution_is_its_flattened_matrix():
    (conv,), (flat,) = leaves([(8, 3, 3, 3)]), leaves([(8, 27)])
    train(optim.Muon([conv], lr=0.1), [conv])
    train(optim.Muon([flat], lr=0.1), [flat])
    assert torch.equal(conv.flatten(1), flat)


def test_a_matrix_that_is_not_finite_spoils_no_other():
    params, twins = leaves([(8, 8)] * 3), leaves([(8, 8)] * 3)
    for optimizer, given in ((optim.Muon(params), params), (optim.Muon(twins), twins)):
        for param, grad in zip(given, normal([(8, 8)] * 3), strict=True):
            param.grad = grad.float()
        if given is params:
            params[1].grad[0, 0] = torch.nan
        optimizer.step()
    assert torch.equal(params[0], twins[0])
    assert torch.equal(params[2], twins[2])
    assert params[1].isnan().all()


def test_a_zero_gradient_only_decays():
    (param,) = leaves([(8, 8)])
    before = param.detach().clone()
    param.grad = torch.zeros(8, 8)
    optim.Muon([param], lr=0.5, weight_decay=0.5).step()
    torch.testing.assert_close(param.detach(), 0.75 * before)


def test_a_bfloat16_momentum_is_not_normalised():
    """As torch's was until 2.14, where Nesterov's step is off."""
    (param,) = leaves([(8, 8)], torch.bfloat16)
    param.grad = torch.full((8, 8), 4.0, dtype=torch.bfloat16)
    optimizer = optim.Muon([param], nesterov=False, momentum=0.5)
    optimizer.step()
    assert torch.equal(optimizer.state[param]["momentum_buffer"], torch.full((8, 8), 2.0, dtype=torch.bfloat16))


def test_parameters_without_a_gradient_stay():
    params = leaves([(4, 4)] * 2)
    optimizer = optim.Muon(params)
    params[0].grad = torch.ones(4, 4)
    before = params[1].detach().clone()
    optimizer.step()
    assert torch.equal(params[1], before)
    assert [*optimizer.state] == [params[0]]
    params[0].grad = None
    optimizer.step()
    assert optimizer.last_path == "fused"


def test_learning_rates_that_are_tensors():
    params, twins = leaves([(6, 4)]), leaves([(6, 4)])
    train(optim.Muon(params, lr=torch.tensor(0.125)), params)
    train(optim.Muon(twins, lr=0.125), twins)
    assert torch.equal(params[0], twins[0])


@pytest.mark.parametrize("number", [np.float32, np.float64, np.array, torch.tensor], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("option", ["lr", "weight_decay", "momentum", "eps", "max_grad_norm", "clip_value"])
def test_numbers_of_any_type(option, number):
    params, twins, late = leaves([(6, 4)]), leaves([(6, 4)]), leaves([(6, 4)])
    train(optim.Muon(params, **{option: number(0.25)}), params)
    train(optim.Muon(twins, **{option: 0.25}), twins)
    optimizer = optim.Muon(late, **{option: 0.5})
    optimizer.param_groups[0][option] = number(0.25)
    train(optimizer, late)
    assert torch.equal(params[0], twins[0])
    assert torch.equal(late[0], twins[0])


@pytest.mark.parametrize("scheduler", ["StepLR", "OneCycleLR", "CosineAnnealingLR"])
def test_schedulers(scheduler):
    options = {"StepLR": (2, 0.5), "OneCycleLR": (0.1, 9), "CosineAnnealingLR": (9,)}[scheduler]

    def run(library):
        params = leaves([(12, 12), (12, 18)])
        optimizer = library.Muon(params, lr=0.1)
        schedule = getattr(library.lr_scheduler, scheduler)(optimizer, *options)
        for step in range(8):
            train(optimizer, params, [step])
            schedule.step()
        return params, optimizer.param_groups[0]["momentum"]

    (ours, momentum), (theirs, expected) = run(optim), run(torch.optim)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert momentum == expected


def through_memory(state_dict):
    memory = io.BytesIO()
    torch.save(state_dict, memory)
    memory.seek(0)
    return torch.load(memory, weights_only=True)


@each_dtype
@pytest.mark.parametrize("direction", ["to torch", "from torch", "among ours"])
def test_states_are_exchanged(direction, dtype):
    before, after = {
        "to torch": (optim.Muon, torch.optim.Muon),
        "from torch": (torch.optim.Muon, optim.Muon),
        "among ours": (optim.Muon, optim.Muon),
    }[direction]
    shapes = SHAPES["blocks"]
    params = leaves(shapes, dtype)
    first = before(params, lr=0.05, weight_decay=0.3)
    train(first, params, range(3))
    twins = [torch.nn.Parameter(param.detach().clone()) for param in params]
    second = after(twins, lr=9.0)
    second.load_state_dict(through_memory(first.state_dict()))
    assert second.state_dict()["param_groups"] == first.state_dict()["param_groups"]
    train(second, twins, range(3, 5))
    train(first, params, range(3, 5))
    near = {"rtol": 1e-2, "atol": 1e-2} if dtype not in WIDE or direction != "among ours" else {"rtol": 0, "atol": 0}
    torch.testing.assert_close(twins, params, **near)
    assert [*second.state[twins[0]]] == ["momentum_buffer"]


OPTIONS = {"ns_dtype": torch.float32, "ns_coefficients": "polar_express", "maximize": True, "max_grad_norm": 1.0}


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "state_dict"])
def test_copies_go_on(way):
    params = leaves(SHAPES["blocks"] + NEW["convolutions"])
    optimizer = optim.Muon(params, lr=0.05, **OPTIONS)
    train(optimizer, params, range(2))
    if way == "state_dict":
        own = [torch.nn.Parameter(param.detach().clone()) for param in params]
        again = optim.Muon(own, lr=9.0)
        again.load_state_dict(through_memory(optimizer.state_dict()))
    else:
        copied = (copy.deepcopy if way == "deepcopy" else lambda value: pickle.loads(pickle.dumps(value)))(optimizer)
        again, own = copied, copied.param_groups[0]["params"]
    assert again.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]
    assert again.last_path is None
    train(again, own, range(2, 4))
    train(optimizer, params, range(2, 4))
    assert all(torch.equal(one, other) for one, other in zip(own, params, strict=True))


def test_a_late_group():
    params = leaves([(8, 8), (4, 3, 3)])
    optimizer = optim.Muon(params[:1], ns_dtype="float32", max_grad_norm=1.0)
    optimizer.add_param_group({"params": params[1:], "ns_coefficients": [(2.0, -1.5, 0.5)] * 3})
    assert optimizer.param_groups[1]["ns_steps"] == 3
    assert optimizer.param_groups[1]["ns_dtype"] == "float32"
    optimizer.add_param_group({"params": leaves([(3, 5)]), "ns_coefficients": "polar_express"})
    assert optimizer.param_groups[2]["ns_steps"] == 5
    train(optimizer, params)
    assert optimizer.last_path == "fused"


def test_options_that_torch_lacks_are_in_groups_only_where_they_are_on():
    torchs = torch.optim.Muon(leaves([(2, 2)])).state_dict()["param_groups"]
    off = {"maximize": False, "ns_dtype": "bfloat16", "cautious_weight_decay": False, "max_grad_norm": None}
    assert optim.Muon(leaves([(2, 2)]), **off).state_dict()["param_groups"] == torchs
    group = optim.Muon(leaves([(2, 2)]), **OPTIONS).state_dict()["param_groups"][0]
    assert group.keys() - torchs[0].keys() == {"ns_dtype", "maximize", "max_grad_norm"}
    assert group["ns_dtype"] == "float32"
