"""The step that is left to torch: of all parameters or of some, and with the options that torch lacks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import MethodType
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from torchpace.optim import _clip

if TYPE_CHECKING:
    from torch.optim import Optimizer as _Parent
    from typing_extensions import Self
else:
    _Parent = object


class ByTorch(_Parent):
    """Before a class of `torch.optim` among the bases, has that class step."""

    _late: ClassVar[dict[str, str]] = {}
    """The state entries that an option calls for beside others, and the option: switched on in mid-training, they begin
    at zero. Rust makes them as it steps."""

    _variants: ClassVar[tuple[str, ...]] = ()
    """Options that torch lacks and that change the rule; all are flags, off by default."""

    # Not in the class, where it would hide the wrapped optimizer's from a wrapper that is of its class.
    if TYPE_CHECKING:
        _last: dict[str, Any]

    def _leave_to_torch(self, path: str) -> str:
        """Step as torch does, and clip by the way; which way the step went."""
        options = self._own_options()
        for name in self._variants:
            if name in options:
                raise RuntimeError(f"{name}=True needs the fused step, which is not possible here ({path})")
        if not options:
            self._torch_step()
            return path
        by_norm = _clip.of_all(self.param_groups)
        scale = self.__dict__.get("grad_scale")
        norm = None
        if not by_norm.is_off():
            with torch.set_grad_enabled(any(group.get("differentiable") for group in self.param_groups)):
                norm = _clip.total_norm(self._grads()) / (1.0 if scale is None else scale)
            # Only then, since a look at the number waits for its device.
            skipped = by_norm.skips(norm.item()) if by_norm.decides() else None
            self._last["grad_norm"] = norm.detach().float()
            if skipped is not None:
                return f"skipped: {skipped}"
        try:
            if scale is not None:
                with torch.no_grad():
                    _clip.unscale(self._params(), scale)
                self.__dict__.pop("grad_scale")
            with _clip.clipped(self.param_groups, by_norm.max_grad_norm, norm):
                self._torch_step()
        finally:
            if scale is not None:
                self.__dict__["grad_scale"] = scale
        return path

    def _torch_step(self) -> None:
        """Step as the parent class does, without the hooks: they run around ours."""
        step: Any = super().step
        if getattr(step, "hooked", False):
            # Set once torch's own class was instantiated; below it is the step itself, under no_grad.
            step = MethodType(step.__wrapped__, self)
        # torch's fused CPU kernels take every gradient and state for laid out like its parameter, which may be what
        # brought the step here. Its plain loop is always right; it leaves the unscaling to us.
        groups = [group for group in self.param_groups if group.get("fused") and _on_cpu(group)]
        names = ("grad_scale", "found_inf") if groups else ()
        scaling = {name: self.__dict__.pop(name) for name in names if name in self.__dict__}
        try:
            if scaling.get("grad_scale") is not None:
                with torch.no_grad():
                    _clip.unscale(self._params(), scaling["grad_scale"])
            for group in groups:
                group["fused"] = False
            with self._late_slots():
                step()
        finally:
            for group in groups:
                group["fused"] = True
            self.__dict__.update(scaling)

    @contextmanager
    def _late_slots(self) -> Iterator[None]:
        """Make what an option calls for only now; torch takes it for missing. It goes again if the step fails."""
        made: list[tuple[dict[str, Any], str]] = []
        for group in self.param_groups:
            names = [name for name, option in self._late.items() if group.get(option)]
            for param in group["params"] if names else ():
                state: dict[str, Any] = self.state.get(param) or {}
                for name in names if param.grad is not None and state else ():
                    if state.get(name) is None:
                        state[name] = self._new_slot(name, param)
                        made.append((state, name))
        try:
            yield
        except BaseException:
            for state, name in made:
                state.pop(name, None)
            raise

    def _part(self, places: Sequence[tuple[int, int]], *, but: bool = False) -> Self:
        """The optimizer as if it had only the parameters at these places, or all but those, with the same state."""
        chosen = set(places)
        part = object.__new__(type(self))
        part.__dict__.update(
            self.__dict__,
            param_groups=[
                {**group, "params": [p for at, p in enumerate(group["params"]) if ((number, at) in chosen) != but]}
                for number, group in enumerate(self.param_groups)
            ],
        )
        return part

    def _off(self) -> dict[str, Any]:
        """The options that torch lacks, and what each is where it is off."""
        return {**_clip.OFF, **dict.fromkeys(self._variants, False)}

    def _own_options(self) -> set[str]:
        """The options set in some group that torch does not know."""
        off = self._off()
        return {
            name
            for group in self.param_groups
            for name in off
            if name in group and _clip.is_on(name, group[name], off[name])
        }

    def _new_slot(self, name: str, param: Tensor) -> Tensor:
        return torch.zeros_like(param, memory_format=torch.preserve_format)

    def _params(self) -> list[Tensor]:
        return [param for group in self.param_groups for param in group["params"] if param.grad is not None]

    def _grads(self) -> list[Tensor]:
        return [param.grad for param in self._params() if param.grad is not None]


def _on_cpu(group: dict[str, Any]) -> bool:
    return all(param.device.type == "cpu" for param in group["params"])
