"""SGD."""

import torch

from torchpace.optim._base import Fused


class SGD(Fused, torch.optim.SGD):
    _rule = "sgd"
