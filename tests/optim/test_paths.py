"""What is not fused goes through torch's own code, with the same result as torch, and says so."""

import copy
import gc
import warnings

import pytest
import torch

import cases
from cases import OPTIMIZERS, Case
from torchpace import optim

each_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


def leaf(value):
    return torch.nn.Parameter(value.detach().clone())


def run(cls, params, grads, **options):
    optimizer = cls(params, **options)
    for step in grads:
        for param, grad in zip(params, step, strict=True):
            param.grad = grad
        optimizer.step()
    return optimizer


def compare(name, make_params, make_grads, reason, **options):
    """Three steps of ours and of torch's plain loop, and the path ours took."""
    params, reference = make_params(), make_params()
    torchs = {"foreach": False} | {key: value for key, value in options.items() if key != "fused"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of complex and sparse tensors, the same in both
        ours = run(getattr(optim, name), params, [make_grads() for _ in range(3)], **options)
        run(cases.torchs(name), reference, [make_grads() for _ in range(3)], **torchs)
    for param, expected in zip(params, reference, strict=True):
        torch.testing.assert_close(param.to_dense() if param.is_sparse else param, expected)
    assert reason in ours.last_path, ours.last_path
    assert ours.last_path.startswith("torch: ") == (reason != "fused")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.complex64], ids=str)
@each_optimizer
def test_other_types(name, dtype):
    compare(
        name,
        lambda: [leaf(torch.ones(3)), leaf(torch.ones(4, dtype=dtype))],
        lambda: [torch.full((3,), 0.5), torch.full((4,), 0.5, dtype=dtype)],
        "fused",
        # At its rate of 1 parameters come close to 0, beside which torch's roundings in between are large.
        **({"lr": 0.1} if name == "ScheduleFreeSGD" else {}),
    )


@each_optimizer
def test_gradient_laid_out_unlike_the_parameter(name):
    values = torch.arange(12.0).reshape(3, 4)
    for fused in (None, True) if name in cases.TAKE_FUSED else (None,):
        compare(
            name,
            lambda: [leaf(values)],
            lambda: [values.t().contiguous().t()],
            "fused",
            **({} if fused is None else {"fused": fused}),
        )


@each_optimizer
def test_channels_last_is_fused_where_all_tensors_are(name):
    values = torch.arange(120.0).reshape(2, 3, 4, 5)
    compare(
        name,
        lambda: [torch.nn.Parameter(values.contiguous(memory_format=torch.channels_last))],
        lambda: [(values + 1).contiguous(memory_format=torch.channels_last)],
        "fused",
    )


@each_optimizer
def test_parameter_with_gaps_and_nothing_written_between(name):
    store = torch.arange(20.0)
    view = store[::2]
    view.requires_grad_()
    compare(name, lambda: [leaf(torch.arange(20.0)[::2])], lambda: [torch.ones(10)], "fused")
    before = store.clone()
    optimizer = run(getattr(optim, name), [view], [[torch.ones(10)]])
    assert optimizer.last_path == "fused"
    assert torch.equal(store[1::2], before[1::2])
    assert not torch.equal(store[::2], before[::2])


@each_optimizer
def test_expanded_gradient(name):
    compare(name, lambda: [leaf(torch.ones(3, 4))], lambda: [torch.tensor(0.5).expand(3, 4)], "fused")


@each_optimizer
def test_negative_view(name):
    def negative():
        return torch.complex(torch.ones(()), torch.tensor(2.0)).conj().imag

    assert negative().is_neg()
    compare(name, lambda: [leaf(torch.ones(()))], lambda: [negative()], "negative view")


@pytest.mark.parametrize("name", ["SGD", "Adagrad"])
def test_sparse_gradient(name):
    index = torch.tensor([[0, 2]])
    compare(
        name,
        lambda: [leaf(torch.ones(4, 2))],
        lambda: [torch.sparse_coo_tensor(index, torch.ones(2, 2), (4, 2), check_invariants=True)],
        "grad is not plain memory (layout torch.sparse_coo, device cpu)",
    )


def test_sparse_gradient_refused_in_torchs_words():
    with pytest.raises(RuntimeError, match="Adam does not support sparse gradients, please consider SparseAdam"):
        run(
            optim.Adam,
            [leaf(torch.ones(2))],
            [[torch.sparse_coo_tensor(torch.tensor([[0]]), torch.ones(1), (2,), check_invariants=True)]],
        )


@each_optimizer
def test_parameters_that_share_memory(name):
    """Stepped on one after the other, as torch does."""

    def shared():
        store = torch.arange(8.0)
        return [torch.nn.Parameter(store[:5]), torch.nn.Parameter(store[3:])]

    compare(name, shared, lambda: [torch.ones(5), torch.full((5,), 2.0)], "share memory", lr=0.5)


def test_a_step_left_to_torch_makes_no_state_of_ours():
    """A zero momentum buffer would damp the first gradient, which torch takes whole."""
    options = {"lr": 0.5, "momentum": 0.9, "dampening": 0.5}
    param = torch.nn.Parameter(torch.zeros(2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # duplicate parameters
        optimizer = optim.SGD([param, param], **options)
    param.grad = torch.ones(2)
    optimizer.step()
    assert "share memory" in optimizer.last_path
    assert optimizer.state[param]["momentum_buffer"].tolist() == [1.0, 1.0]


@each_optimizer
def test_differentiable(name):
    def outcome(cls):
        rate = torch.tensor(2.0, requires_grad=True)
        param = torch.ones(3, requires_grad=True).clone()  # no leaf: autograd follows it
        optimizer = cls([param], lr=0.1, differentiable=True)
        param.grad = torch.ones(3) * rate
        optimizer.step()
        (slope,) = torch.autograd.grad(param.sum(), rate)
        return optimizer, slope

    ours, slope = outcome(getattr(optim, name))
    assert ours.last_path == "torch: param_groups[0] has differentiable=True"
    torch.testing.assert_close(slope, outcome(cases.torchs(name))[1])


@pytest.mark.parametrize("name", cases.TAKE_CAPTURABLE)
def test_capturable_on_the_cpu_fails_as_in_torch(name):
    for cls in (cases.torchs(name), getattr(optim, name)):
        with pytest.raises(AssertionError, match="If capturable=True"):
            run(cls, [leaf(torch.ones(2))], [[torch.ones(2)]], capturable=True)


@pytest.mark.parametrize("options", [{"foreach": True}, {"foreach": False}, {"fused": False}, {"fused": True}], ids=str)
@each_optimizer
def test_foreach_and_fused_are_hints(name, options):
    if name not in cases.TAKE_FUSED and "fused" in options:
        with pytest.raises(TypeError):
            getattr(optim, name)([leaf(torch.ones(2))], **options)
        return
    compare(name, lambda: [leaf(torch.ones(3, 4))], lambda: [torch.full((3, 4), 0.5)], "fused", **options)


def test_grad_scaler_steps_and_skips():
    """fused=True leaves the unscaling to the step; without it the scaler unscales."""
    for fused in (True, None):
        for scale, grad, moves in ((4.0, 4.0, True), (4.0, float("inf"), False)):
            param = leaf(torch.ones(3))
            optimizer = optim.Adam([param], lr=0.1, fused=fused)
            assert getattr(optimizer, "_step_supports_amp_scaling", False) is bool(fused)
            scaler = torch.amp.GradScaler("cpu", init_scale=scale)
            scaler.scale(torch.tensor(1.0))
            param.grad = torch.full((3,), grad)
            scaler.step(optimizer)
            scaler.update()
            expected = [0.9] * 3 if moves else [1.0] * 3
            torch.testing.assert_close(param, torch.tensor(expected), check_dtype=False)
    assert optimizer.param_groups[0]["fused"] is None


def test_fused_flag_is_restored_after_a_step_through_torch():
    store = torch.ones(4)
    params = [torch.nn.Parameter(store[:3]), torch.nn.Parameter(store[1:])]
    optimizer = run(optim.Adam, params, [[torch.ones(3), torch.ones(3)]], fused=True)
    assert optimizer.last_path == "torch: tensors of the step share memory"
    assert optimizer.param_groups[0]["fused"] is True


def test_step_count_that_is_no_plain_number():
    param = leaf(torch.ones(2))
    optimizer = run(optim.Adam, [param], [[torch.ones(2)]])
    optimizer.state[param]["step"] = torch.tensor(1, dtype=torch.int64)
    optimizer.step()
    assert "step is not one" in optimizer.last_path
    assert optimizer.state[param]["step"].item() == 2


def test_lazy_zero_gradient():
    compare(
        "SGD", lambda: [leaf(torch.ones(3))], lambda: [torch._efficientzerotensor((3,))], "no memory", weight_decay=0.5
    )


def test_subclass_with_its_own_memory_goes_through_torch():
    class Tagged(torch.Tensor):
        pass

    param = torch.ones(3).as_subclass(Tagged).requires_grad_()
    optimizer = run(optim.SGD, [param], [[torch.ones(3)]], lr=0.5)
    assert "of type Tagged" in optimizer.last_path
    assert param.tolist() == [0.5] * 3


def test_meta_parameters():
    param = torch.nn.Parameter(torch.ones(3, device="meta"))
    optimizer = run(optim.Adam, [param], [[torch.ones(3, device="meta")]])
    assert optimizer.last_path.startswith("torch: ")


@each_optimizer
def test_compiled_step(name):
    def outcome(cls, wrap):
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 2)
        optimizer = cls(model.parameters(), lr=0.1)

        def train(batch):
            optimizer.zero_grad()
            loss = model(batch).square().sum()
            loss.backward()
            optimizer.step()
            return loss

        train = wrap(train)
        losses = [train(torch.ones(3, 4)).item() for _ in range(4)]
        return losses, getattr(optimizer, "last_path", None)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dynamo's own
        compiled, path = outcome(getattr(optim, name), lambda step: torch.compile(step, backend="eager"))
        torch._dynamo.reset()
        expected, _ = outcome(cases.torchs(name), lambda step: torch.compile(step, backend="eager"))
        torch._dynamo.reset()
    assert compiled == expected
    assert path == "torch: torch.compile is tracing"


def test_swapped_data_state_and_copies_are_noticed():
    """Replaced `p.data`, cleared state, loaded state and deep copies, between steps."""

    def outcome(cls):
        param = leaf(torch.linspace(-1, 1, 6))
        optimizer = cls([param], lr=0.1)
        grad = torch.linspace(1, 2, 6)

        def step():
            param.grad = grad.clone()
            optimizer.step()

        step()
        param.data = torch.linspace(5, 6, 6)
        step()
        optimizer.state[param]["exp_avg"] = torch.full((6,), 0.5)
        step()
        saved = copy.deepcopy(optimizer.state_dict())
        optimizer.state.clear()
        step()
        optimizer.load_state_dict(saved)
        gc.collect()
        step()
        return param

    torch.testing.assert_close(outcome(optim.Adam), outcome(torch.optim.Adam))


@pytest.mark.parametrize("case", [Case("SGD", {"momentum": 0.9}), Case("Adam")], ids=str)
def test_shared_gradient_is_only_read(case):
    grad = torch.ones(4)
    params = [leaf(torch.ones(4)), leaf(torch.zeros(4))]
    optimizer = run(case.ours, params, [[grad, grad]], **case.options)
    assert optimizer.last_path == "fused"
    assert grad.tolist() == [1.0] * 4


def test_no_gradients_at_all():
    for case in cases.CASES:
        optimizer = case.ours([leaf(torch.ones(2))], **case.options)
        assert optimizer.step() is None
        assert optimizer.last_path == "fused"


def test_containers_that_are_no_plain_list_or_dict():
    """Their entries may be elsewhere than where a dict keeps them."""

    class Lazy(dict):
        def __missing__(self, key):
            return self.setdefault(key, {})

    def stepped(change):
        optimizer = optim.Adam([leaf(torch.ones(2))], lr=0.5)
        change(optimizer)
        optimizer.param_groups[0]["params"][0].grad = torch.ones(2)
        optimizer.step()
        torch.testing.assert_close(optimizer.param_groups[0]["params"][0], torch.full((2,), 0.5), check_dtype=False)
        return optimizer

    def tuple_of_params(optimizer):
        optimizer.param_groups[0]["params"] = tuple(optimizer.param_groups[0]["params"])

    assert stepped(tuple_of_params).last_path == "fused"
    assert stepped(lambda o: setattr(o, "state", {o.param_groups[0]["params"][0]: {}})).last_path == "fused"
    assert "state is of type Lazy" in stepped(lambda o: setattr(o, "state", Lazy())).last_path
    optimizer = stepped(lambda o: setattr(o, "param_groups", tuple(o.param_groups)))
    assert optimizer.last_path == "torch: param_groups is of type tuple"
    optimizer = stepped(lambda o: o.param_groups.__setitem__(0, Lazy(o.param_groups[0])))
    assert optimizer.last_path == "torch: param_groups[0] is of type Lazy"
    optimizer.state[optimizer.param_groups[0]["params"][0]] = Lazy(next(iter(optimizer.state.values())))
    optimizer.param_groups[0] = dict(optimizer.param_groups[0])
    optimizer.step()
    assert optimizer.last_path.endswith("its state is of type Lazy")


def test_a_dispatch_mode_sees_the_step():
    """A trace that leaves the update out would be wrong."""
    from torch.fx.experimental.proxy_tensor import make_fx

    def traced(cls):
        param = leaf(torch.ones(3))
        optimizer = cls([param], lr=0.5)

        def step(grad):
            param.grad = grad
            optimizer.step()
            return param.detach()

        return str(make_fx(step)(torch.ones(3)).graph), getattr(optimizer, "last_path", None)

    graph, path = traced(optim.SGD)
    assert path == "torch: a TorchDispatchMode is active"
    assert graph == traced(torch.optim.SGD)[0]
    assert "add_" in graph
