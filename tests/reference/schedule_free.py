"""Schedule-free AdamW and gradient descent (Defazio et al., The road less scheduled, 2024), as in the authors' package
since 1.3: y moves by what the step and the average move it. That y, z and the average are the paper's three sequences
is tested in tests/optim/test_schedule_free.py; beside large values their mixture has roundings of its own."""

import numpy as np


def averaged(theta, direction, state, *, lr, beta, weight_decay, warmup_steps, r, weight_lr_power):
    """y after z has stepped against a direction and the decay of y, and the average has taken it up."""
    t, z = state["t"], state.get("z", theta)
    if t < warmup_steps:
        lr = lr * t / warmup_steps
    state["lr_max"] = max(state.get("lr_max", 0.0), lr)
    weight = t**r * state["lr_max"] ** weight_lr_power
    state["weights"] = state.get("weights", 0.0) + weight
    c = weight / state["weights"] if state["weights"] else 0.0
    direction = direction + weight_decay * theta
    state["z"] = z - lr * direction
    return theta + c * (z - theta) + lr * (beta * (1 - c) - 1) * direction


def schedule_free_adamw(
    theta,
    grad,
    state,
    *,
    lr=0.0025,
    betas=(0.9, 0.999),
    eps=1e-8,
    weight_decay=0.0,
    warmup_steps=0,
    r=0.0,
    weight_lr_power=2.0,
    maximize=False,
):
    g = -grad if maximize else grad
    beta1, beta2 = betas
    t = state["t"] = state.get("t", 0) + 1
    v = state["v"] = beta2 * state.get("v", 0.0) + (1 - beta2) * g**2
    direction = g / (np.sqrt(v / (1 - beta2**t)) + eps)
    weighing = {"warmup_steps": warmup_steps, "r": r, "weight_lr_power": weight_lr_power}
    return averaged(theta, direction, state, lr=lr, beta=beta1, weight_decay=weight_decay, **weighing)


def schedule_free_sgd(
    theta,
    grad,
    state,
    *,
    lr=1.0,
    momentum=0.9,
    weight_decay=0.0,
    warmup_steps=0,
    r=0.0,
    weight_lr_power=2.0,
    maximize=False,
):
    g = -grad if maximize else grad
    state["t"] = state.get("t", 0) + 1
    weighing = {"warmup_steps": warmup_steps, "r": r, "weight_lr_power": weight_lr_power}
    return averaged(theta, g, state, lr=lr, beta=momentum, weight_decay=weight_decay, **weighing)
