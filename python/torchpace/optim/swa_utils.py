"""The utilities of `torch.optim.swa_utils`: `SWALR` with its step in Rust, the others torch's own."""

from torch.optim.swa_utils import *  # noqa: F403
from torch.optim.swa_utils import __all__ as __all__

from torchpace.optim.lr_scheduler.swa import SWALR as SWALR
