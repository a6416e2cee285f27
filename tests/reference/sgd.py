"""Heavy-ball and Nesterov momentum (Polyak, 1964; Sutskever et al., 2013), in the form that keeps lr out of v; with
`averaged`, v is the moving average of the gradient from 0."""


def sgd(
    theta,
    grad,
    state,
    *,
    lr=1e-3,
    momentum=0.0,
    dampening=0.0,
    weight_decay=0.0,
    nesterov=False,
    maximize=False,
    averaged=False,
):
    g = -grad if maximize else grad
    g = g + weight_decay * theta
    if momentum == 0:
        return theta - lr * g
    if averaged:
        v = momentum * state.get("v", 0.0) + (1 - momentum) * g
    elif "v" in state:
        v = momentum * state["v"] + (1 - dampening) * g
    else:
        v = g
    state["v"] = v
    return theta - lr * (g + momentum * v if nesterov else v)
