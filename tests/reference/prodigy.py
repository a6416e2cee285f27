"""Prodigy (Mishchenko and Defazio, 2024, algorithm 4) over all parameters at once, as in the authors' package."""

import math

import numpy as np


def prodigy(
    thetas,
    grads,
    state,
    *,
    lr=1.0,
    betas=(0.9, 0.999),
    beta3=None,
    eps=1e-8,
    weight_decay=0.0,
    decouple=True,
    use_bias_correction=False,
    safeguard_warmup=False,
    d0=1e-6,
    d_coef=1.0,
    growth_rate=math.inf,
    slice_p=1,
    maximize=False,
):
    """New parameters; `state` is that of all, and holds the estimate `d`."""
    (beta1, beta2), beta3 = betas, betas[1] ** 0.5 if beta3 is None else beta3
    if not state:
        zeros = {name: [np.zeros_like(theta) for theta in thetas] for name in ("m", "v", "s")}
        state.update(zeros, p0=[theta.copy() for theta in thetas], d=d0, d_max=d0, numerator=0.0, k=0)
    d, t = state["d"], state["k"] + 1
    rate = d * lr * ((1 - beta2**t) ** 0.5 / (1 - beta1**t) if use_bias_correction else 1.0)
    numerator, denominator = beta3 * state["numerator"], 0.0
    for at, (theta, grad) in enumerate(zip(thetas, grads, strict=True)):
        g = -grad if maximize else grad
        if not decouple:
            g = g + weight_decay * theta
        state["m"][at] = beta1 * state["m"][at] + d * (1 - beta1) * g
        state["v"][at] = beta2 * state["v"][at] + d**2 * (1 - beta2) * g**2
        state["s"][at] = beta3 * state["s"][at] + d / d0 * (d if safeguard_warmup else rate) * g
        numerator += d / d0 * rate * np.sum((g * (state["p0"][at] - theta)).flatten()[::slice_p])
        denominator += np.sum(np.abs(state["s"][at].flatten()[::slice_p]))
    if denominator == 0:
        return thetas
    d_hat = d_coef * numerator / denominator
    if d == d0:
        d = max(d, d_hat)
    d_max = max(state["d_max"], d_hat)
    d = min(d_max, d * growth_rate)
    state.update(d=d, d_max=d_max, numerator=numerator, k=t)
    decay = weight_decay if decouple else 0.0
    moves = [m / (np.sqrt(v) + d * eps) for m, v in zip(state["m"], state["v"], strict=True)]
    return [theta - rate * (decay * theta + move) for theta, move in zip(thetas, moves, strict=True)]
