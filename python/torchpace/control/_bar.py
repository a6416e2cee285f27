"""A progress bar, where tqdm is installed."""

from __future__ import annotations

import importlib
from types import TracebackType
from typing import Any


class Bar:
    """A bar over a number of steps; none without tqdm, or for None."""

    def __init__(self, steps: int | None) -> None:
        self._bar: Any = None
        if steps is not None:
            try:
                tqdm: Any = importlib.import_module("tqdm")
            except ModuleNotFoundError:
                return
            self._bar = tqdm.tqdm(total=steps, leave=False)

    def advance(self, lr: float, loss: float) -> None:
        """One step more."""
        if self._bar is not None:
            self._bar.set_postfix_str(f"lr {lr:.2e}, loss {loss:.3g}", refresh=False)
            self._bar.update()

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
