"""RMSprop (Tieleman and Hinton, 2012), centered (Graves, 2013) and with momentum on the scaled gradient; with
`eps_inside` eps is under the root."""

import numpy as np


def rmsprop(
    theta,
    grad,
    state,
    *,
    lr=1e-2,
    alpha=0.99,
    eps=1e-8,
    weight_decay=0.0,
    momentum=0.0,
    centered=False,
    maximize=False,
    eps_inside=False,
):
    g = -grad if maximize else grad
    g = g + weight_decay * theta
    n = state["n"] = alpha * state.get("n", 0.0) + (1 - alpha) * g**2
    variance = n
    if centered:
        mean = state["mean"] = alpha * state.get("mean", 0.0) + (1 - alpha) * g
        variance = n - mean**2
    root = np.sqrt(variance + eps) if eps_inside else np.sqrt(variance) + eps
    delta = momentum * state.get("delta", 0.0) + g / root
    state["delta"] = delta
    return theta - lr * delta
