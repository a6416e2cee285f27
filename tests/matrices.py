"""Matrices for Muon, and steps on them."""

import torch

SHAPES = {
    "square": [(48, 48)],
    "tall": [(60, 40), (96, 24), (100, 7)],
    "wide": [(40, 60), (24, 96), (7, 100)],
    "thin": [(1, 9), (9, 1), (1, 1)],
    "blocks": [(32, 32), (32, 32), (128, 32), (32, 128), (32, 32), (32, 32), (128, 32), (32, 128)],
}
# What torch refuses, or stumbles over.
NEW = {
    "convolutions": [(8, 3, 3, 3), (8, 27), (4, 1, 2), (3, 2, 2, 2, 2), (6, 1, 3, 3)],
    "empty": [(0, 3), (3, 0), (4, 4), (0, 3), (2, 0, 3)],
}
WIDE = [torch.float32, torch.float64]
DTYPES = [*WIDE, torch.bfloat16, torch.float16]


def normal(shapes, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def leaves(shapes, dtype=torch.float32):
    return [torch.nn.Parameter(value) for value in normal(shapes, dtype)]


def train(optimizer, params, steps=range(4), sizes=(1.0,)):
    for step in steps:
        shapes = [param.shape for param in params]
        for param, grad in zip(params, normal(shapes, seed=step + 1), strict=True):
            param.grad = (grad * sizes[step % len(sizes)]).to(param.dtype)
        optimizer.step()
    return params
