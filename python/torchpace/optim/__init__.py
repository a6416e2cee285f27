"""The optimizers of `torch.optim`, with steps fused in Rust.

`from torchpace import optim` takes the place of `from torch import optim`: every name is there, and those that have
no fused step yet are torch's own classes. `AdEMAMix`, `LAMB`, `LARS`, `Lion`, `Prodigy`, `ScheduleFreeAdamW` and
`ScheduleFreeSGD`, which torch lacks, are there, too, and `muon_groups`, which makes groups for `Muon`.
`torchpace.optim.checkpoint` writes an optimizer's state to a file.
"""

from typing import TYPE_CHECKING

from torch import optim as _torch
from torch.optim import LBFGS, Optimizer, SparseAdam

from torchpace.optim import checkpoint as checkpoint
from torchpace.optim import functional as functional
from torchpace.optim import lr_scheduler, swa_utils
from torchpace.optim._muon_groups import muon_groups as muon_groups
from torchpace.optim.adadelta import Adadelta
from torchpace.optim.adafactor import Adafactor
from torchpace.optim.adagrad import Adagrad
from torchpace.optim.adam import Adam
from torchpace.optim.adamax import Adamax
from torchpace.optim.adamw import AdamW
from torchpace.optim.ademamix import AdEMAMix as AdEMAMix
from torchpace.optim.asgd import ASGD
from torchpace.optim.lamb import LAMB as LAMB
from torchpace.optim.lars import LARS as LARS
from torchpace.optim.lion import Lion as Lion
from torchpace.optim.muon import Muon
from torchpace.optim.nadam import NAdam
from torchpace.optim.prodigy import Prodigy as Prodigy
from torchpace.optim.radam import RAdam
from torchpace.optim.rmsprop import RMSprop
from torchpace.optim.rprop import Rprop
from torchpace.optim.schedule_free_adamw import ScheduleFreeAdamW as ScheduleFreeAdamW
from torchpace.optim.schedule_free_sgd import ScheduleFreeSGD as ScheduleFreeSGD
from torchpace.optim.sgd import SGD

if TYPE_CHECKING:
    from torch.optim import swap_in_optimizer_params_and_state  # newer than torch 2.10

__all__ = [
    "ASGD",
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Muon",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SparseAdam",
    "lr_scheduler",
    "swa_utils",
    "swap_in_optimizer_params_and_state",
]

if not TYPE_CHECKING:
    # What this torch has beside, private names too; what is only in a newer one is not there.
    globals().update({name: value for name, value in vars(_torch).items() if name not in globals()})
    __all__ = [*_torch.__all__, *(name for name in __all__ if name not in _torch.__all__ and name in globals())]
