"""Adam (Kingma and Ba, 2015, algorithm 1), AMSGrad on the uncorrected moment as torch has it, and the decoupled decay
of Loshchilov and Hutter (2019, algorithm 2) scaled by the learning rate."""

import numpy as np

from reference.caution import cautious_update
from reference.decay import decayed


def adam(
    theta,
    grad,
    state,
    *,
    lr=1e-3,
    betas=(0.9, 0.999),
    eps=1e-8,
    weight_decay=0.0,
    amsgrad=False,
    maximize=False,
    decoupled_weight_decay=False,
    cautious_weight_decay=False,
    cautious=False,
):
    g = -grad if maximize else grad
    if not decoupled_weight_decay:
        g = g + weight_decay * theta
    beta1, beta2 = betas
    t = state["t"] = state.get("t", 0) + 1
    m = state["m"] = beta1 * state.get("m", 0.0) + (1 - beta1) * g
    v = state["v"] = beta2 * state.get("v", 0.0) + (1 - beta2) * g**2
    if amsgrad:
        v = state["largest"] = np.maximum(state.get("largest", 0.0), v)
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    update = m_hat / (np.sqrt(v_hat) + eps)
    if cautious:
        update = cautious_update(update, g)
    if decoupled_weight_decay:
        theta = decayed(theta, update, lr * weight_decay, cautious_weight_decay)
    return theta - lr * update
