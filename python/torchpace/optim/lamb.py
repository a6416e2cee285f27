"""LAMB."""

from torch import Tensor
from torch.optim.optimizer import ParamsT

from torchpace.optim import _plain, _torch_lamb
from torchpace.optim._base import Fused
from torchpace.optim._clip import Nonfinite


class LAMB(Fused, _torch_lamb.LAMB):
    r"""LAMB, AdamW whose steps are as long as a parameter is, for large batches; in one fused step.

    With gradient :math:`g_t`, parameter :math:`\theta`, the step :math:`t` counted from 1 for each parameter and
    averages that begin at 0:

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2 \\
        u_t &= \frac{m_t / (1 - \beta_1^t)}{\sqrt{v_t / (1 - \beta_2^t)} + \epsilon} + \lambda \theta_{t-1} \\
        \theta_t &= \theta_{t-1} - \gamma \, \frac{\lVert \theta_{t-1} \rVert}{\lVert u_t \rVert} \, u_t

    The norms are 2-norms over all elements of the parameter, which is the authors' layer. Where one is 0 the quotient
    is 1. So a step changes each parameter by the share :math:`\gamma` of its length, whatever the gradient's.

    It is for batches so large that AdamW needs a rate at which some layers diverge. Its authors trained BERT in batches
    of 32,768 sequences, in 76 minutes on 1,024 TPUs, as well as in the usual ones of 512. They let the learning rate
    grow with the root of the batch, from 6.25e-4 at 512 to 5e-3 at 32,768, the warmup with the batch, and took a weight
    decay of 0.01. In batches of a few hundred it gains nothing over AdamW.

    It keeps two averages, as AdamW does, and reads all of them once more for the norms.

    Args:
        params: parameters, named parameters or groups (dicts) of them, of any shapes.
        lr: learning rate :math:`\gamma \ge 0`: the length of a step as a share of the parameter's; a float or a
            one-element tensor (default: 1e-3).
        betas: :math:`\beta_1, \beta_2` in [0, 1) (default: (0.9, 0.999)).
        eps: :math:`\epsilon \ge 0`, gradient units (default: 1e-6).
        weight_decay: :math:`\lambda \ge 0`, added to the update before it is scaled (default: 0.01).
        bias_correction: divide the averages by :math:`1 - \beta^t`; without it the first updates are too long, which
            the quotient makes up for unless it is clipped or 1 (default: True).
        trust_clip: let the quotient be at most 1, so that no update is longer than AdamW's (default: False).
        foreach: accepted as torch's classes do; the step is fused either way (default: None).
        maximize: step up the gradient (default: False).
        capturable: let a CUDA graph capture the step; step counts are then on the device (default: False).
        differentiable: let autograd follow the step, through torch's operators (default: False).
        max_grad_norm: clip the gradients of all groups together to this 2-norm, gradient units, as
            ``torch.nn.utils.clip_grad_norm_``: multiply by ``min(1, max_grad_norm / (norm + 1e-6))``, here in the step;
            ``grad`` itself stays, and the norm is then in ``grad_norm`` (default: None, no clipping).
        clip_value: clip each element of the gradient to [-clip_value, clip_value], after the norm (default: None).
        skip_grad_norm: skip a step whose gradients have a 2-norm above this, or NaN, before clipping; then nothing is
            written, and ``last_step_skipped`` is True (default: None, no step is skipped).
        nonfinite_norm: what an infinite or NaN norm does: "propagate" as in torch, "skip" the step, or "raise"
            RuntimeError (default: "propagate").

    Raises:
        ValueError: an option is out of its range.

    State of a parameter: ``step``, a 0-dim count; ``exp_avg`` and ``exp_avg_sq``, each of its shape.

    Differs from torch:
        - torch has no LAMB. It is the authors' algorithm with the bias corrected, as in their code; the constructor is
          as torch's are. Checkpoints of timm's Lamb load.
        - Every parameter adapts. In timm those without ``weight_decay`` (biases and norms, usually) do not, unless told
          ``always_adapt``; and timm clips by ``max_grad_norm=1.0`` by default, this class only if asked.
        - The squares and norms of a complex parameter are those of its real and imaginary parts, each for itself.
        - A DTensor steps by torch's operators, which know the norm over all processes. The flat parameters of FSDP1 and
          the shards of ZeRO are seen as they are: the norms are then theirs, and not a layer's.
        - On a GPU with the learning rate in a tensor there, torch's operators step where ``capturable`` is off.

    Paper:
        You et al., Large batch optimization for deep learning: training BERT in 76 minutes, 2020.

    Example:
        >>> import torch
        >>> from torchpace import optim
        >>> weight = torch.nn.Parameter(torch.tensor([3.0, -4.0]))
        >>> optimizer = optim.LAMB([weight], lr=0.1, weight_decay=0)
        >>> weight.square().sum().backward()
        >>> optimizer.step()
        >>> [round(value, 4) for value in weight.tolist()]  # 0.1 of 5, the same along both axes
        [2.6464, -3.6464]
        >>> optimizer.last_path
        'fused'
    """

    _rule = "lamb"

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        *,
        bias_correction: bool = True,
        trust_clip: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        max_grad_norm: float | None = None,
        clip_value: float | None = None,
        skip_grad_norm: float | None = None,
        nonfinite_norm: Nonfinite = "propagate",
    ) -> None:
        _plain.construct(self._construct, locals())
