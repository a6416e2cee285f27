"""LARS."""

from torch import Tensor
from torch.optim.optimizer import ParamsT

from torchpace.optim import _plain, _torch_lars
from torchpace.optim._base import Fused
from torchpace.optim._clip import Nonfinite


class LARS(Fused, _torch_lars.LARS):
    r"""LARS, SGD whose steps are as long as a parameter is, for large batches; in one fused step.

    With gradient :math:`g_t` and parameter :math:`\theta`:

    .. math::
        q_t &= \frac{\eta \lVert \theta_{t-1} \rVert}
            {\lVert g_t \rVert + \lambda \lVert \theta_{t-1} \rVert + \epsilon} \\
        v_t &= \mu v_{t-1} + (1 - \tau) \, q_t (g_t + \lambda \theta_{t-1}), \qquad
            v_1 = q_1 (g_1 + \lambda \theta_0) \\
        \theta_t &= \theta_{t-1} - \gamma v_t
            \qquad (\text{nesterov: } \theta_{t-1} - \gamma (q_t (g_t + \lambda \theta_{t-1}) + \mu v_t))

    The norms are 2-norms over all elements of the parameter, which is the authors' layer. Where one is 0 the quotient
    :math:`q` is 1. Without momentum a step changes a parameter by no more than the share
    :math:`\gamma \eta` of its length, whatever the gradient's.

    It is for convolutional nets in batches so large that SGD needs a rate at which some layers diverge. Its authors
    trained AlexNet in batches of 8,192 images and ResNet-50 in batches of up to 32,768 without loss of accuracy, with a
    warmup and polynomial decay of the learning rate; in batches of a few hundred it gains nothing over SGD.

    Biases and the parameters of norms are usually left out of it: their lengths say little, and those that begin at 0
    would hardly move. They get a group with ``trust_coefficient=None``, which is SGD, and no decay; as there is no
    quotient of about 1e-3 in it, also a smaller learning rate.

    Args:
        params: parameters, named parameters or groups (dicts) of them, of any shapes.
        lr: learning rate :math:`\gamma \ge 0`, in shares :math:`\eta` of the parameter's length; without a coefficient
            parameter units per gradient unit; a float or a one-element tensor (default: 1).
        momentum: :math:`\mu \ge 0`, usually below 1, of the scaled gradients (default: 0, no momentum buffer).
        dampening: :math:`\tau` (default: 0).
        weight_decay: :math:`\lambda \ge 0`, added to the gradient (default: 0).
        nesterov: look ahead along the momentum; needs ``momentum > 0`` and ``dampening = 0`` (default: False).
        trust_coefficient: :math:`\eta \ge 0`; None is no quotient, for biases and norms (default: 0.001).
        eps: :math:`\epsilon \ge 0`, gradient units (default: 1e-8).
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

    Raises:
        ValueError: an option is out of its range; for those of SGD in torch's words.

    State of a parameter: ``momentum_buffer``, of its shape, if there is momentum.

    Differs from torch:
        - torch has no LARS. Options are those of torch's SGD and state is, too; the constructor is as torch's are.
        - The momentum is of the gradients after the quotient, as in timm; in the paper it is multiplied by the learning
          rate as well, which is the same while that is constant.
        - Every parameter of a group with a coefficient adapts. timm's do not where ``weight_decay`` is 0, unless it is
          told ``always_adapt``.
        - The norms of a complex parameter are those of its real and imaginary parts together.
        - A DTensor steps by torch's operators, which know the norm over all processes. The flat parameters of FSDP1 and
          the shards of ZeRO are seen as they are: the norms are then theirs, and not a layer's.

    Paper:
        You, Gitman and Ginsburg, Large batch training of convolutional networks, 2017.

    Example:
        >>> import torch
        >>> from torchpace import optim
        >>> weight = torch.nn.Parameter(torch.tensor([3.0, -4.0]))
        >>> bias = torch.nn.Parameter(torch.zeros(2))
        >>> groups = [{"params": [weight]}, {"params": [bias], "trust_coefficient": None, "lr": 0.1}]
        >>> optimizer = optim.LARS(groups, lr=10, trust_coefficient=0.01)
        >>> (weight.square() + bias).sum().backward()
        >>> optimizer.step()
        >>> [round(value, 4) for value in weight.tolist()]  # shorter by a tenth
        [2.7, -3.6]
        >>> [round(value, 4) for value in bias.tolist()]
        [-0.1, -0.1]
        >>> optimizer.last_path
        'fused'
    """

    _rule = "lars"

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.0,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        trust_coefficient: float | None = 0.001,
        eps: float = 1e-8,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        max_grad_norm: float | None = None,
        clip_value: float | None = None,
        skip_grad_norm: float | None = None,
        nonfinite_norm: Nonfinite = "propagate",
    ) -> None:
        _plain.construct(self._construct, locals())
