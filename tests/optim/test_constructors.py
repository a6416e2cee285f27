"""Constructors, written out: what people and programs read of them is what they take."""

import copy
import inspect
import pickle
import typing
import warnings

import pytest
import torch

import cases
from torchpace import optim

COMMON = {"max_grad_norm": None, "clip_value": None, "skip_grad_norm": None, "nonfinite_norm": "propagate"}
CAUTIOUS = {"cautious_weight_decay": False, "cautious": False}
OWN = {
    "SGD": COMMON | {"averaged": False},
    "RMSprop": COMMON | {"eps_inside": False},
    "Adagrad": COMMON | {"mean": False, "eps_inside": False},
    "Adam": COMMON | CAUTIOUS,
    "AdamW": COMMON | CAUTIOUS,
    "Adadelta": COMMON,
    "Adamax": COMMON,
    "RAdam": COMMON | {"cautious_weight_decay": False},
    "Rprop": COMMON,
    "Lion": COMMON | CAUTIOUS,
    "AdEMAMix": COMMON | CAUTIOUS,
    "LAMB": COMMON,
    "LARS": COMMON,
    "Prodigy": COMMON | {"cautious_weight_decay": False},
    "NAdam": COMMON | {"cautious_weight_decay": False},
    "ASGD": COMMON,
    "ScheduleFreeAdamW": COMMON,
    "ScheduleFreeSGD": COMMON,
}
ON = {
    "max_grad_norm": 1.5,
    "clip_value": 0.25,
    "skip_grad_norm": 4.5,
    "nonfinite_norm": "skip",
    "averaged": True,
    "eps_inside": True,
    "mean": True,
    "cautious_weight_decay": True,
    "cautious": True,
}

each_optimizer = pytest.mark.parametrize("name", [*cases.OPTIMIZERS, *cases.OVER_ALL])


def classes(name):
    return getattr(optim, name), cases.torchs(name)


def params():
    return [torch.nn.Parameter(torch.ones(3))]


@each_optimizer
def test_the_source_has_torchs_parameters_and_ours_behind_them_by_keyword(name):
    """In the class's own `__init__`, which some programs read, and not in `__signature__` alone."""
    ours, torchs = classes(name)
    assert "__init__" in vars(ours)
    assert not hasattr(ours, "__signature__")
    mine = inspect.signature(ours.__init__, follow_wrapped=False).parameters
    theirs = inspect.signature(torchs.__init__).parameters
    shared = [mine[parameter] for parameter in theirs]
    assert [(p.name, p.kind, p.default) for p in shared] == [(p.name, p.kind, p.default) for p in theirs.values()]
    assert list(mine) == [*theirs, *(parameter for parameter in mine if parameter not in theirs)]
    added = {parameter: mine[parameter] for parameter in mine if parameter not in theirs}
    assert {parameter: value.default for parameter, value in added.items()} == OWN[name]
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in added.values())


@each_optimizer
def test_every_parameter_has_a_type_that_can_be_found_at_run_time(name):
    ours, torchs = classes(name)
    mine, theirs = typing.get_type_hints(ours.__init__), typing.get_type_hints(torchs.__init__)
    assert mine.keys() == {*inspect.signature(ours).parameters, "return"}
    assert {parameter: mine[parameter] for parameter in theirs} == theirs
    assert mine["max_grad_norm"] == float | None
    assert typing.get_args(mine["nonfinite_norm"]) == ("propagate", "skip", "raise")


@each_optimizer
def test_a_subclass_shows_its_own_parameters(name):
    ours, _ = classes(name)

    class Own(ours):
        def __init__(self, params, lr=0.5, *, extra=1):
            super().__init__(params, lr=lr)
            self.extra = extra

    class Plain(ours):
        pass

    assert list(inspect.signature(Own).parameters) == ["params", "lr", "extra"]
    assert inspect.signature(Plain) == inspect.signature(ours)
    # As timm and others choose what they pass on.
    wanted = {"lr": 0.25, "extra": 2, "max_grad_norm": 1.0, "momentum": 0.9}
    taken = {key: value for key, value in wanted.items() if key in inspect.signature(Own).parameters}
    optimizer = Own(params(), **taken)
    assert (optimizer.param_groups[0]["lr"], optimizer.extra) == (0.25, 2)


@each_optimizer
def test_each_argument_arrives_by_place_and_by_name(name):
    """Torch's through torch's constructor, ours among the options of the groups."""
    ours, torchs = classes(name)
    values = {
        "lr": 0.125,
        "betas": (0.5, 0.75, 0.875) if name == "AdEMAMix" else (0.5, 0.75),
        "beta3_warmup": 8,
        "alpha_warmup": 2.5,
        "beta3": 0.375,
        "decouple": True,
        "use_bias_correction": True,
        "safeguard_warmup": True,
        "d0": 0.5,
        "d_coef": 2.0,
        "growth_rate": 1.5,
        "fsdp_in_use": True,
        "slice_p": 3,
        "bias_correction": False,
        "trust_clip": True,
        "trust_coefficient": 0.5,
        "warmup_steps": 4,
        "r": 0.5,
        "weight_lr_power": 1.5,
        "momentum": 0.5,
        "dampening": 0.0,
        "nesterov": True,
        "alpha": 0.5,
        "rho": 0.5,
        "eps": 0.25,
        "weight_decay": 0.0625,
        "lr_decay": 0.5,
        "momentum_decay": 0.125,
        "lambd": 0.25,
        "t0": 4.0,
        "initial_accumulator_value": 2.0,
        "centered": True,
        "amsgrad": True,
        "decoupled_weight_decay": name != "AdamW",
        "etas": (0.25, 1.5),
        "step_sizes": (0.125, 2.0),
        "maximize": True,
        "foreach": False,
        "capturable": False,
        "differentiable": False,
        "fused": False,
    }
    parameters = inspect.signature(torchs).parameters.values()
    place = [values[p.name] for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "params"]
    keyword = {p.name: values[p.name] for p in parameters if p.kind is p.KEYWORD_ONLY}
    ours_on = {option: ON[option] for option in OWN[name]}
    theirs = torchs(params(), *place, **keyword)
    for mine in (
        ours(params(), *place, **keyword, **ours_on),
        ours(params=params(), **{p.name: values[p.name] for p in parameters if p.name != "params"}, **ours_on),
    ):
        assert mine.defaults == {**theirs.defaults, **ours_on}
        group = mine.param_groups[0]
        assert {key: group[key] for key in group if key != "params"} == mine.defaults


@each_optimizer
def test_wrong_arguments_are_refused_in_torchs_words(name):
    ours, torchs = classes(name)
    for arguments, keywords in [((), {}), ((params(),), {"max_grad_nrom": 1.0}), ((params(), *[0.1] * 20), {})]:
        with pytest.raises(TypeError) as theirs:
            torchs(*arguments, **keywords)
        with pytest.raises(TypeError) as mine:
            ours(*arguments, **keywords)
        assert str(mine.value) == str(theirs.value)
    with pytest.raises(ValueError, match="Invalid max_grad_norm value: -1"):
        ours(params(), max_grad_norm=-1.0)


@each_optimizer
def test_the_constructors_warnings_are_torchs(name):
    """One parameter twice in a group."""
    ours, torchs = classes(name)
    found = []
    for cls in (torchs, ours):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            cls(params() * 2)
        found.append([(warning.category, str(warning.message)) for warning in caught])
    assert found[0] == found[1]
    assert found[0]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))], ids=["copy", "pickle"])
@each_optimizer
def test_copies_need_no_constructor(name, copied):
    ours, _ = classes(name)

    class Asking(ours):
        def __init__(self, params, *, must):
            super().__init__(params, max_grad_norm=must)

    globals()["Asking"] = Asking
    Asking.__qualname__ = "Asking"
    twin = copied(Asking(params(), must=2.0))
    assert type(twin) is Asking
    assert twin.defaults["max_grad_norm"] == twin.param_groups[0]["max_grad_norm"] == 2.0
    assert (twin.last_path, twin.grad_norm) == (None, None)
    twin.param_groups[0]["params"][0].grad = torch.ones(3)
    twin.step()
    assert twin.last_path == "fused"
    assert twin.grad_norm is not None


def test_a_flag_for_groups_that_bring_what_it_needs():
    optimizer = optim.SGD([{"params": params(), "momentum": 0.9}], averaged=True)
    assert optimizer.param_groups[0]["averaged"] is True
    with pytest.raises(ValueError, match="Averaged momentum"):
        optimizer.add_param_group({"params": params()})


# A group that is refused leaves nothing behind.


BAD_GROUPS = [
    {"max_grad_norm": -1.0},
    {"clip_value": "wide"},
    {"nonfinite_norm": "stop"},
    {"max_grad_norm": float("nan")},
    {"skip_grad_norm": -1.0},
]


@pytest.mark.parametrize("bad", BAD_GROUPS, ids=str)
@each_optimizer
def test_a_refused_constructor_leaves_the_groups_as_they_were_given(name, bad):
    ours, _ = classes(name)
    for own, shared in ((bad, {}), ({}, bad)):
        group = {"params": params(), **own}
        before = dict(group)
        with pytest.raises(ValueError, match=f"Invalid {next(iter(bad))} value"):
            ours([group], **shared)
        assert group == before


@pytest.mark.parametrize("bad", BAD_GROUPS, ids=str)
@each_optimizer
def test_a_group_with_a_bad_option_is_not_added(name, bad):
    ours, _ = classes(name)
    optimizer = ours(params(), momentum=0.9) if name == "SGD" else ours(params())
    optimizer.param_groups[0]["params"][0].grad = torch.ones(3)
    optimizer.step()
    before, late = copy.deepcopy(optimizer.state_dict()), params()
    group = {"params": late, **bad}
    with pytest.raises(ValueError, match=f"Invalid {next(iter(bad))} value"):
        optimizer.add_param_group(group)
    assert group == {"params": late, **bad}
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    torch.testing.assert_close(after["state"], before["state"])
    assert late[0] not in optimizer.state
    optimizer.add_param_group({"params": late})  # which would be in two groups, had it been added
    late[0].grad = torch.ones(3)
    optimizer.step()
    assert optimizer.last_path == "fused"


def test_a_group_with_averaged_momentum_and_none_is_not_added():
    optimizer = optim.SGD(params(), momentum=0.9, averaged=True)
    with pytest.raises(ValueError, match="Averaged momentum"):
        optimizer.add_param_group({"params": params(), "momentum": 0.0})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("group", [3, [1], None, {}, {"params": 3}, {"params": [3]}, {"params": {1, 2}}], ids=str)
def test_what_is_no_group_is_refused_in_torchs_words(group):
    found = []
    for cls in classes("SGD"):
        optimizer = cls(params())
        with pytest.raises(Exception) as caught:  # noqa: PT011 the type is what is compared
            optimizer.add_param_group(copy.copy(group))
        found.append((caught.type, str(caught.value)))
        assert len(optimizer.param_groups) == 1
    assert found[0] == found[1]
