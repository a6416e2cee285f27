"""What is kept of an optimizer's last step, and a `GradScaler` that may have skipped it."""

from __future__ import annotations

from typing import Any

OVERFLOW = "skipped: the GradScaler found a gradient that is not finite"


class AskedByScaler:
    """What a `GradScaler` looks for before it steps, and does not find in an optimizer without ``fused=True``.

    That it asked is noted as torch's schedulers note a step, which the scaler may skip; so they do not take the skipped
    step for one that was forgotten, and warn; and the step before is not taken for the last. A wrapper of our class,
    which lacks it too, asks the optimizer in it.
    """

    def __get__(self, optimizer: Any, owner: type) -> bool:
        if optimizer is not None:
            optimizer._opt_called = True
            if "_last" in optimizer.__dict__:
                forget(optimizer)["path"] = OVERFLOW  # unless it steps, which says otherwise
        raise AttributeError(f"{owner.__name__!r} object has no attribute '_step_supports_amp_scaling'")


def last_of(optimizer: Any) -> dict[str, Any]:
    """What the last step did, also of an optimizer within a wrapper of our class."""
    found: dict[str, Any] = getattr(optimizer, "_last", {})
    return found


def forget(optimizer: Any) -> dict[str, Any]:
    """What the last step did, to be filled in. One dict for good, so that wrappers that took over `vars` see it."""
    last: dict[str, Any] = optimizer.__dict__.setdefault("_last", {})
    last.clear()
    return last
