"""The schedulers of `torch.optim.lr_scheduler`, with steps in Rust.

Every name of torch's module is here. Each class subclasses torch's of that name, takes the same arguments, has the same
`state_dict`, and gives the same learning rates to the bit; the docstrings say where ours go on and torch fails.
"""

from typing import TYPE_CHECKING

from torch.optim import lr_scheduler as _torch
from torch.optim.lr_scheduler import EPOCH_DEPRECATION_WARNING as EPOCH_DEPRECATION_WARNING

from torchpace.optim.lr_scheduler._base import LRScheduler
from torchpace.optim.lr_scheduler._base import _LRScheduler as _LRScheduler
from torchpace.optim.lr_scheduler.compose import ChainedScheduler, SequentialLR
from torchpace.optim.lr_scheduler.cosine import CosineAnnealingLR, CosineAnnealingWarmRestarts
from torchpace.optim.lr_scheduler.cycle import CyclicLR, OneCycleLR
from torchpace.optim.lr_scheduler.lambdas import LambdaLR, MultiplicativeLR
from torchpace.optim.lr_scheduler.plateau import ReduceLROnPlateau
from torchpace.optim.lr_scheduler.ramp import ConstantLR, LinearLR, PolynomialLR
from torchpace.optim.lr_scheduler.steps import ExponentialLR, MultiStepLR, StepLR

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]

if not TYPE_CHECKING:
    # What this torch has beside, private names too; what is only in a newer one is not there.
    globals().update({name: value for name, value in vars(_torch).items() if name not in globals()})
    __all__ = [*_torch.__all__, *(name for name in __all__ if name not in _torch.__all__ and name in globals())]
