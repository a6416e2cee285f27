"""Muon (Jordan et al., 2024), its learning rates for shapes (Liu et al., 2025; Bernstein, 2025) and the coefficients of
Polar Express (Amsel et al., 2025, to four decimals)."""

import math

import numpy as np

from reference.decay import decayed

POLAR_EXPRESS = [
    (8.1566, -22.4833, 15.8788),
    (4.0429, -2.8089, 0.5000),
    (3.8917, -2.7725, 0.5061),
    (3.2858, -2.3681, 0.4645),
    (2.3465, -1.7098, 0.4232),
]


def orthogonal(matrix, coefficients, eps, express=False):
    """Newton and Schulz's iteration, step by step on the whole matrix."""
    lies = matrix.shape[0] <= matrix.shape[1]
    x = matrix if lies else matrix.T
    norm = math.sqrt((x**2).sum())
    x = x / (1.02 * norm + 1e-6) if express else x / max(norm, eps)
    for a, b, c in coefficients:
        gram = x @ x.T
        x = a * x + b * gram @ x + c * gram @ gram @ x
    return x if lies else x.T


def muon(
    theta,
    grad,
    state,
    *,
    lr=1e-3,
    weight_decay=0.1,
    momentum=0.95,
    nesterov=True,
    ns_coefficients=(3.4445, -4.7750, 2.0315),
    eps=1e-7,
    ns_steps=5,
    adjust_lr_fn=None,
    maximize=False,
    cautious_weight_decay=False,
):
    g = -grad if maximize else grad
    m = state["m"] = momentum * state.get("m", 0.0) + (1 - momentum) * g
    update = momentum * m + (1 - momentum) * g if nesterov else m
    express = ns_coefficients == "polar_express"
    if express:
        coefficients = POLAR_EXPRESS
    elif ns_coefficients == "quintic":
        coefficients = [(3.4445, -4.7750, 2.0315)] * ns_steps
    elif np.ndim(ns_coefficients) == 2:
        coefficients = ns_coefficients
    else:
        coefficients = [ns_coefficients] * ns_steps
    rows = len(update)
    columns = update.size // rows
    direction = orthogonal(update.reshape(rows, columns), coefficients, eps, express).reshape(update.shape)
    length = {
        None: math.sqrt(max(1, rows / columns)),
        "original": math.sqrt(max(1, rows / columns)),
        "match_rms_adamw": 0.2 * math.sqrt(max(rows, columns)),
        "spectral_unclamped": math.sqrt(rows / columns),
    }[adjust_lr_fn]
    return decayed(theta, direction, lr * weight_decay, cautious_weight_decay) - lr * length * direction
