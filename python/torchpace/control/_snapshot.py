"""The complete state of a training, taken and put back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.nn import Module
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from torchpace.control._copies import Copies
from torchpace.control._random_states import RandomStates, is_generator
from torchpace.control._structure import Structure, run_all
from torchpace.optim import _unwrap

_T = TypeVar("_T")

_CUSTOM_DEPTH = 8
"""How deep objects in an optimizer's state are looked into."""


class Snapshot:
    """The complete state of a training: taken as often as wanted, and restored bit for bit and in place.

    Restored are parameters and buffers (also those not persistent), the memory they are in and ``requires_grad``;
    modules' attributes and train/eval mode; gradients; optimizers' groups, state and attributes; schedulers, with the
    attributes of callable objects that they were given; GradScalers; and the random generators of Python, NumPy (if it
    is imported) and torch, on the CPU and wherever there are tensors. All tensors, groups and state entries stay the
    same objects; what was added since is removed.

    Copies go to memory that is kept from one `take` to the next, as much as all restored tensors have (`nbytes`): with
    gradients and AdamW's state, four times the parameters. Until the next `take` a snapshot also keeps the tensors
    alive that it would restore, such as gradients that were cleared.

    An optimizer or scheduler may be one that a trainer prepared (accelerate's, Fabric's), a wrapper (Lookahead, SAM,
    ZeroRedundancyOptimizer) or several in one: what is within, in attributes, lists and dicts, is restored with it.

    Not restored are what hides in functions' closures and global variables, hooks, and what a module's own attributes
    hold inside: a list is the same list again, but not rid of what was appended.

    Args:
        modules: a module, or several; a submodule comes with its parent (default: none).
        optimizers: an optimizer, or several; with the parameters in their groups, and all optimizers and GradScalers
            within (default: none).
        schedulers: a scheduler of torch's or ours, or several (default: none).
        scalers: a `torch.amp.GradScaler`, or several (default: none).
        generators: a random generator besides the global ones, of torch, Python or NumPy, or several (default: none).
        parameters: take parameters, optimizers and schedulers; without, optimizers only tell of parameters with
            gradients (default: True).
        buffers: take modules' buffers, attributes and modes (default: True).
        gradients: take the parameters' gradients (default: True).
        random: take the global generators' states (default: True).

    Raises:
        TypeError: an argument is of a wrong type.

    Example:
        >>> import torch
        >>> from torchpace import optim
        >>> from torchpace.control import Snapshot
        >>> model = torch.nn.Linear(3, 1)
        >>> optimizer = optim.AdamW(model.parameters())
        >>> before = model.weight.tolist()
        >>> snapshot = Snapshot(model, optimizer).take()
        >>> model(torch.randn(8, 3)).square().mean().backward()
        >>> optimizer.step()
        >>> snapshot.restore()
        >>> model.weight.tolist() == before, model.weight.grad, len(optimizer.state)
        (True, None, 0)
    """

    def __init__(
        self,
        modules: Module | Sequence[Module] = (),
        optimizers: Optimizer | Sequence[Optimizer] = (),
        schedulers: LRScheduler | Sequence[LRScheduler] = (),
        scalers: GradScaler | Sequence[GradScaler] = (),
        *,
        generators: Any = (),
        parameters: bool = True,
        buffers: bool = True,
        gradients: bool = True,
        random: bool = True,
    ) -> None:
        self._modules = several("modules", modules, Module)
        self._optimizers = several("optimizers", optimizers, Optimizer, _unwrap.is_optimizer)
        self._schedulers = several_schedulers("schedulers", schedulers)
        self._scalers = several("scalers", scalers, GradScaler)
        self._generators = several("generators", generators, torch.Generator, is_generator)
        self._takes_parameters, self._takes_buffers, self._takes_gradients = parameters, buffers, gradients
        self._copies = Copies()
        self._structure: Structure | None = None
        self._gradients: list[tuple[Tensor, Tensor | None]] = []
        self._random = RandomStates() if random else None

    @property
    def params(self) -> list[Tensor]:
        """The parameters whose gradients were taken."""
        return [param for param, _ in self._gradients]

    def take(self) -> Snapshot:
        """Take the state as it is now, in the place of the one before; returns the snapshot itself."""
        self._structure = None  # until all is taken
        structure = Structure()
        params: list[Tensor] = []
        for module in {id(part): part for whole in self._modules for part in whole.modules()}.values():
            own = [tensor for tensor in module._parameters.values() if tensor is not None]
            params += own
            if self._takes_buffers:
                _visit_module(structure, module)
        for optimizer in self._optimizers:
            parts = _unwrap.parts(optimizer)
            params += [param for group in _unwrap.groups_of(parts) for param in group["params"]]
            if self._takes_parameters:
                _visit_optimizer(structure, parts)
        for value in [*(self._schedulers if self._takes_parameters else []), *self._scalers, *self._generators]:
            structure.visit(value, 2)  # its attributes, and those of the objects it was given
        params = list({id(param): param for param in params}.values())
        gradients = [(param, param.grad) for param in params if param.is_leaf] if self._takes_gradients else []
        tensors = [*structure.tensors, *(grad for _, grad in gradients if grad is not None)]
        self._copies.take([*params, *tensors] if self._takes_parameters else tensors)
        if self._random is not None:
            self._random.take(self._copies.devices | {param.device for param in params})
        self._gradients, self._structure = gradients, structure
        return self

    def restore(self) -> None:
        """Put the state back; as often as wanted.

        An interrupt (KeyboardInterrupt) takes effect when all is done, and so does an error of something that cannot
        be put back, such as an array that is read-only now: the rest is.

        Raises:
            RuntimeError: none was taken.
        """
        if self._structure is None:
            raise RuntimeError("there is no state to restore: call take() first")
        try:
            self._restore(self._structure)
        except KeyboardInterrupt:
            self._restore(self._structure)
            raise

    def _restore(self, structure: Structure) -> None:
        random = [] if self._random is None else [self._random.restore]
        run_all([structure.restore, self._copies.restore, self._restore_gradients, *random])

    def _restore_gradients(self) -> None:
        for param, grad in self._gradients:
            if param.grad is not grad:
                param.grad = grad

    def seed_random(self, number: int) -> None:
        """Seed the global generators whose states were taken; `number` is at least 0."""
        if self._random is not None:
            self._random.seed(number)

    def set_gradient_copies(self) -> None:
        """Give the parameters copies of the gradients that were taken, in the place of those that they have."""
        for param, grad in self._gradients:
            param.grad = None if grad is None else self._copies.new_of(grad)

    @property
    def nbytes(self) -> int:
        """The memory of the copies, in bytes."""
        return self._copies.nbytes

    def __repr__(self) -> str:
        """What it is of, and whether it was taken."""
        held: dict[str, list[Any]] = {
            "modules": self._modules,
            "optimizers": self._optimizers,
            "schedulers": self._schedulers,
            "scalers": self._scalers,
            "generators": self._generators,
        }
        of = [f"{name}={len(those)}" for name, those in held.items() if those]
        return f"Snapshot({', '.join([*of, f'taken={self._structure is not None}', f'nbytes={self.nbytes}'])})"


def several(
    name: str, values: _T | Iterable[_T] | None, kind: type[_T], counts: Callable[[Any], bool] | None = None
) -> list[_T]:
    """One value, several, or None, as a list.

    Args:
        name: of the argument.
        values: what it is.
        kind: what it is to be.
        counts: whether something counts as that (default: None, whether it is an instance).

    Raises:
        TypeError: one is of another type.
    """

    def fits(value: Any) -> bool:
        return isinstance(value, kind) if counts is None else counts(value)

    if values is None:
        return []
    found: list[Any] = [values] if fits(values) or not isinstance(values, Iterable) else list(values)
    for value in found:
        if not fits(value):
            raise TypeError(f"{name} holds a {type(value).__name__}, expected {kind.__name__}")
    return found


def several_schedulers(name: str, values: Any) -> list[LRScheduler]:
    """Those among values and within what was prepared by a trainer.

    Raises:
        TypeError: something is none and holds none.
    """

    def fits(value: Any) -> bool:
        return not isinstance(value, (list, tuple)) and bool(_unwrap.within(value, LRScheduler))

    found = several(name, values, LRScheduler, fits)
    return [scheduler for value in found for scheduler in _unwrap.within(value, LRScheduler)]


def _visit_module(structure: Structure, module: Module) -> None:
    structure.attributes(module)
    for name in ("_parameters", "_buffers", "_modules"):
        entries = vars(module).get(name)
        if isinstance(entries, dict):  # a ScriptModule has none
            structure.entries(entries)
    structure.visit(vars(module).get("_non_persistent_buffers_set"), 0)
    structure.tensors += [tensor for tensor in module._buffers.values() if tensor is not None]


def _visit_optimizer(structure: Structure, parts: list[Any]) -> None:
    for part in parts:
        structure.attributes(part)
        groups = _unwrap.attribute(part, "param_groups")
        if groups is not None:
            structure.visit(_unwrap.attribute(part, "state"), _CUSTOM_DEPTH)
            structure.visit(groups, 0)
        for name, value in _unwrap.entries(part).items():
            if "hooks" not in name:
                structure.visit(value, 0)
    for scaler in _unwrap.within(parts[0], GradScaler) if len(parts) > 1 else []:
        structure.visit(scaler, 2)
