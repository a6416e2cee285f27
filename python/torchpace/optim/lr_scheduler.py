"""The schedulers of `torch.optim.lr_scheduler`: torch's own so far."""

from torch.optim.lr_scheduler import *  # noqa: F403
from torch.optim.lr_scheduler import __all__ as __all__
