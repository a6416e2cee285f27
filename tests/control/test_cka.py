"""Linear CKA against a naive oracle, and the recorder."""

import doctest
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from reference import cka as reference
from torchpace.control import CKARecorder, MinibatchCKA, _cka, _cka_recorder, linear_cka


def normal(seed, *shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("examples", "left", "right"), [(4, 3, 2), (5, 40, 30), (50, 4, 7), (30, 30, 30), (6, 1, 50), (200, 3, 300)]
)
@pytest.mark.parametrize("unbiased", [False, True])
def test_against_the_definition(examples, left, right, unbiased):
    """With shared parts, so that it is not near 0; by both ways of computing."""
    x, y = normal(1, examples, left) + 2, normal(2, examples, right)
    y[:, 0] += x[:, 0]
    expected = reference.cka(x.numpy(), y.numpy(), unbiased=unbiased)
    assert linear_cka(x, y, unbiased=unbiased) == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(
    examples=st.integers(4, 12),
    left=st.integers(1, 20),
    right=st.integers(1, 20),
    seed=st.integers(0, 1000),
    scale=st.sampled_from([1e-150, 1e-3, 1.0, 1e5, 1e150]),
)
def test_any_shape_and_scale(examples, left, right, seed, scale):
    x, y = normal(seed, examples, left), normal(seed + 1, examples, right)
    for unbiased in (False, True):
        expected = reference.cka(x.numpy(), y.numpy(), unbiased=unbiased)
        found = linear_cka(scale * x, y, unbiased=unbiased)
        assert found == pytest.approx(expected, rel=1e-7, abs=1e-7, nan_ok=True)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("shape", [(20, 5), (20, 100)])
def test_itself_rotated_scaled_and_shifted_is_1(shape, unbiased):
    x = normal(3, *shape)
    rotation = torch.linalg.qr(normal(4, shape[1], shape[1])).Q
    for other in (x, x @ rotation, -7.0 * x, x + 100, 3 * x @ rotation - 5):
        assert linear_cka(x, other, unbiased=unbiased) == pytest.approx(1.0, abs=1e-12)
    for perm in (torch.randperm(shape[0]),):
        assert linear_cka(x[perm], x[perm], unbiased=unbiased) == pytest.approx(1.0, abs=1e-12)


def test_other_linear_maps_change_it():
    x = normal(5, 50, 5)
    stretched = x @ torch.diag(torch.tensor([10.0, 1, 1, 1, 1], dtype=torch.float64))
    assert linear_cka(x, stretched) < 0.9


def test_independent_features_are_near_0_only_if_unbiased():
    found = [
        (linear_cka(x, y), linear_cka(x, y, unbiased=True))
        for x, y in ((normal(seed, 40, 200), normal(seed + 500, 40, 200)) for seed in range(30))
    ]
    biased, unbiased = np.array(found).T
    assert biased.min() > 0.5
    assert abs(unbiased.mean()) < 4 * unbiased.std() / math.sqrt(30)
    assert np.abs(unbiased).max() < 0.1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int64])
def test_other_types_are_computed_with_in_float64(dtype):
    x, y = (10 * normal(6, 30, 8)).to(dtype), (10 * normal(7, 30, 300)).to(dtype)
    expected = reference.cka(x.double().numpy(), y.double().numpy())
    assert linear_cka(x, y) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("constant", [0.0, 0.1, 1e300, -3e-310])
def test_constant_features_are_not_alike_to_anything(constant, unbiased):
    x = torch.full((10, 3), constant, dtype=torch.float64)
    assert math.isnan(linear_cka(x, normal(1, 10, 2), unbiased=unbiased))
    assert math.isnan(linear_cka(x, x, unbiased=unbiased))
    assert math.isnan(linear_cka(normal(1, 10, 2), torch.empty(10, 0)))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_features_that_are_not_finite(bad):
    x = normal(1, 10, 3)
    x[2, 1] = bad
    assert math.isnan(linear_cka(x, normal(2, 10, 3)))
    assert math.isnan(linear_cka(normal(2, 10, 3), x, unbiased=True))


@pytest.mark.parametrize(
    ("x", "y", "unbiased", "error", "words"),
    [
        (normal(0, 3, 2), normal(0, 4, 2), False, ValueError, r"x has shape \[3, 2\] and y \[4, 2\], expected as many"),
        (normal(0, 3), normal(0, 3, 2), False, ValueError, r"x has shape \[3\] and y \[3, 2\], expected matrices"),
        (normal(0, 1, 2), normal(0, 1, 5), False, ValueError, r"\[1, 2\] and y \[1, 5\], expected at least 2 examples"),
        (normal(0, 3, 2), normal(0, 3, 5), True, ValueError, r"\[3, 2\] and y \[3, 5\], expected at least 4 examples"),
        ([[1.0]], normal(0, 3, 5), True, TypeError, "x is of type list, expected a tensor"),
        (
            normal(0, 3, 5),
            normal(0, 3, 5).to(torch.complex64),
            True,
            TypeError,
            "y is of torch.complex64, expected a real",
        ),
    ],
)
def test_errors_name_what_was_found(x, y, unbiased, error, words):
    with pytest.raises(error, match=words):
        linear_cka(x, y, unbiased=unbiased)


def test_minibatches_against_the_definition():
    x, y = normal(1, 60, 10), normal(2, 60, 4)
    y[:, :2] += x[:, :2]
    found = MinibatchCKA()
    assert math.isnan(found.value)
    terms = np.zeros(3)
    for start in range(0, 60, 12):
        some, others = x[start : start + 12], y[start : start + 12]
        found.update(some, others)
        a, b = some.numpy(), others.numpy()
        terms += [reference.hsic(a, b), reference.hsic(a, a), reference.hsic(b, b)]
    assert found.batches == 5
    assert found.value == pytest.approx(terms[0] / math.sqrt(terms[1] * terms[2]), rel=1e-10)
    found.reset()
    assert found.batches == 0
    assert math.isnan(found.value)


def test_minibatches_agree_with_all_at_once():
    x = normal(1, 20_000, 6)
    y = x @ normal(2, 6, 6) + 0.3 * normal(3, 20_000, 6)
    found = MinibatchCKA()
    for start in range(0, 20_000, 20):
        found.update(x[start : start + 20], y[start : start + 20])
    assert found.value == pytest.approx(linear_cka(x, y), abs=0.01)
    naive = np.mean([linear_cka(x[s : s + 20], y[s : s + 20]) for s in range(0, 20_000, 20)])
    assert abs(naive - linear_cka(x, y)) > 0.03  # which the mean of the batches' does not


def test_minibatches_need_4_examples():
    with pytest.raises(ValueError, match="at least 4 examples"):
        MinibatchCKA().update(normal(0, 3, 2), normal(1, 3, 2))


class Odd(nn.Module):
    """Outputs of all kinds, a buffer that each call changes, and random numbers in eval mode."""

    def __init__(self):
        super().__init__()
        self.pair = Pair()
        self.named = Named()
        self.norm = nn.BatchNorm1d(4)
        self.act = nn.ReLU(inplace=True)
        self.unused = nn.Linear(4, 4)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("replaced", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        self.replaced = self.replaced + 1
        torch.rand(3)
        return self.act(self.act(self.norm(self.named(self.pair(x)[0])["hidden"])) - 1)


class Pair(nn.Module):
    def forward(self, x):
        return x * 2, x


class Named(nn.Module):
    def forward(self, x):
        return {"none": None, "hidden": x + 1}


def test_recorder_keeps_what_the_layers_gave():
    torch.manual_seed(0)
    model, probe = Odd(), torch.randn(8, 4)
    recorder = CKARecorder(model, ["pair", "named", "act"], probe)
    recorder.record(0)
    recorder.record(5)
    assert recorder.steps == [0, 5]
    assert torch.equal(recorder._kept["pair"][0], probe * 2)
    assert torch.equal(recorder._kept["named"][0], probe * 2 + 1)
    assert recorder._kept["act"][0].shape == (8, 8)  # called twice
    first = torch.relu(model.eval().norm(probe * 2 + 1))  # not what the layer behind it left there in place
    assert torch.allclose(recorder._kept["act"][0][:, :4], first)


def test_recorder_leaves_everything_as_it_was():
    torch.manual_seed(0)
    model, probe = Odd(), torch.randn(8, 4)
    model.train()
    model.norm.eval()
    calls, replaced = model.calls, model.replaced
    random = torch.get_rng_state()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    recorder = CKARecorder(model, ["pair"], probe)
    recorder.record(0)
    assert torch.equal(torch.get_rng_state(), random)
    assert model.calls is calls
    assert model.replaced is replaced
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert not model.norm.training
    assert not any(module._forward_hooks for module in model.modules())
    assert model.norm.weight.grad is None


def test_recorder_leaves_everything_as_it_was_when_it_raises():
    model, probe = Odd(), torch.randn(8, 4)
    recorder = CKARecorder(model, ["pair", "unused"], probe)
    with pytest.raises(RuntimeError, match="did not call the layer 'unused'"):
        recorder.record(0)
    bad = CKARecorder(model, ["pair", "norm"], torch.randn(8, 5))
    with pytest.raises(RuntimeError):
        bad.record(0)
    assert recorder.steps == bad.steps == []
    assert recorder._kept["pair"] == []
    assert model.training
    assert model.calls == 0
    assert not any(module._forward_hooks for module in model.modules())


def test_recording_between_forward_and_backward():
    torch.manual_seed(0)
    model, inputs = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout()), torch.randn(8, 4)
    with CKARecorder(model, ["0"], inputs) as recorder:
        loss = model(inputs).square().sum()
        recorder.record(0)
        loss.backward()
    assert model[0].weight.grad is not None


def test_matrix_is_the_alignment_of_each_two_steps():
    torch.manual_seed(0)
    model, inputs = nn.Sequential(nn.Linear(4, 6), nn.Tanh()), torch.randn(16, 4)
    with CKARecorder(model, ["1"], (inputs,)) as recorder:
        seen = []
        for step in (3, 7, 8):
            recorder.record(step)
            seen.append(model(inputs).detach())
            with torch.no_grad():
                model[0].weight += torch.randn(6, 4)
    for row in range(3):
        for column in range(3):
            expected = reference.cka(seen[row].double().numpy(), seen[column].double().numpy())
            assert recorder.matrix("1")[row, column] == pytest.approx(expected, rel=1e-10)
    assert recorder.similarity("1", 3, 8) == pytest.approx(float(recorder.matrix("1")[0, 2]))
    with pytest.raises(KeyError, match="step 4 was not recorded"):
        recorder.similarity("1", 3, 4)
    with pytest.raises(RuntimeError, match="closed"):
        recorder.record(9)


def test_features_may_be_a_fixed_choice():
    torch.manual_seed(0)
    model, inputs = nn.Sequential(nn.Conv1d(1, 5, 3)), torch.randn(6, 1, 20)
    recorder = CKARecorder(model, ["0"], {"input": inputs}, max_features=7)
    recorder.record(0)
    recorder.record(1)
    assert recorder._kept["0"][0].shape == (6, 7)
    assert recorder.similarity("0", 0, 1) == pytest.approx(1.0)
    everything = model(inputs).flatten(1)
    for column in recorder._kept["0"][0].T:
        assert (everything == column[:, None]).all(0).any()


@pytest.mark.parametrize(
    ("layers", "options", "words"),
    [
        (["3"], {}, "layers has '3', expected names of submodules: 0"),
        ([], {}, "expected a list of at least one name"),
        ("0", {}, "expected a list of at least one name"),
        (["0", "0"], {}, "expected each name once"),
        (["0"], {"max_features": 0}, "max_features is 0, expected at least 1"),
    ],
)
def test_recorder_errors(layers, options, words):
    with pytest.raises(ValueError, match=words):
        CKARecorder(nn.Sequential(nn.Linear(2, 2)), layers, torch.ones(3, 2), **options)


def test_outputs_that_cannot_be_kept():
    class Text(nn.Module):
        def forward(self, x):
            return "no tensor"

    class Number(nn.Module):
        def forward(self, x):
            return x.sum()

    with pytest.raises(TypeError, match="the output of '0' is of type str, expected a tensor in it"):
        CKARecorder(nn.Sequential(Text()), ["0"], torch.ones(3, 2)).record(0)
    with pytest.raises(ValueError, match=r"the output of '0' has shape \[\], expected examples"):
        CKARecorder(nn.Sequential(Number()), ["0"], torch.ones(3, 2)).record(0)
    recorder = CKARecorder(model := nn.Sequential(nn.Linear(2, 2)), ["0"], torch.ones(3, 2))
    recorder.record(0)
    model[0] = nn.Linear(2, 3)
    with pytest.raises(ValueError, match=r"'0' has shape \[3, 3\], at first \[3, 2\]"):
        recorder.record(1)


@pytest.mark.parametrize("module", [_cka, _cka_recorder])
def test_the_docstrings_run(module):
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0


def test_a_record_that_fails_keeps_nothing():
    """Not even which features were chosen of the layers before the one that fails."""
    model = nn.Sequential(nn.Linear(2, 6), nn.Linear(6, 3))
    recorder = CKARecorder(model, ["0", "1"], torch.ones(3, 2), max_features=2)
    model[1].forward = lambda x: "no tensor"
    with pytest.raises(TypeError, match="the output of '1' is of type str"):
        recorder.record(0)
    del model[1].forward
    model[0], model[1] = nn.Linear(2, 3), nn.Linear(3, 3)  # fewer than were there to choose from
    recorder.record(1)
    assert recorder.steps == [1]
    assert recorder.matrix("0").shape == (1, 1)
    assert repr(recorder) == "CKARecorder(layers=['0', '1'], steps=[1], closed=False)"


def test_batches_so_far_are_told():
    cka = MinibatchCKA()
    cka.update(x := torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), x)
    assert repr(cka) == "MinibatchCKA(batches=1, value=1)"
