"""RMSprop."""

from typing import ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from torchpace.optim import _plain
from torchpace.optim._base import Fused
from torchpace.optim._clip import Nonfinite


class RMSprop(Fused, torch.optim.RMSprop):
    r"""RMSprop, in one fused step.

    With gradient :math:`g_t`, parameter :math:`\theta` and the step :math:`t` counted from 1:

    .. math::
        g_t &\leftarrow g_t + \lambda \theta_{t-1} \\
        v_t &= \alpha v_{t-1} + (1 - \alpha) g_t^2 \\
        u_t &= g_t / (\sqrt{v_t} + \epsilon) \\
        b_t &= \mu b_{t-1} + u_t \\
        \theta_t &= \theta_{t-1} - \gamma b_t

    With ``centered`` the root is of :math:`\max(v_t - a_t^2, 0)`, :math:`a` being the moving average of :math:`g`.

    Args:
        params: parameters, named parameters or groups (dicts) of them, of any shapes.
        lr: learning rate :math:`\gamma \ge 0`, parameter units; a float or a one-element tensor (default: 1e-2).
        alpha: :math:`\alpha \ge 0`, usually below 1 (default: 0.99).
        eps: :math:`\epsilon \ge 0`, gradient units (default: 1e-8).
        weight_decay: :math:`\lambda \ge 0`, added to the gradient (default: 0).
        momentum: :math:`\mu \ge 0` (default: 0, no momentum buffer).
        centered: divide by the standard deviation instead of the root mean square (default: False).
        maximize: step up the gradient (default: False).
        foreach: accepted for torch's sake; the step is fused either way (default: None).
        capturable: let a CUDA graph capture the step; step counts are then on the device (default: False).
        differentiable: let autograd follow the step, through torch's own code (default: False).
        max_grad_norm: clip the gradients of all groups together to this 2-norm, gradient units, as
            ``torch.nn.utils.clip_grad_norm_``: multiply by ``min(1, max_grad_norm / (norm + 1e-6))``, here in the step;
            ``grad`` itself stays, and the norm is then in ``grad_norm`` (default: None, no clipping).
        clip_value: clip each element of the gradient to [-clip_value, clip_value], after the norm (default: None).
        skip_grad_norm: skip a step whose gradients have a 2-norm above this, or NaN, before clipping; then nothing is
            written, and ``last_step_skipped`` is True (default: None, no step is skipped).
        nonfinite_norm: what an infinite or NaN norm does: "propagate" as in torch, "skip" the step, or "raise"
            RuntimeError (default: "propagate").
        eps_inside: divide by :math:`\sqrt{v + \epsilon}` (default: False).

    Raises:
        ValueError: an option is out of its range, in torch's words where it is torch's.

    State of a parameter: ``step``, a 0-dim count; ``square_avg`` and, under their options, ``momentum_buffer`` and
    ``grad_avg``, each of its shape.

    Differs from torch:
        - Where rounding takes a centered variance below 0 it counts as 0; torch's parameter becomes NaN (seen after
          1,200 steps of a constant gradient in float32).
        - Fewer roundings (fused multiply-add), so float32 results may differ in the last bits.

    Papers:
        Tieleman and Hinton, Lecture 6.5, COURSERA: neural networks for machine learning, 2012. Graves, Generating
        sequences with recurrent neural networks, 2013 (centered).

    Example:
        >>> import torch
        >>> from torchpace import optim
        >>> weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        >>> optimizer = optim.RMSprop([weight], lr=0.01)
        >>> weight.square().sum().backward()
        >>> optimizer.step()
        >>> [round(value, 4) for value in weight.tolist()]
        [0.9, -1.9]
        >>> optimizer.last_path
        'fused'
    """

    _rule = "rmsprop"
    _late: ClassVar[dict[str, str]] = {"momentum_buffer": "momentum", "grad_avg": "centered"}
    _variants = ("eps_inside",)

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        *,
        max_grad_norm: float | None = None,
        clip_value: float | None = None,
        skip_grad_norm: float | None = None,
        nonfinite_norm: Nonfinite = "propagate",
        eps_inside: bool = False,
    ) -> None:
        _plain.construct(self._construct, locals())
