"""Every optimizer on the device: against the rules of the papers, torch's single-tensor code and our own CPU step."""

import pytest
import torch

import cases

STEPS = 5
TYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
SHAPES = [(7, 5), (1,), (), (0, 3), (33,), (16, 16, 3), (20_011,)]
each_case = pytest.mark.parametrize("case", cases.CASES + cases.VARIANTS, ids=str)


def draw(dtype, seed, shapes=SHAPES):
    return [(0.5 + value.abs()).copysign(value) for value in cases.tensors(seed, dtype, shapes)]


def moved(values, device):
    return [value.to(device) for value in values]


def train(case, start, grads, device, **options):
    return cases.train(case.ours, case.options | options, moved(start, device), [moved(step, device) for step in grads])


def assert_same_bits(optimizer, params, twin, expected):
    """Parameters and state, but for the bits of a NaN."""
    for param, other in zip(params, expected, strict=True):
        torch.testing.assert_close(param.cpu(), other.cpu(), rtol=0, atol=0, equal_nan=True)
        assert optimizer.state[param].keys() == twin.state[other].keys()
        for key, value in twin.state[other].items():
            found = optimizer.state[param][key].cpu()
            torch.testing.assert_close(found, value.cpu(), rtol=0, atol=0, equal_nan=True)


@each_case
def test_float64_is_the_rule_of_the_paper(case, device, request):
    cases.with_wide_scalars(case, request)
    start, grads = draw(torch.float64, 0), [draw(torch.float64, 1 + step) for step in range(STEPS)]
    expected = cases.train_reference(case, start, grads)
    optimizer, params = train(case, start, grads, device)
    assert optimizer.last_path == "fused"
    assert cases.distance(moved(params, "cpu"), expected) <= 1e-12 * cases.distance(expected, start)


@each_case
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_the_bits_are_those_of_the_cpu(case, dtype, device):
    """Where the host counts, it makes the coefficients too, and every operation rounds alike."""
    start, grads = draw(dtype, 0), [draw(dtype, 1 + step) for step in range(STEPS)]
    twin, expected = train(case, start, grads, "cpu")
    optimizer, params = train(case, start, grads, device)
    assert optimizer.last_path == twin.last_path == "fused"
    assert_same_bits(optimizer, params, twin, expected)
    for param in params:
        for key, value in optimizer.state[param].items():
            assert value.device.type == ("cpu" if key == "step" else device.type)


@each_case
@pytest.mark.parametrize("option", ["fused", "capturable"])
@pytest.mark.filterwarnings("ignore:This instance was constructed with capturable=True")
def test_counts_on_the_device(case, option, device, needs):
    """The coefficients are made there in float64, whose pow may be off by some units in the last place."""
    needs(case.optimizer, option)
    start, grads = draw(torch.float64, 0), [draw(torch.float64, 1 + step) for step in range(STEPS)]
    expected = cases.train_reference(case, start, grads)
    optimizer, params = train(case, start, grads, device, **{option: True})
    assert optimizer.last_path == "fused"
    assert cases.distance(moved(params, "cpu"), expected) <= 1e-12 * cases.distance(expected, start)
    for state in optimizer.state.values():
        assert state.get("step", torch.tensor(float(STEPS))).item() == STEPS
        assert state.get("step", params[0]).device.type == device.type


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", cases.CASES, ids=str)
def test_counts_on_the_device_are_as_near_to_the_rule_as_torch(case, dtype, device, needs):
    """As for the CPU in tests/optim/test_numbers.py: at most 1.1 times the error of torch's single-tensor code."""
    needs(case.optimizer, "fused")
    # Squares of larger ones overflow in float16, in torch's code and in ours.
    start, *grads = [[value.clamp(-2, 2) for value in draw(dtype, step)] for step in range(1 + STEPS)]
    expected = cases.train_reference(case, start, grads)
    single = case.options | {"foreach": False}
    _, torchs = cases.train(case.torchs, single, moved(start, device), [moved(step, device) for step in grads])
    optimizer, params = train(case, start, grads, device, fused=True)
    assert optimizer.last_path == "fused"
    error = cases.distance(moved(params, "cpu"), expected)
    assert error <= 1.1 * cases.distance(moved(torchs, "cpu"), expected)


def layouts(device, dtype=torch.float64):
    """Parameters and gradients of the same shape, laid out in all ways."""

    def make(seed, *shape):
        values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return values.to(device, dtype)

    yield "transposed gradient", make(0, 6, 9), make(1, 9, 6).t()
    yield "transposed parameter", make(0, 9, 6).t(), make(1, 6, 9)
    yield "strided view", make(0, 12, 9)[::2, 1::3], make(1, 6, 3)
    yield "channels last", make(0, 2, 3, 4, 5).to(memory_format=torch.channels_last), make(1, 2, 3, 4, 5)
    yield "expanded gradient", make(0, 6, 9), make(1, 1, 9).expand(6, 9)
    yield "misaligned", make(0, 101)[1:], make(1, 103)[3:]
    yield "no dimension", make(0)[()], make(1)[()]
    yield "many dimensions", make(0, *(2,) * 9).permute(*reversed(range(9)))[:, ::1], make(1, *(2,) * 9)
    if dtype in (torch.float32, torch.float64):
        yield "complex", torch.view_as_complex(make(0, 5, 2)), torch.view_as_complex(make(1, 5, 2))


@pytest.mark.parametrize("name", cases.OPTIMIZERS)
def test_layouts(name, device):
    for layout, start, grad in layouts(device):
        base = start if start._base is None else start._base
        around = base.clone()
        # Steps on the memory of `start` itself, and torch's on a plain copy.
        ours, torchs = torch.nn.Parameter(start), torch.nn.Parameter(start.clone(memory_format=torch.contiguous_format))
        optimizers = [cases.Case(name).ours([ours], lr=0.1), cases.Case(name).torchs([torchs], lr=0.1, foreach=False)]
        for scale in (1.0, -0.5, 2.0):
            for param, optimizer in zip((ours, torchs), optimizers, strict=True):
                param.grad = (grad[:1] * scale).expand(grad.shape) if "expanded" in layout else grad * scale
                optimizer.step()
        torch.testing.assert_close(ours, torchs, rtol=1e-12, atol=1e-12, msg=layout)
        if layout in ("strided view", "misaligned"):
            outside = torch.ones_like(base, dtype=torch.bool)
            outside.as_strided(start.shape, start.stride(), start.storage_offset()).fill_(False)
            assert torch.equal(base[outside], around[outside]), layout
            assert outside.any(), layout


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("name", cases.OPTIMIZERS)
def test_layouts_bits_are_those_of_the_cpu(name, dtype, device):
    """Also with an address that suits no wide load: of a two-byte type, `base[1:]` is at half a word."""
    pairs = zip(layouts(device, dtype), layouts("cpu", dtype), strict=True)
    for (layout, start, grad), (_, other_start, other_grad) in pairs:
        runs = []
        for value, slope in ((start, grad), (other_start, other_grad)):
            param = torch.nn.Parameter(value)
            optimizer = cases.Case(name).ours([param], lr=0.1)
            for scale in (1.0, -0.5, 2.0):
                # A multiple would be laid out anew.
                param.grad = (slope[:1] * scale).expand(slope.shape) if "expanded" in layout else slope
                optimizer.step()
                assert optimizer.last_path == "fused", layout
            assert param.stride() == value.stride(), layout
            runs += [optimizer, [param]]
        assert_same_bits(*runs)


def test_groups_and_rates_bits_are_those_of_the_cpu(device):
    """Groups of unlike options, whose rates the host changes before each step, and gradients that come and go."""
    runs = []
    for place in (device, "cpu"):
        params = [torch.nn.Parameter(value) for value in moved(draw(torch.float32, 0), place)]
        groups = [
            {"params": params[:2], "lr": 0.1, "betas": (0.5, 0.9)},
            {"params": params[2:4], "weight_decay": 0.1, "maximize": True},
            {"params": params[4:5], "amsgrad": True, "eps": 1e-3},
            {"params": params[5:]},
        ]
        optimizer = cases.Case("Adam").ours(groups, lr=0.01)
        for step in range(STEPS):
            for i, (param, grad) in enumerate(zip(params, draw(torch.float32, 1 + step), strict=True)):
                param.grad = None if (i + step) % 4 == 0 else grad.to(place)
            for depth, group in enumerate(optimizer.param_groups):
                group["lr"] *= 0.9 - 0.1 * depth
            optimizer.step()
            assert optimizer.last_path == "fused"
        runs += [optimizer, params]
    assert_same_bits(*runs)


@pytest.mark.parametrize("case", cases.CASES, ids=str)
def test_missing_gradients_and_late_groups_as_torch(case, device):
    values, grads = draw(torch.float64, 0), [draw(torch.float64, 1 + step) for step in range(4)]
    ends = []
    for cls, more in ((case.ours, {}), (case.torchs, {"foreach": False})):
        params = [torch.nn.Parameter(value) for value in moved(values, device)]
        optimizer = cls(params[:4], **case.options, **more)
        for step, row in enumerate(grads):
            if step == 2 and case.optimizer != "Adagrad":  # torch's fails in a group added later
                optimizer.add_param_group({"params": params[4:], "lr": 0.05})
            for i, (param, grad) in enumerate(zip(params, row, strict=True)):
                param.grad = None if (i + step) % 3 == 0 else grad.to(device)
            optimizer.step()
        ends.append(params)
    for ours, torchs in zip(*ends, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-12, atol=1e-12)


def test_more_settings_than_a_launch_takes(device):
    """Every group has a learning rate of its own, and every parameter a step count of its own."""
    ends = []
    for cls, more in ((cases.Case("Adam").ours, {}), (cases.Case("Adam").torchs, {"foreach": False})):
        params = [torch.nn.Parameter(value.to(device)) for value in draw(torch.float64, 0, [(5,)] * 70)]
        optimizer = cls([{"params": [param], "lr": 0.001 * (1 + i)} for i, param in enumerate(params)], **more)
        for step in range(4):
            for i, param in enumerate(params):
                param.grad = torch.full_like(param, 0.1 * (1 + step)) if i % (step + 1) == 0 else None
            optimizer.step()
        ends.append(params)
    for ours, torchs in zip(*ends, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", cases.CASES, ids=str)
def test_a_learning_rate_on_the_device(case, dtype, device):
    values, grads = draw(torch.float64, 0), [draw(torch.float64, 1 + step) for step in range(3)]
    ends = []
    for rate in (lambda value: torch.tensor(value, dtype=dtype, device=device), float):
        params = [torch.nn.Parameter(value) for value in moved(values, device)]
        lr = rate(0.125)
        optimizer = case.ours(params, **(case.options | {"lr": lr}))
        for step, row in enumerate(grads):
            for param, grad in zip(params, moved(row, device), strict=True):
                param.grad = grad
            if isinstance(lr, torch.Tensor):
                lr.fill_(0.125 / 2**step)
            else:
                optimizer.param_groups[0]["lr"] = 0.125 / 2**step
            optimizer.step()
            assert optimizer.last_path == "fused"
        ends.append(params)
    for on_device, on_host in zip(*ends, strict=True):
        torch.testing.assert_close(on_device, on_host, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", cases.CASES, ids=str)
def test_checkpoints_go_between_devices_and_libraries(case, device, request):
    cases.with_wide_scalars(case, request)
    start, grads = draw(torch.float64, 0), [draw(torch.float64, 1 + step) for step in range(4)]
    expected = cases.train_reference(case, start, grads)
    params = [torch.nn.Parameter(value.clone()) for value in start]
    state = None
    for place, cls in (("cpu", case.ours), (device, case.ours), (device, case.torchs), (device, case.ours)):
        params = [torch.nn.Parameter(value) for value in moved(params, place)]
        optimizer = cls(cases.two_groups(params), **case.options)
        if state is not None:
            optimizer.load_state_dict(state)
        for param, grad in zip(params, moved(grads[0], place), strict=True):
            param.grad = grad
        grads = grads[1:]
        optimizer.step()
        state = optimizer.state_dict()
    assert cases.distance(moved(params, "cpu"), expected) <= 1e-11 * cases.distance(expected, start)


def test_an_error_leaves_the_optimizer_usable(device):
    params = [torch.nn.Parameter(torch.ones(4, device=device)) for _ in range(2)]
    optimizer = cases.Case("Adam").ours(params, lr=0.1)
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer.step()
    before = [param.detach().clone() for param in params]
    right = optimizer.state[params[1]]["exp_avg"]
    optimizer.state[params[1]]["exp_avg"] = torch.zeros(5, device=device)
    with pytest.raises(RuntimeError, match="exp_avg has shape"):
        optimizer.step()
    assert all(torch.equal(param, value) for param, value in zip(params, before, strict=True))
    optimizer.state[params[1]]["exp_avg"] = right
    optimizer.step()
    assert torch.equal(params[0], params[1])
    assert optimizer.state[params[0]]["step"].item() == 2
