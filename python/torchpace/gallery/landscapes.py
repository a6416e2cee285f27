"""The landscapes of the gallery: each formula once, with its gradient, over tensors of independent walkers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# The minima of the double well are at -3 and 3; the curvature there is 3/5 w^2 - 9/5.
WELL = 3.0
WELL_CURVATURE = 3.6
WELL_LOSS = -4.05


def double_well(w: Tensor) -> Tensor:
    """``w^4/20 - 9/10 w^2``: minima at -3 and 3, a saddle at 0."""
    return w**4 / 20 - 0.9 * w**2


def double_well_gradient(w: Tensor) -> Tensor:
    """``w^3/5 - 9/5 w``."""
    return w**3 / 5 - 1.8 * w


RIPPLE = 0.1  # the ripples' amplitude; dips there are up to where 0.3 w reaches their slope, |w| < 2.1


def many_basins(w: Tensor) -> Tensor:
    """``0.15 w^2 + (1 - cos(2 pi w))/10``: a wide valley overlaid with ripples; the best dip is at 0."""
    return 0.15 * w**2 + RIPPLE * (1 - torch.cos(2 * math.pi * w))


def many_basins_gradient(w: Tensor) -> Tensor:
    """``0.3 w + 2 pi/10 sin(2 pi w)``."""
    return 0.3 * w + RIPPLE * 2 * math.pi * torch.sin(2 * math.pi * w)


WALL, EXIT, VALLEY = -2.0, 2.0, 4.0


def plateau(w: Tensor) -> Tensor:
    """``(w+2)^2/2`` up to -2, 0 up to 2, ``(w-4)^2/2 - 2`` beyond: flat, with a wall and one exit."""
    return (w - WALL).clamp(max=0) ** 2 / 2 + torch.where(w > EXIT, (w - VALLEY) ** 2 / 2 - 2, 0.0)


def plateau_gradient(w: Tensor) -> Tensor:
    """Its slope."""
    return (w - WALL).clamp(max=0) + torch.where(w > EXIT, w - VALLEY, 0.0)


def sharp_and_flat(w: Tensor) -> Tensor:
    """``min(5 (w+1)^2, (w-1)^2/2)``: two minima of equal depth, of curvature 10 and 1."""
    return torch.minimum(5 * (w + 1) ** 2, 0.5 * (w - 1) ** 2)


def sharp_and_flat_gradient(w: Tensor) -> Tensor:
    """Of the lower of the two."""
    return torch.where(5 * (w + 1) ** 2 < 0.5 * (w - 1) ** 2, 10 * (w + 1), w - 1)


def quadratic(w: Tensor, curvature: Tensor | float) -> Tensor:
    """``curvature/2 w^2``, added up over the last dimension."""
    return (0.5 * curvature * w**2).sum(-1)


def quadratic_gradient(w: Tensor, curvature: Tensor | float) -> Tensor:
    """``curvature w``."""
    return curvature * w
