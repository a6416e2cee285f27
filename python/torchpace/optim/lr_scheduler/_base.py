"""The step of every scheduler."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from torch.optim import lr_scheduler

from torchpace._native import Formula, advance

# What a subclass may define and still have its step made in Rust: nothing that a step looks at.
_HARMLESS = {
    "__annotate__",
    "__annotate_func__",
    "__annotations__",
    "__annotations_cache__",
    "__dict__",
    "__doc__",
    "__firstlineno__",
    "__init__",
    "__module__",
    "__orig_bases__",
    "__parameters__",
    "__qualname__",
    "__repr__",
    "__static_attributes__",
    "__weakref__",
    "load_state_dict",
    "state_dict",
}


class LRScheduler(lr_scheduler.LRScheduler):
    """The base of all schedulers here, and of those that users write.

    Put before a class of `torch.optim.lr_scheduler` among the bases, takes over its `step`; a subclass that overrides
    ``get_lr`` steps by torch's code. Units: learning rates are parameter units a step; a step is whatever the caller
    steps after, counted from 0.

    Args:
        optimizer: whose groups' ``lr`` is set; any optimizer of torch's.
        last_epoch: the number of the step before the first one; -1 begins anew (default: -1).

    Raises:
        TypeError: ``optimizer`` is none.
        KeyError: ``last_epoch >= 0`` and a group lacks ``initial_lr``.

    Matches torch: all.

    Differs from torch: a group that is added to the optimizer later is taken up at the next step.

    Example:
        >>> import torch
        >>> from torchpace.optim.lr_scheduler import LRScheduler
        >>> class Harmonic(LRScheduler):
        ...     def get_lr(self):
        ...         return [base / (1 + self.last_epoch) for base in self.base_lrs]
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> scheduler = Harmonic(optimizer)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> scheduler.get_last_lr()
        [0.5]
    """

    base_lrs: list[float | Tensor]

    _formula: ClassVar[Formula | None] = None
    """How Rust works out the learning rates; None where Python does."""

    _chainable: ClassVar[bool] = False
    """Whether a learning rate comes of the one before, so that to begin at a later step takes the steps before it."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Leave a class that overrides something to torch's own step."""
        super().__init_subclass__(**kwargs)
        for base in cls.__mro__:
            if "_formula" in vars(base):
                break
            if not vars(base).keys() <= _HARMLESS:
                cls._formula = None
                break

    def step(self, epoch: int | None = None) -> None:
        """Set the learning rates of the next step.

        Args:
            epoch: go to this step, by the closed form where the class has one; deprecated in torch (default: None).

        Raises:
            RuntimeError, ValueError, ZeroDivisionError: as torch.
        """
        if epoch is not None or not advance(self):
            super().step(epoch)

    def _initial_step(self) -> None:
        if self.last_epoch >= 0 and self._chainable:
            self._replay()
        else:
            super()._initial_step()

    def _replay(self) -> None:
        """Begin anew, and make all steps up to the one after `last_epoch`."""
        steps = self.last_epoch + 1
        to_initial_lr(self.optimizer)
        self.last_epoch = -1
        with quiet(self.optimizer):
            super()._initial_step()
            for _ in range(steps):
                self.step()
        self._step_count = 1

    def _update_lr(self, epoch: int | None = None) -> None:
        self._adopt()
        super()._update_lr(epoch)

    def _adopt(self) -> None:
        """Take up the groups that were added since."""
        groups, known = self.optimizer.param_groups, self.__dict__.get("base_lrs")
        if not isinstance(known, list) or not 0 < len(known) < len(groups):
            return
        for at in range(len(known), len(groups)):
            groups[at].setdefault("initial_lr", copied(groups[at]["lr"]))
            # Never in place: a state_dict that was handed out holds the same list.
            self.base_lrs = [*self.base_lrs, copied(groups[at]["initial_lr"])]
            self._adopt_group(groups[at], groups[at - 1])

    def _adopt_group(self, group: dict[str, Any], before: dict[str, Any]) -> None:
        """Give a group that was added what the class keeps for each, after the group `before`."""


class _LRScheduler(LRScheduler, lr_scheduler._LRScheduler):
    """The base's old name, which programs still derive from."""


class quiet:  # noqa: N801
    """A block in which torch does not ask for an optimizer's step before a scheduler's."""

    def __init__(self, optimizer: Any) -> None:
        self._attributes = vars(optimizer)

    def __enter__(self) -> None:
        self._before = self._attributes.get("_opt_called", False)
        self._attributes["_opt_called"] = True

    def __exit__(self, *exception: object) -> None:
        if self._before:
            return
        self._attributes.pop("_opt_called", None)


def to_initial_lr(optimizer: Any) -> None:
    """Set the learning rates that the groups began with; tensors are filled in place."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(group["initial_lr"])
        else:
            group["lr"] = group["initial_lr"]


def copied(value: Any) -> Any:
    """A value that does not change with the one given: a tensor's clone."""
    return value.clone() if isinstance(value, Tensor) else value
