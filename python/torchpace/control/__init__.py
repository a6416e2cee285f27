"""Control: what measures a training, watches it, and acts on its learning rate, by theory."""

from torchpace.control._cka import MinibatchCKA, linear_cka
from torchpace.control._cka_recorder import CKARecorder
from torchpace.control._curvature_lr import CurvatureCost, CurvatureLR
from torchpace.control._divergence_guard import DivergenceGuard
from torchpace.control._events import DivergenceError, GuardEvent
from torchpace.control._monitor import Monitor, Signs, Verdict
from torchpace.control._range_result import RangeTest
from torchpace.control._range_test import lr_range_test
from torchpace.control._sharpness import Sharpness, sharpness
from torchpace.control._snapshot import Snapshot
from torchpace.control._theory import (
    effective_lr,
    max_stable_lr,
    max_stable_lr_adam,
    max_stable_lr_rmsprop,
    retune,
    scale_lr,
)

__all__ = [
    "CKARecorder",
    "CurvatureCost",
    "CurvatureLR",
    "DivergenceError",
    "DivergenceGuard",
    "GuardEvent",
    "MinibatchCKA",
    "Monitor",
    "RangeTest",
    "Sharpness",
    "Signs",
    "Snapshot",
    "Verdict",
    "effective_lr",
    "linear_cka",
    "lr_range_test",
    "max_stable_lr",
    "max_stable_lr_adam",
    "max_stable_lr_rmsprop",
    "retune",
    "scale_lr",
    "sharpness",
]
