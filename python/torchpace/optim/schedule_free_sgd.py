"""Schedule-free gradient descent."""

from torch import Tensor
from torch.optim.optimizer import ParamsT

from torchpace.optim import _plain, _torch_schedulefree
from torchpace.optim._clip import Nonfinite
from torchpace.optim._schedule_free import ScheduleFree


class ScheduleFreeSGD(ScheduleFree, _torch_schedulefree.ScheduleFreeSGD):
    r"""Gradient descent that averages its parameters and needs no schedule, in one fused step.

    With gradient :math:`g_t` at the parameter :math:`y_{t-1}`, the step :math:`t` counted from 1 for each parameter,
    and :math:`z_0 = y_0`:

    .. math::
        u_t &= g_t + \lambda y_{t-1} \\
        \gamma_t &= \gamma \min(1, t / T), \qquad w_t = t^r \max(\gamma_1, \dots, \gamma_t)^p, \qquad
            c_t = w_t / (w_1 + \dots + w_t) \\
        z_t &= z_{t-1} - \gamma_t u_t \\
        x_t &= (1 - c_t) \, x_{t-1} + c_t z_t \\
        y_t &= (1 - \beta) \, z_t + \beta x_t

    :math:`x` is the mean of all :math:`z`, with weights that are equal after a warmup. It takes the place of a rate
    that decays: its authors found it at every step about where a training with a schedule that ends there would be, so
    the number of steps need not be known ahead. Its authors advise a warmup, rates from 10 to 50 times those that go
    with a schedule and a momentum of 0.9, and for long trainings :math:`\beta` of 0.95 or 0.98; rate and decay have to
    be tuned anew. It keeps as much state as gradient descent with momentum.

    The parameter holds :math:`y` while it trains, where gradients are taken, and the result is :math:`x`, which is
    kept nowhere: ``eval()`` puts it into the parameters, and ``train()`` puts :math:`y` back. So a training loop calls
    ``optimizer.eval()`` wherever it calls ``model.eval()``, and also before weights are saved for use;
    ``optimizer.train()`` goes with ``model.train()``. To step in eval mode is an error. Each of the two reads and
    writes all parameters once, and both together bring them back within a few roundings, which are those of the
    parameters' type. A checkpoint to go on from may be saved in either mode: ``state_dict`` has it as the option
    ``train_mode`` of each group, and the weights that go with it are those of the same moment. transformers'
    ``Trainer`` calls both around its evaluations, and accelerate's optimizer hands both on; what they save is what the
    parameters hold then. Lightning and Fabric call neither.

    A model with batch norm has gathered its statistics at :math:`y`. Before it is evaluated, gather them at :math:`x`:
    after ``optimizer.eval()`` run some fifty batches through the model in its own train mode, under
    ``torch.no_grad()``, then call ``model.eval()``.

    Args:
        params: parameters, named parameters or groups (dicts) of them, of any shapes.
        lr: learning rate :math:`\gamma \ge 0`, parameter units per gradient unit; a float or a one-element tensor. It
            stays as it is; a scheduler may set it all the same (default: 1).
        momentum: :math:`\beta` in (0, 1), the share of the average in the point where gradients are taken. To change it
            in mid-training moves :math:`x`, but in eval mode (default: 0.9).
        weight_decay: :math:`\lambda \ge 0`, added to the gradient (default: 0).
        warmup_steps: :math:`T \ge 0`, steps over which the rate rises linearly; 0 for none (default: 0).
        r: :math:`r \ge 0`, the power of the step's number in the weight of its point; 0 weighs all alike (default: 0).
        weight_lr_power: :math:`p \ge 0`, the power of the largest rate so far in that weight, so that the points of a
            warmup count little; 0 for none (default: 2).
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

    State of a parameter: ``step``, a 0-dim count; ``weight_sum`` and ``lr_max``, the sum of :math:`w` and the largest
    rate so far, 0-dim and float64; ``z``, of its shape.

    Differs from torch:
        - torch has no schedule-free optimizers. Names of options and defaults are those of the authors' package
          ``schedulefree``, and what follows is how it differs from that.
        - It begins in train mode, the package in eval mode. So a loop that never evaluates need not call ``train()``;
          but what it has trained is not the result before ``eval()``.
        - Each parameter counts its own steps and weights, which in the package are those of its group; so one that gets
          its first gradient late begins an average of its own. States of the package load, and its counts become those
          of each parameter.
        - A step leaves the gradient as it is, where the package writes into it.
        - A group that is added in eval mode is in eval mode, too.

    Paper:
        Defazio, Yang, Mehta, Mishchenko, Khaled and Cutkosky, The road less scheduled, 2024.

    Example:
        >>> import torch
        >>> from torchpace import optim
        >>> weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        >>> optimizer = optim.ScheduleFreeSGD([weight], lr=0.25)
        >>> for _ in range(2):
        ...     optimizer.zero_grad()
        ...     weight.square().sum().backward()
        ...     optimizer.step()
        >>> optimizer.state[weight]["z"].tolist()  # the points are 0.5 and 0.25 for the first
        [0.25, -0.5]
        >>> optimizer.eval()
        >>> [round(value, 4) for value in weight.tolist()]
        [0.375, -0.75]
        >>> optimizer.last_path
        'fused'
    """

    _rule = "schedule_free_sgd"

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        warmup_steps: int | float = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        max_grad_norm: float | None = None,
        clip_value: float | None = None,
        skip_grad_norm: float | None = None,
        nonfinite_norm: Nonfinite = "propagate",
    ) -> None:
        _plain.construct(self._construct, locals())
