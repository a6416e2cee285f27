"""Controllers: what watches a training and acts on its learning rate."""

from torchpace.control._divergence_guard import DivergenceGuard
from torchpace.control._events import DivergenceError, GuardEvent
from torchpace.control._snapshot import Snapshot

__all__ = ["DivergenceError", "DivergenceGuard", "GuardEvent", "Snapshot"]
