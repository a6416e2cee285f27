"""Adadelta."""

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from torchpace.optim import _plain
from torchpace.optim._base import Fused
from torchpace.optim._clip import Nonfinite


class Adadelta(Fused, torch.optim.Adadelta):
    r"""Adadelta, in one fused step.

    With gradient :math:`g_t` and parameter :math:`\theta`, both averages beginning at 0:

    .. math::
        g_t &\leftarrow g_t + \lambda \theta_{t-1} \\
        v_t &= \rho v_{t-1} + (1 - \rho) g_t^2 \\
        u_t &= \frac{\sqrt{d_{t-1} + \epsilon}}{\sqrt{v_t + \epsilon}} \, g_t \\
        d_t &= \rho d_{t-1} + (1 - \rho) u_t^2 \\
        \theta_t &= \theta_{t-1} - \gamma u_t

    The first steps are about :math:`\gamma \sqrt{\epsilon}` long, whatever the size of the gradient; each lets the
    next be longer.

    Args:
        params: parameters, named parameters or groups (dicts) of them, of any shapes.
        lr: learning rate :math:`\gamma \ge 0`, a factor without units; a float or a one-element tensor (default: 1.0).
        rho: :math:`\rho` in [0, 1], the share of both averages that a step keeps (default: 0.9).
        eps: :math:`\epsilon \ge 0`, added to squares of gradients and of updates alike (default: 1e-6).
        weight_decay: :math:`\lambda \ge 0`, added to the gradient (default: 0).
        foreach: accepted for torch's sake; the step is fused either way (default: None).
        capturable: let a CUDA graph capture the step; step counts are then on the device (default: False).
        maximize: step up the gradient (default: False).
        differentiable: let autograd follow the step, through torch's own code (default: False).
        max_grad_norm: clip the gradients of all groups together to this 2-norm, gradient units, as
            ``torch.nn.utils.clip_grad_norm_``: multiply by ``min(1, max_grad_norm / (norm + 1e-6))``, here in the step;
            ``grad`` itself stays, and the norm is then in ``grad_norm`` (default: None, no clipping).
        clip_value: clip each element of the gradient to [-clip_value, clip_value], after the norm (default: None).
        skip_grad_norm: skip a step whose gradients have a 2-norm above this, or NaN, before clipping; then nothing is
            written, and ``last_step_skipped`` is True (default: None, no step is skipped).
        nonfinite_norm: what an infinite or NaN norm does: "propagate" as in torch, "skip" the step, or "raise"
            RuntimeError (default: "propagate").

    Raises:
        ValueError: an option is out of its range, in torch's words where it is torch's.

    State of a parameter: ``step``, a 0-dim count; ``square_avg`` and ``acc_delta``, each of its shape.

    Differs from torch:
        - Fewer roundings (fused multiply-add), so float32 results may differ in the last bits.

    Paper:
        Zeiler, ADADELTA: an adaptive learning rate method, 2012.

    Example:
        >>> import torch
        >>> from torchpace import optim
        >>> weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        >>> optimizer = optim.Adadelta([weight], lr=10.0)
        >>> weight.square().sum().backward()
        >>> optimizer.step()
        >>> [round(value, 4) for value in weight.tolist()]
        [0.9684, -1.9684]
        >>> optimizer.last_path
        'fused'
    """

    _rule = "adadelta"

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
        max_grad_norm: float | None = None,
        clip_value: float | None = None,
        skip_grad_norm: float | None = None,
        nonfinite_norm: Nonfinite = "propagate",
    ) -> None:
        _plain.construct(self._construct, locals())
