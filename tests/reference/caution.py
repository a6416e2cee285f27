"""The cautious update (Liang et al., 2024, algorithm 1)."""

import numpy as np


def cautious_update(update, grad):
    """What is left of an update, before the learning rate."""
    if update.size == 0:
        return update
    agrees = np.sign(update) * np.sign(grad) > 0
    share = max(float(np.count_nonzero(agrees)) / agrees.size, 1e-3)
    return np.where(agrees, update, 0) / share
