"""Prodigy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from torchpace.optim import _plain, _torch_prodigy
from torchpace.optim._base import Fused
from torchpace.optim._clip import Nonfinite


class Prodigy(Fused, _torch_prodigy.Prodigy):
    r"""Prodigy, AdamW that finds its learning rate by itself, in one fused step.

    With gradient :math:`g_t`, parameter :math:`\theta`, averages and sums that begin at 0, and the estimate
    :math:`d_1 = d_0`:

    .. math::
        m_t &= \beta_1 m_{t-1} + d_t (1 - \beta_1) g_t \\
        v_t &= \beta_2 v_{t-1} + d_t^2 (1 - \beta_2) g_t^2 \\
        s_t &= \beta_3 s_{t-1} + \tfrac{d_t}{d_0} d_t \gamma g_t \\
        r_t &= \beta_3 r_{t-1} + \tfrac{d_t}{d_0} d_t \gamma \langle g_t, \theta_0 - \theta_{t-1} \rangle \\
        d_{t+1} &= \max(d_t, c \, r_t / \lVert s_t \rVert_1) \\
        \theta_t &= \theta_{t-1} - d_t \gamma \Big( \lambda \theta_{t-1} +
            \frac{m_t}{\sqrt{v_t} + d_{t+1} \epsilon} \Big)

    The product and the 1-norm are over all parameters of all groups together. :math:`d` is a lower bound on the
    distance from the beginning to a solution, as far as the loss is convex, and grows from a tiny :math:`d_0` until
    it is about that. So the rate that AdamW would have to be given, :math:`d_t \gamma`, is found on the way. Leave
    ``lr`` at 1; a scheduler that begins there (cosine, linear decay) goes well with it, and a warmup is better done
    by ``growth_rate`` or with ``safeguard_warmup=True``.

    It is for trainings that are not worth a search for the rate: fine-tuning of adapters, and new tasks. Its authors
    report accuracies close to those of hand-tuned Adam, from logistic regression over ResNet-50 and a vision
    transformer to a GPT. Where the rate is known AdamW is cheaper: Prodigy keeps four numbers for each element where
    AdamW keeps two, and goes through all of them twice.

    Args:
        params: parameters, named parameters or groups (dicts) of them, of any shapes.
        lr: :math:`\gamma \ge 0`, what multiplies the estimate; the same in all groups, or 0 for one that is to stay as
            it is; a float or a one-element tensor (default: 1).
        betas: :math:`\beta_1, \beta_2` in [0, 1) (default: (0.9, 0.999)).
        beta3: :math:`\beta_3 \ge 0`, for the sums behind the estimate; None for :math:`\sqrt{\beta_2}` (default: None).
        eps: :math:`\epsilon > 0`, gradient units (default: 1e-8).
        weight_decay: :math:`\lambda \ge 0`, the share of a parameter lost each step where :math:`d_t \gamma = 1`
            (default: 0).
        decouple: decay the parameter, as AdamW; else add :math:`\lambda \theta` to the gradient, as Adam (default:
            True).
        use_bias_correction: multiply the rate by :math:`\sqrt{1 - \beta_2^t} / (1 - \beta_1^t)`, as Adam does; the step
            :math:`t` is that of the optimizer, ``k`` of the groups (default: False).
        safeguard_warmup: leave :math:`\gamma` out of :math:`s`, so that the small rates of a warmup do not blow the
            estimate up (default: False).
        d0: :math:`d_0 > 0`, parameter units, below the distance that is sought (default: 1e-6).
        d_coef: :math:`c \ge 0`; 0.5 or 2 for steps that are smaller or larger, the one knob to turn (default: 1).
        growth_rate: the most that :math:`d` may grow by in a step, from 1 on; with 1.02 a factor of 1,000 takes
            350 steps, which is a warmup (default: infinity).
        fsdp_in_use: add the sums up over all processes of the default group, where each has other parameters or other
            shards of them; by torch's operators (default: False).
        slice_p: estimate from every so many elements alone, which saves as much of ``s`` and ``p0``, from 1 on; above 1
            by torch's operators (default: 1).
        foreach: accepted as torch's classes do; the step is fused either way (default: None).
        maximize: step up the gradient (default: False).
        max_grad_norm: clip the gradients of all groups together to this 2-norm, gradient units, as
            ``torch.nn.utils.clip_grad_norm_``: multiply by ``min(1, max_grad_norm / (norm + 1e-6))``, here in the step;
            ``grad`` itself stays, and the norm is then in ``grad_norm`` (default: None, no clipping).
        clip_value: clip each element of the gradient to [-clip_value, clip_value], after the norm (default: None).
        skip_grad_norm: skip a step whose gradients have a 2-norm above this, or NaN, before clipping; then nothing is
            written, and ``last_step_skipped`` is True (default: None, no step is skipped).
        nonfinite_norm: what an infinite or NaN norm does: "propagate" as in torch, "skip" the step, or "raise"
            RuntimeError (default: "propagate").
        cautious_weight_decay: with ``decouple``, decay only where the update moves the parameter towards 0 as well, or
            not at all (Chen et al., Cautious weight decay, 2025) (default: False).

    Raises:
        ValueError: an option is out of its range; in a step, groups differ in one that is the same for all.

    State of a parameter: ``s``, ``p0`` (the parameter at its first step), ``exp_avg`` (unless :math:`\beta_1` is 0) and
    ``exp_avg_sq``, each of its shape. The groups hold the estimate ``d``, and ``d_max``, ``d_hat``, ``d_numerator``,
    ``d_denom`` and the number of steps ``k`` with it: to watch, and in every checkpoint.

    Differs from torch:
        - torch has no Prodigy. Names of options and of state and defaults are those of the authors' package
          ``prodigyopt``, and what follows is how it differs from that. States of the package load.
        - ``s`` and ``p0`` are of the parameter's shape, not flat, and there is no ``step`` beside ``k``.
        - Without :math:`\beta_1` the gradient is scaled by :math:`d_t`, as in the paper, in the package by
          :math:`d_{t+1}`.
        - A group whose ``lr`` is 0 stays as it is; in the package its weights still decay.
        - Gradients that are infinite or NaN leave the estimate as it was; in the package it never grows again.
        - Coupled decay leaves the gradient as it is, where the package writes into it. Nothing is printed.
        - Options that are one for all groups, but for ``lr``, are taken from the first in the package; here groups that
          differ are an error. A group that is added later takes over the estimate.
        - The estimate is known to the host, for which a step on a GPU waits for that once; so there is no
          ``capturable``. In float16 the averages underflow, here as there: keep such parameters in another type.

    Paper:
        Mishchenko and Defazio, Prodigy: an expeditiously adaptive parameter-free learner, 2024.

    Example:
        >>> import torch
        >>> from torchpace import optim
        >>> weight = torch.nn.Parameter(torch.tensor([3.0, -4.0]))
        >>> optimizer = optim.Prodigy([weight])
        >>> for _ in range(200):
        ...     optimizer.zero_grad()
        ...     (weight - 1).square().sum().backward()
        ...     optimizer.step()
        >>> [round(value, 1) for value in weight.tolist()]
        [1.0, 1.0]
        >>> 1 < optimizer.param_groups[0]["d"] < 5  # the solution is 2 and 5 away along the axes
        True
        >>> optimizer.last_path
        'fused'
    """

    _rule = "prodigy"
    _variants = ("cautious_weight_decay",)

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        beta3: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decouple: bool = True,
        use_bias_correction: bool = False,
        safeguard_warmup: bool = False,
        d0: float = 1e-6,
        d_coef: float = 1.0,
        growth_rate: float = math.inf,
        fsdp_in_use: bool = False,
        slice_p: int = 1,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        max_grad_norm: float | None = None,
        clip_value: float | None = None,
        skip_grad_norm: float | None = None,
        nonfinite_norm: Nonfinite = "propagate",
        cautious_weight_decay: bool = False,
    ) -> None:
        _plain.construct(self._construct, locals())

    def _fused_step(
        self,
        grad_scale: Tensor | None,
        found_inf: Tensor | None,
        left: Sequence[tuple[int, int]] | None = None,
        norm: float | None = None,
    ) -> tuple[str, float | Tensor | None, list[tuple[int, int]]]:
        for group in self.param_groups:
            if group["slice_p"] != 1:
                return f"torch: slice_p is {group['slice_p']}", None, []
            if group["fsdp_in_use"]:
                return "torch: the sums are those of all processes", None, []
        return super()._fused_step(grad_scale, found_inf, left, norm)

    def _check_group(self, group: dict[str, Any]) -> None:
        super()._check_group(group)
        if group.get("cautious_weight_decay") and not group["decouple"]:
            raise ValueError("Cautious weight decay requires decouple=True")

    def _new_slot(self, name: str, param: Tensor) -> Tensor:
        if name == "p0":
            return param.detach().clone(memory_format=torch.preserve_format)
        return super()._new_slot(name, param)
