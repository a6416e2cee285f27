"""NAdam (Dozat, 2016), its momentum schedule with the decay as a parameter, the correction of the second
moment under the root; and the decoupled decay of Loshchilov and Hutter (2019) scaled by the learning rate."""

import math

import numpy as np

from reference.decay import decayed


def nadam(
    theta,
    grad,
    state,
    *,
    lr=2e-3,
    betas=(0.9, 0.999),
    eps=1e-8,
    weight_decay=0.0,
    momentum_decay=4e-3,
    decoupled_weight_decay=False,
    cautious_weight_decay=False,
    maximize=False,
):
    g = -grad if maximize else grad
    if not decoupled_weight_decay:
        g = g + weight_decay * theta
    beta1, beta2 = betas
    t = state["t"] = state.get("t", 0) + 1

    def mu(i):
        return beta1 * (1 - 0.5 * 0.96 ** (i * momentum_decay))

    m = state["m"] = beta1 * state.get("m", 0.0) + (1 - beta1) * g
    n = state["n"] = beta2 * state.get("n", 0.0) + (1 - beta2) * g**2
    g_hat = g / (1 - math.prod([mu(i) for i in range(1, t + 1)]))
    m_hat = m / (1 - math.prod([mu(i) for i in range(1, t + 2)]))
    n_hat = n / (1 - beta2**t)
    m_bar = (1 - mu(t)) * g_hat + mu(t + 1) * m_hat
    update = m_bar / (np.sqrt(n_hat) + eps)
    if decoupled_weight_decay:
        theta = decayed(theta, update, lr * weight_decay, cautious_weight_decay)
    return theta - lr * update
