"""A schedule with a plateau at work on an optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import SupportsFloat

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from torchpace.schedule._numbers import not_negative, real
from torchpace.schedule._schedule import Schedule
from torchpace.schedule._scheduler import Scheduler, warn_of_epoch


class PlateauScheduler(Scheduler, ReduceLROnPlateau):
    """A `Scheduler` whose schedule contains a plateau: its step takes the metric; made by `Schedule.on`.

    Trainers know it by its base class, ``ReduceLROnPlateau``, and hand it the metric. The attributes of that class
    (``mode``, ``best``, ``num_bad_epochs`` and so on) tell of the first plateau.

    Args:
        optimizer: any torch optimizer.
        schedule: the schedule, with a plateau in it.
        param: the option (default: "lr").
        groups: the indices of the groups (default: None, all, those added later included).
        last_epoch: the step before the first; to resume, where the groups have ``initial_lr`` (default: -1).

    Raises:
        KeyError: a group lacks the option, or in resuming its initial value.
        TypeError: the option is not a number, or an argument of a wrong type.
        ValueError: `groups` names a group that there is not, or the schedule has no plateau.
    """

    factor: float
    patience: int
    cooldown: int
    eps: float

    def __init__(
        self,
        optimizer: Optimizer,
        schedule: Schedule,
        param: str = "lr",
        groups: int | Sequence[int] | None = None,
        last_epoch: int = -1,
    ) -> None:
        if not isinstance(schedule, Schedule):
            raise TypeError(f"schedule is of type {type(schedule).__name__}, expected a schedule")
        first = schedule._core.first_plateau()
        if first is None:
            raise ValueError(f"{schedule} contains no plateau, expected one")
        mode, self.factor, patience, threshold, threshold_mode, cooldown = first
        self.patience, self.cooldown, self.eps = int(patience), int(cooldown), 0.0
        self._init_is_better(mode=mode, threshold=threshold, threshold_mode=threshold_mode)
        super().__init__(optimizer, schedule, param, groups, last_epoch)

    def step(self, metrics: SupportsFloat | None = None, epoch: float | None = None) -> None:  # type: ignore[override]
        """Show the metric to the plateaus that the rate depends on, and go to the next step.

        Args:
            metrics: the metric of the evaluation since the last step; needed where the rate depends on a plateau, else
                not looked at (default: None).
            epoch: a step to go to instead of the next, at least 0; deprecated, with torch's warning: `seek` does this
                (default: None).

        Raises:
            TypeError: there is no metric, and one is needed; or an argument is no number.
            ValueError: `epoch` is out of its range.
        """
        if epoch is not None:
            epoch = not_negative("epoch", epoch)
            warn_of_epoch()
        before = self._memories
        if self.wants_metric:
            if metrics is None:
                raise TypeError(
                    f"metrics is None at step {self.last_epoch}, where the rate follows a metric: expected a number"
                )
            self._memories = self.schedule._core.observe(
                float(self.last_epoch), real("metrics", metrics), self._memories
            )
        try:
            self._advance(epoch)  # without a warning, as in torch: an evaluation may come before the first step
        except BaseException:
            self._memories = before
            raise

    @property
    def wants_metric(self) -> bool:
        """Whether the next `step` needs a metric."""
        return self.schedule._core.wants_metric(float(self.last_epoch))

    def _reset(self) -> None:
        """Forget all metrics."""
        self._memories = self.schedule._core.memories()

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
