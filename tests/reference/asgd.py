"""Averaged stochastic gradient descent (Polyak and Juditsky, 1992) with the step size of Bottou (Stochastic gradient
descent tricks, 2012). The rate of a step and the weight of its average come of the number of steps before it."""


def asgd(theta, grad, state, *, lr=1e-2, lambd=1e-4, alpha=0.75, t0=1e6, weight_decay=0.0, maximize=False):
    g = (-grad if maximize else grad) + weight_decay * theta
    before = state["steps"] = state.get("steps", -1) + 1
    eta = lr / (1 + lambd * lr * before) ** alpha
    mu = 1 / max(1, before - t0)
    theta = theta - eta * (lambd * theta + g)
    state["average"] = theta if before == 0 else state["average"] + mu * (theta - state["average"])
    return theta
