"""Heavy-ball and Nesterov momentum (Polyak, 1964; Sutskever et al., 2013), in the form that keeps lr out of v."""


def sgd(theta, grad, state, *, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False):
    g = -grad if maximize else grad
    g = g + weight_decay * theta
    if momentum == 0:
        return theta - lr * g
    v = momentum * state["v"] + (1 - dampening) * g if "v" in state else g
    state["v"] = v
    return theta - lr * (g + momentum * v if nesterov else v)
