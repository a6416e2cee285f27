"""Adafactor (Shazeer and Stern, 2018), with the rate, the decay and the place of the first epsilon that torch gives."""

import math

import numpy as np


def rms(x):
    return math.sqrt(float(np.sum(np.square(x, dtype=np.float64))) / x.size)


def adafactor(
    theta,
    grad,
    state,
    *,
    lr=1e-2,
    beta2_decay=-0.8,
    eps=(None, 1e-3),
    d=1.0,
    weight_decay=0.0,
    maximize=False,
):
    if theta.size == 0:
        return theta
    g = -grad if maximize else grad
    t = state["t"] = state.get("t", 0) + 1
    new = t**beta2_decay
    eps1 = np.finfo(theta.dtype).eps if eps[0] is None else eps[0]
    alpha = max(eps[1], rms(theta)) * min(lr, 1 / math.sqrt(t))
    if g.ndim < 2:
        v = state["v"] = (1 - new) * state.get("v", 0.0) + new * g**2
    else:
        rows = state["rows"] = (1 - new) * state.get("rows", 0.0) + new * np.mean(g**2, axis=-1)
        columns = state["columns"] = (1 - new) * state.get("columns", 0.0) + new * np.mean(g**2, axis=-2)
        means = np.maximum(np.mean(rows, axis=-1), eps1)
        v = np.einsum("...i,...j->...ij", rows, columns) / means[..., None, None]
    u = g / np.maximum(np.sqrt(v), eps1)
    decayed = theta * (1 - lr * weight_decay) if weight_decay != 0 else theta
    return decayed - alpha * u / max(1.0, rms(u) / d)
