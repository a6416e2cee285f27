"""AdEMAMix."""

from torch import Tensor
from torch.optim.optimizer import ParamsT

from torchpace.optim import _plain, _torch_ademamix
from torchpace.optim._base import Fused
from torchpace.optim._clip import Nonfinite


class AdEMAMix(Fused, _torch_ademamix.AdEMAMix):
    r"""AdEMAMix, AdamW with a second, slow average of the gradients, in one fused step.

    With gradient :math:`g_t`, parameter :math:`\theta`, the step :math:`t` counted from 1 for each parameter and
    averages that begin at 0:

    .. math::
        \theta_{t-1} &\leftarrow (1 - \gamma \lambda) \, \theta_{t-1} \\
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        s_t &= \beta_{3,t} s_{t-1} + (1 - \beta_{3,t}) g_t \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2 \\
        \theta_t &= \theta_{t-1} - \gamma \,
            \frac{m_t / (1 - \beta_1^t) + \alpha_t s_t}{\sqrt{v_t / (1 - \beta_2^t)} + \epsilon}

    :math:`\beta_{3,t}` and :math:`\alpha_t` are :math:`\beta_3` and :math:`\alpha`, or rise to them over the first
    :math:`T_\beta` and :math:`T_\alpha` steps, the one so that the steps after which :math:`s` has forgotten half of a
    gradient rise linearly:

    .. math::
        \alpha_t &= \alpha \min(t / T_\alpha, 1) \\
        \beta_{3,t} &= f^{-1}\bigl((1 - w) f(\beta_1) + w f(\beta_3)\bigr) \quad \text{for } w = t / T_\beta < 1 \\
        f(\beta) &= \frac{\ln 0.5}{\ln(\beta + 10^{-8})} - 1, \qquad f^{-1}(x) = 0.5^{1 / (x + 1)}

    The fast average follows the loss as it is now, while the slow one keeps gradients of tens of thousands of steps: it
    is for long trainings. Its authors' language model of 1.3 billion parameters, trained on 101 billion tokens, was as
    good as AdamW's on 197 billion, 95 % more. They took :math:`\beta_3 = 0.9999`, :math:`\alpha` from 4 to 10, and both
    warmups as long as the whole training, without which large steps early on may make it diverge. The bias of the slow
    average is not corrected: after :math:`t` steps with :math:`\beta_3` it has :math:`1 - \beta_3^t` of its weight, 1 %
    after 100 steps with 0.9999 and 63 % after 10,000, so that a short training gains little.

    It keeps three averages, half more state than AdamW.

    Args:
        params: parameters, named parameters or groups (dicts) of them, of any shapes.
        lr: learning rate :math:`\gamma \ge 0`, parameter units: about the length of a step in each coordinate, up to
            :math:`1 + \alpha` times that where gradients keep their sign; a float or a one-element tensor (default:
            1e-3).
        betas: :math:`\beta_1, \beta_2, \beta_3` in [0, 1), of the fast average, of that of squares and of the slow one
            (default: (0.9, 0.999, 0.9999)).
        alpha: :math:`\alpha \ge 0`, the weight of the slow average beside the fast one; 0 is AdamW (default: 2).
        beta3_warmup: :math:`T_\beta \ge 0`, steps; None and 0 are none (default: None).
        alpha_warmup: :math:`T_\alpha \ge 0`, steps; None and 0 are none (default: None).
        eps: :math:`\epsilon \ge 0`, gradient units (default: 1e-8).
        weight_decay: :math:`\lambda \ge 0`, the share of a parameter lost each step at ``lr = 1`` (default: 0).
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
        cautious_weight_decay: decay only where the update moves the parameter towards 0 as well, or not at all (Chen et
            al., Cautious weight decay, 2025), which spares what the loss pulls the other way (default: False).
        cautious: move only where the averages together and the gradient have one sign, by as much more as that is rarer
            in the parameter, up to 1,000 times (Liang et al., Cautious optimizers, 2024). It takes a second pass over
            the tensors and needs the fused step, which a DTensor does not have then (default: False).

    Raises:
        ValueError: an option is out of its range, or the betas are not three.

    State of a parameter: ``step``, a 0-dim count; ``exp_avg_fast``, ``exp_avg_slow`` and ``exp_avg_sq``, each of its
    shape.

    Differs from torch:
        - torch has no AdEMAMix. Names of options and state are those of the authors' code; the decay is AdamW's, and
          the constructor is as torch's are.
        - The squares of a complex gradient are those of its real and imaginary part, each for itself, as in torch's
          NAdam.
        - On a GPU with the learning rate in a tensor there, torch's operators step where ``capturable`` is off.

    Paper:
        Pagliardini, Ablin and Grangier, The AdEMAMix optimizer: Better, faster, older, 2024.

    Example:
        >>> import torch
        >>> from torchpace import optim
        >>> weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        >>> optimizer = optim.AdEMAMix([weight], lr=0.1, betas=(0.9, 0.999, 0.99), alpha=5)
        >>> weight.square().sum().backward()
        >>> optimizer.step()
        >>> [round(value, 4) for value in weight.tolist()]
        [0.895, -1.895]
        >>> optimizer.last_path
        'fused'
    """

    _rule = "ademamix"
    _variants = ("cautious_weight_decay", "cautious")

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float, float] = (0.9, 0.999, 0.9999),
        alpha: float = 2.0,
        beta3_warmup: int | float | None = None,
        alpha_warmup: int | float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        max_grad_norm: float | None = None,
        clip_value: float | None = None,
        skip_grad_norm: float | None = None,
        nonfinite_norm: Nonfinite = "propagate",
        cautious_weight_decay: bool = False,
        cautious: bool = False,
    ) -> None:
        _plain.construct(self._construct, locals())
