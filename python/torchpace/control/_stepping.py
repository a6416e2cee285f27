"""Steps of optimizers that may demand a closure, such as those of SAM, on gradients that are there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torchpace.optim import _unwrap


class Stepping:
    """Calls an optimizer's step on the gradients that there are, with a closure if it demands one.

    By its signature it may, or by an error of the first step, as where a SAM asserts that it was given one.

    Args:
        optimizer: the optimizer.
        scaled: whether a GradScaler steps it. What a closure evaluates within the step would not be unscaled.

    Raises:
        TypeError: it is scaled, and by its signature its step demands a closure.

    Attributes:
        demands: whether it was seen to.
    """

    def __init__(self, optimizer: Any, scaled: bool) -> None:
        self._optimizer, self._scaled = optimizer, scaled
        self.demands: bool = not _unwrap.step_takes(optimizer)
        self._is_known = self.demands
        if self.demands:
            self._check_scaled()

    @property
    def is_known(self) -> bool:
        """Whether the next step can no longer fail for want of a closure."""
        return self._is_known

    def step(self, call: Callable[..., object], closure: Callable[[], Any], undo: Callable[[], object]) -> None:
        """Step.

        Args:
            call: makes the step, with a closure or without.
            closure: for a step that demands one.
            undo: puts all back to before a first step that failed for want of one.

        Raises:
            TypeError: it takes no closure, or a GradScaler steps it, and it fails for want of one.
        """
        if self.demands:
            call(closure)
            return
        try:
            call()
        except Exception as error:
            if self._is_known or not _wants_closure(error):
                raise
            if not _unwrap.step_takes(self._optimizer, closure):
                raise TypeError(
                    f"optimizer is a {type(self._optimizer).__name__}, whose step takes no closure, which an optimizer "
                    f"in it demands ({type(error).__name__}: {error})"
                ) from error
            self._check_scaled()
            undo()
            self.demands = True
            try:
                call(closure)
            except BaseException:
                self.demands = False
                raise
        self._is_known = True

    def _check_scaled(self) -> None:
        if self._scaled:
            raise TypeError(
                f"optimizer is a {type(self._optimizer).__name__}, whose step demands a closure, and what it evaluates "
                "there a GradScaler does not unscale: expected no scaler"
            )


def _wants_closure(error: Exception) -> bool:
    text = f"{type(error).__name__}: {error}".lower()
    is_called = isinstance(error, TypeError) and "'nonetype' object is not callable" in text
    return isinstance(error, AssertionError) or is_called or "closure" in text
