"""Decoupled weight decay (Loshchilov and Hutter, 2019), and the cautious one (Chen et al., 2025)."""

import numpy as np


def decayed(theta, update, share, cautious):
    """The parameter less its share, which the update is then subtracted from."""
    decayed = (1 - share) * theta
    return np.where(np.sign(update) * np.sign(theta) >= 0, decayed, theta) if cautious else decayed
