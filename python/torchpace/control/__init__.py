"""Controllers: what watches a training and acts on its learning rate."""

from torchpace.control._divergence_guard import DivergenceGuard
from torchpace.control._events import DivergenceError, GuardEvent
from torchpace.control._range_result import RangeTest
from torchpace.control._range_test import lr_range_test
from torchpace.control._snapshot import Snapshot

__all__ = ["DivergenceError", "DivergenceGuard", "GuardEvent", "RangeTest", "Snapshot", "lr_range_test"]
