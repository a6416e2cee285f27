"""Adafactor: its numbers against the naive rule and torch's class."""

import copy
import io

import numpy as np
import pytest
import torch

import reference
from cases import distance
from torchpace import optim

SHAPES = {
    "numbers": [(), (1,), (0,), (3, 0, 2), (0, 4), (1, 1)],
    "vectors": [(7,), (31,), (16,), (40_003,)],
    "wide": [(2, 3), (5, 40), (3, 1030), (1, 9), (70, 1100)],
    "tall": [(40, 5), (9, 1), (1030, 3), (40_003, 2), (1100, 70)],
    "batches": [(4, 3, 5), (8, 4, 3, 3), (2, 1, 17, 1), (3, 200, 300), (5, 1, 1, 1)],
}
OPTIONS = [
    {},
    {"lr": 0.5, "weight_decay": 0.1},
    {"maximize": True, "lr": 0.1},
    {"eps": (1e-2, 0.5), "d": 2.0},
    {"beta2_decay": -0.3, "lr": 0.3, "d": 1.0, "eps": (None, 0.0)},
    {"beta2_decay": 0.0, "weight_decay": 0.3},
    {"lr": float("inf")},
]
WIDE = [torch.float32, torch.float64]
DTYPES = [*WIDE, torch.bfloat16, torch.float16]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
each_shape = pytest.mark.parametrize("shapes", SHAPES)
each_option = pytest.mark.parametrize("options", OPTIONS, ids=str)


def normal(shapes, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def leaves(shapes, dtype=torch.float32):
    return [torch.nn.Parameter(value) for value in normal(shapes, dtype)]


def set_grads(params, step, size=1.0):
    for param, grad in zip(params, normal([param.shape for param in params], seed=step + 1), strict=True):
        param.grad = (grad * size).to(param.dtype)


def train(optimizer, params, steps=range(4), size=1.0):
    for step in steps:
        set_grads(params, step, size * (step + 1))
        optimizer.step()
    return params


def by_reference(shapes, options, dtype, steps=range(4)):
    """In float64, from the values and along the gradients that those of `dtype` have."""
    thetas = [value.double().numpy() for value in normal(shapes, dtype)]
    states = [{} for _ in thetas]
    first, second = options.get("eps", (None, 1e-3))
    options = options | {"eps": (torch.finfo(dtype).eps if first is None else first, second)}
    for step in steps:
        for at, grad in enumerate(normal(shapes, seed=step + 1)):
            grad = (grad * (step + 1)).to(dtype).double().numpy()
            thetas[at] = reference.adafactor(thetas[at], grad, states[at], **options)
    return [torch.from_numpy(np.asarray(theta)) for theta in thetas]


def torchs_shapes(shapes):
    """Without those of no elements, over which torch divides by zero."""
    return [shape for shape in shapes if 0 not in shape]


@each_dtype
@each_shape
@each_option
def test_as_close_to_the_exact_step_as_torchs(options, shapes, dtype):
    shapes = torchs_shapes(SHAPES[shapes])
    params, twins = leaves(shapes, dtype), leaves(shapes, dtype)
    ours, theirs = optim.Adafactor(params, **options), torch.optim.Adafactor(twins, **options)
    train(ours, params)
    train(theirs, twins)
    assert ours.last_path == "fused"
    exact = by_reference(shapes, options, dtype)
    off, theirs_off = distance(params, exact), distance(twins, exact)
    # Sums over long columns overflow torch's float16.
    assert off <= 1.1 * theirs_off + (1e-12 if dtype == torch.float64 else 0) or (theirs_off.isnan() and off < 1)
    if dtype == torch.float64:
        torch.testing.assert_close(params, twins, rtol=1e-12, atol=1e-12)
    assert ours.state_dict()["param_groups"] == theirs.state_dict()["param_groups"]
    for param, twin in zip(params, twins, strict=True):
        own, other = ours.state[param], theirs.state[twin]
        assert [*own] == [*other]
        for name, value in own.items():
            assert (value.dtype, value.shape, value.stride()) == (
                other[name].dtype,
                other[name].shape,
                other[name].stride(),
            )
            if dtype in WIDE:
                tolerance = 1e-12 if dtype == torch.float64 else 1e-5
                torch.testing.assert_close(value, other[name], rtol=tolerance, atol=0)


def test_each_parameter_has_the_eps_of_its_own_type():
    """torch takes that of the first for all: this float32 parameter would be moved a thousandth as far."""
    for foreach in (False, True):
        params = [torch.nn.Parameter(torch.ones(4, dtype=dtype)) for dtype in (torch.bfloat16, torch.float32)]
        optimizer = optim.Adafactor(params, foreach=foreach)
        for param in params:
            param.grad = torch.full_like(param, 1e-5)
        optimizer.step()
        assert optimizer.last_path == "fused"
        assert (1 - params[1]).tolist() == pytest.approx([1e-2] * 4, rel=1e-4)
        # And where torch's code steps.
        params = [torch.nn.Parameter(torch.ones(4, dtype=dtype)) for dtype in (torch.bfloat16, torch.float32)]
        params[1].data = torch.ones(4, 2)[:, 0]
        params[0].data = torch.ones(4, 2, dtype=torch.bfloat16)[:, 0]
        optimizer = optim.Adafactor(params, foreach=foreach)
        for param in params:
            param.grad = torch.full_like(param, 1e-5)
        groups = optimizer.param_groups
        optimizer.step()
        assert optimizer.last_path == "torch: param_groups[0]['params'][0]: param is not contiguous"
        assert (1 - params[1]).tolist() == pytest.approx([1e-2] * 4, rel=1e-4)
        assert optimizer.param_groups is groups


def test_mixed_types_are_stepped_on_as_each_alone():
    def run(*dtypes):
        params = [param for dtype in dtypes for param in leaves([(3, 5), (7,)], dtype)]
        optimizer = optim.Adafactor(params, lr=0.1)
        for step in range(3):
            for dtype in dtypes:
                set_grads([param for param in params if param.dtype == dtype], step)
            optimizer.step()
        return params

    torch.testing.assert_close(run(*DTYPES), [param for dtype in DTYPES for param in run(dtype)], rtol=0, atol=0)


@each_dtype
def test_no_bit_depends_on_the_threads(dtype):
    def run(threads):
        torch.set_num_threads(threads)
        shapes = [(700, 900), (40_003,), (64, 32, 3, 3), (3, 40_000), (70_000, 2), (16,), (300, 300), (5, 200, 300)]
        params = leaves(shapes, dtype)
        optimizer = optim.Adafactor(params, lr=0.1, max_grad_norm=1.0)
        train(optimizer, params, range(2))
        assert optimizer.last_path == "fused"
        return params, [list(entries.values()) for entries in optimizer.state.values()]

    before = torch.get_num_threads()
    try:
        alone = run(1)
        for threads in (2, 3, 7):
            torch.testing.assert_close(run(threads), alone, rtol=0, atol=0)
    finally:
        torch.set_num_threads(before)


def test_one_by_one_as_all_together():
    shapes = [shape for some in SHAPES.values() for shape in some]
    together = leaves(shapes)
    train(optim.Adafactor(together), together)
    alone = leaves(shapes)
    optimizers = [optim.Adafactor([param]) for param in alone]
    for step in range(4):
        set_grads(alone, step, step + 1)
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(together, alone, rtol=0, atol=0)


@pytest.mark.parametrize("fused", [True, False])
def test_parameters_without_elements(fused):
    params = leaves([(0,), (3, 0, 2), (2, 2)])
    if not fused:
        params[2].data = params[2].data.t()
    optimizer = optim.Adafactor(params, clip_value=10.0)
    train(optimizer, params)
    assert optimizer.last_path.startswith("fused" if fused else "torch: ")
    assert [optimizer.state[param]["step"].item() for param in params] == [4, 4, 4]
    twins = leaves([(0,)])
    with pytest.raises(ZeroDivisionError):
        train(torch.optim.Adafactor(twins), twins)


def test_groups_and_a_rate_that_is_a_tensor():
    def run(cls):
        params = leaves([(3, 4), (5,), (2, 2, 2)], torch.float64)
        lr = torch.tensor([0.5], dtype=torch.float64)
        groups = [{"params": params[:1], "eps": (1e-3, 1e-2)}, {"params": params[1:], "lr": 0.05, "weight_decay": 0.1}]
        optimizer = cls(groups, lr=lr, d=1.5)
        for step in range(3):
            set_grads(params, step)
            if step == 1:
                params[1].grad = None
            optimizer.step()
            lr.mul_(0.5)
        return optimizer, params

    ours, params = run(optim.Adafactor)
    assert ours.last_path == "fused"
    torch.testing.assert_close(params, run(torch.optim.Adafactor)[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("value", [0.0, 1e-30, 1e-20, 1e15, 1e20, float("nan")])
@pytest.mark.parametrize("shape", [(5,), (3, 4)], ids=str)
def test_gradients_at_the_edges(shape, value):
    """Where torch has a number, ours has it."""
    params, twins = leaves([shape]), leaves([shape])
    ours, theirs = optim.Adafactor(params), torch.optim.Adafactor(twins)
    for one, optimizer in ((params, ours), (twins, theirs)):
        one[0].grad = torch.ones(shape)
        one[0].grad.view(-1)[1] = value
        # Of a square that overflows torch's mean is NaN, and so is the parameter then.
        for _ in range(2 if value < 1e16 else 1):
            optimizer.step()
    known = twins[0].isfinite()
    torch.testing.assert_close(params[0][known], twins[0][known], rtol=1e-5, atol=1e-7)
    if value != 1e20:
        assert torch.equal(params[0].isnan(), twins[0].isnan())


@pytest.mark.parametrize("shape", [(5,), (3, 4)], ids=str)
def test_no_gradient_and_an_eps_whose_square_is_0(shape):
    params = leaves([shape])
    optimizer = optim.Adafactor(params, eps=(1e-30, 1e-3))
    for _ in range(2):
        params[0].grad = torch.zeros(shape)
        optimizer.step()
    assert torch.equal(params[0], leaves([shape])[0])


def test_squares_in_float16_do_not_overflow():
    param = torch.nn.Parameter(torch.ones(2, 2, dtype=torch.float16))
    param.grad = torch.full((2, 2), 1000.0, dtype=torch.float16)
    optim.Adafactor([param]).step()
    assert param.flatten().tolist() == pytest.approx([0.99] * 4, rel=1e-3)


@pytest.mark.parametrize("maximize", [False, True])
@each_dtype
def test_clipping_is_as_before_a_plain_step(dtype, maximize):
    shapes = [(30, 20), (7,), (2, 3, 5)]
    params = leaves(shapes, dtype)
    # torch's float16 holds no squares of such gradients.
    twins = [torch.nn.Parameter(param.detach().to(dtype if dtype in WIDE else torch.float32)) for param in params]
    ours = optim.Adafactor(params, lr=0.1, max_grad_norm=0.5, clip_value=0.03, maximize=maximize)
    theirs = torch.optim.Adafactor(twins, lr=0.1, eps=(torch.finfo(dtype).eps, 1e-3), maximize=maximize)
    for step in range(3):
        set_grads(params, step)
        norm = torch.linalg.vector_norm(torch.cat([param.grad.double().flatten() for param in params]))
        for param, twin in zip(params, twins, strict=True):
            twin.grad = (param.grad.to(twin.dtype) * (0.5 / (norm + 1e-6))).clamp(-0.03, 0.03)
        before = [param.grad.clone() for param in params]
        ours.step()
        theirs.step()
        assert ours.last_path == "fused"
        assert ours.grad_norm.item() == pytest.approx(norm.item(), rel=1e-6)
        assert all(torch.equal(param.grad, grad) for param, grad in zip(params, before, strict=True))
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5}.get(dtype, 3e-2)
    twins = [twin.to(dtype) for twin in twins]
    torch.testing.assert_close(params, twins, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("options", [{"skip_grad_norm": 1e-3}, {"nonfinite_norm": "skip"}, {"nonfinite_norm": "raise"}])
def test_what_the_norm_skips_writes_nothing(options):
    params = leaves([(3, 4), (5,)])
    optimizer = optim.Adafactor(params, **options)
    set_grads(params, 0)
    if "nonfinite_norm" in options:
        params[0].grad[0, 0] = float("inf")
    before = [param.detach().clone() for param in params]
    if options == {"nonfinite_norm": "raise"}:
        with pytest.raises(RuntimeError, match="total norm of the gradients is inf"):
            optimizer.step()
    else:
        optimizer.step()
        assert optimizer.last_step_skipped
        assert optimizer.last_path.startswith("skipped: the norm of the gradients is ")
    assert all(torch.equal(param, was) for param, was in zip(params, before, strict=True))
    assert not optimizer.state


@pytest.mark.parametrize("finite", [True, False])
def test_under_a_grad_scaler(finite):
    params, twins = leaves([(3, 4), (5,)]), leaves([(3, 4), (5,)])
    ours, theirs = optim.Adafactor(params), torch.optim.Adafactor(twins)
    for own, optimizer in ((params, ours), (twins, theirs)):
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        loss = sum(param.square().sum() for param in own) * (1 if finite else float("inf"))
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    torch.testing.assert_close(params, twins)
    assert ours.last_step_skipped == (not finite)


@pytest.mark.parametrize("strided", [False, True])
@each_dtype
def test_a_scale_is_taken_from_the_gradients_in_the_step(dtype, strided):
    """As with ``fused=True`` of other classes: also from those in memory."""
    params, twins = leaves([(3, 4), (5,)], dtype), leaves([(3, 4), (5,)], dtype)
    if strided:
        params[0].data = params[0].data.t().contiguous().t()
    ours, plain = optim.Adafactor(params), optim.Adafactor(twins)
    ours.grad_scale, ours.found_inf = torch.tensor(8.0), torch.tensor(0.0)
    set_grads(params, 0)
    set_grads(twins, 0)
    for param in params:
        param.grad *= 8
    ours.step()
    plain.step()
    assert ours.last_path.startswith("torch: " if strided else "fused")
    torch.testing.assert_close(params, twins, **({"rtol": 1e-2, "atol": 1e-2} if strided else {"rtol": 0, "atol": 0}))
    assert all(torch.equal(param.grad, twin.grad) for param, twin in zip(params, twins, strict=True))
    ours.found_inf = torch.tensor(1.0)
    before = [param.detach().clone() for param in params]
    ours.step()
    assert ours.last_step_skipped
    assert all(torch.equal(param, was) for param, was in zip(params, before, strict=True))


@pytest.mark.parametrize("ours_first", [True, False])
@each_dtype
def test_a_checkpoint_moves_between_torch_and_ours(dtype, ours_first):
    shapes = [(3, 4), (5,), (), (2, 3, 4)]
    first, second = (optim, torch.optim) if ours_first else (torch.optim, optim)
    params = leaves(shapes, dtype)
    optimizer = train_on(first.Adafactor(params, lr=0.1), params, range(2))
    saved = io.BytesIO()
    torch.save(optimizer.state_dict(), saved)
    saved.seek(0)
    moved = [torch.nn.Parameter(param.detach().clone()) for param in params]
    resumed = second.Adafactor(moved)
    resumed.load_state_dict(torch.load(saved, weights_only=True))
    for param, own in zip(params, moved, strict=True):
        for name, value in optimizer.state[param].items():
            assert value.dtype == resumed.state[own][name].dtype
            assert torch.equal(value, resumed.state[own][name])
    train_on(resumed, moved, range(2, 5))
    train_on(optimizer, params, range(2, 5))
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5}.get(dtype, 3e-2)
    torch.testing.assert_close(moved, params, rtol=tolerance, atol=tolerance)


def train_on(optimizer, params, steps):
    train(optimizer, params, steps)
    return optimizer


def test_files_go_on(tmp_path):
    pytest.importorskip("safetensors", reason="checkpoints need safetensors")
    from torchpace.optim import checkpoint

    params = leaves([(3, 4), (5,), (2, 3, 4), ()])
    optimizer = train_on(optim.Adafactor(params, lr=0.1, eps=(None, 1e-2)), params, range(2))
    checkpoint.save(optimizer, tmp_path / "file")
    moved = [torch.nn.Parameter(param.detach().clone()) for param in params]
    resumed = optim.Adafactor(moved, eps=(1e-3, 1e-3))
    checkpoint.load(resumed, tmp_path / "file")
    assert resumed.param_groups[0]["eps"] == (None, 1e-2)
    train_on(optimizer, params, range(2, 4))
    train_on(resumed, moved, range(2, 4))
    assert all(torch.equal(one, other) for one, other in zip(params, moved, strict=True))
    optimizer.state[params[0]]["row_var"] = torch.ones(4, 1)
    with pytest.raises(ValueError, match=r"'row_var' of 0 is float32|of shape \[4, 1\], expected it to be"):
        checkpoint.save(optimizer, tmp_path / "file")


def wrong_shape(optimizer, params):
    optimizer.state[params[0]]["row_var"] = torch.ones(4, 1)


def missing(optimizer, params):
    del optimizer.state[params[0]]["col_var"]


def of_a_vector(optimizer, params):
    optimizer.state[params[0]] = {"step": torch.tensor(1.0), "variance": torch.ones(3, 4)}


def no_tensor(optimizer, params):
    optimizer.state[params[0]]["step"] = 3


def no_dict(optimizer, params):
    optimizer.state[params[0]] = [1]


def freed(optimizer, params):
    params[0].grad.untyped_storage().resize_(0)


def option(error, match, **options):
    def change(optimizer, params):
        optimizer.param_groups[0].update(options)

    return pytest.param(change, error, match, id=str(options))


WRONG = [
    (wrong_shape, RuntimeError, r"\[0\]: row_var has shape \[4, 1\], expected \[3, 1\]"),
    (missing, KeyError, r"\[0\]: state has no 'col_var', found only \['row_var', 'step'\]"),
    (of_a_vector, KeyError, "state has no 'row_var'"),
    (no_tensor, TypeError, 'state "step" is of type int, expected a tensor'),
    (no_dict, TypeError, r"state is \[1\]"),
    (freed, RuntimeError, "grad has 12 elements and its storage is empty"),
    option(ZeroDivisionError, 'option "d" makes "1 / d" inf in step 2', d=0.0),
    option(ValueError, 'option "lr" makes "rho" NaN', lr=float("nan")),
    option(ValueError, 'option "weight_decay" makes', lr=float("inf"), weight_decay=0.1),
    option(ValueError, 'option "eps" makes "eps2" inf', eps=(None, float("inf"))),
    option(TypeError, r'option "eps" is 0.1 \(of type float\), expected None or a number, and a number', eps=0.1),
    option(TypeError, 'option "eps" is ', eps=(None, "x")),
    option(TypeError, 'option "lr" is ', lr="fast"),
    option(ValueError, "Invalid clip_value|clip_value", clip_value=-1.0, max_grad_norm=1.0),
]


@pytest.mark.parametrize(("change", "error", "match"), WRONG)
def test_an_error_comes_before_anything_is_written(change, error, match):
    params = leaves([(3, 4), (5,)])
    optimizer = optim.Adafactor([params[1], params[0]])
    train(optimizer, params, range(1))
    optimizer.param_groups[0]["params"] = [params[1], params[0]]
    set_grads(params, 1)
    change(optimizer, params)
    match = match.replace(r"\[0\]:", r"\['params'\]\[1\]:")
    before = copy.deepcopy(([param.data for param in params], dict(optimizer.state)))
    with pytest.raises(error, match=match):
        optimizer.step()
    assert all(torch.equal(param, was) for param, was in zip(params, before[0], strict=True))
    for entries, was in zip(optimizer.state.values(), before[1].values(), strict=True):
        assert all(same(entries[name], was[name]) for name in entries) if isinstance(entries, dict) else entries == was


def same(one, other):
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def transposed(params):
    params[0].data = params[0].data.t().contiguous().t()


def odd_grad(params):
    params[0].grad = params[0].grad.t().contiguous().t()


def shared(params):
    memory = torch.zeros(16)
    params[0].data, params[1].data = memory[:12].view(3, 4), memory[10:15]


def negative(params):
    params[1].grad = torch.view_as_complex(torch.ones(5, 2)).conj().imag * -1 + 0
    params[1].grad = torch.view_as_complex(torch.ones(5, 2)).conj().imag


@pytest.mark.parametrize("change", [transposed, odd_grad, shared, negative])
def test_what_cannot_be_fused_goes_torchs_way(change):
    params, twins = leaves([(3, 4), (5,)], torch.float32), leaves([(3, 4), (5,)], torch.float32)
    ours, theirs = optim.Adafactor(params), torch.optim.Adafactor(twins)
    for own, optimizer in ((params, ours), (twins, theirs)):
        for step in range(2):
            set_grads(own, step)
            if change is not shared or step == 0:
                change(own)
            optimizer.step()
    assert "torch" in ours.last_path
    torch.testing.assert_close(params, twins)
    assert [ours.state[param]["step"].item() for param in params] == [2, 2]


def test_a_subclass_of_tensors_is_left_to_torch():
    class Tagged(torch.Tensor):
        pass

    params = [torch.ones(3, 2).as_subclass(Tagged).requires_grad_(), torch.nn.Parameter(torch.ones(4))]
    optimizer = optim.Adafactor(params)
    for _ in range(2):
        for param in params:
            param.grad = torch.ones_like(param)
        optimizer.step()
        reason = "param_groups[0]['params'][0]: a tensor is not plain memory"
        assert optimizer.last_path == f"fused, and torch for 1 of 2: {reason}"
    twin = torch.nn.Parameter(torch.ones(4))
    expected = optim.Adafactor([twin])
    for _ in range(2):
        twin.grad = torch.ones(4)
        expected.step()
    assert torch.equal(params[1], twin)


def test_complex_and_sparse_are_refused_in_torchs_words():
    param = torch.nn.Parameter(torch.ones(3, dtype=torch.complex64))
    param.grad = torch.ones(3, dtype=torch.complex64)
    with pytest.raises(RuntimeError, match="Adafactor does not support complex parameters"):
        optim.Adafactor([param]).step()
    param = torch.nn.Parameter(torch.ones(3, 2))
    param.grad = torch.eye(3, 2).to_sparse()
    with pytest.raises(RuntimeError, match="Adafactor does not support sparse gradients"):
        optim.Adafactor([param]).step()


def test_counts_that_stand_still_become_float32():
    params = leaves([(3, 4)])
    optimizer = optim.Adafactor(params)
    train(optimizer, params, range(1))
    optimizer.state[params[0]]["step"] = torch.tensor(256.0, dtype=torch.bfloat16)
    train(optimizer, params, range(2))
    assert optimizer.last_path == "fused"
    assert optimizer.state[params[0]]["step"].item() == 258


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of modules that the compiler imports
@pytest.mark.parametrize("mixed", [False, True])
def test_compiled(mixed):
    def run(cls):
        params = leaves([(3, 4), (5,)])
        # float64 first: of that torch takes eps for both, which here changes nothing.
        params[0] = torch.nn.Parameter(params[0].detach().double()) if mixed else params[0]
        optimizer = cls(params, lr=0.1)
        step = torch.compile(optimizer.step, backend="eager")
        for number in range(3):
            set_grads(params, number)
            step()
        return params

    torch.testing.assert_close(run(optim.Adafactor), run(torch.optim.Adafactor))


def test_constructor_takes_numbers_of_any_type_and_names_what_is_none():
    param = torch.nn.Parameter(torch.ones(2))
    optimizer = optim.Adafactor([param], eps=(np.float32(0.5), np.float64(0.25)))
    assert optimizer.defaults["eps"] == (0.5, 0.25)
    assert [type(one) for one in optimizer.defaults["eps"]] == [float, float]
    for options, words in {
        ("d", "x"): "d is 'x', expected a number: ",
        ("eps", (None, "x")): "eps is (None, 'x'), expected None or a number, and a number: ",
        ("beta2_decay", "x"): "beta2_decay is 'x', expected a number: ",
        ("eps", 3): "eps is 3, expected None or a number, and a number: ",
    }.items():
        with pytest.raises(TypeError) as ours:
            optim.Adafactor([param], **dict([options]))
        with pytest.raises(TypeError) as theirs:
            torch.optim.Adafactor([param], **dict([options]))
        assert str(ours.value) == words + str(theirs.value)
    for options in (
        {"lr": -1},
        {"beta2_decay": 0.1},
        {"eps": (-1, 0)},
        {"eps": (None, -1)},
        {"d": 0.5},
        {"weight_decay": -1},
    ):
        with pytest.raises(ValueError) as theirs:  # noqa: PT011 the text is compared
            torch.optim.Adafactor([param], **options)
        with pytest.raises(ValueError) as ours:  # noqa: PT011
            optim.Adafactor([param], **options)
        assert str(ours.value) == str(theirs.value)
