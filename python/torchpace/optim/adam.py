"""Adam."""

import torch

from torchpace.optim._base import Fused


class Adam(Fused, torch.optim.Adam):
    _rule = "adam"
