"""The cautious update by hand: what moves, by how much, and where it cannot be had."""

import copy

import pytest
import torch

import cases
from torchpace import optim

NAMES = ["Adam", "AdamW", "Lion", "AdEMAMix"]
each_name = pytest.mark.parametrize("name", NAMES)
# The average after 10 and then -0.5 is above 0.
LION = {"lr": 0.25, "betas": (0.5, 0.5), "cautious": True}


def make(name, values, **options):
    param = torch.nn.Parameter(torch.tensor(values, dtype=torch.float64))
    return param, getattr(optim, name)([param], **options)


def step(optimizer, param, grad):
    param.grad = torch.as_tensor(grad, dtype=param.dtype)
    optimizer.step()
    assert optimizer.last_path == "fused"


def test_what_disagrees_stays_and_the_rest_goes_further():
    """Half of the elements agree, so that they go twice as far."""
    param, optimizer = make("Lion", [1.0] * 4, **LION)
    step(optimizer, param, [10.0, 10.0, -10.0, -10.0])
    assert param.tolist() == [0.75, 0.75, 1.25, 1.25]
    step(optimizer, param, [-0.5, 10.0, 0.5, -10.0])
    assert param.tolist() == [0.75, 0.25, 1.25, 1.75]
    # The average takes all of the gradients.
    assert optimizer.state[param]["exp_avg"].tolist() == [2.25, 7.5, -2.25, -7.5]


@pytest.mark.parametrize(("name", "options"), [("Adam", {}), ("AdamW", {"weight_decay": 0.0}), ("AdEMAMix", {})])
def test_a_gradient_of_zero_agrees_with_nothing(name, options):
    """Three of four agree: the first step of all three is its sign, here 4/3 as long."""
    more = {"betas": (0.5, 0.5, 0.5), "alpha": 0.0} if name == "AdEMAMix" else {"betas": (0.5, 0.5)}
    param, optimizer = make(name, [1.0] * 4, lr=0.3, eps=1e-30, cautious=True, **more, **options)
    step(optimizer, param, [2.0, 0.0, -3.0, 1e-9])
    assert param.tolist() == pytest.approx([0.6, 1.0, 1.4, 0.6], rel=1e-12)


def test_adams_second_step():
    """m is 0.5 * 2 - 0.5 * 1 > 0 against -1, and v = 0.5 * 2 + 0.5 * 1 and more; the other's m and root of v are 2."""
    param, optimizer = make("AdamW", [1.0, 1.0], lr=0.1, betas=(0.5, 0.5), eps=0.0, weight_decay=0.0, cautious=True)
    step(optimizer, param, [2.0, 2.0])
    assert param.tolist() == pytest.approx([0.9, 0.9], rel=1e-12)
    step(optimizer, param, [-1.0, 2.0])
    assert param.tolist() == pytest.approx([0.9, 0.7], rel=1e-12)


@each_name
def test_where_none_agrees_nothing_moves(name):
    param, optimizer = make(name, [1.0] * 3, lr=0.1, cautious=True)
    step(optimizer, param, [4.0] * 3)
    before = param.tolist()
    optimizer.param_groups[0]["weight_decay"] = 0.0
    step(optimizer, param, [-1e-3] * 3)
    assert param.tolist() == before


@pytest.mark.parametrize("size", [999, 1000, 5000, 40_000])
def test_no_element_goes_more_than_1000_times_as_far(size):
    param = torch.nn.Parameter(torch.zeros(size, dtype=torch.float64))
    optimizer = optim.Lion([param], **LION)
    grad = torch.zeros(size)
    grad[size // 2] = 3.0
    step(optimizer, param, grad)
    moved = param.nonzero()
    assert moved.tolist() == [[size // 2]]
    assert param[size // 2].item() == pytest.approx(-0.25 * min(size, 1000), rel=1e-12)


@each_name
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("maximize", [False, True])
def test_it_is_the_plain_step_where_that_agrees(name, dtype, maximize):
    """From one state: divided by the share of elements that go down their own gradient."""
    generator = torch.Generator().manual_seed(0)
    values = [size * torch.randn(1000, generator=generator, dtype=dtype) for size in (1, 1, 1, 0.2)]
    moves = []
    for cautious in (False, True):
        param = torch.nn.Parameter(values[0].clone())
        optimizer = getattr(optim, name)([param], lr=0.1, weight_decay=0.0, maximize=maximize)
        for grad in values[1:3]:
            step(optimizer, param, grad)
        optimizer.param_groups[0]["cautious"] = cautious
        with torch.no_grad():
            param.zero_()  # where all digits are the move's
        step(optimizer, param, values[3])
        moves.append(param.detach())
    grad = -values[3] if maximize else values[3]
    agrees = moves[0] * grad < 0
    assert 0.3 < agrees.double().mean() < 0.95
    assert torch.equal(moves[1][~agrees], torch.zeros_like(moves[1][~agrees]))
    torch.testing.assert_close(moves[1][agrees], moves[0][agrees] / agrees.to(dtype).mean())


def test_signs_of_what_float32_cannot_multiply():
    param = torch.nn.Parameter(torch.zeros(2))
    optimizer = optim.Lion([param], **LION)
    step(optimizer, param, [1e-30, -1e-40])
    assert param.tolist() == [-0.25, 0.25]


@each_name
def test_a_complex_parameter_is_its_parts(name):
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(50, generator=generator, dtype=torch.complex128) for _ in range(5)]
    moved = []
    for form in (torch.Tensor.clone, lambda value: torch.view_as_real(value).clone()):
        param = torch.nn.Parameter(form(values[0]))
        optimizer = getattr(optim, name)([param], lr=0.1, cautious=True)
        for grad in values[1:]:
            step(optimizer, param, form(grad))
        moved.append(param.detach())
    torch.testing.assert_close(torch.view_as_real(moved[0]), moved[1], rtol=1e-13, atol=1e-14)


@each_name
def test_a_parameter_in_another_layout(name):
    """The share is a count, so that not a bit is another."""
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(5, 12, generator=generator, dtype=torch.float64) for _ in range(4)]
    moved = []
    for place in (torch.empty(5, 12, dtype=torch.float64), torch.empty(12, 5, dtype=torch.float64).T):
        param = torch.nn.Parameter(place.copy_(values[0]))
        optimizer = getattr(optim, name)([param], lr=0.1, cautious=True)
        for grad in values[1:]:
            step(optimizer, param, grad)
        moved.append(param.detach())
    assert torch.equal(*moved)


@each_name
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_what_is_not_finite_stays_where_it_is(name, value):
    """NaN has no sign, and so agrees with nothing; other elements are counted as ever."""
    param, optimizer = make(name, [1.0] * 4, lr=0.1, cautious=True)
    optimizer.param_groups[0]["weight_decay"] = 0.0
    step(optimizer, param, [value, 1.0, 1.0, -1.0])
    rest, share = param[1:].tolist(), 1.0 if value == float("inf") else 0.75
    length = {"Lion": 0.1, "AdEMAMix": 0.1 * (1 + 2e-4)}.get(name, 0.1) / share
    assert rest == pytest.approx([1 - length, 1 - length, 1 + length], rel=1e-6)


def test_both_kinds_of_caution():
    """A masked update is 0 and opposes no decay; one that moves away from 0 does."""
    param, optimizer = make("Lion", [1.0] * 4, **LION)
    step(optimizer, param, [10.0, 10.0, -10.0, -10.0])
    optimizer.param_groups[0].update(weight_decay=1.0, cautious_weight_decay=True)
    step(optimizer, param, [-0.5, 10.0, 0.5, -10.0])
    assert param.tolist() == [0.75 * 0.75, 0.75 * 0.75 - 0.5, 1.25 * 0.75, 1.25 + 0.5]


def test_adams_own_decay_is_part_of_the_gradient():
    """g + 2 * theta is 1 and 3: both agree with themselves, and -1 with neither."""
    param, optimizer = make("Adam", [1.0, 1.0], lr=0.1, eps=1e-30, weight_decay=2.0, cautious=True)
    step(optimizer, param, [-1.0, 1.0])
    assert param.tolist() == pytest.approx([0.9, 0.9], rel=1e-12)


@pytest.mark.parametrize("scale", [2.0**16, 3e-5])
def test_the_scale_of_a_grad_scaler_is_undone_before_the_count(scale):
    """Beside the decay that is added to the gradient."""
    param, optimizer = make("Adam", [1.0] * 4, lr=0.1, weight_decay=2.0, cautious=True, fused=True)
    other, plain = make("Adam", [1.0] * 4, lr=0.1, weight_decay=2.0, cautious=True)
    for grad in ([-5.0, -1.0, 1.0, 4.0], [5.0, -3.0, -2.5, -1.0], [-1.0, 2.0, -2.0, 1.0]):
        step(plain, other, grad)
        optimizer.grad_scale, optimizer.found_inf = torch.tensor(scale), torch.tensor(0.0)
        step(optimizer, param, scale * torch.tensor(grad, dtype=torch.float64))
    assert param.tolist() == pytest.approx(other.tolist(), rel=1e-6)


@each_name
def test_groups_of_both_kinds_in_one_step(name):
    """Each as in an optimizer of its own, to the bit; one is empty, and another is late."""
    shapes = [(40,), (0,), (), (9000,)]
    generator = torch.Generator().manual_seed(0)
    values = [[torch.randn(shape, generator=generator) for shape in shapes] for _ in range(5)]

    def leaves():
        return [torch.nn.Parameter(value.clone()) for value in values[0]]

    def walk(optimizer, *lists):
        for row in values[1:]:
            for params in lists:
                for param, grad in zip(params, row, strict=True):
                    param.grad = grad.clone()
                if row is values[1]:
                    params[2].grad = None
            optimizer.step()
            assert optimizer.last_path == "fused"

    cls, first, second, alone, plain = getattr(optim, name), leaves(), leaves(), leaves(), leaves()
    walk(cls([{"params": first, "cautious": True}, {"params": second}], lr=0.1), first, second)
    walk(cls(alone, lr=0.1, cautious=True), alone)
    walk(cls(plain, lr=0.1), plain)
    assert all(torch.equal(left, right) for left, right in zip(first + second, alone + plain, strict=True))


@each_name
def test_a_checkpoint_keeps_it(name):
    param, optimizer = make(name, [1.0, 2.0], lr=0.1, cautious=True)
    step(optimizer, param, [1.0, -1.0])
    twin, again = make(name, param.tolist(), lr=0.1)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert again.param_groups[0]["cautious"] is True
    for one, other in ((optimizer, param), (again, twin)):
        step(one, other, [-0.01, 3.0])
    assert param.tolist() == twin.tolist()


def by_torchs_operators(case, start, grads):
    """The rules in float32 as the authors of the cautious update write AdamW, one operator after the other."""
    options = {"maximize": False, "weight_decay": 0.0, "eps": 1e-8, "amsgrad": False, "cautious_weight_decay": False}
    options |= {"betas": {"Lion": (0.9, 0.99), "AdEMAMix": (0.9, 0.999, 0.9999)}.get(case.optimizer, (0.9, 0.999))}
    options |= {"alpha": 2.0, "lr": 1e-4 if case.optimizer == "Lion" else 1e-3}
    options |= {"weight_decay": 1e-2} if case.optimizer == "AdamW" else {}
    params = [value.clone() for value in start]
    for group in cases.two_groups(list(range(len(params)))):
        own = options | case.options | {key: value for key, value in group.items() if key != "params"}
        lr, betas, decay = own["lr"], own["betas"], own["weight_decay"]
        for place in group["params"]:
            param = params[place]
            mean, slow, square, largest = (torch.zeros_like(param) for _ in range(4))
            for step, row in enumerate(grads, 1):
                grad = -row[place] if own["maximize"] else row[place]
                if case.optimizer == "Adam":
                    grad = grad + param * decay
                if case.optimizer == "Lion":
                    update, divisor, rate = mean.lerp(grad, 1 - betas[0]).sign(), torch.ones_like(param), lr
                    mean.lerp_(grad, 1 - betas[1])
                else:
                    mean.lerp_(grad, 1 - betas[0])
                    square.mul_(betas[1]).addcmul_(grad, grad, value=1 - betas[1])
                    torch.maximum(largest, square, out=largest)
                    root = (largest if own["amsgrad"] else square).sqrt() / (1 - betas[1] ** step) ** 0.5
                    divisor, rate, update = root + own["eps"], lr / (1 - betas[0] ** step), mean
                if case.optimizer == "AdEMAMix":
                    slow.lerp_(grad, 1 - betas[2])
                    update, rate = mean / (1 - betas[0] ** step) + own["alpha"] * slow, lr
                mask = (update * grad > 0).to(param.dtype)
                mask.div_(mask.mean().clamp(min=1e-3))
                if case.optimizer != "Adam":
                    decayed = param * (1 - lr * decay)
                    opposes = (update * mask).sign() * param.sign() < 0
                    param = torch.where(opposes, param, decayed) if own["cautious_weight_decay"] else decayed
                param = param - rate * (update * mask / divisor)
            params[place] = param
    return params


@pytest.mark.parametrize("size", [1, 0])
@pytest.mark.parametrize("case", [case for case in cases.VARIANTS if case.options.get("cautious")], ids=str)
def test_float32_is_as_near_to_the_rule_as_torchs_operators(case, size):
    start = [size * value for value in cases.tensors(2, torch.float32)]
    grads = [cases.tensors(100 + number, torch.float32) for number in range(12)]
    expected = cases.train_reference(case, start, grads)
    _, moved = cases.train(case.ours, case.options, start, grads)
    others = by_torchs_operators(case, start, grads)
    way = cases.distance(expected, start)
    assert cases.distance(others, expected) < 1e-4 * way
    # Within two roundings of the whole way, which is nearer is chance: a coefficient's rounding is the same for all.
    bound = max(1.1 * cases.distance(others, expected), 2 * torch.finfo(torch.float32).eps * way)
    assert cases.distance(moved, expected) <= bound
