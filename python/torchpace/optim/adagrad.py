"""Adagrad."""

from typing import Any

import torch
from torch import Tensor

from torchpace.optim._base import Fused


class Adagrad(Fused, torch.optim.Adagrad):
    _rule = "adagrad"

    def _new_slot(self, name: str, param: Tensor) -> Tensor:
        return torch.full_like(
            param, self.defaults["initial_accumulator_value"], memory_format=torch.preserve_format
        )

    def _init_group(self, group: dict[str, Any], *lists: list[Tensor]) -> Any:
        # On the way through torch's own step: before 2.13 or so it knows only the parameters of the constructor.
        for param in group["params"]:
            if param.grad is not None and not self.state[param]:
                self.state[param] = self._new_state(param, group, ["step", "sum"])
        return super()._init_group(group, *lists)
