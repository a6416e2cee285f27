"""LAMB (You et al., 2020, algorithm 2), with the bias corrected as in their code; the quotient of norms is as it
is, or at most 1 under `trust_clip`."""

import numpy as np


def length(x):
    """In float64, as sums are in no other type here."""
    return np.sqrt(np.sum(np.square(x, dtype=np.float64)))


def lamb(
    theta,
    grad,
    state,
    *,
    lr=1e-3,
    betas=(0.9, 0.999),
    eps=1e-6,
    weight_decay=0.01,
    bias_correction=True,
    trust_clip=False,
    maximize=False,
):
    g = -grad if maximize else grad
    beta1, beta2 = betas
    t = state["t"] = state.get("t", 0) + 1
    m = state["m"] = beta1 * state.get("m", 0.0) + (1 - beta1) * g
    v = state["v"] = beta2 * state.get("v", 0.0) + (1 - beta2) * g**2
    if bias_correction:
        m, v = m / (1 - beta1**t), v / (1 - beta2**t)
    u = m / (np.sqrt(v) + eps) + weight_decay * theta
    ratio = 1.0
    if length(theta) != 0 and length(u) != 0:
        ratio = length(theta) / length(u)
    if trust_clip and ratio > 1:
        ratio = 1.0
    return theta - float(lr * ratio) * u
