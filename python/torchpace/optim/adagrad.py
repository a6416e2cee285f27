"""Adagrad."""

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from torchpace.optim import _plain
from torchpace.optim._base import Fused
from torchpace.optim._clip import Nonfinite


class Adagrad(Fused, torch.optim.Adagrad):
    r"""Adagrad, in one fused step.

    With gradient :math:`g_t`, parameter :math:`\theta` and the step :math:`t` counted from 1 for each parameter:

    .. math::
        g_t &\leftarrow g_t + \lambda \theta_{t-1} \\
        G_t &= G_{t-1} + g_t^2 \\
        \theta_t &= \theta_{t-1} - \frac{\gamma}{1 + (t - 1) \eta} \, \frac{g_t}{\sqrt{G_t} + \epsilon}

    Args:
        params: parameters, named parameters or groups (dicts) of them, of any shapes.
        lr: learning rate :math:`\gamma \ge 0`, parameter units; a float or a one-element tensor (default: 1e-2).
        lr_decay: :math:`\eta \ge 0`, per step (default: 0).
        weight_decay: :math:`\lambda \ge 0`, added to the gradient (default: 0).
        initial_accumulator_value: :math:`G_0 \ge 0`, squared gradient units (default: 0).
        eps: :math:`\epsilon \ge 0`, gradient units (default: 1e-10).
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
        mean: divide by the root of the mean :math:`G_t / t`, not of the sum (default: False).
        eps_inside: divide by :math:`\sqrt{G_t + \epsilon}` (default: False).

    Raises:
        ValueError: an option is out of its range, in torch's words where it is torch's.

    State of a parameter: ``step``, a 0-dim count, and ``sum``, of its shape; both from construction on.

    Differs from torch:
        - A group added after construction works; torch 2.10 raises KeyError at its first step.
        - Fewer roundings (fused multiply-add), so float32 results may differ in the last bits.

    Paper:
        Duchi, Hazan and Singer, Adaptive subgradient methods for online learning and stochastic optimization, 2011.

    Example:
        >>> import torch
        >>> from torchpace import optim
        >>> weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        >>> optimizer = optim.Adagrad([weight], lr=0.1)
        >>> weight.square().sum().backward()
        >>> optimizer.step()
        >>> [round(value, 4) for value in weight.tolist()]
        [0.9, -1.9]
        >>> optimizer.last_path
        'fused'
    """

    _rule = "adagrad"
    _variants = ("mean", "eps_inside")

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        max_grad_norm: float | None = None,
        clip_value: float | None = None,
        skip_grad_norm: float | None = None,
        nonfinite_norm: Nonfinite = "propagate",
        mean: bool = False,
        eps_inside: bool = False,
    ) -> None:
        _plain.construct(self._construct, locals())

    def _new_slot(self, name: str, param: Tensor) -> Tensor:
        initial = self.defaults["initial_accumulator_value"]
        # As torch does, for its own path.
        value = complex(initial, initial) if torch.is_complex(param) else initial
        return torch.full_like(param, value, memory_format=torch.preserve_format)

    def _init_group(self, group: dict[str, Any], *lists: list[Tensor]) -> Any:
        # Called on the way through torch's own step, which in torch 2.10 knows only the parameters of the constructor.
        for param in group["params"]:
            if param.grad is not None and not self.state[param]:
                self.state[param] = self._new_state(param, group, ["step", "sum"])
        return super()._init_group(group, *lists)  # type: ignore[no-untyped-call]
