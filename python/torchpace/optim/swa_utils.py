"""The utilities of `torch.optim.swa_utils`: torch's own so far."""

from torch.optim.swa_utils import *  # noqa: F403
from torch.optim.swa_utils import __all__ as __all__
