"""Adafactor."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from torchpace import _native
from torchpace.optim import _clip, _plain
from torchpace.optim._adafactor_step import collect, new_state, shape_of
from torchpace.optim._base import Fused
from torchpace.optim._clip import Nonfinite
from torchpace.optim._last_step import OVERFLOW


class Adafactor(Fused, torch.optim.Adafactor):
    r"""Adafactor, which keeps a mean for each row and column of a matrix in the place of two averages; a fused step.

    With gradient :math:`g_t`, parameter :math:`\theta` of :math:`n` elements, the step :math:`t` counted from 1 for
    each parameter and means that begin at 0; of a matrix of :math:`r` rows and :math:`c` columns:

    .. math::
        \beta_t &= 1 - t^\tau, \qquad \alpha_t = \max(\epsilon_2, \mathrm{RMS}(\theta_{t-1})) \,
            \min(\gamma, 1 / \sqrt t) \\
        R_t &= \beta_t R_{t-1} + (1 - \beta_t) \, g_t^2 1_c / c, \qquad
            C_t = \beta_t C_{t-1} + (1 - \beta_t) \, 1_r^\top g_t^2 / r \\
        v_t &= R_t C_t / \max(1_r^\top R_t / r, \epsilon_1) \\
        u_t &= g_t / \max(\sqrt{v_t}, \epsilon_1) \\
        \theta_t &= (1 - \gamma \lambda) \, \theta_{t-1} - \alpha_t \, u_t / \max(1, \mathrm{RMS}(u_t) / d)

    where :math:`\mathrm{RMS}(x) = \lVert x \rVert / \sqrt n`. Of more than two dimensions the last two are matrices,
    one for each index of the others. A parameter of fewer dimensions has no means; its
    :math:`v_t = \beta_t v_{t-1} + (1 - \beta_t) g_t^2` is each element's own.

    At :math:`d = 1` the root mean square of a step is at most :math:`\alpha_t`, a share of the parameter's own. It is
    for models whose optimizer's state does not fit: that of a float32 matrix of 4,096 by 4,096 has 32 KiB, where
    AdamW's has 128 MiB. The price is the momentum, of which there is none, and a coarser second moment. T5 was trained
    with it.

    Args:
        params: parameters, named parameters or groups (dicts) of them, of any shapes.
        lr: :math:`\gamma \ge 0`, the largest share of a parameter's size that a step is long, and the rate of the
            decay; infinite, without decay, for :math:`1 / \sqrt t` alone; a float or a one-element tensor
            (default: 1e-2).
        beta2_decay: :math:`\tau \le 0`: of the means a step keeps :math:`1 - t^\tau` (default: -0.8).
        eps: two numbers. :math:`\epsilon_1 \ge 0`, gradient units, the least root of a second moment, or None for the
            parameter's type's own, 1.2e-7 in float32; and :math:`\epsilon_2 \ge 0`, parameter units, the least size of
            a parameter that a step is a share of (default: (None, 1e-3)).
        d: the largest root mean square of an update, at least 1 (default: 1.0).
        weight_decay: :math:`\lambda \ge 0`, the share of a parameter lost each step at ``lr = 1`` (default: 0.0).
        foreach: accepted for torch's sake; the step is fused either way (default: None).
        maximize: step up the gradient (default: False).
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

    State of a parameter: ``step``, a 0-dim count; ``row_var`` and ``col_var``, of its shape with the last dimension, or
    the one before it, 1; or ``variance``, of its shape, where it has fewer than two dimensions.

    Differs from torch:
        - Under ``eps=(None, ...)`` torch takes the :math:`\epsilon_1` of the first parameter of a group for all others,
          also those of another type: float32 parameters behind a bfloat16 one then step as coarsely as that. Here each
          parameter has its own.
        - Sums are in float64 and the arithmetic of float16 and bfloat16 in float32, so results may differ in the last
          bits, and squares in float16 do not overflow. Where :math:`\epsilon_1^2` is 0 in the parameter's type torch
          makes NaN of zero gradients; here that is so for :math:`\epsilon_1 = 0` alone.
        - Parameters without elements have only their steps counted; torch divides by zero.
        - Fused are contiguous tensors on the CPU. On others torch's own code steps, without the first fault.

    Paper:
        Shazeer and Stern, Adafactor: adaptive learning rates with sublinear memory cost, 2018. The rate, the decay and
        the place of :math:`\epsilon_1` are torch's.

    Example:
        >>> import torch
        >>> from torchpace import optim
        >>> weight = torch.nn.Parameter(torch.tensor([[3.0, 0.0], [0.0, -4.0]]))
        >>> optimizer = optim.Adafactor([weight], lr=0.1)
        >>> (weight - 1).square().sum().backward()
        >>> optimizer.step()
        >>> [[round(value, 2) for value in row] for row in weight.tolist()]
        [[2.57, 0.1], [0.1, -3.79]]
        >>> {name: list(value.shape) for name, value in optimizer.state[weight].items()}
        {'step': [], 'row_var': [2, 1], 'col_var': [1, 2]}
        >>> optimizer.last_path
        'fused'
    """

    _rule = "adafactor"

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        max_grad_norm: float | None = None,
        clip_value: float | None = None,
        skip_grad_norm: float | None = None,
        nonfinite_norm: Nonfinite = "propagate",
    ) -> None:
        _plain.construct(self._construct, locals())

    def _fused_step(
        self,
        grad_scale: Tensor | None,
        found_inf: Tensor | None,
        left: Sequence[tuple[int, int]] | None = None,
        norm: float | None = None,
    ) -> tuple[str, float | Tensor | None, list[tuple[int, int]]]:
        with torch.no_grad():
            if found_inf is not None and found_inf.item() != 0:
                return OVERFLOW, None, []
            places, tensors, fresh = collect(self, frozenset(left or ()))
            unscale = None
            if grad_scale is not None:
                # Rounded as in GradScaler.unscale_.
                unscale = grad_scale.double().reciprocal().float().item()
            by_norm, factor = _clip.of_all(self.param_groups), 1.0
            if not by_norm.is_off():
                norm = self._norm() * (1.0 if unscale is None else unscale)
                if (reason := by_norm.skips(norm)) is not None:
                    return f"skipped: {reason}", norm, []
                if by_norm.max_grad_norm is not None:
                    factor = by_norm.max_grad_norm / (norm + 1e-6)
                    factor = 1.0 if factor > 1.0 else factor
            threads = torch.get_num_threads()
            why, odd = _native.step_adafactor(self.param_groups, places, tensors, unscale, factor, threads)
            if why is not None:
                if odd and len(odd) < len(places) and grad_scale is None and found_inf is None:
                    return why, None, [places[at] for at in odd]
                return f"torch: {why}", None, []
            for param, entries in fresh:
                self.state.setdefault(param, {}).update(entries)
        return "fused", norm, []

    def _shape_of(self, name: str, param: Tensor) -> torch.Size:
        return shape_of(name, param)

    def _norm(self) -> float:
        """The 2-norm of all gradients as they are in memory."""
        grads = self._grads()
        squares = _native.dot(grads, grads, torch.get_num_threads())
        return _clip.total_norm(grads).item() if squares is None else math.sqrt(squares)

    def _torch_step(self) -> None:
        groups = self.param_groups
        scale = self.__dict__.get("grad_scale")
        scaling: dict[str, Any] = {
            name: self.__dict__.pop(name) for name in ("grad_scale", "found_inf") if name in self.__dict__
        }
        try:
            if scale is not None:
                # torch's class refuses to.
                with torch.no_grad():
                    _clip.unscale(self._params(), scale)
            if any(_is_empty(param) for group in groups for param in group["params"]) or _mixes(groups):
                self._step_by_types()
            else:
                super()._torch_step()
        finally:
            self.__dict__.update(scaling)

    # torch 2.10 cannot trace that an attribute is set.
    @torch._disable_dynamo  # type: ignore[attr-defined]
    def _step_by_types(self) -> None:
        """Have torch step on each type apart, since it takes eps of a group's first parameter for all others.

        Those of no elements it does not see: it divides by their number.
        """
        groups = self.param_groups
        try:
            # Of the type that torch's classes give it.
            self.__dict__["param_groups"] = [
                {**group, "params": [one for one in group["params"] if one.dtype == dtype and not _is_empty(one)]}
                for group in groups
                for dtype in _types(group)
            ]
            super()._torch_step()
        finally:
            self.__dict__["param_groups"] = groups
        for group in groups:
            for param in group["params"]:
                if _is_empty(param) and param.grad is not None:
                    entries = self.state.setdefault(param, {})
                    entries.update({} if entries else new_state(self, group, param, param.grad))
                    entries["step"] += 1


def _mixes(groups: list[dict[str, Any]]) -> bool:
    """Whether parameters of some group are of several types."""
    return any(len(_types(group)) > 1 for group in groups)


def _types(group: dict[str, Any]) -> list[torch.dtype]:
    """The types of a group's parameters with a gradient, each once."""
    return list(dict.fromkeys(param.dtype for param in group["params"] if param.grad is not None))


def _is_empty(param: Tensor) -> bool:
    return param.numel() == 0
