"""RMSprop."""

import torch

from torchpace.optim._base import Fused


class RMSprop(Fused, torch.optim.RMSprop):
    _rule = "rmsprop"
