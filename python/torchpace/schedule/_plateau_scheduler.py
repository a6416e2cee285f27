"""A schedule with a plateau at work on an optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsFloat

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from torchpace import _native
from torchpace.schedule._schedule import Schedule
from torchpace.schedule._scheduler import Scheduler, check_step


class PlateauScheduler(Scheduler, ReduceLROnPlateau):
    """A `Scheduler` whose schedule contains a plateau: its step takes the metric; made by `Schedule.on`.

    Trainers know it by its base class, ``ReduceLROnPlateau``, and hand it the metric. The attributes of that class
    (``mode``, ``best``, ``num_bad_epochs`` and so on) tell of the first plateau.
    """

    factor: float
    patience: int
    cooldown: int
    eps: float

    def __init__(
        self,
        schedule: Schedule,
        optimizer: Optimizer,
        param: str = "lr",
        groups: int | Sequence[int] | None = None,
        last_epoch: int = -1,
    ) -> None:
        first = schedule._core.first_plateau()
        if first is None:
            raise ValueError(f"{schedule} contains no plateau, expected one")
        mode, self.factor, patience, threshold, threshold_mode, cooldown = first
        self.patience, self.cooldown, self.eps = int(patience), int(cooldown), 0.0
        self._init_is_better(mode=mode, threshold=threshold, threshold_mode=threshold_mode)
        self._memories = schedule._core.memories()
        super().__init__(schedule, optimizer, param, groups, last_epoch)

    def step(self, metrics: SupportsFloat | None = None, epoch: float | None = None) -> None:  # type: ignore[override]
        """Show the metric to the plateaus that the rate depends on, and go to the next step.

        Args:
            metrics: the metric of the evaluation since the last step; needed where the rate depends on a plateau, else
                not looked at (default: None).
            epoch: a step, at least 0, to go to (default: the next).

        Raises:
            TypeError: there is no metric, and one is needed.
            ValueError: `epoch` is out of its range.
        """
        if epoch is not None:
            check_step("epoch", epoch)
        before = self._memories
        if self.wants_metric:
            if metrics is None:
                raise TypeError(
                    f"metrics is None at step {self.last_epoch}, where the rate follows a metric: expected a number"
                )
            metric = _native.number("metrics", metrics)
            self._memories = self.schedule._core.observe(float(self.last_epoch), metric, self._memories)
        try:
            self._advance(epoch)  # without a warning, as in torch: an evaluation may come before the first step
        except BaseException:
            self._memories = before
            raise

    @property
    def wants_metric(self) -> bool:
        """Whether the next `step` needs a metric."""
        return self.schedule._core.wants_metric(float(self.last_epoch))

    def state_dict(self) -> dict[str, Any]:
        """The step, the bases, and what each plateau remembers, as plain values."""
        return {**super().state_dict(), "plateaus": [dict(zip(_FIELDS, old, strict=True)) for old in self._memories]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to the step of a `state_dict`, with its bases and memories, and set the option there.

        Raises:
            KeyError: it lacks an entry.
            ValueError: it is of another option or other plateaus, or of more groups than there are.
        """
        memories = [tuple(float(old[name]) for name in _FIELDS) for old in state_dict["plateaus"]]
        if len(memories) != len(self._memories):
            raise ValueError(f"the state is of {len(memories)} plateaus, expected {len(self._memories)}")
        before, self._memories = self._memories, memories  # type: ignore[assignment]
        try:
            super().load_state_dict(state_dict)
        except BaseException:
            self._memories = before
            raise

    def _reset(self) -> None:
        """Forget all metrics."""
        self._memories = self.schedule._core.memories()

    def _scales(self) -> list[float]:
        return [memory[0] for memory in self._memories]

    @property
    def best(self) -> float:  # type: ignore[override]
        """The best metric that the first plateau has seen."""
        return self._memories[0][1]

    @property
    def num_bad_epochs(self) -> int:  # type: ignore[override]
        """The worse evaluations that the first plateau has counted."""
        return int(self._memories[0][2])

    @property
    def cooldown_counter(self) -> int:  # type: ignore[override]
        """The evaluations that the first plateau will not count."""
        return int(self._memories[0][4])

    @property
    def min_lrs(self) -> list[float]:  # type: ignore[override]
        """The least learning rates are in the schedule; for torch's sake, none."""
        return [0.0] * len(self.optimizer.param_groups)


_FIELDS = ("scale", "best", "worse", "better", "cooldown")
