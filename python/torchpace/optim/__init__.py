"""The optimizers of `torch.optim`, with steps fused in Rust.

`from torchpace import optim` takes the place of `from torch import optim`: every name is there, and those that have no
fused step yet are torch's own classes.
"""

from torch import optim as _torch
from torch.optim import *  # noqa: F403

# By their full names: `from torchpace.optim import ...` finds the names that came from torch.
import torchpace.optim.lr_scheduler as lr_scheduler  # type: ignore[no-redef]
import torchpace.optim.swa_utils as swa_utils  # type: ignore[no-redef]
from torchpace.optim.adagrad import Adagrad
from torchpace.optim.adam import Adam
from torchpace.optim.adamw import AdamW
from torchpace.optim.rmsprop import RMSprop
from torchpace.optim.sgd import SGD

__all__ = [*_torch.__all__, "SGD", "Adagrad", "Adam", "AdamW", "RMSprop", "lr_scheduler", "swa_utils"]
