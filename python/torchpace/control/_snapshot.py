"""The complete state of a training, taken and put back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from torch import Tensor
from torch.amp import GradScaler
from torch.nn import Module
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from torchpace.control._copies import Copies
from torchpace.control._random_states import RandomStates
from torchpace.control._structure import Structure

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

    Not restored are what hides in functions' closures and global variables, hooks, and what a module's own attributes
    hold inside: a list is the same list again, but not rid of what was appended.

    Args:
        modules: a module, or several; a submodule comes with its parent (default: none).
        optimizers: an optimizer, or several; with the parameters in their groups (default: none).
        schedulers: a scheduler of torch's or ours, or several (default: none).
        scalers: a `torch.amp.GradScaler`, or several (default: none).
        generators: random generators besides the global ones, of torch, Python or NumPy (default: none).
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
        generators: Sequence[Any] = (),
        parameters: bool = True,
        buffers: bool = True,
        gradients: bool = True,
        random: bool = True,
    ) -> None:
        self._modules = several("modules", modules, Module)
        self._optimizers = several("optimizers", optimizers, Optimizer)
        self._schedulers = several("schedulers", schedulers, LRScheduler)
        self._scalers = several("scalers", scalers, GradScaler)
        self._generators = list(generators)
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
            params += [param for group in optimizer.param_groups for param in group["params"]]
            if self._takes_parameters:
                _visit_optimizer(structure, optimizer)
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

        An interrupt (KeyboardInterrupt) takes effect when all is done.

        Raises:
            RuntimeError: none was taken.
        """
        try:
            self._restore()
        except KeyboardInterrupt:
            self._restore()
            raise

    def _restore(self) -> None:
        if self._structure is None:
            raise RuntimeError("there is no state to restore: call take() first")
        self._structure.restore()
        self._copies.restore()
        for param, grad in self._gradients:
            if param.grad is not grad:
                param.grad = grad
        if self._random is not None:
            self._random.restore()

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


def several(name: str, values: _T | Iterable[_T] | None, kind: type[_T]) -> list[_T]:
    """One value, several, or None, as a list.

    Raises:
        TypeError: one is of another type.
    """
    if values is None:
        return []
    found = [values] if isinstance(values, kind) or not isinstance(values, Iterable) else list(values)
    for value in found:
        if not isinstance(value, kind):
            raise TypeError(f"{name} holds a {type(value).__name__}, expected {kind.__name__}")
    return found


def _visit_module(structure: Structure, module: Module) -> None:
    structure.attributes(module)
    for name in ("_parameters", "_buffers", "_modules"):
        entries = vars(module).get(name)
        if isinstance(entries, dict):  # a ScriptModule has none
            structure.entries(entries)
    structure.visit(vars(module).get("_non_persistent_buffers_set"), 0)
    structure.tensors += [tensor for tensor in module._buffers.values() if tensor is not None]


def _visit_optimizer(structure: Structure, optimizer: Optimizer) -> None:
    structure.attributes(optimizer)
    structure.visit(optimizer.state, _CUSTOM_DEPTH)
    for name, value in vars(optimizer).items():
        if "hooks" not in name:
            structure.visit(value, 0)
