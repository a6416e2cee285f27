"""Where functions keep what they change: variables of the functions around them, of their modules, and of classes."""

from __future__ import annotations

import dis
import functools
import sys
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any


def is_users(value: Any) -> bool:
    """Whether a class, function or module is neither Python's own nor torch's, nor one without a source."""
    top = str(getattr(value, "__module__", None) or getattr(value, "__name__", "")).partition(".")[0]
    return top not in sys.stdlib_module_names and top not in ("torch", "numpy", "torchpace", "")


def is_installed(file: str | None) -> bool:
    """Whether a file is part of an installed package."""
    return file is not None and ("site-packages" in file or "dist-packages" in file or file.startswith("<frozen"))


def plain_functions(value: Any) -> Iterator[FunctionType]:
    """The functions behind a function, method, property or the like."""
    if isinstance(value, property):
        for one in (value.fget, value.fset, value.fdel):
            yield from plain_functions(one)
        return
    if isinstance(value, functools.cached_property):
        value = value.func
    value = getattr(value, "__func__", value)  # of methods, staticmethod and classmethod
    while isinstance(value, FunctionType):
        yield value
        value = getattr(value, "__wrapped__", None)


def globals_of(function: FunctionType) -> tuple[set[str], set[str]]:
    """The names of its module's variables that a function sets, and of those that it reads."""
    set_, read = set(), set()
    for code in _codes(function.__code__):
        for instruction in dis.get_instructions(code):
            if instruction.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                set_.add(instruction.argval)
            elif instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                read.add(instruction.argval)
    return set_, read


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
