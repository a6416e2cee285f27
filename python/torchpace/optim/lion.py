"""Lion."""

from torch import Tensor
from torch.optim.optimizer import ParamsT

from torchpace.optim import _plain, _torch_lion
from torchpace.optim._base import Fused
from torchpace.optim._clip import Nonfinite


class Lion(Fused, _torch_lion.Lion):
    r"""Lion, whose steps have one length in all coordinates, in one fused step.

    With gradient :math:`g_t`, parameter :math:`\theta` and :math:`m_0 = 0`:

    .. math::
        \theta_{t-1} &\leftarrow (1 - \gamma \lambda) \, \theta_{t-1} \\
        \theta_t &= \theta_{t-1} - \gamma \operatorname{sign}(\beta_1 m_{t-1} + (1 - \beta_1) g_t) \\
        m_t &= \beta_2 m_{t-1} + (1 - \beta_2) g_t

    It keeps one average, half of what AdamW keeps. Its authors' rule for what was tuned with AdamW: a third to a tenth
    of the learning rate, and so much more decay that :math:`\gamma \lambda` stays; they saw it gain most in large
    batches.

    Args:
        params: parameters, named parameters or groups (dicts) of them, of any shapes.
        lr: learning rate :math:`\gamma \ge 0`, parameter units: the length of a step in each coordinate; a float or a
            one-element tensor (default: 1e-4).
        betas: :math:`\beta_1, \beta_2` in [0, 1) (default: (0.9, 0.99)).
        weight_decay: :math:`\lambda \ge 0`, the share of a parameter lost each step at ``lr = 1`` (default: 0).
        foreach: accepted as torch's classes do; the step is fused either way (default: None).
        maximize: step up the gradient (default: False).
        differentiable: let autograd follow the step, through torch's operators (default: False).
        max_grad_norm: clip the gradients of all groups together to this 2-norm, gradient units, as
            ``torch.nn.utils.clip_grad_norm_``: multiply by ``min(1, max_grad_norm / (norm + 1e-6))``, here in the step;
            ``grad`` itself stays, and the norm is then in ``grad_norm`` (default: None, no clipping).
        clip_value: clip each element of the gradient to [-clip_value, clip_value], after the norm (default: None).
        skip_grad_norm: skip a step whose gradients have a 2-norm above this, or NaN, before clipping; then nothing is
            written, and ``last_step_skipped`` is True (default: None, no step is skipped).
        nonfinite_norm: what an infinite or NaN norm does: "propagate" as in torch, "skip" the step, or "raise"
            RuntimeError (default: "propagate").
        cautious_weight_decay: decay only where the update moves the parameter towards 0 as well, or not at all (Chen et
            al., Cautious weight decay, 2025), which spares what the loss pulls the other way (default: False).
        cautious: move only where the update and the gradient have one sign, by as much more as that is rarer in the
            parameter, up to 1,000 times (Liang et al., Cautious optimizers, 2024). It takes a second pass over the
            tensors and needs the fused step, which a DTensor does not have then (default: False).

    Raises:
        ValueError: an option is out of its range.

    State of a parameter: ``exp_avg``, of its shape.

    Differs from torch:
        - torch has no Lion. State and options are those of lion-pytorch and of the authors' code, whose checkpoints
          load; the constructor is as torch's are.
        - Signs are those of `torch.sign`: where the average is NaN nothing moves.

    Paper:
        Chen et al., Symbolic discovery of optimization algorithms, 2023.

    Example:
        >>> import torch
        >>> from torchpace import optim
        >>> weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        >>> optimizer = optim.Lion([weight], lr=0.1, weight_decay=0.5)
        >>> weight.square().sum().backward()
        >>> optimizer.step()
        >>> [round(value, 4) for value in weight.tolist()]
        [0.85, -1.8]
        >>> optimizer.last_path
        'fused'
    """

    _rule = "lion"
    _variants = ("cautious_weight_decay", "cautious")

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        max_grad_norm: float | None = None,
        clip_value: float | None = None,
        skip_grad_norm: float | None = None,
        nonfinite_norm: Nonfinite = "propagate",
        cautious_weight_decay: bool = False,
        cautious: bool = False,
    ) -> None:
        _plain.construct(self._construct, locals())
