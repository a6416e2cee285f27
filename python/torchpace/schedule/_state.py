"""What a `state_dict` of a scheduler says, checked before any of it is taken over."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torchpace.schedule._numbers import as_int, number

ENTRIES = ("param", "last_epoch", "_step_count", "base_values")
MEMORY = ("scale", "best", "worse", "better", "cooldown")

Memory = tuple[float, float, float, float, float]


class State(NamedTuple):
    """Where a scheduler is, and from which bases."""

    step: float
    steps_made: int
    bases: list[float | None]
    memories: list[Memory]


def read(state: Any, param: str, plateaus: int, groups: int) -> State:
    """What a `state_dict` says to a scheduler of an option of so many groups, with so many plateaus in its schedule.

    Raises:
        KeyError: it lacks an entry.
        TypeError: it is no dict, or an entry is of a wrong type.
        ValueError: an entry is out of its range, or of another option, other plateaus or more groups.
    """
    if not isinstance(state, Mapping):
        raise TypeError(f"the state is of type {type(state).__name__}, expected a dict as state_dict() returns it")
    for name in (*ENTRIES, *(("plateaus",) if plateaus else ())):
        if name not in state:
            raise KeyError(f"the state has no {name!r}, only {sorted(map(str, state))}: expected a Scheduler's state")
    if state["param"] != param:
        raise ValueError(f"the state is of a schedule for {state['param']!r}, expected {param!r}")
    memories = _list("plateaus", state.get("plateaus", []))
    if len(memories) != plateaus:
        raise ValueError(f"the state is of {len(memories)} plateaus, expected {plateaus}")
    bases = _list("base_values", state["base_values"])
    if len(bases) > groups:
        raise ValueError(f"the state is of {len(bases)} groups, expected at most {groups}")
    # Before its turn in a sequence a scheduler is at -1.
    step = _number("last_epoch", state["last_epoch"])
    if not (math.isfinite(step) and (step >= 0 or step == -1)):
        raise ValueError(f"the state's last_epoch is {state['last_epoch']}, expected a finite number >= 0, or -1")
    return State(
        as_int(step),
        _count("_step_count", state["_step_count"]),
        [_base(f"base_values[{index}]", base) for index, base in enumerate(bases)],
        [_memory(f"plateaus[{index}]", memory) for index, memory in enumerate(memories)],
    )


def _list(name: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"the state's {name} is {value!r}, expected a list")
    return value


def _number(name: str, value: Any) -> float:
    found = number(value)
    if found is None:
        raise TypeError(f"the state's {name} is {value!r}, expected a number")
    return found


def _count(name: str, value: Any) -> int:
    found = _number(name, value)
    if not (found.is_integer() and found >= 0):
        raise ValueError(f"the state's {name} is {value}, expected a whole number >= 0")
    return int(found)


def _base(name: str, value: Any) -> float | None:
    if value is None:
        return None
    found = _number(name, value)
    if not math.isfinite(found):
        raise ValueError(f"the state's {name} is {value}, expected a finite number, or None")
    return found


def _memory(name: str, memory: Any) -> Memory:
    if not isinstance(memory, Mapping):
        raise TypeError(f"the state's {name} is {memory!r}, expected a dict")
    for entry in MEMORY:
        if entry not in memory:
            raise KeyError(f"the state's {name} has no {entry!r}, expected {', '.join(map(repr, MEMORY))}")
    scale, best = (_number(f"{name}[{entry!r}]", memory[entry]) for entry in ("scale", "best"))
    if not (math.isfinite(scale) and scale >= 0):
        raise ValueError(f"the state's {name}['scale'] is {memory['scale']}, expected a finite number >= 0")
    if math.isnan(best):
        raise ValueError(f"the state's {name}['best'] is {memory['best']}, expected a number, or infinity before any")
    worse, better, cooldown = (_count(f"{name}[{entry!r}]", memory[entry]) for entry in MEMORY[2:])
    return scale, best, float(worse), float(better), float(cooldown)
