"""Parameters that only torch can step on are left to it, and those alone."""

import pytest
import torch

import cases
from cases import OPTIMIZERS
from torchpace import optim

# torch's own steps on sparse gradients make sparse tensors unchecked.
pytestmark = pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled")

each_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)
SPARSE = ["SGD", "Adagrad"]


class Tagged(torch.Tensor):
    """Its memory may be elsewhere, for all that we know."""


class Entries(dict):
    """May keep its entries elsewhere."""


def dense(seed):
    return torch.randn(6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float()


def plain_param(index):
    return torch.nn.Parameter(dense(index))


def tagged_param(index):
    return dense(index).as_subclass(Tagged).requires_grad_()


def plain_grad(seed):
    return dense(seed)


def tagged_grad(seed):
    return dense(seed).as_subclass(Tagged)


def sparse_grad(seed):
    return torch.sparse_coo_tensor([[0, 4]], dense(seed)[:2], (6,), check_invariants=True).coalesce()


def lazy_grad(seed):
    return torch._efficientzerotensor((6,))


def negative_grad(seed):
    return torch.view_as_complex(dense(seed).repeat(2).reshape(6, 2)).conj().imag


KINDS = {
    "param of a subclass": (tagged_param, plain_grad),
    "gradient of a subclass": (plain_param, tagged_grad),
    "both of a subclass": (tagged_param, tagged_grad),
    "sparse gradient": (plain_param, sparse_grad),
    "lazy zero": (plain_param, lazy_grad),
    "negative view": (plain_param, negative_grad),
}
PLACES = {"first": [0], "last": [6], "in the other group": [4], "several": [1, 2, 5]}


def build(cls, kind, places, **options):
    make, grad = KINDS[kind]
    params = [make(index) if index in places else plain_param(index) for index in range(7)]
    optimizer = cls([{"params": params[:3]}, {"params": params[3:], "lr": 0.02}], lr=0.1, **options)

    def give(step):
        for index, param in enumerate(params):
            # One never has a gradient in the first step.
            if (step, index) != (0, 3):
                param.grad = (grad if index in places else plain_grad)(100 * step + index)

    return optimizer, params, give


def same(ours, theirs, params, expected):
    for param, wanted in zip(params, expected, strict=True):
        torch.testing.assert_close(torch.Tensor(param.detach()), torch.Tensor(wanted.detach()))
    mine, torchs = ours.state_dict(), theirs.state_dict()
    assert set(mine["state"]) == set(torchs["state"])
    for number, entries in torchs["state"].items():
        assert list(mine["state"][number]) == list(entries)
        for key, value in entries.items():
            torch.testing.assert_close(mine["state"][number][key], value, check_dtype=False)


@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("kind", KINDS)
@each_optimizer
def test_torch_gets_those_alone(name, kind, places):
    if kind == "sparse gradient" and name not in SPARSE:
        pytest.skip("torch's class takes no sparse gradient")
    ours, params, give = build(getattr(optim, name), kind, places)
    theirs, expected, give_them = build(cases.torchs(name), kind, places, foreach=False)
    for step in range(4):
        give(step)
        give_them(step)
        ours.step()
        theirs.step()
        same(ours, theirs, params, expected)
        assert ours.last_path.startswith(f"fused, and torch for {len(places)} of 7: param_groups["), ours.last_path
    # And all at once again, when nothing is in the way any longer.
    if kind != "param of a subclass" and kind != "both of a subclass":
        for optimizer, all_params in ((ours, params), (theirs, expected)):
            for index, param in enumerate(all_params):
                param.grad = plain_grad(index)
            optimizer.step()
        same(ours, theirs, params, expected)
        # torch's Rprop makes a slot of the gradient's class, and it stays of that.
        stays = name == "Rprop" and kind == "gradient of a subclass"
        assert ("step_size is of type Tagged" in ours.last_path) if stays else (ours.last_path == "fused")


@each_optimizer
def test_all_of_them(name):
    ours, _params, give = build(getattr(optim, name), "both of a subclass", range(7))
    give(1)
    ours.step()
    assert ours.last_path.startswith("torch: param_groups[0]['params'][0]")
    assert "of type Tagged" in ours.last_path


@each_optimizer
def test_many(name):
    """Found in as many looks as there are kinds, not parameters."""

    def built(cls, **options):
        params = [(tagged_param if index % 3 else plain_param)(index) for index in range(120)]
        optimizer = cls(params, lr=0.1, **options)
        for index, param in enumerate(params):
            param.grad = (lazy_grad if index % 5 == 0 else plain_grad)(index)
        return optimizer, params

    ours, params = built(getattr(optim, name))
    theirs, expected = built(cases.torchs(name), foreach=False)
    for _ in range(3):
        ours.step()
        theirs.step()
    same(ours, theirs, params, expected)
    assert ours.last_path.startswith("fused, and torch for 88 of 120: ")


def test_state_that_is_no_plain_dict():
    optimizer, params, give = build(optim.Adam, "lazy zero", [])
    theirs, expected, give_them = build(torch.optim.Adam, "lazy zero", [], foreach=False)
    for step in range(3):
        give(step)
        give_them(step)
        optimizer.step()
        theirs.step()
        for index in (1, 4):
            optimizer.state[params[index]] = Entries(optimizer.state[params[index]])
    same(optimizer, theirs, params, expected)
    assert optimizer.last_path == (
        f"fused, and torch for 2 of 7: param_groups[0]['params'][1]: its state is of type {Entries.__qualname__}"
    )


def test_a_count_that_is_no_plain_number():
    optimizer, params, give = build(optim.Adam, "lazy zero", [])
    give(1)
    optimizer.step()
    optimizer.state[params[5]]["step"] = torch.tensor(1)
    give(2)
    optimizer.step()
    assert "torch for 1 of 7" in optimizer.last_path
    assert "step is not one" in optimizer.last_path
    assert [entries["step"].item() for entries in optimizer.state.values()] == [2] * 7


def everything(optimizer, params):
    state = {index: dict(optimizer.state.get(param, {})) for index, param in enumerate(params)}
    return (
        [torch.Tensor(param.detach()).clone() for param in params],
        {index: {key: value.clone() for key, value in entries.items()} for index, entries in state.items()},
    )


def unchanged(optimizer, params, before):
    values, state = everything(optimizer, params)
    assert all(torch.equal(*pair) for pair in zip(values, before[0], strict=True))
    assert {index: set(entries) for index, entries in state.items()} == {
        index: set(entries) for index, entries in before[1].items()
    }
    for index, entries in state.items():
        assert all(torch.equal(value, before[1][index][key]) for key, value in entries.items())


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in SPARSE])
def test_what_torch_refuses_is_refused_before_anything_is_written(name):
    optimizer, params, give = build(getattr(optim, name), "sparse gradient", [6])
    give(1)
    before = everything(optimizer, params)
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()
    unchanged(optimizer, params, before)
    assert optimizer.last_path is None


@each_optimizer
def test_what_we_refuse_is_refused_before_torch_steps(name):
    optimizer, params, give = build(getattr(optim, name), "both of a subclass", [0])
    give(1)
    optimizer.step()
    entry = optimizer.state[params[6]]
    slot = next((key for key in entry if key != "step" and entry[key] is not None), None)
    if slot is None:
        pytest.skip("plain SGD keeps no state")
    entry[slot] = torch.zeros(5)
    give(2)
    before = everything(optimizer, params)
    with pytest.raises(RuntimeError, match=rf"params'\]\[3\].*{slot}"):
        optimizer.step()
    unchanged(optimizer, params, before)


@pytest.mark.parametrize("options", [{"max_grad_norm": 0.5}, {"skip_grad_norm": 1e9}, {"clip_value": 0.1}], ids=str)
def test_clipping_is_of_all(options):
    """The norm is of all gradients, so torch gets all; clipping by value it could do in part, and does not."""
    optimizer, params, give = build(optim.Adam, "both of a subclass", [2], **options)
    theirs, expected, give_them = build(torch.optim.Adam, "both of a subclass", [2], foreach=False)
    for step in (1, 2):
        give(step)
        give_them(step)
        if "max_grad_norm" in options:
            torch.nn.utils.clip_grad_norm_(expected, 0.5, foreach=False)
        if "clip_value" in options:
            torch.nn.utils.clip_grad_value_(expected, 0.1, foreach=False)
        optimizer.step()
        theirs.step()
    same(optimizer, theirs, params, expected)
    assert optimizer.last_path.startswith("torch: param_groups[0]['params'][2]")


def test_a_scaler_of_all():
    optimizer, params, give = build(optim.Adam, "both of a subclass", [2], fused=True)
    theirs, expected, give_them = build(torch.optim.Adam, "both of a subclass", [2], foreach=False)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale(torch.tensor(1.0))
    give(1)
    give_them(1)
    for param in params:
        param.grad.mul_(4.0)
    scaler.step(optimizer)
    theirs.step()
    same(optimizer, theirs, params, expected)
    assert optimizer.last_path.startswith("torch: ")


def test_torchs_part_changes_what_we_saw():
    """A subclass may do anything as torch steps on it."""
    others = []

    class Meddler(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            if getattr(function, "__name__", "") == "add_":
                for other in others:
                    other.grad = torch.full((6,), 2.0)
            return super().__torch_function__(function, types, args, kwargs)

    params = [plain_param(0), dense(1).as_subclass(Meddler).requires_grad_(), plain_param(2)]
    optimizer = optim.SGD(params, lr=0.5)
    for param in params:
        param.grad = torch.ones(6)
    others[:] = [params[0], params[2]]
    before = [torch.Tensor(param.detach()).clone() for param in params]
    optimizer.step()
    changes = [(torch.Tensor(param.detach()) - old) for param, old in zip(params, before, strict=True)]
    assert [change.mean().item() for change in changes] == pytest.approx([-1.0, -0.5, -1.0])


def test_a_part_that_grows_is_stepped_on_once():
    """As torch steps on one parameter, another becomes one that only torch can step on."""
    others = []

    class Meddler(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            if getattr(function, "__name__", "") == "add_":
                for other in others:
                    other.grad = sparse_grad(3)
            return super().__torch_function__(function, types, args, kwargs)

    params = [plain_param(0), dense(1).as_subclass(Meddler).requires_grad_(), plain_param(2)]
    optimizer = optim.SGD(params, lr=0.5)
    before = [torch.Tensor(param.detach()).clone() for param in params]
    for param in params:
        param.grad = torch.ones(6)
    others.append(params[2])
    optimizer.step()
    changes = [torch.Tensor(param.detach()) - old for param, old in zip(params, before, strict=True)]
    for change, expected in zip(changes, [torch.ones(6), torch.ones(6), sparse_grad(3).to_dense()], strict=True):
        torch.testing.assert_close(change, -0.5 * expected)
    assert optimizer.last_path.startswith("fused, and torch for 2 of 3: ")


def test_a_known_type_without_a_gradient_has_no_part():
    """Frozen weights of a subclass are in nobody's way, also once another of their type had a gradient."""
    params = [plain_param(0), tagged_param(1), tagged_param(2)]
    optimizer = optim.SGD(params, lr=0.5)
    for had, path in ((False, "fused"), (True, "fused, and torch for 1 of 3: "), (False, "fused")):
        params[0].grad = dense(1)
        params[1].grad = tagged_grad(2) if had else None
        optimizer.step()
        assert optimizer.last_path.startswith(path)
        assert had or optimizer.last_path == path


def test_a_subclass_says_itself_whether_it_has_a_gradient():
    """Also where others of its type had one."""
    hidden = []

    class Own(torch.Tensor):
        @property
        def grad(self):
            return torch.ones(6) if hidden else None

    params = [plain_param(0), dense(1).as_subclass(Own).requires_grad_()]
    optimizer = optim.SGD(params, lr=0.5)
    before = torch.Tensor(params[1].detach()).clone()
    for steps, has in enumerate((True, False, True, True)):
        hidden[:] = [1] if has else []
        params[0].grad = dense(steps)
        optimizer.step()
        assert optimizer.last_path.startswith("fused, and torch for 1 of 2") == has
    torch.testing.assert_close(torch.Tensor(params[1].detach()), before - 1.5)


def test_a_parameter_of_another_device():
    params = [plain_param(0), torch.nn.Parameter(torch.ones(6, device="meta"))]
    expected = [plain_param(0), torch.nn.Parameter(torch.ones(6, device="meta"))]
    ours, theirs = optim.Adam(params, lr=0.1), torch.optim.Adam(expected, lr=0.1, foreach=False)
    for optimizer, both in ((ours, params), (theirs, expected)):
        both[0].grad, both[1].grad = dense(1), torch.ones(6, device="meta")
        optimizer.step()
    torch.testing.assert_close(params[0], expected[0])
    assert ours.last_path.startswith("fused, and torch for 1 of 2: param_groups[0]['params'][1]")


def test_hooks_run_once_and_see_all():
    seen = []
    optimizer, _params, give = build(optim.SGD, "both of a subclass", [1])
    optimizer.register_step_pre_hook(lambda opt, *_: seen.append([len(group["params"]) for group in opt.param_groups]))
    optimizer.register_step_post_hook(lambda opt, *_: seen.append([len(group["params"]) for group in opt.param_groups]))
    give(1)
    optimizer.step()
    assert seen == [[3, 4], [3, 4]]
