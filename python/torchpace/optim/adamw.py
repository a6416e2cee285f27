"""AdamW."""

import torch

from torchpace.optim.adam import Adam


class AdamW(Adam, torch.optim.AdamW):
    pass
