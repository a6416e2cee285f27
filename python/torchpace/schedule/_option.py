"""One number in an optimizer's groups: `lr`, `momentum`, `betas[0]`, or any other."""

from __future__ import annotations

import re
from typing import Any, TypeGuard

from torch import Tensor

from torchpace.schedule._numbers import number

Group = dict[str, Any]


class Option:
    """Where a number is in a group, and how it is read and written."""

    def __init__(self, param: str, groups: list[Group]) -> None:
        if not isinstance(param, str):
            raise TypeError(f"param is {param!r}, expected the name of an option")
        self.name, self.index = param, None
        if found := re.fullmatch(r"(\w+)\[(\d+)\]", param):
            self.name, self.index = found[1], int(found[2])
        elif (found := re.fullmatch(r"beta([1-9])", param)) and all(param not in group for group in groups):
            self.name, self.index = "betas", int(found[1]) - 1
        self.key = self.name if self.index is None else f"{self.name}[{self.index}]"
        self.initial = f"initial_{self.key}"

    def __repr__(self) -> str:
        return f"Option({self.key!r})"

    def read(self, index: int, group: Group) -> float:
        """The number in a group.

        Raises:
            KeyError: there is no such option.
            TypeError: it is not a number.
        """
        place = f"param_groups[{index}]"
        if self.name not in group:
            raise KeyError(f"{place} has no option {self.name!r}, expected one of {_numbers(group)}")
        value = group[self.name]
        if self.index is not None:
            if not isinstance(value, (tuple, list)) or self.index >= len(value):
                raise KeyError(f"{place} has no {self.key}: {self.name} is {value!r}")
            value = value[self.index]
        found = number(value)
        if found is None:
            raise TypeError(f"{place}: {self.key} is {value!r}, expected a number")
        return found

    def write(self, group: Group, value: float) -> None:
        """Put a number in a group; a tensor is filled, so that whoever holds it sees the number."""
        old = group[self.name]
        if self.index is None:
            if holds_numbers(old):
                old.fill_(value)
            else:
                group[self.name] = value
        elif holds_numbers(old[self.index]):
            old[self.index].fill_(value)
        else:
            group[self.name] = type(old)([*old[: self.index], value, *old[self.index + 1 :]])


def holds_numbers(value: Any) -> TypeGuard[Tensor]:
    """Whether a value is a tensor that any number can be put in, as it cannot in one of integers."""
    return isinstance(value, Tensor) and value.is_floating_point()


def _numbers(group: Group) -> list[str]:
    return [name for name, value in group.items() if name != "params" and number(value) is not None]
