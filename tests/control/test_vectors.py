"""Lists of tensors as vectors, against NumPy in float64."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from torchpace import _native
from torchpace.control import _vectors
from torchpace.control._vectors import axpy_, dot, norm, scale_

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]

LAYOUTS = {
    "contiguous": lambda t: t,
    "transposed": lambda t: t.t().clone(memory_format=torch.contiguous_format).t(),
    "gaps": lambda t: torch.zeros(2 * t.shape[0], 3 * t.shape[1], dtype=t.dtype)[::2, ::3].copy_(t),
    "backwards": lambda t: t.flip(0).clone(),
}


def numbers(shape, dtype, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def flat(x):
    return np.concatenate([np.asarray(t.detach().double()).ravel() for t in x])


def in_rust(x, y):
    return _native.dot(x, y, 1) is not None


@pytest.mark.parametrize("of_y", LAYOUTS)
@pytest.mark.parametrize("of_x", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("other", DTYPES, ids=str)
def test_any_type_and_layout(dtype, other, of_x, of_y):
    shapes = [(3, 5), (1, 1), (0, 4), (40, 31)]
    x = [LAYOUTS[of_x](numbers(shape, dtype, 1)) for shape in shapes]
    y = [LAYOUTS[of_y](numbers(shape, other, 2)) for shape in shapes]
    assert in_rust(x, y)
    a, b = flat(x), flat(y)
    assert dot(x, y) == pytest.approx(float(a @ b), abs=1e-13 * float(np.abs(a) @ np.abs(b)))
    assert norm(x) == pytest.approx(float(np.linalg.norm(a)), rel=1e-14)
    axpy_(0.7, x, y)
    # Rounded to the type of y, by float32 where that is a 16-bit one.
    assert [t.dtype for t in y] == [other] * 4
    close = {"rtol": 0, "atol": 4 * torch.finfo(other).eps}
    torch.testing.assert_close(torch.tensor(flat(y)), torch.tensor(0.7 * a + b), **close)
    scale_(-0.3, x, y)
    torch.testing.assert_close(torch.tensor(flat(y)), torch.tensor(-0.3 * a), **close)


def test_sums_are_rounded_to_the_nearest():
    x, y = [numbers((1000,), torch.float32, 1)], [numbers((1000,), torch.float32, 2)]
    exact = [Fraction(0.1) * Fraction(u) + Fraction(v) for u, v in zip(flat(x), flat(y), strict=True)]
    axpy_(0.1, x, y)
    for found, value in zip(y[0].numpy(), exact, strict=True):
        half = Fraction(float(np.spacing(np.abs(found)))) / 2
        assert abs(Fraction(float(found)) - value) <= half * (1 + Fraction(2) ** -28)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
def test_complex_numbers_are_their_parts(dtype):
    x, y = [numbers((7, 3), dtype, 1)], [numbers((7, 3), dtype, 2)]
    assert in_rust(x, y)
    expected = (x[0].conj().resolve_conj() * y[0]).real.sum().item()
    assert dot(x, y) == pytest.approx(expected, rel=1e-5)
    assert dot([x[0].conj()], [y[0].conj()]) == pytest.approx(expected, rel=1e-5)
    assert not in_rust([x[0].conj()], y)
    after = 0.5 * x[0].conj() + y[0]
    axpy_(0.5, [x[0].conj()], y)
    torch.testing.assert_close(y[0], after)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 4), max_size=3), max_size=5),
    st.floats(-10, 10),
    st.sampled_from([None, 70_000]),
)
def test_any_shapes(shapes, a, large):
    shapes = [tuple(shape) for shape in shapes] + [(large,)] * (large is not None)
    x = [numbers(shape, torch.float64, k) for k, shape in enumerate(shapes)]
    y = [numbers(shape, torch.float64, 100 + k) for k, shape in enumerate(shapes)]
    if not shapes:
        assert dot(x, y) == norm(x) == 0
        axpy_(a, x, y)
        return
    u, v = flat(x), flat(y)
    assert dot(x, y) == pytest.approx(math.fsum(u * v), abs=1e-12 * float(np.abs(u) @ np.abs(v)))
    axpy_(a, x, y)
    np.testing.assert_allclose(flat(y), a * u + v, rtol=1e-14, atol=1e-13)
    scale_(a, y, y)
    np.testing.assert_allclose(flat(y), a * (a * u + v), rtol=1e-14, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_bits_do_not_depend_on_the_threads(dtype):
    shapes = [(7,), (300_000,), (), (3, 40_000), (123_457,)]
    x, y = ([numbers(shape, dtype, seed + k) for k, shape in enumerate(shapes)] for seed in (0, 50))
    sums, results = set(), []
    for threads in (1, 2, 3, 5):
        sums.add(_native.dot(x, y, threads))
        mine = [t.clone() for t in y]
        assert _native.axpy(0.3, x, mine, threads)
        results.append(mine)
    assert len(sums) == 1
    for mine in results[1:]:
        assert all(map(torch.equal, mine, results[0]))


def test_nothing_but_the_elements_is_written():
    base = torch.full((9, 9), 7.0)
    axpy_(1.0, [torch.ones(3, 3)], [base[1:7:2, ::4]])
    expected = torch.full((9, 9), 7.0)
    expected[1:7:2, ::4] = 8
    assert torch.equal(base, expected)


def test_a_tensor_may_be_both():
    x = [torch.arange(5.0), torch.tensor(2.0)]
    axpy_(2.0, x, x)
    assert [t.tolist() for t in x] == [[0, 3, 6, 9, 12], 6]
    scale_(0.5, x, x)
    assert [t.tolist() for t in x] == [[0, 1.5, 3, 4.5, 6], 3]


def test_written_tensors_have_a_new_version():
    x, y = [torch.ones(3)], [torch.ones(3)]
    before = x[0]._version, y[0]._version
    dot(x, y)
    assert (x[0]._version, y[0]._version) == before
    axpy_(1.0, x, y)
    scale_(1.0, x, y)
    assert x[0]._version == before[0]
    assert y[0]._version == before[1] + 2


def test_autograd_notices_the_write():
    weight = torch.nn.Parameter(torch.ones(3))
    loss = weight.square().sum()
    axpy_(1.0, [torch.ones(3)], [weight.detach()])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_expanded_tensors_are_read_and_not_written():
    wide = torch.ones(1).expand(5)
    assert dot([wide], [torch.arange(5.0)]) == 10
    y = [torch.zeros(5)]
    axpy_(2.0, [wide], y)
    assert y[0].tolist() == [2.0] * 5
    with pytest.raises(RuntimeError, match=r"tensors\[0\]: y of shape \[5\] and strides \[0\] has more than one"):
        axpy_(2.0, y, [wide])


@pytest.mark.parametrize("traced", [False, True])
def test_lists_that_do_not_match(traced, monkeypatch):
    monkeypatch.setattr(_vectors, "_is_traced", lambda: traced)
    for operation in (dot, lambda x, y: axpy_(1.0, x, y), lambda x, y: scale_(1.0, x, y)):
        with pytest.raises(RuntimeError, match="x has 2 tensors, expected 1"):
            operation([torch.ones(2)] * 2, [torch.ones(2)])
        with pytest.raises(RuntimeError, match=r"tensors\[1\]: x has shape \[1\], expected \[2\]"):
            operation([torch.ones(2), torch.ones(1)], [torch.ones(2), torch.ones(2)])


def test_written_memory_is_shared_with_nothing():
    base = torch.arange(10.0)
    before = base.clone()
    for x, y in (
        ([base[:5]], [base[1:6]]),
        ([torch.ones(5), base[:5]], [base[2:7], torch.ones(5)]),
        ([torch.ones(5), torch.ones(5)], [base[:5], base[4:9]]),
        ([base[5:], base[:5]], [base[:5], base[5:]]),
    ):
        with pytest.raises(RuntimeError, match="the tensors of y, which are written, share memory"):
            axpy_(1.0, x, y)
        assert torch.equal(base, before)
        dot(x, y)  # reads alone


class Sub(torch.Tensor):
    pass


@pytest.mark.parametrize(
    "make",
    [
        lambda t: t.as_subclass(Sub),
        lambda t: torch.complex(torch.zeros_like(t), -t).conj().imag,
        lambda t: t.to(torch.float8_e4m3fn).to(torch.float32) * 0 + t.to(torch.int64),
    ],
    ids=["subclass", "negative view", "integers"],
)
def test_what_is_left_to_torch(make):
    plain = torch.tensor([1.0, -2.0, 3.0])
    other = make(plain)
    assert other.tolist() == plain.tolist()
    assert dot([other], [plain]) == 14
    y = [torch.ones(3)]
    axpy_(2.0, [other], y)
    assert y[0].tolist() == [3, -3, 7]
    scale_(2.0, [other], y)
    assert y[0].tolist() == [2, -4, 6]


def test_integers_are_not_read_here():
    assert _native.dot([torch.ones(2, dtype=torch.int64)], [torch.ones(2)], 1) is None
    assert _native.axpy(1.0, [torch.ones(2)], [torch.ones(2).as_subclass(Sub)], 1) is False
    assert dot([torch.full((2,), 3)], [torch.ones(2)]) == 6


def test_a_dispatch_mode_sees_the_operators():
    with FakeTensorMode():
        y = [torch.ones(3)]
        axpy_(2.0, [torch.ones(3)], y)
        assert y[0].shape == (3,)


def test_parameters_are_tensors_too():
    weight = torch.nn.Parameter(torch.full((3,), 2.0))
    assert in_rust([weight], [weight])
    assert norm([weight]) == pytest.approx(math.sqrt(12))


def test_infinite_and_nan():
    assert dot([torch.tensor([math.inf, 1.0])], [torch.ones(2)]) == math.inf
    assert math.isnan(norm([torch.tensor([math.nan, 1.0])]))
    assert norm([torch.full((4,), 3e38)]) == pytest.approx(6e38)  # no square overflows
