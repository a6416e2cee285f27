"""Measuring a training run and steering it: monitors and controllers."""

from torchpace.control._cka import MinibatchCKA, linear_cka
from torchpace.control._cka_recorder import CKARecorder
from torchpace.control._monitor import Monitor, Signs, Verdict

__all__ = ["CKARecorder", "MinibatchCKA", "Monitor", "Signs", "Verdict", "linear_cka"]
