"""The groups that `muon_groups` makes of models, and one optimizer with Muon's rule and AdamW's."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from torchpace import optim


class Transformer(nn.Module):
    """With its head tied to the embedding, positions that are plain parameters, and frozen parts if so wished."""

    def __init__(self, tied=True, width=16, layers=2, words=30):
        super().__init__()
        self.head = nn.Linear(width, words, bias=False)
        self.words = nn.Embedding(words, width)
        self.positions = nn.Parameter(torch.zeros(1, 8, width))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0, batch_first=True) for _ in range(layers)
        )
        self.norm = nn.LayerNorm((8, width))
        if tied:
            self.head.weight = self.words.weight
        self.tied = tied

    def forward(self, tokens):
        x = self.words(tokens) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def transformer(**options):
    torch.manual_seed(0)
    return Transformer(**options)


class Residual(nn.Module):
    def __init__(self, channels=6):
        super().__init__()
        self.conv1, self.conv2 = (
            nn.Conv2d(channels, channels, 3, padding=1, groups=groups) for groups in (1, channels)
        )
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        return x + self.conv2(self.norm(self.conv1(x)).relu())


def convolutional():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=False), Residual(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10)
    )


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.bag = nn.EmbeddingBag(20, 8)
        self.lstm = nn.LSTM(8, 12, num_layers=2)
        self.out = nn.Linear(12, 4)


def names(groups):
    return [[name for name, _ in group["params"]] for group in groups]


def split(model, **options):
    """The names under Muon's rule and under AdamW's; each parameter is there once."""
    groups = optim.muon_groups(model, **options)
    found = {True: [], False: []}
    for group in groups:
        found[group.get("use_muon", True)] += [name for name, _ in group["params"]]
    params = [param for group in groups for _, param in group["params"]]
    assert len({id(param) for param in params}) == len(params)
    assert {id(param) for param in params} == {id(param) for param in model.parameters()}
    return found[True], found[False]


HIDDEN = ["self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight"]


def test_of_a_transformer():
    matrices, others = split(transformer(tied=False), head="head")
    assert matrices == [f"blocks.{layer}.{name}" for layer in range(2) for name in HIDDEN]
    assert {"positions", "head.weight", "words.weight", "norm.weight", "norm.bias"} <= {*others}
    assert "blocks.0.self_attn.in_proj_bias" in others


def test_the_last_linear_is_the_head_where_none_is_tied():
    """By the order of modules, in which this model's head comes first: it has to be named."""
    assert "blocks.1.linear2.weight" in split(transformer(tied=False))[1]
    matrices, others = split(transformer(tied=False), head="head")
    assert "head.weight" in others
    assert "blocks.1.linear2.weight" in matrices


def test_a_tied_head_is_found_wherever_it_is():
    matrices, others = split(transformer())
    assert "head.weight" in others
    assert "words.weight" not in others + matrices
    assert "blocks.1.linear2.weight" in matrices
    assert len(matrices) == 8


def test_of_a_convolutional_net():
    matrices, others = split(convolutional())
    assert matrices == ["0.weight", "1.conv1.weight", "1.conv2.weight"]
    assert others == ["1.conv1.bias", "1.conv2.bias", "1.norm.weight", "1.norm.bias", "4.weight", "4.bias"]


def test_of_an_lstm():
    matrices, others = split(Recurrent())
    assert matrices == [f"lstm.weight_{kind}_l{layer}" for layer in range(2) for kind in ("ih", "hh")]
    assert others[:1] == ["bag.weight"]
    assert others[-2:] == ["out.weight", "out.bias"]


def test_a_single_row_or_column_is_a_vector():
    model = nn.Sequential(nn.Linear(1, 5), nn.Linear(5, 1), nn.Conv2d(1, 5, 1), nn.Linear(5, 5), nn.Linear(5, 5))
    assert split(model)[0] == ["3.weight"]


@pytest.mark.parametrize(
    ("exclude", "expected"),
    [
        ("1.conv1", ["0.weight", "1.conv2.weight"]),
        (["1.conv1.weight", "0"], ["1.conv2.weight"]),
        (lambda name, param: "conv" in name, ["0.weight"]),
        (lambda name, param: param.shape[1] == 3, ["1.conv1.weight", "1.conv2.weight"]),
        ((), ["0.weight", "1.conv1.weight", "1.conv2.weight"]),
    ],
)
def test_exclude(exclude, expected):
    assert split(convolutional(), exclude=exclude)[0] == expected


@pytest.mark.parametrize(
    ("head", "expected"),
    [(None, []), ((), ["4.weight"]), ("4", []), ("4.weight", []), (["4"], []), ("0.weight", ["4.weight"])],
)
def test_head(head, expected):
    assert [name for name in split(convolutional(), head=head)[0] if name == "4.weight"] == expected


def test_names_of_a_tied_parameter_all_mean_it():
    for name in ("head", "words", "head.weight", "words.weight"):
        assert "head.weight" in split(transformer(), head=name)[1]


def test_named_parameters_need_to_be_told():
    model = transformer()
    with pytest.raises(ValueError, match="without their model"):
        optim.muon_groups(model.named_parameters())
    groups = optim.muon_groups(model.named_parameters(), head="head", exclude=lambda name, _: "norm" in name)
    assert "head.weight" in names(groups)[1]
    whole = optim.muon_groups(convolutional().named_parameters(), exclude=())
    assert names(whole)[0] == ["0.weight", "1.conv1.weight", "1.conv2.weight", "4.weight"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"head": "tail"}, ValueError, "head has 'tail', expected the name of a parameter or a module"),
        ({"exclude": ["0", "9"]}, ValueError, "exclude has '9', expected the name of"),
        ({"exclude": [3]}, TypeError, "exclude has 3, expected names"),
        ({"adamw": {"momentum": 0.9}}, TypeError, "adamw has 'momentum', expected options of AdamW"),
        ({"betas": (0.9, 0.99)}, TypeError, "options has 'betas', expected options of Muon"),
        ({"params": []}, TypeError, "options has 'params', expected options of Muon"),
    ],
    ids=str,
)
def test_errors(options, error, message):
    with pytest.raises(error, match=message):
        optim.muon_groups(convolutional(), **options)


def test_parameters_without_names():
    with pytest.raises(TypeError, match="expected pairs of a name and a tensor"):
        optim.muon_groups(convolutional().parameters(), exclude=())


def test_options_are_those_of_the_groups():
    adamw = {"lr": 3e-4, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.0, "amsgrad": True}
    groups = optim.muon_groups(
        convolutional(), lr=0.02, weight_decay=0.01, adamw=adamw, momentum=0.9, ns_coefficients="polar_express"
    )
    muon, other = optim.Muon(groups, ns_dtype="float32").param_groups
    assert (muon["lr"], muon["weight_decay"], muon["momentum"], muon["ns_dtype"]) == (0.02, 0.01, 0.9, "float32")
    assert muon["ns_coefficients"] == "polar_express"
    assert "use_muon" not in muon
    assert {name: other[name] for name in adamw} == adamw
    assert not {"momentum", "nesterov", "ns_steps", "ns_dtype"} & other.keys()
    assert adamw["lr"] == 3e-4


def test_models_with_matrices_or_vectors_alone():
    (group,) = optim.muon_groups(nn.Linear(4, 4, bias=False), head=())
    assert "use_muon" not in group
    (group,) = optim.muon_groups(nn.LayerNorm(4))
    optimizer = optim.Muon([group])
    for param in optimizer.param_groups[0]["params"]:
        param.grad = torch.ones_like(param)
    optimizer.step()
    assert optimizer.last_path == "fused"


# One optimizer for all.


def loss(model, step):
    generator = torch.Generator().manual_seed(step)
    if isinstance(model, Transformer):
        tokens = torch.randint(30, (4, 9), generator=generator)
        return nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    images = torch.randn(8, 3, 6, 6, generator=generator)
    return nn.functional.cross_entropy(model(images), torch.randint(10, (8,), generator=generator))


def train(model, optimizers, steps, after=lambda: None):
    for step in steps:
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss(model, step).backward()
        for optimizer in optimizers:
            optimizer.step()
        after()
    return [param.detach().clone() for param in model.parameters()]


ADAMW = {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1}
each_model = pytest.mark.parametrize("make", [transformer, convolutional])


def one(model, **options):
    return optim.Muon(optim.muon_groups(model, lr=0.02, adamw=ADAMW), **options)


@each_model
def test_one_optimizer_is_as_two(make):
    model, twin = make(), make()
    optimizer = one(model)
    muon, other = optim.muon_groups(twin, lr=0.02)
    apart = [optim.Muon([muon]), optim.AdamW([param for _, param in other["params"]], **ADAMW)]
    found, expected = train(model, [optimizer], range(5)), train(twin, apart, range(5))
    assert optimizer.last_path == "fused"
    assert all(torch.equal(left, right) for left, right in zip(found, expected, strict=True))


def test_as_torchs_two():
    model, twin = transformer(), transformer()
    muon, other = optim.muon_groups(twin, lr=0.02)
    apart = [
        torch.optim.Muon([param for _, param in muon["params"]], lr=0.02),
        torch.optim.AdamW([param for _, param in other["params"]], **ADAMW),
    ]
    torch.testing.assert_close(train(model, [one(model)], range(3)), train(twin, apart, range(3)), rtol=1e-2, atol=1e-2)


def test_the_norm_is_of_all():
    model, twin = transformer(), transformer()
    optimizer, other = one(model, max_grad_norm=0.5), one(twin)
    for step in range(3):
        train(model, [optimizer], [step])
        other.zero_grad()
        loss(twin, step).backward()
        norm = nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
        other.step()
        torch.testing.assert_close(optimizer.grad_norm, norm)
        assert optimizer.last_path == "fused"
    torch.testing.assert_close([*model.parameters()], [*twin.parameters()], rtol=1e-4, atol=1e-4)


def test_options_of_all_hold_for_adamw():
    optimizer = one(transformer(), max_grad_norm=1.0, maximize=True, cautious_weight_decay=True)
    for group in optimizer.param_groups:
        assert (group["max_grad_norm"], group["maximize"], group["cautious_weight_decay"]) == (1.0, True, True)
    optimizer.add_param_group({"params": [("late", nn.Parameter(torch.ones(3)))], "use_muon": False})
    assert optimizer.param_groups[2]["maximize"] is True
    assert "ns_steps" not in optimizer.param_groups[2]


def test_other_bounds_in_another_group_are_an_error():
    model = transformer()
    optimizer = one(model, max_grad_norm=1.0)
    optimizer.param_groups[1]["max_grad_norm"] = 2.0
    before = [param.detach().clone() for param in model.parameters()]
    with pytest.raises(ValueError, match=r"param_groups\[1\].*max_grad_norm.*there is one for all"):
        train(model, [optimizer], [0])
    assert all(torch.equal(left, right) for left, right in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize("spoil", ["adamw", "muon", "option"])
def test_what_is_wrong_in_one_rule_stops_the_other(spoil):
    model = transformer()
    optimizer = one(model)
    train(model, [optimizer], range(2))
    before, state = copy.deepcopy([*model.parameters()]), copy.deepcopy(optimizer.state_dict())
    if spoil == "option":
        del optimizer.param_groups[1]["betas"]
        place, error = r"param_groups\[1\]: option \\?\"betas", KeyError
    else:
        group = optimizer.param_groups[spoil == "adamw"]
        name = "exp_avg" if spoil == "adamw" else "momentum_buffer"
        optimizer.state[group["params"][1]][name] = torch.zeros(2, 2)
        at = int(spoil == "adamw")
        place, error = rf"param_groups\[{at}\]\['params'\]\[1\] \(.*\): {name} has shape \[2, 2\]", RuntimeError
    with pytest.raises(error, match=place):
        train(model, [optimizer], [2])
    assert all(torch.equal(left, right) for left, right in zip(model.parameters(), before, strict=True))
    for key, entries in optimizer.state_dict()["state"].items():
        for entry, value in entries.items():
            assert value.shape == (2, 2) or torch.equal(value, state["state"][key][entry])


@pytest.mark.parametrize("way", ["state_dict", "file", "deepcopy", "pickle"])
def test_it_goes_on(way):
    model = transformer()
    optimizer = one(model, max_grad_norm=1.0)
    train(model, [optimizer], range(3))
    if way in ("deepcopy", "pickle"):
        both = (model, optimizer)
        again, other = copy.deepcopy(both) if way == "deepcopy" else pickle.loads(pickle.dumps(both))
    else:
        again = copy.deepcopy(model)
        other = optim.Muon(optim.muon_groups(again, lr=9.0, adamw={"lr": 9.0}))
        saved = copy.deepcopy(optimizer.state_dict())  # torch shares what it loads
        if way == "file":
            file = io.BytesIO()
            torch.save(saved, file)
            file.seek(0)
            saved = torch.load(file, weights_only=True)
        other.load_state_dict(saved)
    assert other.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]
    found, expected = train(again, [other], range(3, 6)), train(model, [optimizer], range(3, 6))
    assert all(torch.equal(left, right) for left, right in zip(found, expected, strict=True))
    kinds = {frozenset(entries) for entries in other.state.values()}
    assert kinds == {frozenset(["momentum_buffer"]), frozenset(["step", "exp_avg", "exp_avg_sq"])}


def test_one_scheduler_for_all():
    model = transformer()
    optimizer = one(model)
    scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, 4, eta_min=0.001)
    train(model, [optimizer], range(2), scheduler.step)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.0105, 0.0055])
    scheduler = optim.lr_scheduler.OneCycleLR(optimizer, [0.1, 0.01], 8)
    train(model, [optimizer], range(3), scheduler.step)
    assert optimizer.last_path == "fused"


def test_frozen_parameters_thaw():
    model = transformer()
    model.blocks[0].requires_grad_(False)
    optimizer = one(model)
    before = [param.detach().clone() for param in model.blocks[0].parameters()]
    train(model, [optimizer], range(2))
    assert all(torch.equal(left, right) for left, right in zip(model.blocks[0].parameters(), before, strict=True))
    model.blocks[0].requires_grad_(True)
    train(model, [optimizer], range(2))
    assert not any(torch.equal(left, right) for left, right in zip(model.blocks[0].parameters(), before, strict=True))


def test_late_groups():
    model = transformer()
    groups = optim.muon_groups(model, lr=0.02, adamw=ADAMW)
    optimizer = optim.Muon(groups[:1])
    assert optimizer.state_dict()["param_groups"][0].keys() == torch.optim.Muon(
        [("a", torch.ones(2, 2))]
    ).state_dict()["param_groups"][0].keys()  # fmt: skip
    train(model, [optimizer], range(1))
    optimizer.add_param_group(groups[1])
    train(model, [optimizer], range(1, 3))
    assert optimizer.last_path == "fused"
    assert optimizer.param_groups[1]["betas"] == (0.8, 0.95)


def test_groups_are_taken_as_torchs_are():
    """By hand, without names, `use_muon` in all of them, from a generator."""
    weight, bias = nn.Parameter(torch.ones(4, 3)), nn.Parameter(torch.ones(4))
    groups = ({"params": [param], "use_muon": param.ndim > 1} for param in (weight, bias))
    optimizer = optim.Muon(groups, lr=0.1)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 1e-3]
    weight.grad, bias.grad = torch.ones(4, 3), torch.ones(4)
    optimizer.step()
    assert optimizer.last_path == "fused"
    assert bias[0].item() == pytest.approx((1 - 1e-5) - 1e-3)


def test_options_of_adamw_are_checked_as_its_own():
    bias = nn.Parameter(torch.ones(4))
    for options, message in (
        ({"betas": (1.0, 0.9)}, "Invalid beta parameter at index 0"),
        ({"lr": -1.0}, "Invalid lea"),
    ):
        with pytest.raises(ValueError, match=message):
            optim.Muon([{"params": [bias], "use_muon": False, **options}])
        optimizer = optim.Muon([{"params": [bias], "use_muon": False}])
        with pytest.raises(ValueError, match=message):
            optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))], "use_muon": False, **options})
        assert len(optimizer.param_groups) == 1


def test_a_sparse_embedding_is_left_to_torch():
    """Which refuses it in AdamW, before Muon's matrices have moved."""
    model = nn.Sequential(nn.Embedding(9, 4, sparse=True), nn.Linear(4, 4), nn.Linear(4, 9))
    optimizer = optim.Muon(optim.muon_groups(model))
    before = model[1].weight.detach().clone()
    model(torch.arange(4)).square().mean().backward()
    with pytest.raises(RuntimeError, match="sparse gradients"):
        optimizer.step()
    assert torch.equal(model[1].weight, before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_it_learns_in_any_type(dtype):
    model = transformer().to(dtype)
    optimizer = one(model, max_grad_norm=1.0)
    first = loss(model, 0).item()
    train(model, [optimizer], [0] * 8)
    assert optimizer.last_path == "fused"
    assert loss(model, 0).item() < 0.7 * first
