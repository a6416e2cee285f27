"""Adamax (Kingma and Ba, 2015, algorithm 2); as in torch, eps is in the maximum, where the paper has none."""

import numpy as np


def adamax(theta, grad, state, *, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, maximize=False):
    g = -grad if maximize else grad
    g = g + weight_decay * theta
    beta1, beta2 = betas
    t = state["t"] = state.get("t", 0) + 1
    m = state["m"] = beta1 * state.get("m", 0.0) + (1 - beta1) * g
    u = state["u"] = np.maximum(beta2 * state.get("u", 0.0), np.abs(g) + eps)
    return theta - lr / (1 - beta1**t) * m / u
