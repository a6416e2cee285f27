"""The utilities of `torch.optim.swa_utils`: `SWALR` with its step in Rust, the others torch's own."""

from typing import TYPE_CHECKING

from torch.optim import swa_utils as _torch
from torch.optim.swa_utils import (
    AveragedModel,
    get_ema_avg_fn,
    get_ema_multi_avg_fn,
    get_swa_avg_fn,
    get_swa_multi_avg_fn,
    update_bn,
)

from torchpace.optim.lr_scheduler.swa import SWALR

__all__ = [
    "SWALR",
    "AveragedModel",
    "get_ema_avg_fn",
    "get_ema_multi_avg_fn",
    "get_swa_avg_fn",
    "get_swa_multi_avg_fn",
    "update_bn",
]

if not TYPE_CHECKING:
    # What this torch has beside, private names too; what is only in a newer one is not there.
    globals().update({name: value for name, value in vars(_torch).items() if name not in globals()})
    __all__ = [*_torch.__all__, *(name for name in __all__ if name not in _torch.__all__ and name in globals())]
