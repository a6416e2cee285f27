"""Rates that follow a metric."""

from typing import Literal

from torchpace import _native
from torchpace.schedule._schedule import PlateauSchedule


def plateau(
    factor: float = 0.1,
    patience: int = 10,
    mode: Literal["min", "max"] = "min",
    threshold: float = 1e-4,
    threshold_mode: Literal["rel", "abs"] = "rel",
    cooldown: int = 0,
    floor: float = 0.0,
    ceiling: float = 1.0,
    raises: bool = False,
) -> PlateauSchedule:
    r"""Performance scheduling: :math:`\eta = \eta_0 s`, where the scale :math:`s`, 1 at first, follows a metric.

    An evaluation is better if it beats the best one by more than the threshold, else worse (a NaN is). More than
    `patience` worse ones since the last better one: :math:`s \leftarrow a s`. With `raises`, more than `patience`
    better ones in a row: :math:`s \leftarrow s / a`. Always :math:`s` stays from `floor` to `ceiling`.

    What `on` makes of it, or of any schedule that contains it, is a ``torch.optim.lr_scheduler.ReduceLROnPlateau``
    whose ``step`` takes the metric. The metric is needed where the present rate depends on a plateau; elsewhere, as in
    a warmup, it is not, and is not looked at. Each plateau in a schedule has a memory of its own. Called as a function
    of the step, a plateau is constant.

    Args:
        factor: :math:`a`, above 0 and below 1 (default: 0.1).
        patience: the evaluations that change nothing yet, at least 0 (default: 10).
        mode: "min" where small metrics are good, "max" where large ones are (default: "min").
        threshold: at least 0; below 1 under "rel" (default: 1e-4).
        threshold_mode: in units of the best metric, "rel", or of the metric, "abs" (default: "rel").
        cooldown: the evaluations after a change that are not counted, at least 0 (default: 0).
        floor: the least scale, from 0 to 1 (default: 0).
        ceiling: the greatest scale, at least 1 (default: 1).
        raises: whether better metrics raise the rate (default: False, as in torch).

    Differs from torch's ReduceLROnPlateau, apart from `raises`: the bounds are in units of the base, and there is no
    ``eps``, a least change.

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> import torch
        >>> from torchpace.schedule import plateau, warmup
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)
        >>> scheduler = warmup(2, start=0.5).then(plateau(0.5, patience=1)).on(optimizer)
        >>> isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
        True
        >>> optimizer.step()
        >>> for metric in (None, None, 1.0, 2.0, 2.0):
        ...     scheduler.step(metric)
        >>> scheduler.get_last_lr()
        [0.05]
    """
    core = _native.Schedule.plateau(factor, patience, mode, threshold, threshold_mode, cooldown, floor, ceiling, raises)
    return PlateauSchedule(core)
