"""A state that is taken over whole or not at all.

torch takes whatever is in it for the attributes of the scheduler, and so do these; what torch stumbles over half way is
found out first, and is an error of the same type.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch.optim import lr_scheduler

_MODES = {"mode": ("min", "max"), "threshold_mode": ("rel", "abs")}


def check(scheduler: Any, state: Any) -> None:
    """Raise what torch would raise on the way, or at the next step.

    Raises:
        TypeError: the state is no dict, or an entry is of a wrong type.
        KeyError, IndexError, AttributeError, ValueError: an entry is missing or does not fit.
    """
    name = type(scheduler).__name__
    if not isinstance(state, Mapping):
        raise TypeError(
            f"the state of {name} is of type {type(state).__name__}, expected a dict as state_dict() returns it"
        )
    for key in ("last_epoch", "_step_count"):
        if key in state and not hasattr(state[key], "__float__"):
            raise TypeError(f"the state's {key} is {state[key]!r}, expected a number")
    if isinstance(scheduler, (lr_scheduler.SequentialLR, lr_scheduler.ChainedScheduler)):
        inner = _one_for_each(name, state, "_schedulers", len(scheduler._schedulers))
        for one, of_one in zip(scheduler._schedulers, inner, strict=False):
            # A class of the user's may keep its state in another form.
            if type(one).load_state_dict.__module__.startswith(("torch.", "torchpace.")):
                check(one, of_one)
    elif isinstance(scheduler, (lr_scheduler.LambdaLR, lr_scheduler.MultiplicativeLR)):
        functions = _one_for_each(name, state, "lr_lambdas", len(scheduler.lr_lambdas))
        for at, (function, attributes) in enumerate(zip(scheduler.lr_lambdas, functions, strict=False)):
            _check_attributes(f"lr_lambdas[{at}]", function, attributes)
    elif isinstance(scheduler, lr_scheduler.CyclicLR):
        attributes = _entry(name, state, "_scale_fn_custom")
        _check_attributes("_scale_fn_custom", scheduler._scale_fn_custom, attributes)
    elif isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
        for key, words in _MODES.items():
            if key in state and state[key] not in words:
                raise ValueError(f"the state's {key} is {state[key]!r}, expected {' or '.join(map(repr, words))}")


def _entry(name: str, state: Mapping[str, Any], key: str) -> Any:
    if key not in state:
        raise KeyError(f"the state has no {key!r}, only {sorted(map(str, state))}: expected the state of a {name}")
    return state[key]


def _one_for_each(name: str, state: Mapping[str, Any], key: str, count: int) -> list[Any]:
    entries = _entry(name, state, key)
    if not isinstance(entries, (list, tuple)):
        raise TypeError(f"the state's {key} is {entries!r}, expected a list")
    if any(entry is not None for entry in entries[count:]):
        raise IndexError(f"the state's {key} has {len(entries)} entries, expected at most {count}")
    return list(entries)


def _check_attributes(key: str, function: Any, attributes: Any) -> None:
    if attributes is None:
        return
    if not isinstance(attributes, Mapping):
        raise TypeError(f"the state's {key} is {attributes!r}, expected a dict or None")
    if not hasattr(function, "__dict__"):
        raise AttributeError(f"the state's {key} is {attributes!r}, expected None for {function!r}")


@contextmanager
def all_or_nothing(scheduler: Any) -> Iterator[None]:
    """A block in which a scheduler takes over a state, and after an error is what it was."""
    before = [(one, dict(vars(one))) for one in _written(scheduler)]
    try:
        yield
    except BaseException:
        for one, attributes in before:
            vars(one).clear()
            vars(one).update(attributes)
        raise


def _written(scheduler: Any) -> Iterator[Any]:
    """The objects whose attributes a state may set."""
    yield scheduler
    fields = vars(scheduler)
    for inner in fields.get("_schedulers", ()):
        yield from _written(inner)
    for function in (*fields.get("lr_lambdas", ()), fields.get("_scale_fn_custom")):
        if isinstance(getattr(function, "__dict__", None), dict):
            yield function
