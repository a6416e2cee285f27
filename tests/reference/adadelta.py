"""Adadelta (Zeiler, 2012, algorithm 1), with a learning rate on the update."""

import numpy as np


def adadelta(theta, grad, state, *, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0.0, maximize=False):
    g = -grad if maximize else grad
    g = g + weight_decay * theta
    squares = state["squares"] = rho * state.get("squares", 0.0) + (1 - rho) * g**2
    rms_of_updates = np.sqrt(state.get("updates", 0.0) + eps)
    update = -rms_of_updates / np.sqrt(squares + eps) * g
    state["updates"] = rho * state.get("updates", 0.0) + (1 - rho) * update**2
    return theta + lr * update
