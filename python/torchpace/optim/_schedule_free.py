"""What the schedule-free optimizers share."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from torchpace.optim import _torch_schedulefree
from torchpace.optim._base import Fused


class ScheduleFree(Fused):
    """Put before one of `_torch_schedulefree`, takes over its step."""

    _scalars: ClassVar[dict[str, float | str]] = {"weight_sum": 0.0, "lr_max": 0.0}

    def _check_step(self) -> None:
        _torch_schedulefree.check_mode(self.param_groups)

    def _new_slot(self, name: str, param: Tensor) -> Tensor:
        if name == "z":
            return param.detach().clone(memory_format=torch.preserve_format)
        return super()._new_slot(name, param)

    def _new_scalar(self, name: str, param: Tensor, group: dict[str, Any]) -> Tensor:
        # In float32 a sum stands still once it is 2^24 times what is added.
        return super()._new_scalar(name, param, group).double()
