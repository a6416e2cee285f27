"""The schedulers of `torch.optim.lr_scheduler`, with steps in Rust.

Every name of torch's module is here. Each class subclasses torch's of that name, takes the same arguments, has the same
`state_dict`, and gives the same learning rates to the bit; the docstrings say where ours go on and torch fails.
"""

from typing import TYPE_CHECKING, Any

from torch.optim import lr_scheduler as _torch
from torch.optim.lr_scheduler import *  # noqa: F403
from torch.optim.lr_scheduler import EPOCH_DEPRECATION_WARNING as EPOCH_DEPRECATION_WARNING
from torch.optim.lr_scheduler import __all__ as __all__

from torchpace.optim.lr_scheduler._base import LRScheduler as LRScheduler
from torchpace.optim.lr_scheduler._base import _LRScheduler as _LRScheduler
from torchpace.optim.lr_scheduler.compose import ChainedScheduler as ChainedScheduler
from torchpace.optim.lr_scheduler.compose import SequentialLR as SequentialLR
from torchpace.optim.lr_scheduler.cosine import CosineAnnealingLR as CosineAnnealingLR
from torchpace.optim.lr_scheduler.cosine import CosineAnnealingWarmRestarts as CosineAnnealingWarmRestarts
from torchpace.optim.lr_scheduler.cycle import CyclicLR as CyclicLR
from torchpace.optim.lr_scheduler.cycle import OneCycleLR as OneCycleLR
from torchpace.optim.lr_scheduler.lambdas import LambdaLR as LambdaLR
from torchpace.optim.lr_scheduler.lambdas import MultiplicativeLR as MultiplicativeLR
from torchpace.optim.lr_scheduler.plateau import ReduceLROnPlateau as ReduceLROnPlateau
from torchpace.optim.lr_scheduler.ramp import ConstantLR as ConstantLR
from torchpace.optim.lr_scheduler.ramp import LinearLR as LinearLR
from torchpace.optim.lr_scheduler.ramp import PolynomialLR as PolynomialLR
from torchpace.optim.lr_scheduler.steps import ExponentialLR as ExponentialLR
from torchpace.optim.lr_scheduler.steps import MultiStepLR as MultiStepLR
from torchpace.optim.lr_scheduler.steps import StepLR as StepLR

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """What torch's module has besides: code in use imports some of it, underscore or not."""
        try:
            return getattr(_torch, name)
        except AttributeError:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
