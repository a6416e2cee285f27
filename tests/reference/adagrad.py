"""Adagrad (Duchi, Hazan and Singer, 2011), diagonal form, with a learning rate that decays over the steps.

With `mean` the root is of the mean of all squares; with `eps_inside` eps is under the root."""

import numpy as np


def adagrad(
    theta,
    grad,
    state,
    *,
    lr=1e-2,
    lr_decay=0.0,
    weight_decay=0.0,
    initial_accumulator_value=0.0,
    eps=1e-10,
    maximize=False,
    mean=False,
    eps_inside=False,
):
    g = -grad if maximize else grad
    g = g + weight_decay * theta
    t = state["t"] = state.get("t", 0) + 1
    total = state["total"] = state.get("total", initial_accumulator_value) + g**2
    square = total / t if mean else total
    root = np.sqrt(square + eps) if eps_inside else np.sqrt(square) + eps
    return theta - lr / (1 + (t - 1) * lr_decay) * g / root
