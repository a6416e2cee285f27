"""The step of every fused optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, overload

import torch
from torch import Tensor

from torchpace import _native

if TYPE_CHECKING:
    from torch.optim import Optimizer as _Parent
else:
    _Parent = object


class Fused(_Parent):
    """Put before a class of `torch.optim` among the bases, takes over its `step`.

    Everything else is the torch class's own: constructor, validation, `state_dict`, hooks, `add_param_group`.
    """

    _rule: ClassVar[str]
    """The name of the update rule in Rust."""

    last_path: str | None = None
    """Which way the last step went: `"fused"`, or `"torch: "` and the reason why torch's own code took it.

    None before the first step, after one that raised, and in an optimizer just unpickled or copied.
    """

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Perform a single optimization step.

        Args:
            closure: reevaluates the model and returns the loss, as in torch (default: None).

        Returns:
            The closure's loss, or None without one.

        Raises:
            RuntimeError: a gradient or a state tensor has another shape than its parameter.
            KeyError: a state entry is missing that the options need.
            TypeError: an option or a state entry is of a wrong type.

            Nothing has been written then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if torch.compiler.is_compiling():
            # Tracing follows torch's own code.
            self._torch_step()
            self._note("torch: torch.compile is tracing")
            return loss
        self.last_path = None
        if self._is_scaled():
            reason: str | None = "a GradScaler unscales in the step"
        elif torch._C._len_torch_dispatch_stack() > 0:
            # It sees, and may change, every operator of torch: a trace without the step would be wrong.
            reason = "a TorchDispatchMode is active"
        else:
            reason = _native.step(self._rule, self.param_groups, self.state, self._new_state, torch.get_num_threads())
        if reason is not None:
            self._torch_step()
        self.last_path = "fused" if reason is None else f"torch: {reason}"
        return loss

    # As torch.compiler.disable, which would import the compiler with this module.
    @torch._disable_dynamo  # type: ignore[attr-defined]
    def _note(self, path: str) -> None:
        """Set `last_path` outside the trace, in which torch 2.10 cannot set an attribute of an optimizer."""
        self.last_path = path

    def _torch_step(self) -> None:
        """Step as the parent class does, without the hooks: they run around ours."""
        step: Any = super().step
        if getattr(step, "hooked", False):
            # Set once torch's own class was instantiated; below it is the step itself, under no_grad.
            step = step.__wrapped__.__get__(self)
        # torch's fused CPU kernels take every gradient and state for laid out like its parameter, which may be what
        # brought the step here. Its plain loop is always right. A GradScaler needs them all the same.
        groups = (
            [] if self._is_scaled() else [group for group in self.param_groups if group.get("fused") and _on_cpu(group)]
        )
        for group in groups:
            group["fused"] = False
        try:
            step()
        finally:
            for group in groups:
                group["fused"] = True

    def _is_scaled(self) -> bool:
        """Whether a GradScaler has left the unscaling of this step to the optimizer."""
        return getattr(self, "grad_scale", None) is not None or getattr(self, "found_inf", None) is not None

    def _new_state(self, param: Tensor, group: dict[str, Any], names: list[str]) -> dict[str, Tensor]:
        """Make the state of a parameter that has none yet, as torch's class makes it."""
        return {
            name: self._new_step_count(param, group) if name == "step" else self._new_slot(name, param)
            for name in names
        }

    def _new_slot(self, name: str, param: Tensor) -> Tensor:
        return torch.zeros_like(param, memory_format=torch.preserve_format)

    def _new_step_count(self, param: Tensor, group: dict[str, Any]) -> Tensor:
        # torch keeps the count in float32, and in float64 where that is the default type and no fused kernel reads it.
        wide = torch.get_default_dtype() == torch.float64 and not group.get("fused")
        device = param.device if group.get("fused") or group.get("capturable") else "cpu"
        return torch.zeros((), dtype=torch.float64 if wide else torch.float32, device=device)


def _on_cpu(group: dict[str, Any]) -> bool:
    return all(param.device.type == "cpu" for param in group["params"])
