"""Rprop (Riedmiller and Braun, 1993), in the form without a step back: where the gradient turns, nothing moves, and the
next step takes the size as it is."""

import numpy as np


def rprop(theta, grad, state, *, lr=1e-2, etas=(0.5, 1.2), step_sizes=(1e-6, 50), maximize=False):
    g = -grad if maximize else grad
    size, before = state.get("size", np.full_like(theta, lr)), state.get("g", np.zeros_like(theta))
    shrink, grow = etas
    same, turned = g * before > 0, g * before < 0
    size = np.where(same, size * grow, np.where(turned, size * shrink, size))
    size = state["size"] = np.clip(size, *step_sizes)
    g = state["g"] = np.where(turned, 0.0, g)
    return theta - np.sign(g) * size
