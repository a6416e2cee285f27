"""SGD."""

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from torchpace.optim import _plain
from torchpace.optim._base import Fused
from torchpace.optim._clip import Nonfinite


class SGD(Fused, torch.optim.SGD):
    r"""Stochastic gradient descent with momentum, in one fused step.

    With gradient :math:`g_t`, parameter :math:`\theta` and the step :math:`t` counted from 1:

    .. math::
        g_t &\leftarrow g_t + \lambda \theta_{t-1} \\
        v_t &= \mu v_{t-1} + (1 - \tau) g_t, \qquad v_1 = g_1 \\
        \theta_t &= \theta_{t-1} - \gamma v_t
            \qquad (\text{nesterov: } \theta_{t-1} - \gamma (g_t + \mu v_t))

    Under a constant gradient :math:`v` tends to :math:`g (1 - \tau) / (1 - \mu)`.

    Args:
        params: parameters, named parameters or groups (dicts) of them, of any shapes.
        lr: learning rate :math:`\gamma \ge 0`, parameter units per gradient unit; a float or a one-element tensor
            (default: 1e-3).
        momentum: :math:`\mu \ge 0`, usually below 1 (default: 0, no momentum buffer).
        dampening: :math:`\tau` (default: 0).
        weight_decay: :math:`\lambda \ge 0`, added to the gradient (default: 0).
        nesterov: look ahead along the momentum; needs ``momentum > 0`` and ``dampening = 0`` (default: False).
        maximize: step up the gradient (default: False).
        foreach, fused: accepted for torch's sake; the step is fused either way (default: None).
        differentiable: let autograd follow the step, through torch's own code (default: False).
        max_grad_norm: clip the gradients of all groups together to this 2-norm, gradient units, as
            ``torch.nn.utils.clip_grad_norm_``: multiply by ``min(1, max_grad_norm / (norm + 1e-6))``, here in the step;
            ``grad`` itself stays, and the norm is then in ``grad_norm`` (default: None, no clipping).
        clip_value: clip each element of the gradient to [-clip_value, clip_value], after the norm (default: None).
        skip_grad_norm: skip a step whose gradients have a 2-norm above this, or NaN, before clipping; then nothing is
            written, and ``last_step_skipped`` is True (default: None, no step is skipped).
        nonfinite_norm: what an infinite or NaN norm does: "propagate" as in torch, "skip" the step, or "raise"
            RuntimeError (default: "propagate").
        averaged: the momentum is an average from zero, :math:`v_t = \mu v_{t-1} + (1 - \mu) g_t` with :math:`v_0 = 0`;
            needs ``momentum > 0`` and ``dampening = 0``. Under a constant gradient the step then tends to
            :math:`\gamma g`, and with ``nesterov``, which adds all of :math:`\mu v_t` to the gradient, to
            :math:`\gamma (1 + \mu) g` (default: False).

    Raises:
        ValueError: an option is out of its range, in torch's words where it is torch's.

    State of a parameter: ``momentum_buffer``, of its shape, if there is momentum.

    Differs from torch:
        - The gradient is multiplied and added with one rounding, so float32 results may differ in the last bits.
        - A momentum buffer is laid out like its parameter; torch's is laid out like the first gradient.

    Paper:
        Sutskever, Martens, Dahl and Hinton, On the importance of initialization and momentum in deep learning, 2013.

    Example:
        >>> import torch
        >>> from torchpace import optim
        >>> weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        >>> optimizer = optim.SGD([weight], lr=0.1, momentum=0.9)
        >>> for _ in range(2):
        ...     optimizer.zero_grad()
        ...     weight.square().sum().backward()
        ...     optimizer.step()
        >>> weight.tolist() == torch.tensor([0.46, -0.92]).tolist()
        True
        >>> optimizer.last_path
        'fused'
    """

    _rule = "sgd"
    _variants = ("averaged",)

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float | Tensor = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        max_grad_norm: float | None = None,
        clip_value: float | None = None,
        skip_grad_norm: float | None = None,
        nonfinite_norm: Nonfinite = "propagate",
        averaged: bool = False,
    ) -> None:
        _plain.construct(self._construct, locals())

    def _check_group(self, group: dict[str, Any]) -> None:
        super()._check_group(group)
        if group.get("averaged") and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError("Averaged momentum requires a momentum and zero dampening")
