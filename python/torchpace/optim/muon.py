"""Muon, beside AdamW for what is no matrix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from torchpace.optim import _clip, _muon_step, _newton_schulz, _plain
from torchpace.optim._base import Fused
from torchpace.optim._clip import Nonfinite
from torchpace.optim._last_step import OVERFLOW
from torchpace.optim.adamw import AdamW

Coefficients: TypeAlias = (
    Literal["quintic", "polar_express"] | tuple[float, float, float] | Sequence[tuple[float, float, float]]
)
"""What `ns_coefficients` may be."""

_SHARED = (*_clip.OFF, "maximize", "cautious_weight_decay")
"""Options of ours that the groups of AdamW's rule take over from the constructor."""

_NONE: dict[str, Any] = {"params": []}
"""In the place of a group of matrices where AdamW steps, so that errors count the groups as they are."""


class _OfAnyShape(torch.optim.Muon):
    """torch's class, which refuses parameters of more than two dimensions when it is made."""

    def __init__(self, params: ParamsT, **options: Any) -> None:
        super().__init__([torch.empty(0, 0)], **options)
        Optimizer.__init__(self, params, self.defaults)


class Muon(Fused, _OfAnyShape):
    r"""Muon: momentum, made orthogonal, for the matrices of a model; and AdamW for all else, in the same step.

    With gradient :math:`g_t`, parameter :math:`\theta` of :math:`r` rows and :math:`c` columns and a momentum
    :math:`M` that begins at 0:

    .. math::
        M_t &= \mu M_{t-1} + (1 - \mu) g_t \\
        U_t &= \mu M_t + (1 - \mu) g_t \quad \text{(nesterov)} \quad \text{or } M_t \\
        X_0 &= U_t / \max(\lVert U_t \rVert_F, \epsilon), \qquad
            X_k = a X_{k-1} + (b A + c A^2) X_{k-1}, \quad A = X_{k-1} X_{k-1}^\top \\
        \theta_t &= (1 - \gamma \lambda) \, \theta_{t-1} - \gamma s X_K

    :math:`X_K` is about the :math:`U V^\top` of the singular value decomposition :math:`U \Sigma V^\top` of
    :math:`U_t`: a step of the same length along every direction, also those that the gradient has little of. :math:`s`
    is :math:`\sqrt{\max(1, r/c)}`, or what `adjust_lr_fn` says.

    A parameter of more than two dimensions is a matrix flattened from the second on: a convolution's weight of shape
    (o, i, h, w) is one of o rows. Embeddings, the output layer, biases and norms are none of Muon's: groups with
    ``"use_muon": False`` step by the rule of :class:`AdamW` instead, and :func:`muon_groups` makes the groups of a
    model. One optimizer so does for all of it, with one scheduler, one clipping and one `state_dict`.

    It is for hidden layers that are trained from scratch. By its author's account it made the fastest training of a
    language model of 124 million parameters 1.35 times as fast; in Moonshot's scaling experiments it needed 52 % of
    the arithmetic that AdamW did. Its state is half of AdamW's. The step is long, though: a square matrix of n rows
    takes 30 n^3 operations, as many as 5 n tokens take to go through it forward and back.

    Parameters of one shape, or of its transpose, go through the products together, up to 64 MiB of them: for many small
    matrices that is several times as fast as one by one, for one large matrix as fast. On a CPU without AMX products in
    bfloat16 are the slower ones, and ``ns_dtype=torch.float32`` is faster.

    Args:
        params: parameters, named parameters or groups (dicts) of them, of two or more dimensions, or what
            :func:`muon_groups` returns. A group with ``"use_muon": False`` may have parameters of any shape, and has
            AdamW's options (``lr``, ``betas``, ``eps``, ``weight_decay`` and so on, with AdamW's defaults) and none of
            Muon's. Clipping, `maximize` and `cautious_weight_decay` hold for it, too.
        lr: learning rate :math:`\gamma \ge 0`, parameter units: about the length of a step in each singular direction,
            but for :math:`s`; a float or a one-element tensor (default: 1e-3).
        weight_decay: :math:`\lambda \ge 0`, the share of a parameter lost each step at ``lr = 1`` (default: 0.1).
        momentum: :math:`\mu \ge 0`, below 1 (default: 0.95).
        nesterov: look one step ahead (default: True).
        ns_coefficients: :math:`a, b, c`; or three for each step; or "quintic", the default's; or "polar_express" (Amsel
            et al., 2025), five triples that come closer to :math:`U V^\top`, and :math:`X_0` is then :math:`U_t` over
            1.02 times its norm plus 1e-6 (default: (3.4445, -4.775, 2.0315)).
        eps: :math:`\epsilon \ge 0`, gradient units, the least norm to divide by (default: 1e-7).
        ns_steps: :math:`K`, below 100; where each step has a triple, their number, which is taken for the default 5
            (default: 5).
        adjust_lr_fn: how :math:`s` comes of the shape: None or "original", as above; "match_rms_adamw",
            :math:`0.2 \sqrt{\max(r, c)}`, whose steps are about as long as AdamW's and take its learning rates; from
            torch 2.14 on also "spectral_unclamped", :math:`\sqrt{r/c}` (default: None).
        maximize: step up the gradient (default: False).
        ns_dtype: the type that :math:`X` is rounded to, of the norm and the products, ``torch.bfloat16`` or
            ``torch.float32``, or their names (default: torch.bfloat16).
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

    Raises:
        ValueError: an option is out of its range, in torch's words where it is torch's; a parameter has fewer than two
            dimensions.

    State of a parameter: ``momentum_buffer``; with ``"use_muon": False`` that of :class:`AdamW`.

    Differs from torch:
        - torch refuses parameters of more than two dimensions, and has no AdamW beside Muon. Where nothing is asked for
          that torch lacks, `state_dict` is torch's.
        - In float32 and float64 results are torch's, as a rule to the bit, unless one side of a matrix is more than
          twice the other, on a CPU without AMX: there products are in float32, and for two or three iterations at once
          of the smaller :math:`X X^\top` alone. That is faster, and closer to exact arithmetic.
        - In bfloat16 and float16 momentum and parameter are computed in float32 and rounded once. Under
          ``nesterov=False`` torch before 2.14 leaves the normalised matrix in a bfloat16 momentum.

    Papers:
        Jordan, Muon: an optimizer for hidden layers in neural networks, 2024. Liu et al., Muon is scalable for LLM
        training, 2025 (match_rms_adamw). Amsel et al., The Polar Express, 2025.

    Example:
        >>> import torch
        >>> from torchpace import optim
        >>> weight = torch.nn.Parameter(torch.tensor([[3.0, 0.0], [0.0, -1.0]]))
        >>> bias = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        >>> others = {"params": [bias], "use_muon": False, "lr": 0.1, "weight_decay": 0}
        >>> groups = [{"params": [weight]}, others]
        >>> optimizer = optim.Muon(groups, lr=0.1, weight_decay=0, ns_coefficients="polar_express")
        >>> (weight.square().sum() + bias.square().sum()).backward()
        >>> optimizer.step()
        >>> [[round(value, 1) for value in row] for row in weight.tolist()]
        [[2.9, 0.0], [0.0, -0.9]]
        >>> [round(value, 4) for value in bias.tolist()]
        [0.9, -1.9]
        >>> optimizer.last_path
        'fused'
    """

    _rule = "muon"
    _beyond: ClassVar[dict[str, Any]] = {"maximize": False, "cautious_weight_decay": False, "ns_dtype": "bfloat16"}

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: Coefficients = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
        *,
        maximize: bool = False,
        ns_dtype: torch.dtype | Literal["bfloat16", "float32"] = torch.bfloat16,
        max_grad_norm: float | None = None,
        clip_value: float | None = None,
        skip_grad_norm: float | None = None,
        nonfinite_norm: Nonfinite = "propagate",
        cautious_weight_decay: bool = False,
    ) -> None:
        _plain.construct(self._construct, locals())

    def _construct(self, arguments: dict[str, Any]) -> None:
        ns_dtype, ns_steps = _newton_schulz.word("", arguments["ns_dtype"]), arguments["ns_steps"]
        if ns_steps == 5:
            ns_steps = _newton_schulz.count(arguments["ns_coefficients"], ns_steps)
        off = self._off()
        shared = {name: arguments[name] for name in _SHARED if _clip.is_on(name, arguments[name], off[name])}
        params = arguments["params"]
        # Of what torch refuses as a whole nothing is taken.
        if hasattr(params, "__iter__") and not isinstance(params, (Tensor, Set, Mapping)):
            params = [_by_adamw(group, shared) if _is_adamw(group) else group for group in params]
        super()._construct({**arguments, "params": params, "ns_dtype": ns_dtype, "ns_steps": ns_steps})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, as in torch.

        Args:
            param_group: the parameters under ``"params"``, and options of their own; with ``"use_muon": False`` those
                of AdamW.

        Raises:
            TypeError, ValueError: as torch; or an option is out of its range, or a parameter is no matrix. The
                optimizer is then as it was.
        """
        if _is_adamw(param_group):
            on = {name: self.defaults[name] for name in _SHARED if name in self.defaults}
            param_group = _by_adamw(param_group, on)
            named = set(param_group)
            super().add_param_group(param_group)
            for name in self.defaults.keys() - named:
                del self.param_groups[-1][name]
            return
        if isinstance(param_group, dict):
            if "ns_dtype" in param_group:
                param_group["ns_dtype"] = _newton_schulz.word("", param_group["ns_dtype"])
            if "ns_coefficients" in param_group and "ns_steps" not in param_group:
                steps = _newton_schulz.count(param_group["ns_coefficients"], self.defaults["ns_steps"])
                param_group["ns_steps"] = steps
        super().add_param_group(param_group)
        for param in self.param_groups[-1]["params"]:
            if param.ndim < 2:
                self.param_groups.pop()
                raise ValueError(
                    f"Muon only supports 2D parameters whereas we found a parameter with size: {param.size()}"
                )

    def _off(self) -> dict[str, Any]:
        return {**_clip.OFF, **self._beyond}

    def _taken(self, group: dict[str, Any]) -> Iterable[str]:
        return _SHARED if _is_adamw(group) else self._off()

    def _check_group(self, group: dict[str, Any]) -> None:
        if not _is_adamw(group):
            _newton_schulz.triples("", group)
            _newton_schulz.word("", group.get("ns_dtype", "bfloat16"))
        super()._check_group(group)

    def _own_options(self) -> set[str]:
        own = super()._own_options()
        if any(_is_adamw(group) for group in self.param_groups):
            own.add("use_muon")
        if (name := self._more_than_torch()) is not None:
            own.add(name)
        return own

    def _more_than_torch(self) -> str | None:
        """What a group of matrices asks for that torch's Muon has not, if anything."""
        for group in self.param_groups:
            if _is_adamw(group):
                continue
            for name, off in self._beyond.items():
                if name in group and _clip.is_on(name, group[name], off):
                    return f"{name}={group[name]}"
            given = group.get("ns_coefficients")
            if isinstance(given, str) or _newton_schulz.count(given, 0) > 0:
                return f"ns_coefficients={given!r}"
            for param in group["params"]:
                if param.ndim != 2:
                    return f"a parameter of shape {list(param.shape)}"
        return None

    def _fused_step(
        self,
        grad_scale: Tensor | None,
        found_inf: Tensor | None,
        left: Sequence[tuple[int, int]] | None = None,
        norm: float | None = None,
    ) -> tuple[str, float | Tensor | None, list[tuple[int, int]]]:
        with torch.no_grad():
            matrices = _muon_step.collect(self._of_muon(), self.state)
            if isinstance(matrices, str):
                return f"torch: {matrices}", None, []
            if _muon_step.shares_memory(matrices):
                return "torch: tensors of the step share memory", None, []
            if found_inf is not None and found_inf.item() != 0:
                return OVERFLOW, None, []
            by_norm, scale = _clip.of_all(self.param_groups), 1.0
            if grad_scale is not None:
                scale = grad_scale.double().reciprocal().float().item()
            factor = 1.0
            if not by_norm.is_off():
                norm = _clip.total_norm(self._grads()).item() * scale
                if (reason := by_norm.skips(norm)) is not None:
                    return f"skipped: {reason}", norm, []
                if by_norm.max_grad_norm is not None:
                    factor = by_norm.max_grad_norm / (norm + 1e-6)
                    factor = 1.0 if factor > 1.0 else factor
            if any(_is_adamw(group) for group in self.param_groups):
                adamw = self._adamw()
                path, _, more = adamw._fused_step(grad_scale, None, norm=norm)
                self._plan = adamw._plan
                if more or path != "fused":
                    return f"torch: {path.removeprefix('torch: ')}", None, []
            if grad_scale is not None:
                _clip.unscale([one.param for one in matrices], grad_scale)
                matrices = [one.anew() for one in matrices]
            _muon_step.step(matrices, self.state, factor)
        return "fused", norm, []

    def _leave_to_torch(self, path: str) -> str:
        more = self._more_than_torch()
        # What is made of torch's operators goes on where somebody looks at those.
        if more is not None and torch._C._len_torch_dispatch_stack() == 0:
            raise RuntimeError(f"{more} needs the fused step, which is not possible here ({path})")
        return super()._leave_to_torch(path)

    def _torch_step(self) -> None:
        more = self._more_than_torch()
        if more is None and not any(_is_adamw(group) for group in self.param_groups):
            super()._torch_step()
            return
        matrices: Any = []
        if more is not None:
            with torch.no_grad():
                matrices = _muon_step.collect(self._of_muon(), self.state)
            if isinstance(matrices, str):
                raise RuntimeError(f"{more} needs the fused step, which is not possible here ({matrices})")
        if any(_is_adamw(group) for group in self.param_groups):
            adamw = self._adamw()
            adamw.param_groups = [group for group in adamw.param_groups if group is not _NONE]
            adamw._torch_step()
        if more is not None:
            with torch.no_grad():
                _muon_step.step(matrices, self.state, 1.0)
        elif groups := [group for _, group in self._of_muon()]:
            part = object.__new__(type(self))
            part.__dict__.update(self.__dict__, param_groups=groups)
            part._torch_step()

    def _of_muon(self) -> list[tuple[int, dict[str, Any]]]:
        return [(index, group) for index, group in enumerate(self.param_groups) if not _is_adamw(group)]

    def _adamw(self) -> AdamW:
        """The groups under AdamW's rule as an optimizer, which has the same state."""
        part = object.__new__(AdamW)
        groups = [group if _is_adamw(group) else _NONE for group in self.param_groups]
        defaults = {"differentiable": any(group.get("differentiable") for group in groups)}
        part.__dict__.update(self.__dict__, param_groups=groups, defaults=defaults, _plan=self._plan)
        return part


def _is_adamw(group: Any) -> bool:
    return isinstance(group, dict) and not group.get("use_muon", True)


def _by_adamw(group: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    """A group with all options of AdamW's rule: its own, those that all share, AdamW's defaults.

    Raises:
        TypeError, ValueError: one is out of its range, in the words of AdamW.
    """
    known = AdamW([torch.empty(0)]).defaults
    options = {**shared, **{name: value for name, value in group.items() if name in known or name in _SHARED}}
    filled = AdamW(
        [torch.empty(0)], **{name: value for name, value in options.items() if name != "decoupled_weight_decay"}
    )
    return {**filled.defaults, **group, "decoupled_weight_decay": True}
