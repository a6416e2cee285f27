"""AdEMAMix (Pagliardini et al., 2024, algorithm 1), with the schedulers of the authors' code, whose half-lives have a
small number in them for a beta of 0."""

import math

import numpy as np

from reference.caution import cautious_update
from reference.decay import decayed


def half_life(beta):
    """The last so many gradients, and this one, have half of all weight."""
    return math.log(0.5) / math.log(beta + 1e-8) - 1


def ademamix(
    theta,
    grad,
    state,
    *,
    lr=1e-3,
    betas=(0.9, 0.999, 0.9999),
    alpha=2.0,
    beta3_warmup=None,
    alpha_warmup=None,
    eps=1e-8,
    weight_decay=0.0,
    maximize=False,
    cautious_weight_decay=False,
    cautious=False,
):
    g = -grad if maximize else grad
    beta1, beta2, beta3 = betas
    t = state["t"] = state.get("t", 0) + 1
    if alpha_warmup:
        alpha = min(t * alpha / alpha_warmup, alpha)
    if beta3_warmup and t < beta3_warmup:
        share = t / beta3_warmup
        beta3 = math.pow(0.5, 1 / (1 + (1 - share) * half_life(beta1) + share * half_life(beta3)))
    m1 = state["m1"] = beta1 * state.get("m1", 0.0) + (1 - beta1) * g
    m2 = state["m2"] = beta3 * state.get("m2", 0.0) + (1 - beta3) * g
    nu = state["nu"] = beta2 * state.get("nu", 0.0) + (1 - beta2) * g**2
    m1_hat = m1 / (1 - beta1**t)
    nu_hat = nu / (1 - beta2**t)
    update = (m1_hat + alpha * m2) / (np.sqrt(nu_hat) + eps)
    if cautious:
        update = cautious_update(update, g)
    return decayed(theta, update, lr * weight_decay, cautious_weight_decay) - lr * update
