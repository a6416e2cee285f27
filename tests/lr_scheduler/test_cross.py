"""Every class at every place of sequences and chains, three deep, beside torch: to the bit wherever torch goes on."""

import copy
import itertools
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import cases
from cases import OURS, TORCHS
from torchpace import schedule as composable
from trees import BEGINS_IN_TURN, COUNT, LEAVES, begins_within, chain, names, plain, sequence, short

# Schedulers are stepped without their optimizer here; test_like_torchs.py looks at warnings.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

STEPS = 11


# They set `initial_lr`, so that what is made after them, or again, begins with another one.
RESETS = {"OneCycleLR", "CyclicLR"}


def pairs():
    return itertools.product(LEAVES, repeat=2)


def leaf(*numbers):
    """A leaf, another one for each of some numbers."""
    return LEAVES[sum(factor * number for factor, number in zip((5, 3, 1), numbers, strict=False)) % COUNT]


# For each form, all trees of it.
FORMS = {
    "sequence": [sequence(a, b) for a, b in pairs()],
    "sequence of three": [sequence(leaf(i, 1), leaf(i, j), leaf(2, j)) for i in range(COUNT) for j in range(COUNT)],
    "chain": [chain(a, b) for a, b in pairs()],
    "chain of three": [chain(leaf(i, 1), leaf(i, j), leaf(2, j)) for i in range(COUNT) for j in range(COUNT)],
}
KINDS = {"sequence": sequence, "chain": chain}
INNER = {"sequence": short, "chain": chain}
for (outer, make_outer), (inner, make_inner) in itertools.product(KINDS.items(), INNER.items()):
    FORMS[f"{inner} first in a {outer}"] = [
        make_outer(make_inner(LEAVES[i], LEAVES[j]), leaf(i, j)) for i in range(COUNT) for j in range(COUNT)
    ]
    FORMS[f"{inner} second in a {outer}"] = [
        make_outer(leaf(i, j), make_inner(LEAVES[i], LEAVES[j])) for i in range(COUNT) for j in range(COUNT)
    ]
    for third, make_third in INNER.items():
        FORMS[f"{third} in a {inner} in a {outer}, everywhere"] = [
            tree
            for i in range(COUNT)
            for deepest in (make_third(LEAVES[i], leaf(i, 1)), make_third(leaf(i, 2), LEAVES[i]))
            for middle in (make_inner(deepest, leaf(i, 3)), make_inner(leaf(i, 4), deepest))
            for tree in (make_outer(middle, leaf(i, 5)), make_outer(leaf(i, 6), middle))
        ]


def scheduled():
    optimizer = cases.scheduled()
    optimizer._opt_called = True
    return optimizer


def outcome(call, *arguments):
    """What a call gives, or the error that it raises."""
    try:
        return call(*arguments)
    except Exception as error:
        return type(error), str(error)


def mixed(outer, inner):
    """Sequences and chains of one library, all others of the other."""
    names = ("SequentialLR", "ChainedScheduler")
    return SimpleNamespace(**{**vars(inner), **{name: getattr(outer, name) for name in names}})


def beside(tree, library, steps=STEPS):
    """Steps of a library's and torch's schedulers, side by side; how many torch can make, if not all."""
    optimizers = scheduled(), scheduled()
    made, theirs = tree.make(library, optimizers[0]), outcome(tree.make, TORCHS, optimizers[1])
    if theirs == (NotImplementedError, ""):
        return 0, made
    for step in range(steps):
        assert cases.settings(optimizers[0]) == cases.settings(optimizers[1]), (str(tree), step)
        assert made.get_last_lr() == theirs.get_last_lr(), (str(tree), step)
        result = outcome(theirs.step)
        if result is not None:
            assert result == (NotImplementedError, ""), (str(tree), step)
            return step, made
        made.step()
    assert repr(plain(made.state_dict())) == repr(plain(theirs.state_dict())), str(tree)
    return None, made


@pytest.mark.parametrize("form", FORMS)
def test_as_torch(form):
    for tree in FORMS[form]:
        end, _ = beside(tree, OURS)
        assert (end is not None) == begins_within(tree), str(tree)


@pytest.mark.parametrize("form", [form for form in FORMS if "everywhere" not in form])
def test_with_parts_of_torchs(form):
    for tree in FORMS[form]:
        beside(tree, mixed(OURS, TORCHS))


@pytest.mark.parametrize("form", [form for form in FORMS if "everywhere" not in form])
def test_as_parts_of_torchs(form):
    """All of ours in sequences and chains of torch's; nothing of ours is in what torch cannot do."""
    for tree in FORMS[form]:
        optimizers = scheduled(), scheduled()
        ours, theirs = tree.make(mixed(TORCHS, OURS), optimizers[0]), tree.make(TORCHS, optimizers[1])
        for _ in range(STEPS):
            assert cases.settings(optimizers[0]) == cases.settings(optimizers[1]), str(tree)
            result = outcome(theirs.step)
            assert outcome(ours.step) == result
            if result is not None:
                break


def alone(tree, steps):
    """What the groups hold in the first steps of schedulers that nothing is around."""
    optimizer = scheduled()
    scheduler = tree.make(TORCHS, optimizer)
    seen = []
    for _ in range(steps):
        seen.append(cases.settings(optimizer))
        scheduler.step()
    return seen


@pytest.mark.parametrize("form", ["sequence second in a sequence", "chain second in a sequence"])
def test_where_torch_cannot_begin_it_is_as_from_the_start(form):
    """Beside torch's own of the part that begins, alone."""
    compared = 0
    for tree in FORMS[form]:
        _, second = tree.inner
        if RESETS & names(tree):
            continue
        expected = alone(second, STEPS)
        optimizer = scheduled()
        scheduler = tree.make(OURS, optimizer)
        for _ in range(3):
            scheduler.step()
        for step, group in enumerate(expected):
            rates = [(one["lr"], one["initial_lr"]) for one in group]
            found = [(one["lr"], one["initial_lr"]) for one in optimizer.param_groups]
            # The closed form and the recursion of the same curve may round otherwise.
            assert found == [pytest.approx(one, rel=1e-12) for one in rates], (str(tree), step)
            scheduler.step()
        compared += 1
    assert compared >= 100


@pytest.mark.parametrize("form", [form for form in FORMS if "everywhere" in form])
def test_three_deep_it_goes_on_where_torch_cannot(form):
    for tree in FORMS[form]:
        end, scheduler = beside(tree, OURS)
        for _ in range(20 if end is not None else 0):
            scheduler.step()
        rates = [group["lr"] for group in scheduler.optimizer.param_groups]
        assert all(0 <= rate < 1 for rate in rates), str(tree)


@pytest.mark.parametrize("form", FORMS)
def test_a_run_goes_on_from_its_state(form):
    """Into schedulers of the other library, both ways, where torch can load; else into ours."""
    for tree in FORMS[form][:: 1 if len(FORMS[form]) < 110 else 4]:
        end, _ = beside(tree, OURS)
        both = ((TORCHS, OURS), (OURS, TORCHS)) if end is None else ()
        for saving, loading in ((OURS, OURS), *both):
            optimizers = scheduled(), scheduled()
            saver, loader = (tree.make(lib, o) for lib, o in zip((saving, loading), optimizers, strict=True))
            for _ in range(5):
                saver.step()
            loader.load_state_dict(copy.deepcopy(saver.state_dict()))
            optimizers[1].load_state_dict(optimizers[0].state_dict())
            for _ in range(6):
                assert cases.settings(optimizers[0]) == cases.settings(optimizers[1]), str(tree)
                assert saver.get_last_lr() == loader.get_last_lr()
                saver.step()
                loader.step()


@pytest.mark.parametrize("form", [form for form in FORMS if FORMS[form][0].scheduler == "SequentialLR"])
@pytest.mark.parametrize("last_epoch", [0, 1, 4, 7])
def test_last_epoch_gives_the_state_of_a_run(form, last_epoch):
    for tree in FORMS[form][:: 1 if len(FORMS[form]) < 110 else 8]:
        if RESETS & names(tree):
            continue
        run, resumed = scheduled(), scheduled()
        straight = tree.make(OURS, run)
        for _ in range(last_epoch + 1):
            straight.step()
        for group, saved in zip(resumed.param_groups, run.param_groups, strict=True):
            group.update({key: value for key, value in saved.items() if key != "params"}, lr=0.7)
        again = tree.make(OURS, resumed, last_epoch=last_epoch)
        for _ in range(6):
            assert cases.settings(resumed) == cases.settings(run), str(tree)
            assert again.get_last_lr() == straight.get_last_lr()
            straight.step()
            again.step()


leaves = st.sampled_from(LEAVES)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: chain(*parts)),
        st.lists(inner, min_size=2, max_size=3).flatmap(
            lambda parts: st.lists(
                st.integers(0 if BEGINS_IN_TURN else 1, 8), min_size=len(parts) - 1, max_size=len(parts) - 1
            ).map(lambda at: sequence(*parts, at=tuple(sorted(at))))
        ),
    ),
    max_leaves=8,
)


@given(trees.filter(lambda tree: tree.inner), st.integers(1, 25))
@settings(max_examples=150, deadline=None)
def test_any_tree(tree, steps):
    beside(tree, OURS, steps)


# With what torch's compositions refuse, or lack


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("beside_it", LEAVES, ids=str)
def test_a_plateau_beside_every_class(kind, first, beside_it):
    optimizer, other = scheduled(), scheduled()
    parts = [OURS.ReduceLROnPlateau(optimizer, factor=0.5, patience=0), beside_it.make(OURS, optimizer)]
    parts = parts if first else parts[::-1]
    if kind == "chain":
        scheduler = OURS.ChainedScheduler(parts)
        alone = beside_it.make(TORCHS, other)
        for metric in (3.0, 2.0, 1.0):  # ever better, so the plateau does nothing
            scheduler.step(metric)
            alone.step()
            assert cases.settings(optimizer) == cases.settings(other)
        before = [group["lr"] for group in optimizer.param_groups]
        scheduler.step(9.0)
        assert scheduler.get_last_lr() == [group["lr"] for group in optimizer.param_groups] != before
        return
    scheduler = OURS.SequentialLR(optimizer, parts, [2])
    for metric in (1.0, 2.0, 3.0, 2.0, 4.0):
        scheduler.step(metric)
    assert scheduler.get_last_lr() == [group["lr"] for group in optimizer.param_groups]
    alone = beside_it.make(TORCHS, other)
    theirs = TORCHS.SequentialLR(other, [TORCHS.ConstantLR(other, 1.0), alone] if first else [alone], [2][: int(first)])
    for _ in range(5 if first else 1):
        theirs.step()
    rates = [group["lr"] for group in other.param_groups]
    if first:
        assert scheduler.get_last_lr() == rates
    else:  # reduced three times from what it found; the first metric of its turn was the best
        assert scheduler.get_last_lr() == [rate * 0.125 for rate in rates]


@pytest.mark.parametrize("library", [OURS, TORCHS], ids=["ours", "torchs"])
@pytest.mark.parametrize("other", LEAVES, ids=str)
def test_composable_schedulers_beside_every_class(library, other):
    """Sequences begin each from its first rate, at its turn."""
    curve = composable.linear(10)
    for first in (True, False):
        optimizer, alone = scheduled(), scheduled()
        parts = [curve.on(optimizer), other.make(library, optimizer)]
        sequence = library.SequentialLR(optimizer, parts if first else parts[::-1], [3])
        theirs = [TORCHS.LambdaLR(alone, curve), other.make(TORCHS, alone)]
        expected = TORCHS.SequentialLR(alone, theirs if first else theirs[::-1], [3])
        for _ in range(9):
            found, base = [[group[key] for group in optimizer.param_groups] for key in ("lr", "initial_lr")]
            rates = [group["lr"] for group in alone.param_groups]
            assert found == pytest.approx(rates, rel=1e-12), first
            assert sequence.get_last_lr() == found
            assert base == [group["initial_lr"] for group in alone.param_groups]
            sequence.step()
            expected.step()


def test_the_comparison_can_fail():
    tree = sequence(LEAVES[0], LEAVES[4])
    wrong = SimpleNamespace(**{**vars(OURS), "StepLR": OURS.MultiStepLR})
    with pytest.raises((AssertionError, TypeError)):
        beside(tree, wrong)
    optimizers = scheduled(), scheduled()
    made = [tree.make(OURS, optimizers[0]), tree.make(TORCHS, optimizers[1])]
    made[0].step()
    assert not isinstance(made[0].get_last_lr()[0], torch.Tensor)
    optimizers[0].param_groups[0]["lr"] *= 1 + 1e-15
    assert cases.settings(optimizers[0]) != cases.settings(optimizers[1])
