"""The schedulers of `torch.optim.lr_scheduler`, with steps in Rust.

Every name of torch's module is here. Each class subclasses torch's of that name, takes the same arguments, has the same
`state_dict`, and gives the same learning rates to the bit; the docstrings say where ours go on and torch fails.
"""

from torch.optim.lr_scheduler import *  # noqa: F403
from torch.optim.lr_scheduler import __all__ as __all__

from torchpace.optim.lr_scheduler._base import LRScheduler
from torchpace.optim.lr_scheduler.compose import ChainedScheduler, SequentialLR
from torchpace.optim.lr_scheduler.cosine import CosineAnnealingLR, CosineAnnealingWarmRestarts
from torchpace.optim.lr_scheduler.cycle import CyclicLR, OneCycleLR
from torchpace.optim.lr_scheduler.lambdas import LambdaLR, MultiplicativeLR
from torchpace.optim.lr_scheduler.plateau import ReduceLROnPlateau
from torchpace.optim.lr_scheduler.ramp import ConstantLR, LinearLR, PolynomialLR
from torchpace.optim.lr_scheduler.steps import ExponentialLR, MultiStepLR, StepLR
