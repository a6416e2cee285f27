"""Whether an optimizer has stepped, noted as torch's schedulers note it, whatever its `step` is."""

from __future__ import annotations

from functools import wraps
from typing import Any
from weakref import ref


def note_steps(optimizer: Any) -> None:
    """Wrap a step that is no method, such as ``torch.compile(optimizer.step)`` is none.

    torch's schedulers wrap the function of the method, and leave alone what is wrapped.
    """
    step = optimizer.step
    if hasattr(step, "_wrapped_by_lr_sched") or hasattr(step, "__func__"):
        return
    stepped = ref(optimizer)  # no cycle more than there is

    @wraps(step)
    def noted(*args: Any, **kwargs: Any) -> Any:
        stepped()._opt_called = True  # type: ignore[union-attr]
        return step(*args, **kwargs)

    noted._wrapped_by_lr_sched = True  # type: ignore[attr-defined]
    optimizer.step = noted
