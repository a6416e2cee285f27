"""A guarded step that looks at the point where it would end."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch

from torchpace.control import _gradients
from torchpace.control._events import DivergenceError
from torchpace.control._judge import Point
from torchpace.control._snapshot import Snapshot
from torchpace.optim import _unwrap

if TYPE_CHECKING:
    from torchpace.control._divergence_guard import Closure, DivergenceGuard


class Lookahead:
    """The way of ``on="gradient"``: step, evaluate the same batch again, and take the step back if that looks bad."""

    def __init__(self, guard: DivergenceGuard, modules: Any, schedulers: Any, generators: Any) -> None:
        self._guard = guard
        of = (modules, guard.optimizer)
        self._weights = Snapshot(*of, schedulers, buffers=False, gradients=False, random=False)
        self._gradients = Snapshot(*of, parameters=False, buffers=False, random=False)
        # What an evaluation changes: before the first, after it, and after the step (its hooks may change some).
        self._start, self._evaluated, self._stepped = (
            Snapshot(*of, (), guard.scaler or (), generators=generators, parameters=False, gradients=False)
            for _ in range(3)
        )

    @property
    def nbytes(self) -> int:
        """The memory of the snapshots, in bytes."""
        snapshots = (self._weights, self._gradients, self._start, self._evaluated, self._stepped)
        return sum(snapshot.nbytes for snapshot in snapshots)

    def step(self, closure: Closure) -> Any:
        """One step; whatever fails, all is as before."""
        grad_mode = torch.is_grad_enabled()
        try:
            self._weights.take()
            self._gradients.take()
            self._start.take()
            return self._step_or_restore(closure)
        except BaseException:
            torch.set_grad_enabled(grad_mode)  # an interrupt within `torch.no_grad()` may leave it off
            raise

    def _step_or_restore(self, closure: Closure) -> Any:
        guard = self._guard
        before = guard.lr_factor, guard.calm_steps, guard.recovering
        try:
            return self._step(closure)
        except BaseException:
            guard.lr_factor, guard.calm_steps, guard.recovering = before
            with ExitStack() as stack:  # all of it, also if one is interrupted
                stack.callback(self._gradients.restore)
                stack.callback(self._start.restore)
                stack.callback(self._weights.restore)
                stack.callback(guard.scaled.stop)
            raise

    def _step(self, closure: Closure) -> Any:
        guard = self._guard
        loss, before = self._evaluate(closure)
        self._evaluated.take()
        aside = _gradients.Aside(self._gradients.params, copied=guard.stepping.demands)

        def undo() -> None:
            self._weights.restore()
            self._evaluated.restore()
            aside.copy()

        if guard.scaler is not None and not _is_judged(before):
            guard.optimizer_step(closure, undo)  # which the scaler skips; and it lowers its scale
            guard.update()
            guard.note("skipped", None, before.loss)
            return loss
        if not before.finite:
            guard.note("failed", None, before.loss)
            raise DivergenceError(
                f"the loss is {before.loss} and the gradient norm {before.norm} before the step, expected finite "
                "numbers: no learning rate helps here; everything is as before the step"
            )
        for attempt in range(guard.max_retries + 1):
            if attempt > 0:
                self._weights.restore()
                self._evaluated.restore()
                aside.put_back()
            guard.optimizer_step(closure, undo)
            self._stepped.take()
            after_step = _gradients.Aside(self._gradients.params)
            # The same function as before the step: the same random numbers, buffers, and gradients to add to.
            self._start.restore()
            self._gradients.set_gradient_copies()
            torch.clear_autocast_cache()  # of the weights before
            _, after = self._evaluate(closure)
            if guard.scaler is not None and not _is_judged(after):
                after = Point(after.loss)  # the scale may be too large for it, which the next step will find
            fault = guard.judge.step(before, after, aside.points_against, attempt > 0)
            self._stepped.restore()
            after_step.put_back()
            if fault is None:
                guard.judge.accept(before)
                guard.update()
                guard.accepted(before.loss, calm=attempt == 0)
                return loss
            guard.rejected(fault, _growth(before, after), before.loss)
        guard.note("failed", None, before.loss)
        raise DivergenceError(
            f"the step diverges at every learning rate down to {guard.factor**guard.max_retries:.3g} times that of the "
            f"first try (last: {guard.events[-2].kind}); everything is as before the step"
        )

    def _evaluate(self, closure: Closure) -> tuple[Any, Point]:
        guard = self._guard
        loss, number = guard.evaluate(closure)
        guard.unscale()
        return loss, Point(number, _gradients.norm(_unwrap.params_of(guard.groups)))


def _is_judged(point: Point) -> bool:
    """Whether a norm that a GradScaler's scale may have made infinite is finite, or the loss is not either."""
    return point.finite or not Point(point.loss).finite


def _growth(before: Point, after: Point) -> float | None:
    if before.norm is None or after.norm is None or before.norm == 0:
        return None
    return after.norm / before.norm
