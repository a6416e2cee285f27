"""The step of every fused optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, TypeVar, overload

import torch
from torch import Tensor
from torch.optim.optimizer import StateDict

from torchpace import _native
from torchpace.optim import _clip
from torchpace.optim._by_torch import ByTorch
from torchpace.optim._last_step import OVERFLOW, AskedByScaler, forget, last_of

_Loss = TypeVar("_Loss", bound="float | Tensor")

_COUNTS = (torch.float32, torch.float64, torch.int32, torch.int64)
"""The types of step counts that go on counting for as long as anybody trains."""

_CALLED = ("_init_group",)
"""What torch's `step` calls, and ours does not."""

_WIDE = (torch.float32, torch.float64)
"""The types of other scalars."""


class Fused(ByTorch):
    """Put before a class of `torch.optim` among the bases, takes over its `step`.

    A class writes its constructor out, torch's parameters and ours behind them, and hands all to `_construct`. All else
    is the torch class's own: validation, `state_dict`, hooks, `add_param_group`.
    """

    _rule: ClassVar[str]
    """The name of the update rule in Rust."""

    _scalars: ClassVar[dict[str, float | str]] = {}
    """The state entries that are one number each, as the count, and what they begin at: a value, or an option's."""

    _plan: _native.Plan | None = None
    """What Rust remembers from one step to the next."""

    # No data descriptor: what torch sets on an instance comes first.
    _step_supports_amp_scaling = AskedByScaler()

    def _construct(self, arguments: dict[str, Any]) -> None:
        """What a constructor does.

        Args:
            arguments: all of the constructor's, as `locals` has them at its beginning.
        """
        off = self._off()
        # Only what is on goes among the options of the groups, which otherwise are torch's to the letter.
        on = {name: arguments[name] for name in off if _clip.is_on(name, arguments[name], off[name])}
        _clip.check(on)  # before torch fills the dicts that were given
        super().__init__(**{name: value for name, value in arguments.items() if name not in off and name != "self"})
        forget(self)
        self.defaults.update({name: True if off[name] is False else _clip.plain(value) for name, value in on.items()})
        for group in self.param_groups:
            for name in self._taken(group):
                if name in self.defaults:
                    group.setdefault(name, self.defaults[name])
            self._check_group(group)

    @property
    def last_path(self) -> str | None:
        """Which way the last step went.

        `"fused"`; `"fused, and torch for "` so many parameters that only torch can step on, and why;
        `"torch: "` and the reason why torch's own code took the whole step; or `"skipped: "` and the reason why nothing
        was done. None before the first step, after one that raised, and in an optimizer just unpickled or copied.
        """
        path: str | None = last_of(self).get("path")
        return path

    @property
    def grad_norm(self) -> Tensor | None:
        """The 2-norm of all gradients in the last step, unscaled and before clipping.

        A 0-dim float32 tensor, if `max_grad_norm`, `skip_grad_norm` or `nonfinite_norm` asks for it and any parameter
        had a gradient; else None. Where all parameters are on one GPU it is there, unless the host had to know it
        (``nonfinite_norm="raise"``, or what may skip, and step counts on the host).
        """
        norm: Tensor | None = last_of(self).get("grad_norm")
        return norm

    @property
    def last_step_skipped(self) -> bool:
        """Whether the last step was skipped, and nothing written.

        By the norm of the gradients (`skip_grad_norm`, ``nonfinite_norm="skip"``), or by a `GradScaler` that found one
        that is not finite, be it that it did not call `step` at all. False before the first step, and after one that
        raised. Where a GPU decides, `last_path` is "fused" all the same, and to ask waits for the GPU.
        """
        last = last_of(self)
        path: str = last.get("path", "")
        return path.startswith("skipped: ") or any(bool(number != 0) for number in last.get("left_out", ()))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, as in torch.

        Args:
            param_group: the parameters under ``"params"``, and options of their own.

        Raises:
            TypeError, ValueError: as torch; or an option is out of its range. The optimizer is then as it was.
        """
        if isinstance(param_group, dict):  # else torch says what it is
            self._check_group({**self.defaults, **param_group})
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        group.update({name: _clip.plain(group[name]) for name in _clip.OFF if name in group})

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a state; options that it does not know of, as torch's does not of ours, stay."""
        before = self.__dict__.get("param_groups", [])
        super().__setstate__(state)
        for old, new in zip(before, self.param_groups, strict=False):
            for name in self._off():
                if name in old:
                    new.setdefault(name, old[name])
        self._widen_counts()

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Go on from a state, as in torch; entries that are one number keep their type, unless it is a narrow one.

        Args:
            state_dict: what `state_dict` returned, ours or torch's.
        """
        super().load_state_dict(state_dict)
        if self._scalars:
            self._take_scalars(state_dict)

    def _take_scalars(self, state_dict: StateDict) -> None:
        """Take the scalars as they were, where torch made them of the parameter's type; all where new ones would be."""
        for group, saved in zip(self.param_groups, state_dict["param_groups"], strict=False):
            for param, key in zip(group["params"], saved["params"], strict=False):
                entries, given = self.state.get(param), state_dict["state"].get(key)
                if not entries or not isinstance(given, dict):
                    continue
                home = self._new_step_count(param, group).device
                for name in ("step", *self._scalars):
                    own, was = entries.get(name), given.get(name)
                    if not isinstance(own, Tensor):
                        continue
                    if name != "step" and isinstance(was, Tensor) and was.dtype in _WIDE:
                        cast = was.to(param.dtype) if param.is_floating_point() else was
                        # What a hook has changed stays changed.
                        own = was.detach().clone() if torch.equal(cast.to(own), own) else own
                    entries[name] = own.to(home)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], _Loss]) -> _Loss: ...

    def step(self, closure: Callable[[], _Loss] | None = None) -> _Loss | None:
        """Perform a single optimization step.

        Args:
            closure: reevaluates the model and returns the loss, as in torch (default: None).

        Returns:
            The closure's loss, or None without one.

        Raises:
            RuntimeError: a gradient or a state tensor has another shape than its parameter, is on another device or of
                a type that cannot go with it; a tensor that is written overlaps itself; the norm of the gradients is
                not finite under ``nonfinite_norm="raise"``.
            KeyError: a state entry is missing that the options need.
            TypeError: an option or a state entry is of a wrong type.
            ValueError: the groups differ in an option that is one for all; an option is infinite or NaN.
            ZeroDivisionError: an option, such as a beta set to 1, makes the step divide by zero.

            Nothing has been written then.
        """
        self._check_step()
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if not torch.compiler.is_compiling():
            self._step()
        elif self._own_options():
            self._step_untraced()
        else:
            # Tracing follows torch's own code.
            self._torch_step()
            self._note("torch: torch.compile is tracing")
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients of all parameters.

        Matches torch; faster where gradients are set to None.

        Args:
            set_to_none: set the gradients to None instead of writing zeros into them, so that the next backward makes
                new ones and a parameter that gets none is left out of the step (default: True).
        """
        if not set_to_none or torch.compiler.is_compiling() or torch._C._len_torch_function_stack() > 0:
            super().zero_grad(set_to_none)
            return
        if not hasattr(self, "_zero_grad_profile_name"):
            self._patch_step_function()  # as torch, after unpickling
        with torch.autograd.profiler.record_function(self._zero_grad_profile_name):
            _native.clear_grads(self.param_groups)

    def _step(self) -> None:
        last = forget(self)
        grad_scale, found_inf = self.__dict__.get("grad_scale"), self.__dict__.get("found_inf")
        norm: float | Tensor | None = None
        left_out: list[Tensor] = []  # numbers on a GPU, one of which is not 0 if the step was skipped there
        if torch._C._len_torch_dispatch_stack() > 0:
            # It sees, and may change, every operator of torch: a trace without the step would be wrong.
            path = "torch: a TorchDispatchMode is active"
            self._widen_counts()
        elif (name := _overridden(self)) is not None:
            # Whoever did that wants it called.
            path = f"torch: {name} is overridden"
            self._widen_counts()
        elif found_inf is not None and found_inf.is_cpu and found_inf.item() != 0:
            last["path"] = OVERFLOW
            return
        else:
            if any(group.get("capturable") for group in self.param_groups):
                self._check_capture()
            path, norm, left = self._fused_step(grad_scale, found_inf)
            if (left or path.startswith("torch: ")) and self._widen_counts():
                path, norm, left = self._fused_step(grad_scale, found_inf)
            if left:
                path = f"torch: {path}" if self._own_options() else self._step_apart(path, left)
        if path.startswith("torch: "):
            path = self._leave_to_torch(path)
        elif isinstance(norm, Tensor):
            last["grad_norm"], skipped = norm
            left_out = [skipped]
        elif norm is not None:
            last["grad_norm"] = torch.tensor(norm, dtype=torch.float32)
        if found_inf is not None and not found_inf.is_cpu:
            left_out.append(found_inf)
        last.update(path=path, left_out=left_out)

    def _fused_step(
        self,
        grad_scale: Tensor | None,
        found_inf: Tensor | None,
        left: Sequence[tuple[int, int]] | None = None,
        norm: float | None = None,
    ) -> tuple[str, float | Tensor | None, list[tuple[int, int]]]:
        """The step in Rust without the parameters `left`; `norm` is that of the gradients, if it is known.

        Which way it went; the norm, or as a tensor with what says whether the step was left out; those left to torch.
        """
        if self._plan is None:
            self._plan = _native.Plan(self._rule)
        unscale = None
        if grad_scale is not None and grad_scale.is_cpu:
            # Rounded as in GradScaler.unscale_.
            unscale = grad_scale.double().reciprocal().float().item()
        if found_inf is not None and found_inf.is_cpu:
            found_inf = None
        groups, threads = self.param_groups, torch.get_num_threads()
        arguments = (groups, self.state, self._new_state, threads, unscale, grad_scale, found_inf)
        path, found, more = self._plan.step(*arguments, norm, left)
        if path == "norm wanted":
            total = _clip.total_norm(self._grads())
            factor = 1.0 if grad_scale is None else grad_scale.double().reciprocal().float().item()
            path, found, more = self._plan.step(*arguments, total.item() * factor, left)
        return path, found, more

    def _step_apart(self, reason: str, left: Sequence[tuple[int, int]]) -> str:
        """Have torch step on the parameters at these places, then step on the others; which way that went."""
        total = sum(len(group["params"]) for group in self.param_groups)
        done: list[tuple[int, int]] = []
        path = ""
        while left:
            # First, as torch may refuse what it sees; ours were found in order.
            self._part(left)._torch_step()
            done += left
            path, _, left = self._fused_step(None, None, done)
        if path.startswith("torch: "):
            # What torch just did put the others out of our reach.
            self._part(done, but=True)._torch_step()
            return path
        return f"fused, and torch for {len(done)} of {total}: {reason}"

    # As torch.compiler.disable, which would import the compiler with this module.
    @torch._disable_dynamo  # type: ignore[attr-defined]
    def _step_untraced(self) -> None:
        self._step()

    @torch._disable_dynamo  # type: ignore[attr-defined]
    def _note(self, path: str) -> None:
        """Set `last_path` outside the trace, in which torch 2.10 cannot set an attribute of an optimizer."""
        forget(self)["path"] = path

    def _check_capture(self) -> None:
        """Raise or warn as torch's `step` where `capturable` and what happens do not go together."""
        # The first name is newer; under the other it warns.
        for name in ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check"):
            check: Any = getattr(self, name, None)
            if check is not None:
                check()
                return

    def _widen_counts(self) -> bool:
        """Make step counts that would stand still float32, and other scalars that are narrow; whether there were any.

        A checkpoint cast whole has them. A count of bfloat16 stays at 256 for ever, in torch's loop as well.
        """
        changed = False
        for entries in self.state.values():
            for name in ("step", *self._scalars) if isinstance(entries, dict) else ():
                scalar = entries.get(name)
                if isinstance(scalar, Tensor) and scalar.dtype not in (_COUNTS if name == "step" else _WIDE):
                    entries[name] = scalar.float()
                    changed = True
        return changed

    def _taken(self, group: dict[str, Any]) -> Iterable[str]:
        """Those of our options that a group takes from the constructor."""
        return self._off()

    def _check_step(self) -> None:
        """Raise RuntimeError where the optimizer is not to step now, be there a closure or not."""

    def _check_group(self, group: dict[str, Any]) -> None:
        """Raise ValueError where an option of ours is out of its range."""
        _clip.check(group)
        if group.get("cautious_weight_decay") and not group.get("decoupled_weight_decay", True):
            raise ValueError("Cautious weight decay requires decoupled_weight_decay=True")

    def _new_state(self, param: Tensor, group: dict[str, Any], names: list[str]) -> dict[str, Tensor]:
        """Make the state of a parameter that has none yet, as torch's class makes it."""
        return {
            name: self._new_scalar(name, param, group)
            if name in self._scalars
            else self._new_step_count(param, group)
            if name == "step"
            else self._new_slot(name, param)
            for name in names
        }

    def _shape_of(self, name: str, param: Tensor) -> torch.Size:
        """The shape of a state entry that is no single number."""
        return param.shape

    def _new_scalar(self, name: str, param: Tensor, group: dict[str, Any]) -> Tensor:
        # Where and of the type that a count is.
        first = self._scalars[name]
        value = group[first] if isinstance(first, str) else first
        if isinstance(value, Tensor):
            value = value.detach().reshape(())
        else:
            value = torch.tensor(_native.number(name, value), dtype=torch.float64)
        return self._new_step_count(param, group).copy_(value)

    def _new_step_count(self, param: Tensor, group: dict[str, Any]) -> Tensor:
        # torch keeps the count in float32, and in float64 where that is the default type and no fused kernel reads it.
        wide = torch.get_default_dtype() == torch.float64 and not group.get("fused")
        device = param.device if group.get("fused") or group.get("capturable") else "cpu"
        return torch.zeros((), dtype=torch.float64 if wide else torch.float32, device=device)


def _overridden(optimizer: Fused) -> str | None:
    """The first of `_CALLED` that an optimizer, or its class, has in place of ours."""
    ours = next(base for base in type(optimizer).__mro__ if base.__module__.startswith("torchpace.optim."))
    for name in _CALLED:
        # What is patched on torch's own class says nothing: torch's compiler does that to all of them.
        if name in vars(optimizer) or getattr(type(optimizer), name, None) is not getattr(ours, name, None):
            return name
    return None
