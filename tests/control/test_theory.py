"""Bounds against spectra and against optimizers at work, and what the scaling rules keep."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchpace import optim
from torchpace.control import effective_lr, max_stable_lr, max_stable_lr_adam, max_stable_lr_rmsprop, retune, scale_lr


def radius(matrix):
    return np.abs(np.linalg.eigvals(np.array(matrix, dtype=np.float64))).max()


def of_sgd(eta, a, beta, dampening, nesterov):
    """One step of torch's SGD on a/2 theta^2, as a matrix on (theta, v)."""
    v = np.array([(1 - dampening) * a, beta])
    direction = np.array([a, 0]) + beta * v if nesterov else v
    return radius([np.array([1, 0]) - eta * direction, v])


def of_adam(eta, a, beta, decay):
    m = np.array([(1 - beta) * a, beta])
    return radius([np.array([1 - eta * decay, 0]) - eta * m, m])


betas = st.floats(0, 0.99)
curvatures = st.floats(1e-3, 1e3)


@given(curvatures, betas, betas, st.floats(0, 10), st.floats(1e-4, 1))
def test_the_heavy_ball_is_stable_just_below_the_bound_and_not_just_above(a, beta, dampening, decay, share):
    bound = max_stable_lr(a, beta, dampening, weight_decay=decay)
    dampening = dampening if beta else 0  # torch does not dampen without momentum
    assert of_sgd(bound * (1 - 1e-6), a + decay, beta, dampening, False) < 1
    assert of_sgd(bound * (1 - 1e-6), share * a + decay, beta, dampening, False) < 1
    assert of_sgd(bound * (1 + 1e-6), a + decay, beta, dampening, False) > 1


@given(curvatures, st.floats(1e-3, 0.99), st.floats(0, 10), st.floats(1e-4, 1))
def test_nesterov_is_stable_just_below_the_bound_and_not_just_above(a, beta, decay, share):
    bound = max_stable_lr(a, beta, nesterov=True, weight_decay=decay)
    assert of_sgd(bound * (1 - 1e-6), a + decay, beta, 0, True) < 1
    assert of_sgd(bound * (1 - 1e-6), share * a + decay, beta, 0, True) < 1
    assert of_sgd(bound * (1 + 1e-6), a + decay, beta, 0, True) > 1


@given(curvatures, betas, st.floats(0, 10), st.floats(1e-4, 1))
def test_adam_and_rmsprop_are_stable_just_below_the_bound_and_not_just_above(a, beta, decay, share):
    bound = max_stable_lr_adam(a, beta, decay)
    assert of_adam(bound * (1 - 1e-6), a, beta, decay) < 1
    assert of_adam(bound * (1 - 1e-6), share * a, beta, decay) < 1
    assert of_adam(bound * (1 + 1e-6), a, beta, decay) > 1
    bound = max_stable_lr_rmsprop(a, beta)
    assert of_sgd(bound * (1 - 1e-6), a, beta, 0, False) < 1
    assert of_sgd(bound * (1 + 1e-6), a, beta, 0, False) > 1


def run(optimizer_class, curvature, steps, **options):
    """|theta| after some steps on the quadratic of these curvatures, from ones."""
    theta = torch.nn.Parameter(torch.ones(len(curvature), dtype=torch.float64))
    optimizer = optimizer_class([theta], **options)
    for _ in range(steps):
        theta.grad = torch.tensor(curvature, dtype=torch.float64) * theta.detach()
        optimizer.step()
    return theta.detach().norm().item()


@pytest.mark.parametrize("module", [torch.optim, optim], ids=["torch", "ours"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "dampening": 0.9},
        {"momentum": 0.5, "dampening": 0.3, "weight_decay": 0.7},
        {"momentum": 0.9, "nesterov": True},
        {"momentum": 0.7, "nesterov": True, "weight_decay": 0.3},
        {"dampening": 0.5},
    ],
    ids=str,
)
def test_sgd_itself_converges_below_the_bound_and_diverges_above(module, options):
    curvature = [3.0, 1.0, 0.1]
    bound = max_stable_lr(3.0, **options)
    # By how much a step multiplies theta near the bound, to first order: 600 steps of half a percent are plenty.
    assert run(module.SGD, curvature, 4000, lr=0.995 * bound, **options) < 1e-2
    assert run(module.SGD, curvature, 4000, lr=1.005 * bound, **options) > 1e2


def test_adam_and_rmsprop_themselves_with_a_preconditioner_that_stays():
    # So large an eps that the roots beside it vanish: P = eps.
    eps, curvature = 1e40, [3.0, 0.5]
    for beta in (0.5, 0.9):
        bound = max_stable_lr_adam(3.0 / eps, beta)
        options = {"betas": (beta, 0.999), "eps": eps}
        assert run(torch.optim.Adam, curvature, 6000, lr=0.99 * bound, **options) < 1e-2
        assert run(torch.optim.Adam, curvature, 1000, lr=1.03 * bound, **options) > 1e2
    for momentum in (0.0, 0.9):
        bound = max_stable_lr_rmsprop(3.0 / eps, momentum)
        options = {"eps": eps, "momentum": momentum}
        assert run(torch.optim.RMSprop, curvature, 6000, lr=0.99 * bound, **options) < 1e-2
        assert run(torch.optim.RMSprop, curvature, 1000, lr=1.03 * bound, **options) > 1e2


def test_adamws_decay_shrinks_its_bound():
    eps, curvature = 1e40, [3.0, 0.5]
    options = {"betas": (0.9, 0.999), "eps": eps, "weight_decay": 1e-40}
    bound = max_stable_lr_adam(3.0 / eps, 0.9, decoupled_weight_decay=1e-40)
    assert bound < 0.9 * max_stable_lr_adam(3.0 / eps, 0.9)
    assert run(torch.optim.AdamW, curvature, 6000, lr=0.99 * bound, **options) < 1e-2
    assert run(torch.optim.AdamW, curvature, 1000, lr=1.03 * bound, **options) > 1e2


def test_figures_of_plain_descent():
    assert max_stable_lr(4.0) == 0.5
    after = {eta: run(torch.optim.SGD, [4.0], 50, lr=eta) for eta in (0.49, 0.5, 0.51)}
    assert round(after[0.49], 4) == 0.1299
    assert after[0.5] == 1
    assert round(after[0.51], 3) == 7.107


def test_figures_of_momentum():
    assert max_stable_lr(1.0, 0.9) == pytest.approx(3.8, rel=1e-14)
    assert max_stable_lr(1.0, 0.9, dampening=0.9) == pytest.approx(38, rel=1e-14)
    assert max_stable_lr(1.0, 0.9, nesterov=True) == pytest.approx(3.8 / 2.8, rel=1e-14)
    assert max_stable_lr_adam(1.0, 0.9) == pytest.approx(38, rel=1e-14)
    # Under a constant gradient the momentum is 10 g at 0.9 and 100 g at 0.99.
    assert effective_lr(1.0, 0.9) == pytest.approx(10)
    assert effective_lr(1.0, 0.99) == pytest.approx(100)


def test_scaling_a_feature_scales_the_bound_by_its_square():
    data = np.random.default_rng(0).normal(size=(200, 3))
    bounds = []
    for scale in (1, 10, 100):
        scaled = data * np.array([scale, 1, 1])
        bounds.append(max_stable_lr(np.linalg.eigvalsh(scaled.T @ scaled / 200)[-1]))
    assert bounds[1] / bounds[2] == pytest.approx(100, rel=1e-3)
    assert bounds[0] > 50 * bounds[1]


def test_the_linear_rule_keeps_progress_while_the_rate_is_small():
    left = {}
    for batch in (1, 8, 64):
        eta = scale_lr(0.01, 1, batch)
        left[batch] = run(torch.optim.SGD, [1.0], 1024 // batch, lr=eta)
    assert [float(f"{value:.1e}") for value in left.values()] == [3.4e-5, 2.3e-5, 8e-8]


def test_the_square_root_rule_keeps_the_variance_of_a_step():
    generator = torch.Generator().manual_seed(0)
    spread = []
    for batch in (4, 64):
        gradients = torch.randn(20_000, batch, generator=generator).mean(1)
        spread.append((scale_lr(0.1, 4, batch, rule="sqrt") * gradients).var().item())
    # Two estimates of one variance from 20,000 values each: standard error 1 % each.
    assert abs(math.log(spread[0] / spread[1])) < 3 * math.sqrt(2) * 0.01


@pytest.mark.parametrize("dampening", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99])
def test_the_effective_rate_is_that_of_the_optimizer(momentum, dampening):
    theta = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.SGD([theta], lr=0.1, momentum=momentum, dampening=dampening)
    for _ in range(3000):
        before = theta.item()
        theta.grad = torch.ones(1, dtype=torch.float64)
        optimizer.step()
    assert before - theta.item() == pytest.approx(effective_lr(0.1, momentum, dampening), rel=1e-9)


@given(st.floats(0, 10), betas, betas)
def test_retuned_rates_have_the_same_effect(lr, momentum, to_momentum):
    again = retune(lr, momentum, to_momentum)
    assert effective_lr(again, to_momentum) == pytest.approx(effective_lr(lr, momentum), rel=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: max_stable_lr(-1.0), "max_stable_lr: lambda_max is -1, expected a finite number >= 0"),
        (lambda: max_stable_lr(math.nan), "lambda_max is NaN"),
        (lambda: max_stable_lr(1, momentum=1), "momentum is 1, expected a number >= 0 and < 1"),
        (lambda: max_stable_lr(1, 0.5, dampening=1), "dampening is 1"),
        (lambda: max_stable_lr(1, weight_decay=-1), "weight_decay is -1"),
        (lambda: max_stable_lr(1, nesterov=True), "nesterov is True, expected False, or a momentum and zero dampening"),
        (lambda: max_stable_lr(1, 0.9, 0.1, nesterov=True), "nesterov is True"),
        (lambda: max_stable_lr_rmsprop(1, 2), "max_stable_lr_rmsprop: momentum is 2"),
        (lambda: max_stable_lr_adam(1, 1), "max_stable_lr_adam: beta1 is 1"),
        (lambda: max_stable_lr_adam(1, decoupled_weight_decay=-1), "decoupled_weight_decay is -1"),
        (lambda: scale_lr(0.1, 0, 1), "scale_lr: batch is 0, expected a finite number > 0"),
        (lambda: scale_lr(0.1, 1, 2, rule="cubic"), 'rule is "cubic", expected "linear" or "sqrt"'),
        (lambda: effective_lr(-1, 0.9), "effective_lr: lr is -1"),
        (lambda: retune(0.1, 0.9, 1), "retune: to_momentum is 1"),
    ],
)
def test_arguments_out_of_range(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_no_curvature_has_no_bound():
    assert max_stable_lr(0) == max_stable_lr_rmsprop(0) == max_stable_lr_adam(0) == math.inf
    assert max_stable_lr(0, weight_decay=0.5) == 4
    with pytest.raises(TypeError, match="lambda_max"):
        max_stable_lr("4")
