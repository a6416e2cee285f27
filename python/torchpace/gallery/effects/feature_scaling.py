"""Scaling a feature by s multiplies its curvature by s^2, and the greatest stable rate falls by as much.

Least squares on 200 x 3 normal data: the curvature is X^T X / 200. Once the scaled feature carries the largest
eigenvalue, the bound falls as 1 / s^2.
"""

import torch

from torchpace.gallery._page import BLUE, ORANGE, Page
from torchpace.gallery._walk import walk

SCALES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


def run(page: Page) -> None:
    """Compute, check and draw."""
    data = torch.randn(200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows, bounds = [], []
    for scale in SCALES:
        scaled = data * torch.tensor([scale, 1.0, 1.0], dtype=torch.float64)
        curvature = scaled.T @ scaled / 200
        values, vectors = torch.linalg.eigh(curvature)
        largest = float(values[-1])
        bounds.append(2 / largest)
        ends = []
        for share in (0.99, 1.01):
            # Begun along the steepest direction, which decides.
            end = walk(vectors[:, -1].contiguous(), lambda w, a=curvature: a @ w, share * 2 / largest, 1000)  # type: ignore[misc]
            ends.append(float(end.norm()))
        rows.append((scale, float(curvature[0, 0]), largest, 2 / largest, float(vectors[0, -1] ** 2), *ends))
        page.holds(f"scale {scale:g}: at 0.99 of the bound, distance after 1,000 steps", ends[0], high=1e-6)
        page.holds(f"scale {scale:g}: at 1.01 of the bound", ends[1], low=1e6)
    page.table(
        ("scale", "own curvature", "largest eigenvalue", "bound", "its share of it", "|w| at 0.99", "at 1.01"), rows
    )
    for scale, row in zip(SCALES, rows, strict=True):
        page.check(f"scale {scale:g}: own curvature over s^2", row[1] / scale**2, rows[0][1], 1e-12)
    for before, after, scale in zip(rows[3:], rows[4:], SCALES[4:], strict=False):
        # Where the feature carries the eigenvalue: what is left of the others' part falls as 1/s^2.
        page.check(f"to scale {scale:g}: the bound falls by 4", before[3] / after[3], 4.0, 0.05)

    axes = page.one_axes()
    axes.loglog(SCALES, bounds, "o-", color=BLUE, label="2 / largest eigenvalue")
    line = [bounds[-1] * (SCALES[-1] / scale) ** 2 for scale in SCALES]
    axes.loglog(SCALES, line, "--", color=ORANGE, label="falls as 1 / s²")
    axes.set(
        xlabel="scale s of one of three features",
        ylabel="greatest stable rate",
        title="One feature scaled: the bound falls by s²",
    )
    axes.legend()
