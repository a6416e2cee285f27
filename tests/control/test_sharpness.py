"""Eigenvalues of Hessians against dense ones, SciPy's and known ones; and what a measurement leaves alone."""

import contextlib
import math

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from torch.nn import functional as F  # noqa: N812

from torchpace import optim
from torchpace.control import CurvatureLR, Sharpness, sharpness
from torchpace.control._hessian import Hessian
from torchpace.control._untouched import Untouched


def vector(values, dtype=torch.float64):
    return torch.nn.Parameter(torch.tensor(values, dtype=dtype))


def quadratic(eigenvalues, dtype=torch.float64, seed=0):
    """A quadratic with these eigenvalues in random directions, its parameter, and its matrix."""
    generator = torch.Generator().manual_seed(seed)
    size = len(eigenvalues)
    basis, _ = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    matrix = (basis * torch.tensor(eigenvalues, dtype=torch.float64)) @ basis.T
    matrix = ((matrix + matrix.T) / 2).to(dtype)
    theta = torch.nn.Parameter(torch.randn(size, generator=generator, dtype=torch.float64).to(dtype))
    return lambda: theta @ matrix @ theta / 2, theta, matrix


class Small(torch.nn.Module):
    """Two layers, and a loss on fixed data."""

    def __init__(self, dtype=torch.float64, dropout=0.0, norm=False):
        super().__init__()
        self.first, self.last = torch.nn.Linear(3, 4, dtype=dtype), torch.nn.Linear(4, 2, dtype=dtype)
        self.norm = torch.nn.BatchNorm1d(4, dtype=dtype) if norm else torch.nn.Identity()
        self.dropout = torch.nn.Dropout(dropout)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for param in self.parameters():
                param.copy_(torch.randn(param.shape, generator=generator))
        self.data = torch.randn(20, 3, generator=generator, dtype=torch.float64).to(dtype)
        self.goal = torch.randn(20, 2, generator=generator, dtype=torch.float64).to(dtype)

    def forward(self, x):
        return self.last(self.dropout(self.norm(torch.tanh(self.first(x)))))

    def loss(self, batch=slice(None)):
        return F.mse_loss(self(self.data[batch]), self.goal[batch])


def dense(loss, params):
    """The whole Hessian, by torch."""
    params = list(params)
    sizes = [param.numel() for param in params]
    values = torch.cat([param.detach().flatten() for param in params])

    def of(flat):
        names = iter(part.view_as(param) for part, param in zip(flat.split(sizes), params, strict=True))
        return loss(*names)

    return torch.autograd.functional.hessian(of, values)


def dense_of(model):
    names = [name for name, _ in model.named_parameters()]

    def loss(*values):
        x = torch.func.functional_call(model, dict(zip(names, values, strict=True)), (model.data,))
        return F.mse_loss(x, model.goal)

    return dense(loss, model.parameters())


@pytest.mark.parametrize("method", ["exact", "difference"])
@pytest.mark.parametrize("which", ["largest", "smallest", "magnitude"])
def test_the_whole_hessian_of_a_network(which, method):
    model = Small()
    eigenvalues = torch.linalg.eigvalsh(dense_of(model)).tolist()
    assert eigenvalues[0] < -0.01  # both signs
    order = {"largest": lambda v: -v, "smallest": lambda v: v, "magnitude": lambda v: -abs(v)}[which]
    expected = sorted(eigenvalues, key=order)[:3]
    found = sharpness(model.loss, model, k=3, which=which, method=method, tol=1e-8, eigenvectors=True)
    assert found.converged
    assert found.method == method
    assert found.values == pytest.approx(expected, rel=1e-6)
    assert found.iterations == found.products <= 26
    full = dense_of(model)
    for value, residual, parts in zip(found.values, found.residuals, found.eigenvectors, strict=True):
        flat = torch.cat([part.flatten() for part in parts])
        assert flat.norm().item() == pytest.approx(1)
        assert (full @ flat - value * flat).norm().item() == pytest.approx(residual, abs=1e-6)
        assert residual <= 1e-8 * abs(value)


def test_as_scipys_eigsh():
    model = Small()
    matrix = dense_of(model).numpy()
    ours = sharpness(model.loss, model.parameters(), k=2, tol=1e-10)
    theirs = scipy.sparse.linalg.eigsh(matrix, k=2, which="LA", return_eigenvectors=False)
    np.testing.assert_allclose(ours.values, sorted(theirs, reverse=True), rtol=1e-9)


@pytest.mark.parametrize("solver", ["lanczos", "power"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(
    ("eigenvalues", "largest", "smallest", "magnitude"),
    [
        ([4.0, 1.0, 0.5], 4, 0.5, 4),
        ([-1.0, -5.0, -2.0], -1, -5, -5),
        ([3.0, -7.0, 0.0], 3, -7, -7),
        ([0.0, -2.0, -1.0], 0, -2, -2),
        ([6.0], 6, 6, 6),
    ],
)
def test_known_spectra(eigenvalues, largest, smallest, magnitude, dtype, solver):
    loss, theta, _ = quadratic(eigenvalues, dtype)
    for which, expected in (("largest", largest), ("smallest", smallest), ("magnitude", magnitude)):
        found = sharpness(loss, [theta], which=which, solver=solver, tol=1e-5)
        assert found.converged
        assert found.value == pytest.approx(expected, rel=1e-5, abs=1e-5)
        assert float(found) == found.value == found.values[0]


def test_a_large_spectrum_with_one_outlier():
    loss, theta, _ = quadratic([100.0, *np.linspace(0, 1, 199)], torch.float32)
    found = sharpness(loss, [theta])
    assert found.value == pytest.approx(100, rel=1e-5)
    assert found.products <= 4
    assert sharpness(loss, [theta], solver="power").value == pytest.approx(100, rel=1e-5)


def test_eigenvalues_that_occur_several_times():
    for eigenvalues, k in (([2.0] * 5, 3), ([5.0, 5, 5, 1, 1, 1, 1], 4), ([5.0, 5, 1, 1], 2), ([3.0, 2, 1], 3)):
        loss, theta, _ = quadratic(eigenvalues)
        found = sharpness(loss, [theta], k=k, eigenvectors=True)
        assert found.converged
        assert found.values == pytest.approx(sorted(eigenvalues, reverse=True)[:k])
        basis = torch.stack([parts[0] for parts in found.eigenvectors])
        torch.testing.assert_close(basis @ basis.T, torch.eye(k, dtype=torch.float64))


def test_no_curvature():
    theta = vector([1.0, 2.0])
    for loss in (lambda: theta.sum(), lambda: 0 * theta.square().sum(), lambda: (theta * 3).sum() + 1):
        for solver in ("lanczos", "power"):
            for method in ("exact", "difference"):
                found = sharpness(loss, [theta], solver=solver, method=method)
                assert found.value == pytest.approx(0, abs=1e-9)
    found = sharpness(lambda: theta.sum(), [theta], k=2)
    assert (found.values, found.converged, found.products) == ((0, 0), True, 2)


def test_scalars_empty_frozen_and_unused_parameters():
    scalar, empty, unused = vector(2.0), vector([]), vector([1.0, 1.0])
    frozen = vector([5.0]).requires_grad_(False)
    params = [empty, scalar, frozen, unused]
    found = sharpness(lambda: 3 * scalar**2 * frozen.sum() + empty.sum(), params, eigenvectors=True)
    assert found.value == pytest.approx(30)
    shapes = [tuple(part.shape) for part in found.eigenvectors[0]]
    assert shapes == [(0,), (), (1,), (2,)]
    assert [abs(part).sum().item() for part in found.eigenvectors[0]] == pytest.approx([0, 1, 0, 0], abs=1e-12)
    for params in ([empty], [frozen], []):
        with pytest.raises(ValueError, match="no element that is not held fixed"):
            sharpness(lambda: scalar**2, params)


def test_complex_parameters_are_their_parts():
    z = torch.nn.Parameter(torch.tensor([1 + 2j, 3 - 1j], dtype=torch.complex128))

    def loss():
        x, y = z.real, z.imag
        return x[0] ** 2 + 3 * y[0] ** 2 + x[0] * y[1] + 2 * y[1] ** 2 + x[1] ** 2

    x = torch.tensor([[2.0, 0, 0, 1], [0, 2, 0, 0], [0, 0, 6, 0], [1, 0, 0, 4]])
    for method in ("exact", "difference"):
        found = sharpness(loss, [z], k=4, method=method, tol=1e-6)
        assert found.values == pytest.approx(sorted(torch.linalg.eigvalsh(x).tolist(), reverse=True), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_narrow_types(dtype):
    model = Small()
    exact = sharpness(model.loss, model).value
    model = Small(dtype)
    found = sharpness(model.loss, model, tol=1e-2)
    assert found.value == pytest.approx(exact, rel=1e-4 if dtype == torch.float32 else 3e-2)


def test_batches_are_averaged():
    model = Small()
    whole = sharpness(model.loss, model, tol=1e-8)
    parts = [slice(k, k + 5) for k in (0, 5, 10, 15)]
    for data in (parts, iter(parts), (part for part in parts)):
        for method in ("exact", "difference"):
            found = sharpness(model.loss, model, data=data if isinstance(data, list) else list(parts), method=method)
            assert found.value == pytest.approx(whole.value, rel=1e-5)
    assert sharpness(model.loss, model, data=iter(parts), tol=1e-8).value == pytest.approx(whole.value, rel=1e-9)


def test_the_graph_of_one_batch_is_kept():
    model = Small()
    calls = []

    def loss(batch=slice(None)):
        calls.append(batch)
        return model.loss(batch)

    found = sharpness(loss, model)
    assert found.products > 3
    assert len(calls) == 1
    calls.clear()
    found = sharpness(loss, model, data=[slice(0, 10), slice(10, 20)])
    assert len(calls) == 2 * found.products


def test_the_seed_decides():
    model = Small()
    runs = [sharpness(model.loss, model, seed=seed, max_iter=3) for seed in (0, 0, 1)]
    assert runs[0] == runs[1]
    assert runs[0].values != runs[2].values
    assert not runs[0].converged


def everything(model):
    """All that a measurement leaves alone: values, objects, gradients, modes and random numbers."""
    tensors = [*model.parameters(), *model.buffers()]
    return (
        [id(tensor) for tensor in tensors],
        [tensor.detach().clone() for tensor in tensors],
        [id(param.grad) for param in model.parameters()],
        [None if param.grad is None else param.grad.clone() for param in model.parameters()],
        [module.training for module in model.modules()],
        torch.get_rng_state(),
        torch.is_grad_enabled(),
    )


def same(left, right):
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


@contextlib.contextmanager
def untouched(model):
    before = everything(model)
    yield
    assert same(before, everything(model))


def busy():
    """A model with dropout, batch norm, a gradient and random numbers that were drawn from."""
    torch.manual_seed(5)
    model = Small(dropout=0.5, norm=True)
    model.loss().backward()
    torch.rand(3)
    return model


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("method", ["exact", "difference"])
def test_all_else_is_left_alone(method, training):
    model = busy().train(training)
    parts = [slice(0, 10), slice(10, 20)]
    for data in (None, parts):
        for solver in ("lanczos", "power"):
            with untouched(model):
                sharpness(model.loss, model, data=data, method=method, solver=solver, max_iter=5)
            with untouched(model):
                sharpness(model.loss, model.first.parameters(), model=model, data=data, method=method, max_iter=5)


def test_the_graph_that_is_kept_may_use_buffers():
    model = busy().eval()
    with untouched(model):
        assert sharpness(model.loss, model).converged


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("method", ["exact", "difference"])
@pytest.mark.parametrize("at", [1, 2, 3, 6])
def test_an_interruption_leaves_all_as_it_was(at, method, error):
    model = busy()
    calls = 0

    def loss(batch):
        nonlocal calls
        calls += 1
        value = model.loss(batch)
        model.eval()
        if calls == at:
            raise error("stop")
        return value

    with untouched(model), pytest.raises(error, match="stop"):
        sharpness(loss, model, data=[slice(0, 10), slice(10, 20)], method=method)
    assert calls == at


def test_an_error_in_reading_the_data_leaves_the_random_numbers():
    model = busy()

    def data():
        yield slice(0, 10)
        torch.rand(1)
        raise OSError("no more")

    with untouched(model), pytest.raises(OSError, match="no more"):
        sharpness(model.loss, model, data=data())


def test_dropout_is_one_mask():
    torch.manual_seed(3)
    model = Small(dropout=0.5)
    runs = [sharpness(model.loss, model, data=data, method="exact") for data in (None, [slice(None)], [slice(None)])]
    assert runs[0].value == runs[1].value == runs[2].value
    # The Hessian is one operator: symmetric, although the loss draws in every evaluation.
    params = list(model.parameters())
    around = Untouched(params, model)
    with around:
        hessian = Hessian(model.loss, params, [slice(0, 10), slice(10, 20)], around, "exact", None)
        u, v = ([torch.randn_like(param) for param in params] for _ in range(2))
        left = sum((a * b).sum() for a, b in zip(u, hessian(v), strict=True)).item()
        right = sum((a * b).sum() for a, b in zip(v, hessian(u), strict=True)).item()
    assert left == pytest.approx(right, rel=1e-12)
    torch.rand(1)
    assert sharpness(model.loss, model).value != runs[0].value


class Cube(torch.autograd.Function):
    """A function that can be differentiated once."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 3 * x**2


def test_differences_where_there_is_no_second_derivative():
    theta = vector([2.0, -1.0])
    for loss, expected in (
        (lambda: Cube.apply(theta).sum(), 12),
        (lambda: Cube.apply(theta).sum() + theta.square().sum(), 14),
        (lambda: Cube.apply(theta).square().sum(), 30 * 2**4),
        (lambda: Cube.apply(theta.square()).sum(), 30 * 2**4),
    ):
        found = sharpness(loss, [theta], tol=1e-6)
        assert found.method == "difference"
        assert found.value == pytest.approx(expected, rel=1e-5)
        with pytest.raises(RuntimeError, match="differentiate twice"):
            sharpness(loss, [theta], method="exact")


def test_attention_has_no_second_derivative_in_torch():
    torch.manual_seed(0)
    query = torch.nn.Parameter(torch.randn(1, 1, 4, 8))
    other = torch.randn(1, 1, 4, 8)

    def fused():
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
            return F.scaled_dot_product_attention(query, other, other).square().sum()

    def plain():
        return (torch.softmax(query @ other.transpose(-1, -2) / 8**0.5, -1) @ other).square().sum()

    found = sharpness(fused, [query])
    assert found.method == "difference"
    assert found.value == pytest.approx(sharpness(plain, [query]).value, rel=1e-2)


def test_other_errors_are_not_taken_for_that():
    theta = vector([1.0])

    def loss():
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        sharpness(loss, [theta])


def test_in_a_block_without_gradients():
    model = Small()
    expected = sharpness(model.loss, model).value
    with torch.no_grad():
        assert sharpness(model.loss, model).value == expected
        assert not torch.is_grad_enabled()


# Preconditioned.


def stepped(make, steps=3, **options):
    """A network after some steps, and its optimizer."""
    model = Small()
    optimizer = make(model.parameters(), **options)
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss().backward()
        optimizer.step()
    return model, optimizer


def divisors(optimizer, options, name):
    """P of each parameter, from the formulas."""
    for group in optimizer.param_groups:
        for param in group["params"]:
            state = {key: torch.as_tensor(value) for key, value in optimizer.state[param].items()}
            eps = options.get("eps", 1e-10 if name == "Adagrad" else 1e-8)
            if name == "SGD":
                yield torch.ones_like(param)
            elif name == "RMSprop":
                mean = state["grad_avg"] if options.get("centered") else torch.tensor(0.0)
                yield (state["square_avg"] - mean**2).sqrt() + eps
            elif name == "Adagrad":
                late = 1 + (state["step"].item() - 1) * options.get("lr_decay", 0)
                yield (state["sum"].sqrt() + eps) * late
            else:
                t = state["step"].item()
                square = state["max_exp_avg_sq" if options.get("amsgrad") else "exp_avg_sq"]
                yield (1 - 0.9**t) * ((square / (1 - 0.999**t)).sqrt() + eps)


@pytest.mark.parametrize("module", [torch.optim, optim], ids=["torch", "ours"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SGD", {"lr": 0.01, "momentum": 0.9}),
        ("RMSprop", {}),
        ("RMSprop", {"centered": True, "alpha": 0.9, "eps": 1e-3}),
        ("Adagrad", {"lr_decay": 0.1}),
        ("Adam", {}),
        ("Adam", {"amsgrad": True, "eps": 1e-4}),
        ("AdamW", {"lr": 0.01}),
    ],
    ids=str,
)
def test_the_optimizers_preconditioner(module, name, options):
    model, optimizer = stepped(getattr(module, name), **options)
    root = torch.cat([divisor.detach().flatten() for divisor in divisors(optimizer, options, name)]).sqrt()
    matrix = dense_of(model) / root[:, None] / root
    before = optimizer.state_dict()
    found = sharpness(model.loss, model, optimizer=optimizer, k=2, tol=1e-9, eigenvectors=True)
    assert found.values == pytest.approx(torch.linalg.eigvalsh(matrix).flip(0)[:2].tolist(), rel=1e-7)
    # The vectors are those of P^-1 H.
    for value, parts in zip(found.values, found.eigenvectors, strict=True):
        flat = torch.cat([part.flatten() for part in parts])
        torch.testing.assert_close(dense_of(model) @ flat / root**2, value * flat, rtol=1e-5, atol=1e-6)
    assert str(before) == str(optimizer.state_dict())


def test_our_variants_divide_by_their_own():
    for make, options, root in (
        (optim.RMSprop, {"eps_inside": True, "eps": 0.1}, lambda s: (s["square_avg"] + 0.1).sqrt()),
        (optim.Adagrad, {"mean": True}, lambda s: (s["sum"] / 3).sqrt() + 1e-10),
    ):
        model, optimizer = stepped(make, **options)
        divisor = torch.cat([root(optimizer.state[param]).flatten() for param in model.parameters()]).detach()
        matrix = dense_of(model) / divisor.sqrt()[:, None] / divisor.sqrt()
        found = sharpness(model.loss, model, optimizer=optimizer, tol=1e-9)
        assert found.value == pytest.approx(torch.linalg.eigvalsh(matrix)[-1].item(), rel=1e-7)


def test_parameters_that_were_never_stepped_on_are_held_fixed():
    used, unused = vector([1.0]), vector([1.0])
    optimizer = torch.optim.Adam([used, unused])
    (used**2).sum().backward()
    optimizer.step()
    found = sharpness(lambda: (used**2).sum() + 50 * (unused**2).sum(), [used, unused], optimizer=optimizer)
    state = optimizer.state[used]
    assert found.value == pytest.approx(2 / (0.1 * ((state["exp_avg_sq"] / 0.001).sqrt() + 1e-8)).item(), rel=1e-5)


def test_optimizers_that_cannot_tell():
    model = Small()
    for make in (torch.optim.Adam, torch.optim.RMSprop, torch.optim.Adagrad):
        with pytest.raises(RuntimeError, match="has no state of these parameters yet"):
            sharpness(model.loss, model, optimizer=make(model.parameters()))
    with pytest.raises(TypeError, match="optimizer is NAdam, expected SGD, RMSprop, Adagrad, Adam or AdamW"):
        sharpness(model.loss, model, optimizer=torch.optim.NAdam(model.parameters()))
    with pytest.raises(ValueError, match=r"params\[2\] is not among the optimizer's parameters"):
        sharpness(model.loss, model, optimizer=torch.optim.SGD(model.first.parameters(), lr=1))


# Errors.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k is 0, expected a whole number >= 1"),
        ({"k": 3}, "k is 3, expected at most 2"),
        ({"k": 2, "solver": "power"}, "k is 2, expected 1 with the solver 'power'"),
        ({"which": "top"}, "which is 'top', expected"),
        ({"solver": "qr"}, "solver is 'qr', expected"),
        ({"method": "guess"}, "method is 'guess', expected"),
        ({"max_iter": 0}, "max_iter is 0, expected"),
        ({"tol": 0.0}, "tol is 0.0, expected a finite number > 0"),
        ({"difference_step": math.inf}, "difference_step is inf"),
        ({"data": []}, "data has no batch"),
    ],
)
def test_arguments_out_of_their_range(options, message):
    theta = vector([1.0, 2.0])
    with pytest.raises(ValueError, match=message):
        sharpness(lambda *_: theta.square().sum(), [theta], **options)


def test_losses_and_parameters_that_are_none():
    theta = vector([1.0, 2.0])
    with pytest.raises(TypeError, match="loss is of type Tensor, expected a function"):
        sharpness(theta.sum(), [theta])
    with pytest.raises(TypeError, match="model is of type list, expected Module"):
        sharpness(lambda: theta.sum(), [theta], model=[theta])
    with pytest.raises(TypeError, match="data is of type int, expected batches"):
        sharpness(lambda: theta.sum(), [theta], data=3)
    with pytest.raises(TypeError, match="loss returned float, expected a tensor of one element"):
        sharpness(lambda: 1.0, [theta])
    with pytest.raises(ValueError, match=r"loss returned shape \[2\], torch.float64, expected"):
        sharpness(lambda: theta * 2, [theta])
    with pytest.raises(RuntimeError, match="the loss depends on no parameter"):
        sharpness(lambda: theta.detach().sum(), [theta])
    with pytest.raises(RuntimeError, match="depends on none of the parameters"):
        sharpness(lambda: theta.sum(), [vector([1.0])])
    with pytest.raises(ValueError, match=r"params\[1\] is params\[0\] again"):
        sharpness(lambda: theta.sum(), [theta, theta])
    with pytest.raises(TypeError, match=r"params\[0\] is of type str, expected a tensor"):
        sharpness(lambda: theta.sum(), ["theta"])
    with pytest.raises(ValueError, match=r"params\[0\] is torch.int64"):
        sharpness(lambda: theta.sum(), [torch.ones(2, dtype=torch.int64)])
    with pytest.raises(RuntimeError, match="not finite"):
        sharpness(lambda: (theta * math.inf).square().sum(), [theta])
    with pytest.raises(RuntimeError, match="not finite"):
        sharpness(lambda: (theta * math.inf).square().sum(), [theta], solver="power")


def test_the_result_is_frozen():
    theta = vector([1.0])
    found = sharpness(lambda: theta.square().sum(), [theta])
    assert isinstance(found, Sharpness)
    assert found.eigenvectors is None
    with pytest.raises(AttributeError):
        found.converged = False


# What a number cannot be trusted with.


class Hides(torch.autograd.Function):
    """As reversible networks: recomputes, and calls ``backward``."""

    @staticmethod
    def forward(ctx, x, module):
        ctx.module = module
        ctx.save_for_backward(x)
        return module(x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            output = ctx.module(x)
        output.backward(grad)
        return x.grad, None


class HidesMore(Hides):
    """The same by a function of its own, which its code does not show."""

    @staticmethod
    def backward(ctx, grad):
        return recompute(ctx, grad)


def recompute(ctx, grad):
    return Hides.backward(ctx, grad)


class Leaves(torch.autograd.Function):
    """Leaves its backward pass to another function's, which hides nothing."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, grad):
        return Twice.backward(ctx, grad)


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * grad * x


@pytest.mark.parametrize("method", ["auto", "exact", "difference"])
@pytest.mark.parametrize("before", [True, False], ids=["parameters before", "an input that requires a gradient"])
@pytest.mark.parametrize("how", ["checkpoint", "in segments", "custom"])
def test_functions_that_hide_parameters_are_an_error(how, before, method):
    """The inner layer's curvature would be taken for 0."""
    torch.manual_seed(0)
    inner = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh()).double()
    ends = torch.nn.ModuleList([torch.nn.Linear(3, 3), torch.nn.Linear(3, 1)]).double()
    model = torch.nn.ModuleList([inner, ends])
    inputs = torch.randn(8, 3, dtype=torch.float64).requires_grad_(not before)

    def loss(hides):
        x = ends[0](inputs) if before else inputs
        if not hides:
            x = inner(x)
        elif how == "checkpoint":
            x = torch.utils.checkpoint.checkpoint(inner, x, use_reentrant=True)
        elif how == "in segments":
            x = torch.utils.checkpoint.checkpoint_sequential(inner, 2, x, use_reentrant=True)
        else:
            x = Hides.apply(x, inner)
        return ends[1](x).square().mean()

    params = [*inner.parameters(), *ends[1].parameters(), *(ends[0].parameters() if before else [])]
    with untouched(model), pytest.raises(RuntimeError, match=r"hides parameters from torch\.autograd\.grad"):
        sharpness(lambda: loss(True), params, method=method)
    optimizer = torch.optim.SGD(params, lr=0.1)
    with untouched(model), pytest.raises(RuntimeError, match=r"hides parameters from torch\.autograd\.grad"):
        CurvatureLR(optimizer, lambda: loss(True))
    found = sharpness(lambda: loss(False), params).value
    assert CurvatureLR(optimizer, lambda: loss(False), safety=0.5, tol=1e-3).get_last_lr() == pytest.approx([1 / found])
    # Without reentry, nothing is hidden.
    again = torch.utils.checkpoint.checkpoint

    def other():
        x = ends[0](inputs) if before else inputs
        return ends[1](again(inner, x, use_reentrant=False)).square().mean()

    if method != "exact":
        assert sharpness(other, params, method="difference").value == pytest.approx(found, rel=1e-3)


def test_what_adds_to_gradients_unseen_is_an_error():
    torch.manual_seed(0)
    model = torch.nn.ModuleList([torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)])
    inputs = torch.randn(8, 3)
    model[0](inputs).sum().backward()
    with untouched(model), pytest.raises(RuntimeError, match="calls backward, which hides"):
        sharpness(lambda: HidesMore.apply(model[0](inputs), model[1]).square().mean(), model, method="difference")

    def calls():
        model[0](inputs).square().mean().backward()
        return model[1](inputs).square().mean()

    with untouched(model), pytest.raises(RuntimeError, match="calls backward, which hides"):
        sharpness(calls, model)


def test_a_function_may_leave_its_backward_pass_to_another():
    theta = vector([1.0, 2.0])
    assert sharpness(lambda: 3 * Leaves.apply(theta).sum(), [theta]).value == pytest.approx(6)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("method", ["exact", "difference"])
@pytest.mark.parametrize("solver", ["lanczos", "power"])
def test_a_loss_that_is_not_finite_is_an_error(bad, method, solver):
    """Its derivatives may well be finite."""
    theta = vector([1.0, 2.0])

    def loss(shift=bad):
        return theta.square().sum() + shift

    with pytest.raises(RuntimeError, match=f"the loss is not finite: it is {bad}"):
        sharpness(loss, [theta], method=method, solver=solver)
    with pytest.raises(RuntimeError, match=f"the loss is not finite: it is {bad}"):
        sharpness(loss, [theta], method=method, solver=solver, data=[0.0, bad])


def test_parameters_in_every_form():
    model = Small()
    expected = sharpness(model.loss, model)
    groups = [{"params": model.first.parameters()}, {"params": list(model.last.named_parameters()), "lr": 3.0}]
    for params in (
        model.parameters(),
        model.named_parameters(),
        list(model.named_parameters()),
        groups,
        torch.optim.SGD(model.parameters(), lr=1).param_groups,
    ):
        assert sharpness(model.loss, params) == expected
    alone = [{"params": model.last.bias}]
    assert sharpness(model.loss, alone) == sharpness(model.loss, [model.last.bias])
    for wrong, what in (
        (model.first.weight, "Parameter"),
        (torch.ones(3, 2), "Tensor"),
        ({"a": model.first.weight}, "dict"),
        ("weights", "str"),
        (3, "int"),
    ):
        with pytest.raises(TypeError, match=f"params is of type {what}, expected a module, or tensors"):
            sharpness(model.loss, wrong)
    with pytest.raises(TypeError, match=r"params\[1\]\['params'\]\[0\] is of type float, expected a tensor"):
        sharpness(model.loss, [groups[0], {"params": [1.0]}])
    with pytest.raises(ValueError, match=r"params\[1\] \(b\) is params\[0\] \(a\) again"):
        sharpness(model.loss, [("a", model.first.weight), ("b", model.first.weight)])


@pytest.mark.parametrize("own", [True, False])
def test_reading_batches_changes_no_later_ones(own):
    """Of a loader with a generator of its own, or the global one; here and in a scheduler."""

    def epochs(measures):
        torch.manual_seed(1)
        theta = torch.nn.Parameter(torch.ones(2))
        data = torch.utils.data.DataLoader(
            torch.arange(8.0), batch_size=2, shuffle=True, generator=torch.Generator().manual_seed(2) if own else None
        )
        optimizer = torch.optim.SGD([theta], lr=0.1)

        def loss(batch):
            return (batch.mean() * theta).square().sum()

        scheduler = CurvatureLR(optimizer, loss, data, every=1, max_lr=0.1, min_lr=0.1) if measures else None
        seen = []
        for _ in range(2):
            for batch in data:
                seen.append(batch.tolist())
                optimizer.step()
                if measures:
                    scheduler.step()
                    sharpness(loss, [theta], data=data)
        return seen

    assert epochs(True) == epochs(False)
