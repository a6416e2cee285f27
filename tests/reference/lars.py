"""LARS (You, Gitman and Ginsburg, 2017, algorithm 1), with the learning rate out of the momentum, which is that of
`sgd`, a small number in the quotient, and a quotient of 1 where a norm is 0."""

from reference.lamb import length
from reference.sgd import sgd


def lars(
    theta,
    grad,
    state,
    *,
    lr=1.0,
    momentum=0.0,
    dampening=0.0,
    weight_decay=0.0,
    nesterov=False,
    trust_coefficient=0.001,
    eps=1e-8,
    maximize=False,
):
    g = -grad if maximize else grad
    local = 1.0
    if trust_coefficient is not None and length(theta) != 0 and length(g) != 0:
        local = trust_coefficient * length(theta) / (length(g) + weight_decay * length(theta) + eps)
    g = float(local) * (g + weight_decay * theta)
    return sgd(theta, g, state, lr=lr, momentum=momentum, dampening=dampening, nesterov=nesterov)
