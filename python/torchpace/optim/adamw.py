"""AdamW."""

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from torchpace.optim import _plain
from torchpace.optim._clip import Nonfinite
from torchpace.optim.adam import Adam


class AdamW(Adam, torch.optim.AdamW):
    r"""AdamW: Adam with decoupled weight decay, in one fused step.

    Before Adam's step, with learning rate :math:`\gamma` and decay :math:`\lambda`:

    .. math::
        \theta_{t-1} \leftarrow (1 - \gamma \lambda) \, \theta_{t-1}

    and the gradient is left as it is. The rest is :class:`Adam`.

    Args:
        params: parameters, named parameters or groups (dicts) of them, of any shapes.
        lr: learning rate :math:`\gamma \ge 0`, parameter units: about the length of a step in each coordinate; a float
            or a one-element tensor (default: 1e-3).
        betas: :math:`\beta_1, \beta_2` in [0, 1), both floats or both one-element tensors (default: (0.9, 0.999)).
        eps: :math:`\epsilon \ge 0`, gradient units (default: 1e-8).
        weight_decay: :math:`\lambda \ge 0`, the share of a parameter lost each step at ``lr = 1`` (default: 1e-2).
        amsgrad: divide by the largest second moment so far (default: False).
        maximize: step up the gradient (default: False).
        foreach, fused: accepted for torch's sake; the step is fused either way (default: None).
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
        cautious_weight_decay: decay only where the update moves the parameter towards 0 as well, or not at all (Chen et
            al., Cautious weight decay, 2025), which spares what the loss pulls the other way (default: False).
        cautious: move only where the average and the gradient have one sign, by as much more as that is rarer in the
            parameter, up to 1,000 times (Liang et al., Cautious optimizers, 2024). It takes a second pass over the
            tensors and needs the fused step, which a DTensor does not have then (default: False).

    Raises:
        ValueError: an option is out of its range, in torch's words where it is torch's.

    State of a parameter: as :class:`Adam`'s.

    Differs from torch:
        - As :class:`Adam` does.

    Paper:
        Loshchilov and Hutter, Decoupled weight decay regularization, 2019.

    Example:
        >>> import torch
        >>> from torchpace import optim
        >>> weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        >>> optimizer = optim.AdamW([weight], lr=0.1, weight_decay=0.5)
        >>> weight.square().sum().backward()
        >>> optimizer.step()
        >>> [round(value, 4) for value in weight.tolist()]
        [0.85, -1.8]
        >>> optimizer.last_path
        'fused'
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        max_grad_norm: float | None = None,
        clip_value: float | None = None,
        skip_grad_norm: float | None = None,
        nonfinite_norm: Nonfinite = "propagate",
        cautious_weight_decay: bool = False,
        cautious: bool = False,
    ) -> None:
        _plain.construct(self._construct, locals())
