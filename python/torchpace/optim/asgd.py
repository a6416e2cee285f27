"""ASGD."""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from torchpace.optim import _plain
from torchpace.optim._base import Fused
from torchpace.optim._clip import Nonfinite


class ASGD(Fused, torch.optim.ASGD):
    r"""Averaged stochastic gradient descent, in one fused step.

    With gradient :math:`g_t`, parameter :math:`\theta` and the step :math:`t` counted from 1 for each parameter, from
    :math:`\eta_1 = \gamma` and :math:`\mu_1 = 1`:

    .. math::
        g_t &\leftarrow g_t + \lambda_2 \theta_{t-1} \\
        \theta_t &= \theta_{t-1} - \eta_t (g_t + \lambda \theta_{t-1}) \\
        \bar\theta_t &= \bar\theta_{t-1} + \mu_t (\theta_t - \bar\theta_{t-1}) \\
        \eta_{t+1} &= \gamma / (1 + \lambda \gamma t)^\alpha \\
        \mu_{t+1} &= 1 / \max(1, t - t_0)

    So up to step :math:`t_0 + 2` the average :math:`\bar\theta`, in the state as ``ax``, is the parameter itself, and
    from there on the mean of the parameters. The step moves :math:`\theta`; to use the average, copy ``ax`` into it. A
    new learning rate acts one step late.

    Args:
        params: parameters, named parameters or groups (dicts) of them, of any shapes.
        lr: learning rate :math:`\gamma \ge 0`, parameter units per gradient unit; a float or a one-element tensor
            (default: 1e-2).
        lambd: :math:`\lambda`, how fast the parameters and the rate decay (default: 1e-4).
        alpha: :math:`\alpha`, the power of the rate's decay (default: 0.75).
        t0: :math:`t_0`, the step after which parameters are averaged (default: 1e6).
        weight_decay: :math:`\lambda_2 \ge 0`, added to the gradient (default: 0).
        foreach: accepted for torch's sake; the step is fused either way (default: None).
        maximize: step up the gradient (default: False).
        differentiable: let autograd follow the step, through torch's own code (default: False).
        capturable: let a CUDA graph capture the step (default: False).
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

    State of a parameter: ``step``, a 0-dim count; ``eta`` and ``mu``, the 0-dim :math:`\eta` and :math:`\mu` of the
    next step, all three on the parameter's device; ``ax``, of its shape.

    Differs from torch:
        - ``eta`` and ``mu`` keep their types in ``load_state_dict``, so that a run goes on as it was; torch casts them
          to the parameter's, bfloat16 for example.
        - Fewer roundings (fused multiply-add), so float32 results may differ in the last bits.

    Papers:
        Polyak and Juditsky, Acceleration of stochastic approximation by averaging, 1992.

    Example:
        >>> import torch
        >>> from torchpace import optim
        >>> weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        >>> optimizer = optim.ASGD([weight], lr=0.1)
        >>> weight.square().sum().backward()
        >>> optimizer.step()
        >>> [round(value, 4) for value in weight.tolist()]
        [0.8, -1.6]
        >>> optimizer.last_path
        'fused'
    """

    _rule = "asgd"
    _scalars: ClassVar[dict[str, float | str]] = {"eta": "lr", "mu": 1.0}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        *,
        max_grad_norm: float | None = None,
        clip_value: float | None = None,
        skip_grad_norm: float | None = None,
        nonfinite_norm: Nonfinite = "propagate",
    ) -> None:
        _plain.construct(self._construct, locals())

    def _new_step_count(self, param: Tensor, group: dict[str, Any]) -> Tensor:
        # torch keeps it with the parameter, capturable or not.
        return super()._new_step_count(param, group).to(param.device)
