"""Lion (Chen et al., 2023, algorithm 2)."""

import numpy as np

from reference.caution import cautious_update
from reference.decay import decayed


def lion(
    theta,
    grad,
    state,
    *,
    lr=1e-4,
    betas=(0.9, 0.99),
    weight_decay=0.0,
    maximize=False,
    cautious_weight_decay=False,
    cautious=False,
):
    g = -grad if maximize else grad
    beta1, beta2 = betas
    m = state.get("m", 0.0)
    update = np.sign(beta1 * m + (1 - beta1) * g)
    if cautious:
        update = cautious_update(update, g)
    state["m"] = beta2 * m + (1 - beta2) * g
    return decayed(theta, update, lr * weight_decay, cautious_weight_decay) - lr * update
