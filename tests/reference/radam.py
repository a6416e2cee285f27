"""RAdam (Liu et al., 2020, algorithm 2), from the length 5 on as in torch, where the paper's algorithm has 4; and the
decoupled decay of Loshchilov and Hutter (2019, algorithm 2) scaled by the learning rate."""

import math

import numpy as np

from reference.decay import decayed


def radam(
    theta,
    grad,
    state,
    *,
    lr=1e-3,
    betas=(0.9, 0.999),
    eps=1e-8,
    weight_decay=0.0,
    decoupled_weight_decay=False,
    cautious_weight_decay=False,
    maximize=False,
):
    g = -grad if maximize else grad
    if not decoupled_weight_decay:
        g = g + weight_decay * theta
    beta1, beta2 = betas
    t = state["t"] = state.get("t", 0) + 1
    m = state["m"] = beta1 * state.get("m", 0.0) + (1 - beta1) * g
    v = state["v"] = beta2 * state.get("v", 0.0) + (1 - beta2) * g**2
    m_hat = m / (1 - beta1**t)
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * t * beta2**t / (1 - beta2**t)
    update = m_hat
    if length > 5:
        adaptive = math.sqrt(1 - beta2**t) / (np.sqrt(v) + eps)
        r = math.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
        update = r * m_hat * adaptive
    if decoupled_weight_decay:
        theta = decayed(theta, update, lr * weight_decay, cautious_weight_decay)
    return theta - lr * update
