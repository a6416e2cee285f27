"""A guarded step that looks back at the losses before, and goes back some steps if this one looks bad."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NoReturn

from torchpace.control._events import DivergenceError
from torchpace.control._judge import Fault, Point
from torchpace.control._snapshot import Snapshot

if TYPE_CHECKING:
    from torchpace.control._divergence_guard import Closure, DivergenceGuard


class Ring:
    """The way of ``on="loss"``: a snapshot now and then, and back to the newest if the loss explodes."""

    def __init__(
        self, guard: DivergenceGuard, modules: Any, schedulers: Any, generators: Any, ring: int, every: int
    ) -> None:
        self._guard, self._every = guard, every
        # Not gradients, which the closure makes anew, nor random numbers: the batches go on too.
        less: dict[str, Any] = {"generators": generators, "gradients": False, "random": False}
        of = (modules, guard.optimizer, schedulers, guard.scaler or ())
        self._free = [Snapshot(*of, **less) for _ in range(ring)]
        self._new_present = functools.partial(Snapshot, *of, generators=generators)
        self._present = self._new_present()
        self._taken: list[Snapshot] = []
        self._since = every
        self._returns = 0

    @property
    def nbytes(self) -> int:
        """The memory of the snapshots, in bytes."""
        return sum(snapshot.nbytes for snapshot in [*self._free, *self._taken, self._present])

    def step(self, closure: Closure) -> Any:
        """One step, of the present state or of one before."""
        guard = self._guard
        if self._since >= self._every:
            self._take()
        loss, number = guard.evaluate(closure)
        fault = guard.judge.loss(Point(number))
        if fault is not None:
            found = self._go_back(closure, fault, number)
            if found is None:
                fault = None
            else:
                loss, number = found
        undo = self._present.restore
        if not guard.stepping.is_known:
            undo = self._new_present().take().restore  # whose memory goes with this step
        guard.optimizer_step(closure, undo)
        guard.judge.accept(Point(number))
        guard.update()
        self._since += 1
        guard.accepted(number, calm=fault is None)
        if guard.lr_factor == 1:
            self._returns = 0
        return loss

    def _take(self) -> None:
        snapshot = self._free.pop() if self._free else self._taken.pop(0)
        try:
            snapshot.take()
        except BaseException:
            self._free.append(snapshot)
            raise
        self._taken.append(snapshot)
        self._since = 0

    def _go_back(self, closure: Closure, fault: Fault, present: float) -> tuple[Any, float] | None:
        """Go to the newest snapshot that shows the fault to be the state's, and not the batch's.

        Returns:
            The loss there, as returned and as a number; None, and all is as it was, if a finite loss is not much
            lower at any of them.
        """
        guard = self._guard
        self._present.take()
        try:
            for index in reversed(range(len(self._taken))):
                self._taken[index].restore()
                loss, number = guard.evaluate(closure)
                if guard.judge.is_much_better(number, present):
                    break
            else:
                if fault == "non-finite":
                    self._fail(f"the loss is {present}, at all {len(self._taken)} snapshots too", present)
                self._present.restore()
                return None
            if self._returns >= guard.max_retries:
                self._fail(f"the loss is {present} ({fault}) after going back {self._returns} times", present)
        except BaseException:
            self._present.restore()
            raise
        # Newer ones are no good, and this one perhaps neither; but one stays.
        self._free += self._taken[max(index, 1) :]
        del self._taken[max(index, 1) :]
        self._since = 0
        self._returns += 1
        guard.rejected(fault, present / number if number > 0 else None, present)
        return loss, number

    def _fail(self, reason: str, present: float) -> NoReturn:
        self._guard.note("failed", None, present)
        raise DivergenceError(f"{reason}: no step has been made, and the state is as before it")
