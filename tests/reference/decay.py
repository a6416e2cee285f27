"""Decoupled weight decay (Loshchilov and Hutter, 2019), and the cautious one (Chen et al., 2025, algorithm 1)."""

import numpy as np


def decayed(theta, update, share, cautious):
    """The parameter less its share, which the update is then subtracted from."""
    return theta - share * np.where(np.sign(update) * np.sign(theta) >= 0, theta, 0.0) if cautious else (1 - share) * theta
