"""Linear CKA, naively, from Kornblith et al. 2019; the unbiased HSIC from Song et al. 2012, with explicit sums."""

import math

import numpy as np


def centered_norm(x, y):
    x, y = x - x.mean(0), y - y.mean(0)
    return np.linalg.norm(y.T @ x) ** 2


def hsic(x, y):
    """HSIC_1: the Gram matrices of the features as they are, with empty diagonals."""
    n = len(x)
    k, l = x @ x.T, y @ y.T  # noqa: E741
    np.fill_diagonal(k, 0)
    np.fill_diagonal(l, 0)
    one = np.ones(n)
    terms = (
        np.trace(k @ l) + (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ l @ one)
    )
    return terms / (n * (n - 3))


def cka(x, y, *, unbiased=False):
    norm = hsic if unbiased else centered_norm
    below = norm(x, x), norm(y, y)
    return norm(x, y) / math.sqrt(below[0] * below[1]) if min(below) > 0 else math.nan
