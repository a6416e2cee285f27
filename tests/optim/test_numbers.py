"""Every optimizer against the rules written from the papers and against torch's single-tensor code."""

import pytest
import torch

import cases

STEPS = 12


def gradients(dtype, shapes=cases.SHAPES):
    return [cases.tensors(100 + step, dtype, shapes) for step in range(STEPS)]


@pytest.mark.parametrize("case", cases.CASES + cases.VARIANTS, ids=str)
def test_float64_is_the_rule_of_the_paper(case, request):
    cases.with_wide_scalars(case, request)
    start, grads = cases.tensors(0, torch.float64), gradients(torch.float64)
    expected = cases.train_reference(case, start, grads)
    optimizer, params = cases.train(case.ours, case.options, start, grads)
    assert optimizer.last_path == "fused"
    assert cases.distance(params, expected) <= 1e-12 * cases.distance(expected, start)


@pytest.mark.parametrize("case", cases.CASES, ids=str)
def test_float64_is_torchs(case):
    start, grads = cases.tensors(1, torch.float64), gradients(torch.float64)
    torchs, expected = cases.train(case.torchs, case.options | {"foreach": False}, start, grads)
    ours, params = cases.train(case.ours, case.options, start, grads)
    assert cases.distance(params, expected) <= 1e-12 * cases.distance(expected, start)
    for param, theirs in zip(params, expected, strict=True):
        assert ours.state[param].keys() == torchs.state[theirs].keys()
        for key, value in torchs.state[theirs].items():
            torch.testing.assert_close(ours.state[param][key], value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [1, 0])
@pytest.mark.parametrize("case", cases.CASES, ids=str)
def test_float32_is_as_near_to_the_rule_as_torch(case, size):
    """From large parameters, whose rounding hides all else, and from 0, where the update's own shows."""
    start, grads = [size * value for value in cases.tensors(2, torch.float32)], gradients(torch.float32)
    expected = cases.train_reference(case, start, grads)
    _, torchs = cases.train(case.torchs, case.options | {"foreach": False}, start, grads)
    optimizer, params = cases.train(case.ours, case.options, start, grads)
    assert optimizer.last_path == "fused"
    assert cases.distance(params, expected) <= 1.1 * cases.distance(torchs, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", cases.CASES + cases.VARIANTS, ids=str)
def test_bits_do_not_depend_on_the_number_of_threads(case, dtype):
    shapes = [(300_000,), (5,), (300_001,)]
    start, grads = cases.tensors(3, dtype, shapes), [cases.tensors(4, dtype, shapes)] * 2
    before = torch.get_num_threads()
    try:
        runs = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            runs.append(cases.train(case.ours, case.options, start, grads)[1])
    finally:
        torch.set_num_threads(before)
    for run in runs[1:]:
        assert all(torch.equal(left, right) for left, right in zip(runs[0], run, strict=True))


@pytest.mark.parametrize("case", cases.CASES, ids=str)
def test_missing_gradients_as_torch(case):
    shapes = [(3,), (4,), (5,), (6,)]
    start = cases.tensors(5, torch.float64, shapes)
    grads = [cases.tensors(6 + step, torch.float64, shapes) for step in range(4)]
    for step, without in enumerate([(0, 3), (0, 1), (0,), (2, 0)]):
        for i in without:
            grads[step][i] = None
    torchs, expected = cases.train(case.torchs, case.options, start, grads)
    ours, params = cases.train(case.ours, case.options, start, grads)
    assert torch.equal(params[0], start[0])
    for param, theirs in zip(params, expected, strict=True):
        torch.testing.assert_close(param, theirs, rtol=1e-12, atol=1e-12)
        assert ours.state[param].keys() == torchs.state[theirs].keys()
        assert ours.state[param].get("step") == torchs.state[theirs].get("step")


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), 1e30, -0.0])
@pytest.mark.parametrize("case", cases.CASES, ids=str)
def test_special_values_as_torch(case, value):
    """In one step, and in the steps after it with plain gradients."""
    start = [torch.linspace(-2, 2, 40)]
    special = torch.linspace(-1, 1, 40)
    special[::3] = value
    plain = torch.linspace(1, 2, 40)
    for place, grads in enumerate([[[special], [plain], [plain]], [[plain], [special], [plain]]]):
        _, expected = cases.train(case.torchs, case.options | {"foreach": False}, start, grads)
        _, params = cases.train(case.ours, case.options, start, grads)
        torch.testing.assert_close(params[0], expected[0], rtol=1e-5, atol=1e-6, equal_nan=True, msg=f"step {place}")


def test_centered_rmsprop_stays_finite_where_torchs_variance_rounds_below_zero():
    torch.manual_seed(0)
    start, grad = torch.randn(1000), torch.randn(1000) * 10 ** torch.randn(1000)
    for cls, finite in ((torch.optim.RMSprop, False), (cases.Case("RMSprop").ours, True)):
        param = torch.nn.Parameter(start.clone())
        optimizer = cls([param], centered=True)
        for _ in range(3000):
            param.grad = grad.clone()
            optimizer.step()
        assert bool(param.isfinite().all()) is finite


def test_adam_with_the_smallest_eps_and_no_gradient():
    """eps must not underflow to 0 in the bias correction: 0 / 0."""
    param = torch.nn.Parameter(torch.ones(2))
    param.grad = torch.tensor([1.0, 0.0])
    optimizer = cases.Case("Adam").ours([param], lr=0.1, eps=1e-45)
    optimizer.step()
    torch.testing.assert_close(param, torch.tensor([0.9, 1.0]), check_dtype=False)
