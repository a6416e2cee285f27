"""Rprop."""

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from torchpace.optim import _plain
from torchpace.optim._base import Fused
from torchpace.optim._clip import Nonfinite


class Rprop(Fused, torch.optim.Rprop):
    r"""Rprop, for gradients of the whole data set, in one fused step.

    Each element has a step size :math:`\eta` of its own, which grows while the gradient :math:`g` keeps its sign and
    shrinks where it turns. With parameter :math:`\theta`, :math:`\eta_0 = \gamma` and :math:`p_0 = 0`:

    .. math::
        \eta_t &= \min(\max(\eta_{t-1} f_t, \eta_{min}), \eta_{max}), \quad
            f_t = \begin{cases} \eta_+ & g_t p_{t-1} > 0 \\ \eta_- & g_t p_{t-1} < 0 \\ 1 & \text{else} \end{cases} \\
        p_t &= \begin{cases} 0 & g_t p_{t-1} < 0 \\ g_t & \text{else} \end{cases} \\
        \theta_t &= \theta_{t-1} - \eta_t \operatorname{sign}(p_t)

    Args:
        params: parameters, named parameters or groups (dicts) of them, of any shapes.
        lr: learning rate :math:`\gamma \ge 0`, parameter units: where the step sizes begin. What comes later changes
            nothing, as in torch, so a scheduler does nothing; a float or a one-element tensor (default: 1e-2).
        etas: :math:`\eta_-, \eta_+`, the first between 0 and 1, the second above 1 (default: (0.5, 1.2)).
        step_sizes: :math:`\eta_{min}, \eta_{max}`, parameter units (default: (1e-6, 50)).
        capturable: let a CUDA graph capture the step; step counts are then on the device (default: False).
        foreach: accepted for torch's sake; the step is fused either way (default: None).
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

    State of a parameter: ``step``, a 0-dim count; ``prev`` (:math:`p`) and ``step_size`` (:math:`\eta`), each of its
    shape.

    Differs from torch:
        - In float16 and bfloat16 a product :math:`g_t p_{t-1}` that is too small for the type has a sign all the same,
          where torch's is 0. float32 and float64 results are torch's to the bit.

    Paper:
        Riedmiller and Braun, A direct adaptive method for faster backpropagation learning: the RPROP algorithm, 1993.

    Example:
        >>> import torch
        >>> from torchpace import optim
        >>> weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        >>> optimizer = optim.Rprop([weight], lr=0.1)
        >>> for _ in range(2):
        ...     optimizer.zero_grad()
        ...     weight.square().sum().backward()
        ...     optimizer.step()
        >>> [round(value, 4) for value in weight.tolist()]
        [0.78, -1.78]
        >>> optimizer.last_path
        'fused'
    """

    _rule = "rprop"

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        max_grad_norm: float | None = None,
        clip_value: float | None = None,
        skip_grad_norm: float | None = None,
        nonfinite_norm: Nonfinite = "propagate",
    ) -> None:
        _plain.construct(self._construct, locals())

    def _new_state(self, param: Tensor, group: dict[str, Any], names: list[str]) -> dict[str, Tensor]:
        state = super()._new_state(param, group, names)
        if "step_size" in state:
            size, lr = state["step_size"], group["lr"]
            # Of complex numbers both parts, as torch does.
            parts = torch.view_as_real(size) if torch.is_complex(size) else size
            parts.fill_(lr.detach().reshape(()) if isinstance(lr, Tensor) else float(lr))
        return state
