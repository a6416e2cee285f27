"""Learning rates from theory: stability bounds, scaling rules, and rates set by the measured curvature of the loss."""

from torchpace.control._curvature_lr import CurvatureCost, CurvatureLR
from torchpace.control._sharpness import Sharpness, sharpness
from torchpace.control._theory import (
    effective_lr,
    max_stable_lr,
    max_stable_lr_adam,
    max_stable_lr_rmsprop,
    retune,
    scale_lr,
)

__all__ = [
    "CurvatureCost",
    "CurvatureLR",
    "Sharpness",
    "effective_lr",
    "max_stable_lr",
    "max_stable_lr_adam",
    "max_stable_lr_rmsprop",
    "retune",
    "scale_lr",
    "sharpness",
]
