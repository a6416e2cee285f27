"""What a divergence guard tells of its work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torchpace.control._judge import Fault


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
    kind: Fault | Literal["recovered", "skipped", "failed"]
    ratio: float | None
    loss: float
    lr_factor: float


class DivergenceError(RuntimeError):
    """A `DivergenceGuard` found no step that does not diverge; everything is as before the step."""
