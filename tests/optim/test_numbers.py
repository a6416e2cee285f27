"""Every optimizer against the rules written from the papers and against torch's single-tensor code."""

import pytest
import torch

import cases

STEPS = 12
INF, NAN = float("inf"), float("nan")


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("maximize", [False, True])
def test_rprop_is_torchs_to_the_bit(dtype, maximize):
    """Also where a product of gradients underflows, or is of infinity and 0, and the sign is that of 0 or NaN."""
    tiny, huge = torch.finfo(dtype).tiny, torch.finfo(dtype).max
    special = torch.tensor([0.0, -0.0, tiny, -tiny, huge, -huge, INF, -INF, NAN, 1.0, -1.0], dtype=dtype)
    rows = [special.repeat(11), special.repeat_interleave(11)]
    rows += [*cases.tensors(7, dtype, [(121,)] * 6), rows[1], rows[0]]
    case = cases.Case("Rprop", {"lr": 0.1, "etas": (0.3, 1.7), "step_sizes": (0.01, 0.4), "maximize": maximize})
    start = cases.tensors(8, dtype, [(121,), (121,)])
    grads = [[row, row.flip(0)] for row in rows]
    theirs, expected = cases.train(case.torchs, case.options | {"foreach": False}, start, grads)
    ours, params = cases.train(case.ours, case.options, start, grads)
    assert ours.last_path == "fused"
    for param, other in zip(params, expected, strict=True):
        torch.testing.assert_close(param, other, rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(ours.state[param], theirs.state[other], rtol=0, atol=0, equal_nan=True)


def test_rprop_turns_where_a_product_is_too_small_for_float16():
    """torch's is 0 there, and its steps go on and on past a minimum."""
    sizes = {}
    for cls in (cases.Case("Rprop").ours, torch.optim.Rprop):
        param = torch.nn.Parameter(torch.zeros(1, dtype=torch.float16))
        optimizer = cls([param], lr=0.5)
        for grad in (1e-4, -1e-4):
            param.grad = torch.full((1,), grad, dtype=torch.float16)
            optimizer.step()
        sizes[cls.__module__.partition(".")[0]] = optimizer.state[param]["step_size"].item()
    assert sizes == {"torchpace": 0.25, "torch": 0.5}


@pytest.mark.parametrize("lr", [0.25, torch.tensor(0.25), torch.tensor([0.25], dtype=torch.float64)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64], ids=str)
def test_where_rprops_step_sizes_begin(dtype, lr):
    """At the rate of the group, of complex numbers in both parts; a rate that changes later changes nothing."""
    params = [torch.nn.Parameter(torch.ones(3, dtype=dtype)) for _ in range(2)]
    optimizer = cases.Case("Rprop").ours([{"params": params[:1]}, {"params": params[1:], "lr": 0.5}], lr=lr)
    for rate in (None, 0.125):
        for group, param in zip(optimizer.param_groups, params, strict=True):
            group["lr"] = group["lr"] if rate is None else rate
            param.grad = torch.zeros_like(param)
        optimizer.step()
        assert optimizer.last_path == "fused"
        for size, param in zip((0.25, 0.5), params, strict=True):
            expected = torch.full((3,), complex(size, size) if dtype.is_complex else size, dtype=dtype)
            assert torch.equal(optimizer.state[param]["step_size"], expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("beta2", [0.5, 0.66, 0.6666666666666666, 0.67, 0.7, 0.9, 0.99, 0.999])
def test_radam_is_adaptive_from_the_step_on_from_which_torchs_is(beta2, dtype):
    """Without eps an adaptive step has a length that the size of the gradient does not change."""

    def moves(cls, size):
        param = torch.nn.Parameter(torch.zeros(1, dtype=dtype))
        optimizer = cls([param], lr=1.0, betas=(0.0, beta2), eps=0.0)
        found = []
        for _ in range(40):
            before = param.item()
            param.grad = torch.full((1,), size, dtype=dtype)
            optimizer.step()
            found.append(param.item() - before)
        return found

    adaptive = {
        cls.__module__.partition(".")[0]: [
            abs(one - other) < 0.1 for one, other in zip(moves(cls, 1.0), moves(cls, 4.0), strict=True)
        ]
        for cls in (cases.Case("RAdam").ours, torch.optim.RAdam)
    }
    assert adaptive["torchpace"] == adaptive["torch"]
    assert any(adaptive["torch"]) is (beta2 > 0.667)
