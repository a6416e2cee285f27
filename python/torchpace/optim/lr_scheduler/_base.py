"""The step of every scheduler."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar

from torch import Tensor
from torch.optim import lr_scheduler

from torchpace._native import Formula, advance
from torchpace.optim.lr_scheduler._numbers import plain
from torchpace.optim.lr_scheduler._resume import copied, making, taking_over
from torchpace.optim.lr_scheduler._state import all_or_nothing, check

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

    Differs from torch: what follows holds for every class. A group that is added to the optimizer later is taken up at
    the next step, and keeps the proportion to the others that its learning rate has when it comes. A state is taken
    over whole or not at all, and its learning rates are put in the groups unless somebody else has set them since this
    scheduler did; so the optimizer's state, a new scheduler and its state may come in any order. An optimizer's
    ``step`` may be what ``torch.compile`` has made of it.

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
        """Leave a class that overrides something to torch's own step, and see its schedulers being made."""
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls) or not issubclass(cls.__mro__[1], LRScheduler) or cls.__mro__[1] is LRScheduler:
            made: Any = cls  # whose constructor keeps its type
            made.__init__ = _seen(cls.__init__, cls.__module__.startswith("torchpace."))
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

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state, and put its learning rates in the groups unless somebody else has set them since.

        Args:
            state_dict: what `state_dict` returned.

        Raises:
            TypeError: it is no dict, or a count in it is no number.
            KeyError, IndexError, AttributeError, ValueError: as torch, where an entry is missing or does not fit.

            Nothing has changed then.
        """
        check(self, state_dict)
        with all_or_nothing(self), taking_over(self):
            super().load_state_dict(dict(state_dict))  # torch takes entries out

    def _initial_step(self) -> None:
        if self._chainable and self.last_epoch >= 0:
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
        # The last that has a learning rate to be in proportion to.
        last = next((at for at in reversed(range(len(known))) if groups[at]["lr"] != 0), len(known) - 1)
        for group in groups[len(known) :]:
            share = self._share(group, groups[last])
            if "initial_lr" not in group:
                group["initial_lr"] = self._first_lr(group, groups[last])
            # Never in place: a state_dict that was handed out holds the same list.
            self.base_lrs = [*self.base_lrs, self._base(group, last, groups[last])]
            self._adopt_group(group, last, share)

    def _base(self, group: dict[str, Any], last: int, other: dict[str, Any]) -> Any:
        """A late group's, in its proportion to the one at `last`.

        Another scheduler, such as OneCycleLR, may have set `initial_lr` since this one was made.
        """
        first = group["initial_lr"]
        if bool(self.base_lrs[last] == other["initial_lr"]):
            return copied(first)
        share = proportion(first, other["initial_lr"])
        return copied(first) if share is None else shared(self.base_lrs[last], share)

    def _share(self, group: dict[str, Any], other: dict[str, Any]) -> Any:
        """The proportion of a late group to another: of what it says to begin with, else of its learning rate."""
        now = None if "initial_lr" in group else proportion(group["lr"], other["lr"])
        first = group.get("initial_lr", group["lr"])
        return proportion(first, other["initial_lr"]) if now is None else now

    def _first_lr(self, group: dict[str, Any], other: dict[str, Any]) -> Any:
        """What a late group would have begun with, had it always been in its proportion to another."""
        share = proportion(group["lr"], other["lr"])
        return copied(group["lr"]) if share is None else shared(other["initial_lr"], share)

    def _adopt_group(self, group: dict[str, Any], last: int, share: Any) -> None:
        """Give a late group what the class keeps for each: its share of what it keeps for the group at `last`."""


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


def proportion(one: Any, other: Any) -> Any:
    """The proportion of two numbers, or tensors of one; None if there is none. A tensor, if the first is one."""
    if other == 0:
        return None
    share = one / other if isinstance(one, Tensor) else one / float(other)
    return share if math.isfinite(share) else None


def shared(value: Any, share: Any) -> Any:
    """A late group's share of a value, of the share's type; the value itself, where there is no proportion."""
    if share is None:
        return copied(value)
    product = value * share
    return product.item() if isinstance(product, Tensor) and not isinstance(share, Tensor) else product


def _seen(init: Callable[..., None], is_ours: bool) -> Callable[..., None]:
    """A constructor, of which is known when it begins and ends; ours takes numbers of any type."""
    names = list(inspect.signature(init).parameters)[1:] if is_ours else []

    @wraps(init)
    def seen(self: Any, *args: Any, **kwargs: Any) -> None:
        if is_ours:
            args = (*(plain(name, value) for name, value in zip(names, args, strict=False)), *args[len(names) :])
            kwargs = {name: plain(name, value) for name, value in kwargs.items()}
        with making(self, (*args, *kwargs.values())):
            init(self, *args, **kwargs)

    return seen


class _LRScheduler(LRScheduler, lr_scheduler._LRScheduler):
    """The base's old name, which programs still derive from."""
