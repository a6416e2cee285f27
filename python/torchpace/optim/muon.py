"""Muon, beside AdamW for what is no matrix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from torchpace.optim import _clip, _muon_step, _newton_schulz, _plain
from torchpace.optim._base import Fused
from torchpace.optim._clip import Nonfinite
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
    """TODO"""

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
        if not isinstance(params, Tensor) and hasattr(params, "__iter__"):
            params = [_by_adamw(group, shared) if _is_adamw(group) else group for group in params]
        super()._construct({**arguments, "params": params, "ns_dtype": ns_dtype, "ns_steps": ns_steps})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, as in torch.

        Args:
            param_group: the parameters under ``"params"``, and options of their own; ``"use_muon": False`` for AdamW's
                rule, with its options.

        Raises:
            TypeError, ValueError: as torch; or an option is out of its range, or a parameter is no matrix. The optimizer
                is then as it was.
        """
        if _is_adamw(param_group):
            param_group = _by_adamw(
                param_group, {name: self.defaults[name] for name in _SHARED if name in self.defaults}
            )
        elif isinstance(param_group, dict):
            if "ns_dtype" in param_group:
                param_group["ns_dtype"] = _newton_schulz.word("", param_group["ns_dtype"])
            if "ns_coefficients" in param_group and "ns_steps" not in param_group:
                steps = _newton_schulz.count(param_group["ns_coefficients"], self.defaults["ns_steps"])
                param_group["ns_steps"] = steps
        given = [*param_group] if _is_adamw(param_group) else None
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        for name in self.defaults if given is not None else ():
            if name not in given:
                del group[name]
        for param in group["params"] if given is None else ():
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
                return "skipped: the GradScaler found a gradient that is not finite", None, []
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
        part.__dict__.update(self.__dict__, param_groups=groups, defaults={}, _plan=self._plan)
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
