"""What is around Muon's step: clipping and skipping, a GradScaler, errors, what is left to torch, files."""

import copy
import subprocess
import sys

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from matrices import NEW, SHAPES, leaves, normal, train
from torchpace import optim
from torchpace.optim import checkpoint

PLACE = "param_groups[0]['params'][1]"

# Where torch imports its compiler.
torchs_deprecations = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


def pair(**options):
    """A matrix and a vector, under one optimizer."""
    weight, bias = torch.nn.Parameter(normal([(6, 4)])[0].float()), torch.nn.Parameter(normal([(6,)])[0].float())
    optimizer = optim.Muon([{"params": [weight]}, {"params": [bias], "use_muon": False, "lr": 0.1}], lr=0.1, **options)
    return optimizer, [weight, bias]


def own(optimizer):
    return [param for group in optimizer.param_groups for param in group["params"]]


def unlike(params, size=3.0, seed=5):
    for param, grad in zip(params, normal([param.shape for param in params], seed=seed), strict=True):
        param.grad = (grad * size).to(param.dtype)


# By the norm of all gradients.


def apart(weight, bias):
    """The same by two optimizers of torch's."""
    return torch.optim.Muon([weight], lr=0.1), torch.optim.AdamW([bias], lr=0.1)


@pytest.mark.parametrize("value", [None, 0.25])
@pytest.mark.parametrize("bound", [None, 0.5, 1e9])
def test_clipping(bound, value):
    """Seen by the momentum, which Newton and Schulz's iteration does not scale away."""
    optimizer, params = pair(max_grad_norm=bound, clip_value=value)
    _, twins = pair()
    others = apart(*twins)
    for step in range(3):
        unlike(params, 10.0**step, seed=step)
        unlike(twins, 10.0**step, seed=step)
        before = [param.grad.clone() for param in params]
        norm = torch.nn.utils.get_total_norm([param.grad for param in twins])
        if bound is not None:
            torch.nn.utils.clip_grad_norm_(twins, bound)
        if value is not None:
            torch.nn.utils.clip_grad_value_(twins, value)
        optimizer.step()
        for other in others:
            other.step()
        assert optimizer.last_path == "fused"
        assert all(torch.equal(param.grad, grad) for param, grad in zip(params, before, strict=True))
        if bound is not None:
            torch.testing.assert_close(optimizer.grad_norm, norm)
        else:
            assert optimizer.grad_norm is None
    torch.testing.assert_close(params, twins, rtol=1e-3, atol=1e-3)
    found = optimizer.state[params[0]]["momentum_buffer"]
    torch.testing.assert_close(found, others[0].state[twins[0]]["momentum_buffer"], rtol=1e-5, atol=1e-6)


def assert_unmoved(optimizer, call):
    params, state = [param.detach().clone() for param in own(optimizer)], copy.deepcopy(optimizer.state_dict())
    result = call()
    assert all(torch.equal(param, before) for param, before in zip(own(optimizer), params, strict=True))
    after = optimizer.state_dict()
    assert after["state"].keys() == state["state"].keys()
    for key, entries in state["state"].items():
        if any(not isinstance(value, torch.Tensor) for value in entries.values()):
            assert after["state"][key] == entries
            continue
        torch.testing.assert_close(after["state"][key], entries, rtol=0, atol=0)
    return result


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize(
    ("options", "size", "path"),
    [
        ({"skip_grad_norm": 1.0}, 3.0, "skipped: the norm of the gradients is"),
        ({"skip_grad_norm": 1.0}, float("nan"), "skipped: the norm of the gradients is nan"),
        ({"nonfinite_norm": "skip"}, float("inf"), "skipped: the norm of the gradients is"),
    ],
    ids=str,
)
def test_skipped_by_the_norm(options, size, path, fresh):
    optimizer, params = pair(**options)
    if not fresh:
        unlike(params, 1e-3)
        optimizer.step()
        assert not optimizer.last_step_skipped
    unlike(params, size)
    assert_unmoved(optimizer, optimizer.step)
    assert optimizer.last_path.startswith(path)
    assert optimizer.last_step_skipped


def test_a_norm_that_is_not_finite_raises():
    optimizer, params = pair(nonfinite_norm="raise")
    unlike(params)
    params[1].grad[2] = float("inf")

    def refused():
        with pytest.raises(RuntimeError, match="total norm of the gradients is inf"):
            optimizer.step()

    assert_unmoved(optimizer, refused)


@pytest.mark.parametrize("clips", [{}, {"max_grad_norm": 0.5}])
def test_a_grad_scaler(clips):
    optimizer, params = pair(**clips)
    other, twins = pair(**clips)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for step in range(4):
        unlike(twins, seed=step)
        for param, twin in zip(params, twins, strict=True):
            param.grad = twin.grad * scaler.get_scale()
        overflows = step == 2
        scaler.scale(torch.ones(()))
        if overflows:
            params[0].grad[0, 0] = float("inf")
            assert_unmoved(optimizer, lambda: scaler.step(optimizer))
        else:
            scaler.step(optimizer)
            other.step()
        assert optimizer.last_step_skipped is overflows
        scaler.update()
    assert optimizer.last_path == "fused"
    torch.testing.assert_close(params, twins)


@pytest.mark.parametrize("found", [0.0, 1.0])
def test_a_scale_and_what_was_found(found):
    """As torch's fused optimizers are given them."""
    optimizer, params = pair(max_grad_norm=0.5)
    other, twins = pair(max_grad_norm=0.5)
    unlike(params, 3.0 * 64)
    unlike(twins, 3.0)
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(64.0), torch.tensor(found)
    if found:
        assert_unmoved(optimizer, optimizer.step)
        assert optimizer.last_step_skipped
        return
    optimizer.step()
    other.step()
    torch.testing.assert_close(params, twins)
    torch.testing.assert_close([param.grad for param in params], [twin.grad for twin in twins])
    torch.testing.assert_close(optimizer.grad_norm, other.grad_norm)


# Errors.


def trained(named=False, **options):
    params = leaves([(4, 4), (4, 6)])
    optimizer = optim.Muon([("first", params[0]), ("fc.weight", params[1])] if named else params, **options)
    return optimizer, train(optimizer, params, range(1))


def assert_refused(optimizer, error, *words):
    def refused():
        with pytest.raises(error) as info:
            optimizer.step()
        for word in words:
            assert word in str(info.value).replace("\\'", "'"), str(info.value)

    assert_unmoved(optimizer, refused)
    assert optimizer.last_path is None


@pytest.mark.parametrize(("named", "place"), [(False, PLACE), (True, f"{PLACE} (fc.weight)")])
def test_state_of_the_wrong_shape(named, place):
    optimizer, params = trained(named)
    optimizer.state[params[1]]["momentum_buffer"] = torch.zeros(6, 4)
    assert_refused(optimizer, RuntimeError, place, "momentum_buffer has shape [6, 4], expected [4, 6]")


@pytest.mark.parametrize("value", [3, "zero", [1.0], None])
def test_state_that_is_no_tensor(value):
    optimizer, params = trained()
    optimizer.state[params[1]]["momentum_buffer"] = value
    assert_refused(optimizer, TypeError, PLACE, '"momentum_buffer"', "expected a tensor")


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, torch.bool], ids=str)
def test_state_of_the_wrong_type(dtype):
    optimizer, params = trained()
    optimizer.state[params[1]]["momentum_buffer"] = torch.zeros(4, 6, dtype=dtype)
    assert_refused(optimizer, RuntimeError, PLACE, "momentum_buffer is", str(dtype))


def test_state_on_another_device():
    optimizer, params = trained()
    optimizer.state[params[1]]["momentum_buffer"] = torch.zeros(4, 6, device="meta")
    with pytest.raises(RuntimeError, match="momentum_buffer is on device meta, expected cpu"):
        optimizer.step()


def test_state_that_is_no_dict():
    optimizer, params = trained()
    optimizer.state[params[1]] = 3
    with pytest.raises(TypeError, match="expected a dict"):
        optimizer.step()


def test_a_parameter_that_meets_itself():
    optimizer, params = trained()
    params[1].data = torch.ones(4, 1).expand(4, 6)
    assert_refused(optimizer, RuntimeError, PLACE, "more than one element in one place")
    params[1].data = torch.ones(40).as_strided((4, 6), (3, 1))
    assert_refused(optimizer, RuntimeError, PLACE, "more than one element in one place")


def test_strides_that_interlock_without_meeting():
    param = torch.nn.Parameter(torch.zeros(6).as_strided((2, 2), (2, 3)))
    param.grad = torch.eye(2)
    optimizer = optim.Muon([param], lr=0.1)
    optimizer.step()
    assert optimizer.last_path == "fused"
    assert param[0, 0] < 0
    assert param[0, 1].abs() < 0.02


def test_freed_storage():
    optimizer, params = trained()
    params[1].grad.untyped_storage().resize_(0)
    assert_refused(optimizer, RuntimeError, PLACE, "grad has 24 elements and its storage is empty")


def test_complex_parameters_and_sparse_gradients():
    for cls in (optim.Muon, torch.optim.Muon):
        param = torch.nn.Parameter(torch.ones(2, 3, dtype=torch.complex64))
        param.grad = torch.ones_like(param)
        with pytest.raises(RuntimeError, match="Muon does not support complex parameters"):
            cls([param]).step()
        param = torch.nn.Parameter(torch.ones(2, 3))
        param.grad = torch.ones(2, 3).to_sparse()
        with pytest.raises(RuntimeError, match="Muon does not support sparse gradients"):
            cls([param]).step()


@pytest.mark.parametrize(
    ("name", "value", "error", "expected"),
    [
        ("lr", "fast", TypeError, "a number"),
        ("lr", torch.ones(2), TypeError, "a number"),
        ("lr", float("nan"), ValueError, "a finite number"),
        ("momentum", None, TypeError, "a number"),
        ("weight_decay", float("inf"), ValueError, "a finite number"),
        ("nesterov", torch.ones(2), TypeError, "True or False"),
        ("maximize", torch.ones(2), TypeError, "True or False"),
        ("ns_steps", 2.5, TypeError, "a whole number"),
        ("ns_steps", True, TypeError, "a whole number"),
        ("ns_coefficients", "cubic", ValueError, "'quintic', 'polar_express'"),
        ("ns_coefficients", 3.0, TypeError, "three numbers"),
        ("ns_coefficients", (1.0, "x", 2.0), TypeError, "three numbers"),
        ("ns_coefficients", [(1.0, 1.0, 1.0)] * 3, ValueError, "expected 3"),
        ("ns_dtype", torch.float16, ValueError, "torch.bfloat16 or torch.float32"),
        ("adjust_lr_fn", "other", ValueError, "adjust_lr_fn"),
    ],
    ids=str,
)
def test_options_of_groups(name, value, error, expected):
    optimizer, _ = trained()
    optimizer.param_groups[0][name] = value
    assert_refused(optimizer, error, "param_groups[0]", name, expected)


@pytest.mark.parametrize("name", ["lr", "momentum", "ns_coefficients", "ns_steps", "eps", "adjust_lr_fn", "nesterov"])
def test_an_option_removed(name):
    optimizer, _ = trained()
    del optimizer.param_groups[0][name]
    assert_refused(optimizer, KeyError, "param_groups[0]", f'"{name}" is missing')


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"lr": -1.0}, ValueError, "Learning rate should be >= 0 but is: -1.0"),
        ({"lr": torch.ones(2)}, ValueError, "Tensor lr must be 1-element"),
        ({"momentum": -1.0}, ValueError, "momentum should be >= 0 but is: -1.0"),
        ({"weight_decay": -1.0}, ValueError, "weight decay should be >= 0 but is: -1.0"),
        ({"adjust_lr_fn": "other"}, ValueError, "Adjust learning rate function other is not supported"),
        ({"ns_steps": 100}, ValueError, "Number of steps must be less than 100"),
        ({"ns_coefficients": (1.0, 2.0)}, ValueError, "Coefficients must be a tuple of exactly 3 values"),
        ({"params": [torch.ones(3)]}, ValueError, "Muon only supports 2D parameters whereas we found .*Size..3"),
        ({"params": [torch.ones(())]}, ValueError, "Muon only supports 2D parameters whereas we found"),
        ({"params": []}, ValueError, "optimizer got an empty parameter list"),
    ],
    ids=str,
)
def test_constructors_that_torch_refuses(options, error, message):
    for cls in (optim.Muon, torch.optim.Muon):
        given = {"params": [torch.nn.Parameter(torch.ones(2, 2))], **options}
        for param in given["params"]:
            param.grad = torch.ones_like(param)
        with pytest.raises(error, match=message):
            cls(**given).step()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ns_coefficients": "cubic"}, "ns_coefficients is 'cubic', expected 'quintic', 'polar_express'"),
        ({"ns_coefficients": "polar_express", "ns_steps": 6}, "ns_steps is 6, expected 5"),
        ({"ns_coefficients": [(1, 2, 3), (1, 2)]}, "Coefficients must be a tuple of exactly 3 values"),
        ({"ns_coefficients": ()}, "Coefficients must be a tuple of exactly 3 values"),
        ({"ns_coefficients": [(1, 2, 3)] * 3, "ns_steps": 4}, "ns_steps is 4, expected 3"),
        ({"ns_dtype": torch.float64}, "ns_dtype is torch.float64, expected torch.bfloat16 or torch.float32"),
        ({"ns_dtype": "half"}, "ns_dtype is 'half', expected torch.bfloat16 or torch.float32"),
        ({"max_grad_norm": -1.0}, "Invalid max_grad_norm value"),
    ],
    ids=str,
)
def test_options_of_ours_out_of_their_range(options, message):
    with pytest.raises(ValueError, match=message):
        optim.Muon(leaves([(2, 2)]), **options)


@pytest.mark.parametrize("value", ["x", [], object(), 1j, torch.ones(2)], ids=repr)
@pytest.mark.parametrize("name", ["lr", "weight_decay", "momentum", "eps"])
def test_what_is_no_number_is_named(name, value):
    with pytest.raises((TypeError, ValueError, RuntimeError), match=rf"(?i)\b{name.replace('_', '.')}\b"):
        train(optim.Muon(params := leaves([(2, 2)]), **{name: value}), params, range(1))


def test_a_vector_added_later_leaves_the_optimizer_as_it_was():
    optimizer, _ = trained()
    before = optimizer.state_dict()
    with pytest.raises(ValueError, match="Muon only supports 2D parameters"):
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(3))]})
    assert optimizer.state_dict()["param_groups"] == before["param_groups"]


# What is left to torch.


class Watching(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


def compare(optimizer, other, path):
    """That a step of both goes the same way."""
    for one in (optimizer, other):
        unlike(own(one))
        one.step()
    assert optimizer.last_path.startswith(path), optimizer.last_path
    torch.testing.assert_close(own(optimizer), own(other), rtol=1e-5, atol=1e-5)


def test_under_a_dispatch_mode_torch_steps():
    with Watching():
        compare(optim.Muon(leaves(SHAPES["wide"])), torch.optim.Muon(leaves(SHAPES["wide"])), "torch: a TorchDispatch")


@pytest.mark.parametrize("options", [{}, {"ns_dtype": "float32", "maximize": True, "max_grad_norm": 1.0}], ids=str)
def test_under_a_dispatch_mode_so_does_what_torch_lacks(options):
    optimizer, other = (optim.Muon(leaves(NEW["convolutions"]), lr=0.1, **options) for _ in range(2))
    optimizers = [pair(**options)[0], pair(**options)[0]]
    for watched, free in ((optimizer, other), optimizers):
        for one in (watched, free):
            unlike(own(one))
        free.step()
        with Watching():
            watched.step()
        assert watched.last_path == "torch: a TorchDispatchMode is active"
        torch.testing.assert_close(own(watched), own(free), rtol=1e-4, atol=1e-4)


def test_tensors_that_share_memory():
    def shared(cls):
        store = normal([(5, 4)])[0].float()
        return cls([torch.nn.Parameter(store[:4]), torch.nn.Parameter(store[1:])], lr=0.1)

    compare(shared(optim.Muon), shared(torch.optim.Muon), "torch: tensors of the step share memory")
    optimizer = shared(lambda params, lr: optim.Muon(params, lr, maximize=True))
    unlike(own(optimizer))
    assert_refused(optimizer, RuntimeError, "maximize=True needs the fused step", "share memory")


def test_columns_of_one_tensor_share_none():
    """But they lie among each other, which is not told from sharing."""
    store = torch.zeros(4, 6)
    optimizer = optim.Muon([torch.nn.Parameter(store[:, :3]), torch.nn.Parameter(store[:, 3:])], lr=0.1)
    unlike(own(optimizer))
    optimizer.step()
    assert optimizer.last_path == "torch: tensors of the step share memory"
    assert store.all()


def test_tensors_of_other_classes():
    from torch.testing._internal.two_tensor import TwoTensor

    def two(seed):
        return TwoTensor(*(value.float() for value in normal([(5, 4), (5, 4)], seed=seed)))

    def wrapped(cls, **options):
        param = torch.nn.Parameter(two(0))
        param.grad = two(1)
        return cls([param], lr=0.1, **options), param

    (optimizer, param), (other, twin) = wrapped(optim.Muon), wrapped(torch.optim.Muon)
    optimizer.step()
    other.step()
    assert optimizer.last_path == "torch: param of param_groups[0]['params'][0] is a TwoTensor"
    assert torch.equal(param.a, twin.a)
    assert torch.equal(param.b, twin.b)
    optimizer, _ = wrapped(optim.Muon, ns_dtype="float32")
    with pytest.raises(RuntimeError, match="ns_dtype=float32 needs the fused step"):
        optimizer.step()


def test_what_is_overridden_is_called():
    class Own(optim.Muon):
        called = 0

        def _init_group(self, *args):
            self.called += 1
            return super()._init_group(*args)

    optimizer = Own(leaves(SHAPES["wide"]))
    compare(optimizer, torch.optim.Muon(leaves(SHAPES["wide"])), "torch: _init_group is overridden")
    assert optimizer.called == 1


@torchs_deprecations
def test_compiled():
    optimizer, other = (optim.Muon(leaves([(4, 4), (4, 6)]), lr=0.1) for _ in range(2))
    unlike(own(optimizer))
    unlike(own(other))
    torch.compile(optimizer.step, backend="eager")()
    other.step()
    assert optimizer.last_path == "torch: torch.compile is tracing"
    torch.testing.assert_close(own(optimizer), own(other), rtol=1e-3, atol=1e-3)


@torchs_deprecations
def test_compiled_with_what_torch_lacks():
    """It is left out of the trace."""
    for (optimizer, _), (other, _) in [(pair(), pair()), (pair(max_grad_norm=1.0), pair(max_grad_norm=1.0))]:
        unlike(own(optimizer))
        unlike(own(other))
        torch.compile(optimizer.step, backend="eager")()
        other.step()
        assert optimizer.last_path == "fused"
        torch.testing.assert_close(own(optimizer), own(other), rtol=0, atol=0)


@pytest.mark.parametrize("options", [{}, {"max_grad_norm": 0.5}], ids=str)
def test_distributed_tensors(options, tmp_path):
    if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
        pytest.skip("this torch is built without gloo")
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        other, twins = pair(**options)
        weight, bias = (distribute_tensor(twin.detach().clone(), mesh, [Shard(0)]) for twin in twins)
        groups = [{"params": [weight]}, {"params": [bias], "use_muon": False, "lr": 0.1}]
        for param in (weight, bias):
            param.requires_grad_()
        optimizer = optim.Muon(groups, lr=0.1, **options)
        unlike(twins)
        for param, twin in zip((weight, bias), twins, strict=True):
            param.grad = distribute_tensor(twin.grad, mesh, [Shard(0)])
        optimizer.step()
        other.step()
        assert "DTensor" in optimizer.last_path
        torch.testing.assert_close([weight.full_tensor(), bias.full_tensor()], twins, rtol=1e-4, atol=1e-4)
    finally:
        torch.distributed.destroy_process_group()


def test_on_meta_tensors_and_fake_ones():
    from torch._subclasses.fake_tensor import FakeTensorMode

    param = torch.nn.Parameter(torch.ones(4, 6, device="meta"))
    param.grad = torch.ones_like(param)
    optim.Muon([param, param.new_ones(3, 3)]).step()
    with FakeTensorMode():
        optimizer, params = pair()
        unlike(params)
        optimizer.step()
    assert optimizer.last_path == "torch: a TorchDispatchMode is active"


# Files, and torch's own tests.


def test_files(tmp_path):
    options = {"ns_dtype": "float32", "ns_coefficients": "polar_express"}
    optimizer, params = pair(**options)
    unlike(params)
    optimizer.step()
    checkpoint.save(optimizer, tmp_path / "muon.safetensors")
    again, twins = pair(**options)
    again.param_groups[0]["lr"] = 9.0
    for param, twin in zip(params, twins, strict=True):
        twin.data.copy_(param)
    checkpoint.load(again, tmp_path / "muon.safetensors")
    assert again.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]
    for one in (optimizer, again):
        unlike(own(one), seed=9)
        one.step()
    assert all(torch.equal(param, twin) for param, twin in zip(params, twins, strict=True))


COLLECT = """
import sys, torch
from torch.testing._internal import common_optimizers as torchs

(info,) = [info for info in torchs.optim_db if info.optim_cls is torch.optim.Muon]
inputs = torchs._get_optim_inputs_including_global_cliquey_kwargs("cpu", torch.float32, info)
wrong = [row.optimizer_error_input for row in info.optim_error_inputs_func("cpu", torch.float32)]
errors = [row.error_regex for row in info.optim_error_inputs_func("cpu", torch.float32)]
kinds = [(row.params, row.kwargs) for row in wrong]
torch.save(([row.kwargs for row in inputs], list(zip(kinds, errors))), sys.argv[1])
"""


def test_torchs_inputs(tmp_path):
    path = tmp_path / "inputs.pt"
    run = subprocess.run([sys.executable, "-c", COLLECT, str(path)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    inputs, errors = torch.load(path, weights_only=False)
    assert len(inputs) >= 5
    for options in inputs:
        params, twins = leaves(SHAPES["blocks"]), leaves(SHAPES["blocks"])
        ours, theirs = optim.Muon(params, **options), torch.optim.Muon(twins, **options)
        assert repr(ours) == repr(theirs)
        train(ours, params)
        train(theirs, twins)
        assert ours.last_path == "fused"
        torch.testing.assert_close(params, twins, rtol=1e-2, atol=1e-2)
    assert len(errors) > 3
    refused = 0
    for (params, options), text in errors:
        params = leaves([(2, 3)]) if params is None else params
        if isinstance(params, list) and any(isinstance(one, torch.Tensor) and one.ndim > 2 for one in params):
            optim.Muon(params, **options)  # ours takes them
            continue
        refused += 1
        for param in params if isinstance(params, list) else ():
            if isinstance(param, torch.Tensor):
                param.grad = torch.ones_like(param)  # a file has none
        with pytest.raises(Exception, match=text):
            optim.Muon(params, **options).step()
    assert refused >= 3
