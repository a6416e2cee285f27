"""What a graph of autograd's holds that derivatives cannot be trusted with."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Iterable, Iterator
from typing import Any

from torch.autograd import Function


def check_shows_all(root: Any) -> None:
    """Raise where a function calls ``backward`` in the backward pass: it hides what it computed from `autograd.grad`.

    So does `torch.utils.checkpoint` with ``use_reentrant=True``. Parameters that are used within are then missing in
    the graph, or have a part of their gradient.

    Raises:
        RuntimeError: there is one.
    """
    for node in _nodes([root]):
        function = getattr(node, "_forward_cls", None)
        if function is not None and _calls_backward(function):
            raise RuntimeError(
                f"the loss uses {function.__name__}, which calls backward in the backward pass and so hides parameters "
                "from torch.autograd.grad, as torch.utils.checkpoint does with use_reentrant=True: expected "
                "use_reentrant=False"
            )


def check_twice(roots: Iterable[Any]) -> None:
    """Raise where a function is marked as differentiable once.

    torch raises when it comes there, which on the way to the parameters alone it does not, and finds zeros.

    Raises:
        RuntimeError: there is one.
    """
    if any(node.name() == "torch::autograd::Error" for node in _nodes(roots)):
        raise RuntimeError("cannot differentiate twice: the loss uses a function marked with @once_differentiable")


def _nodes(roots: Iterable[Any]) -> Iterator[Any]:
    ahead, seen = list(roots), set()
    while ahead:
        node = ahead.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            ahead += [after for after, _ in node.next_functions]


def _calls_backward(function: Any) -> bool:
    """Whether a function's code for the backward pass calls ``backward`` of anything but another function's."""
    return any(_loads_backward(inspect.unwrap(call)) for call in (function.backward, function.vjp))


def _loads_backward(call: Any) -> bool:
    if "backward" not in getattr(getattr(call, "__code__", None), "co_names", ()):
        return False
    around = inspect.getclosurevars(call)
    names = {**around.builtins, **around.globals, **around.nonlocals}
    owner: Any = None  # what the instructions before have loaded, where that is known
    for instruction in dis.get_instructions(call):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_DEREF"):
            owner = names.get(instruction.argval)
        elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            if instruction.argval == "backward" and not (isinstance(owner, type) and issubclass(owner, Function)):
                return True
            owner = getattr(owner, instruction.argval, None)
        elif instruction.opname not in ("CACHE", "EXTENDED_ARG"):
            owner = None
    return False
