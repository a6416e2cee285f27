"""What a divergence guard tells of its work."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from torchpace.control._judge import Fault
from torchpace.control._numbers import number, real, whole

Deed = Literal["recovered", "skipped", "failed"]


@dataclass(frozen=True)
class GuardEvent:
    """Something that a `DivergenceGuard` did besides a plain step.

    Attributes:
        step: the number of the guard's step, from 0.
        kind: "growth", "slow growth", "no descent" or "non-finite": a step was taken back; "explosion" or "non-finite"
            under ``on="loss"``: the training went back to a snapshot; "recovered": the factor rose; "skipped": a
            GradScaler skipped the step; "failed": a `DivergenceError` was raised.
        ratio: the growth of the gradient norm, or under ``on="loss"`` of the loss, where there is one.
        loss: the loss that the step began with.
        lr_factor: the factor on the learning rates from here on.
    """

    step: int
    kind: Fault | Deed
    ratio: float | None
    loss: float
    lr_factor: float


class DivergenceError(RuntimeError):
    """A `DivergenceGuard` found no step that does not diverge; everything is as before the step."""


def read_event(place: str, entries: Any) -> GuardEvent:
    """An event of a `state_dict`, there as a dict; `place` is where, for errors.

    Raises:
        KeyError: an entry is missing.
        TypeError: it is no dict, or an entry is of a wrong type.
        ValueError: an entry is out of its range.
    """
    if not isinstance(entries, dict):
        raise TypeError(f"{place} is of type {type(entries).__name__}, expected a dict")
    missing = [field.name for field in fields(GuardEvent) if field.name not in entries]
    if missing:
        raise KeyError(f"{place} has no {missing[0]!r}, found only {sorted(map(str, entries))}")
    kind, ratio, kinds = entries["kind"], entries["ratio"], (*get_args(Fault), *get_args(Deed))
    if kind not in kinds:
        raise ValueError(f"{place}['kind'] is {kind!r}, expected one of {', '.join(map(repr, kinds))}")
    return GuardEvent(
        whole(f"{place}['step']", entries["step"], 0),
        kind,
        None if ratio is None else number(f"{place}['ratio']", ratio),
        number(f"{place}['loss']", entries["loss"]),
        real(f"{place}['lr_factor']", entries["lr_factor"], lambda x: 0 < x <= 1, "a number > 0, at most 1"),
    )
