"""Files that `torchpace.optim.checkpoint` cannot go on from; that good ones are gone on from is in tests/turns.py."""

import json
import struct

import pytest
import torch

from torchpace import optim

pytest.importorskip("safetensors", reason="checkpoints need safetensors")

from torchpace.optim import checkpoint


@pytest.fixture
def params():
    return [torch.nn.Parameter(torch.ones(size)) for size in (2, 1)]


def make(params, **options):
    groups = [{"params": [(name, param)]} for name, param in zip("ab", params, strict=True)]
    return optim.Adam(groups, **{"lr": 0.1, **options})


@pytest.fixture
def good(params, tmp_path):
    """The bytes of a file after a step."""
    optimizer = make(params, clip_value=1.0)
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer.step()
    checkpoint.save(optimizer, tmp_path / "good")
    return (tmp_path / "good").read_bytes()


def header(good, change):
    """The file with another header."""
    (length,) = struct.unpack("<Q", good[:8])
    whole = json.loads(good[8 : 8 + length])
    change(whole)
    text = json.dumps(whole).encode()
    return struct.pack("<Q", len(text)) + text + good[8 + length :]


def groups(good, change):
    """The file with other groups."""

    def inner(whole):
        parsed = json.loads(whole["__metadata__"]["param_groups"])
        change(parsed)
        whole["__metadata__"]["param_groups"] = json.dumps(parsed)

    return header(good, inner)


def option(**new):
    return lambda good: groups(good, lambda parsed: parsed[1].update(new))


def without(*keys):
    def remove(whole):
        for key in keys[:-1]:
            whole = whole[key]
        del whole[keys[-1]]

    return lambda good: header(good, remove)


def metadata(**new):
    return lambda good: header(good, lambda whole: whole["__metadata__"].update(new))


def renamed(old, new):
    return lambda good: header(good, lambda whole: whole.update({new: whole.pop(old)}))


def tensor(name, **new):
    return lambda good: header(good, lambda whole: whole[name].update(new))


WRONG = [
    (lambda good: b"", "is no safetensors file"),
    (lambda good: good[:100], "is no safetensors file"),
    (lambda good: good[:-1], "is no safetensors file"),
    (lambda good: struct.pack("<Q", 2**63) + good[8:], "is no safetensors file"),
    (without("__metadata__"), "format is None, expected 'torchpace.optimizer'"),
    (metadata(version="2"), "version is '2', expected '1'"),
    (metadata(rule="sgd"), "rule is 'sgd', expected 'adam'"),
    (without("__metadata__", "param_groups"), "param_groups is no JSON"),
    (metadata(param_groups="["), "param_groups is no JSON"),
    (metadata(param_groups="{}"), "param_groups is of type dict, expected a list"),
    (metadata(param_groups="[{}]"), "there are 1 groups, expected 2"),
    (metadata(param_groups="[1, 2]"), "group 0 is 1, expected options and a list of params"),
    (option(params=None), "expected options and a list of params"),
    (option(params=[]), "group 1 has 0 parameters, expected 1"),
    (option(params=["a"]), r"group 1 has the parameters \['a'\], expected \['b'\]"),
    (option(params=["b"], param_names=[]), r"group 1 has the param_names \[\], expected one for each"),
    (option(params=["b"], param_names="b."), "group 1 has the param_names 'b.', expected one for each"),
    (option(params=["x"], param_names=["c"]), r"group 1 has the parameters \['c'\], expected \['b'\]"),
    (option(params=["a"], param_names=["b"]), "group 1: 'a' is there twice, and its state once"),
    (option(lr="high"), "group 1: lr is 'high', expected a number"),
    (option(lr=True), "group 1: lr is True, expected a number"),
    (option(lr=None), "group 1: "),
    (option(lr=-1), "group 1: Invalid learning rate: -1"),
    (option(lr="nan"), "group 1: Invalid learning rate: nan"),
    (option(betas=0.9), "group 1: betas is 0.9, expected a list of 2"),
    (option(betas=[0.9]), r"group 1: betas is \[0.9\], expected a list of 2"),
    (option(betas=[0.9, 1]), "group 1: Invalid beta parameter at index 1: 1"),
    (option(amsgrad=0), "group 1: amsgrad is 0, expected a flag"),
    (option(clip_value=-1), "group 1: Invalid clip_value value: -1"),
    (option(nonfinite_norm="stop"), "group 1: Invalid nonfinite_norm value: 'stop'"),
    (renamed("a.exp_avg", "c.exp_avg"), r"there is state of \['c'\]"),
    (tensor("a.exp_avg", shape=[2, 1]), r"a.exp_avg has shape \[2, 1\], expected \[2\]"),
    (tensor("a.step", shape=[1]), r"a.step has shape \[1\], expected \[\]"),
]


@pytest.mark.parametrize(("change", "words"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_file_changes_nothing(params, good, tmp_path, change, words):
    (tmp_path / "wrong").write_bytes(change(good))
    optimizer = make(params)
    before = repr(optimizer.state_dict())
    with pytest.raises(ValueError, match=words):
        checkpoint.load(optimizer, tmp_path / "wrong")
    assert repr(optimizer.state_dict()) == before


def test_an_option_that_is_off_in_the_file_is_off(params, good, tmp_path):
    optimizer = make(params, clip_value=2.0)
    (tmp_path / "off").write_bytes(groups(good, lambda parsed: [group.update(clip_value=None) for group in parsed]))
    checkpoint.load(optimizer, tmp_path / "off")
    assert [group["clip_value"] for group in optimizer.param_groups] == [None, None]


def test_state_that_is_missing_is_missed_by_the_step(params, good, tmp_path):
    optimizer = make(params)
    (tmp_path / "part").write_bytes(renamed("a.exp_avg", "a.other")(good))
    checkpoint.load(optimizer, tmp_path / "part")
    before = params[0].clone()
    with pytest.raises(KeyError, match='state has no "exp_avg"'):
        optimizer.step()
    assert torch.equal(params[0], before)


def test_paths_that_lead_nowhere(params, good, tmp_path):
    optimizer = make(params)
    with pytest.raises(FileNotFoundError):
        checkpoint.load(optimizer, tmp_path / "none")
    with pytest.raises(OSError, match=r"device|directory|denied"):
        checkpoint.load(optimizer, tmp_path)
    with pytest.raises(OSError, match="cannot be written"):
        checkpoint.save(optimizer, tmp_path / "none" / "file")
    kept = (tmp_path / "good").read_bytes()
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        checkpoint.save(optimizer, tmp_path / "folder")
    assert (tmp_path / "good").read_bytes() == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "good"]
