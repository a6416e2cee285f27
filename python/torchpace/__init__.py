"""Fused optimizers and learning-rate schedules for PyTorch.

`from torchpace import optim` takes the place of `from torch import optim`; `torchpace.schedule` has schedules that
compose; `torchpace.control` watches a training and sets its learning rate by what it measures.
"""

from torchpace import _requires as _requires  # first: says clearly what is missing
from torchpace import control, optim, schedule
from torchpace._native import __version__

__all__ = ["__version__", "control", "optim", "schedule"]
