"""A rate that swings at twice the momentum's own frequency pumps energy into a quadratic.

With momentum the iterate rings at frequency omega. A rate of 1 + 0.3 cos(2 omega t) then acts as on a child's swing: at
momentum 0.99 the amplitude grows, at 0.9 the damping wins; forced at another frequency neither grows.
"""

import math

import numpy as np
import torch

from torchpace import schedule
from torchpace.gallery import landscapes
from torchpace.gallery._page import BLUE, GREEN, ORANGE, RED, Page
from torchpace.gallery._walk import Path, walk

RATE, SWING = 0.1, 0.3


def growth(momentum: float, swing: float, multiple: float, steps: int) -> tuple[float, np.ndarray]:
    """Of the log amplitude a step, and the amplitudes."""
    omega = math.acos((1 + momentum - RATE) / (2 * math.sqrt(momentum)))
    rate = schedule.function(lambda t: 1 + swing * math.cos(multiple * omega * t))
    path = Path()
    start = torch.tensor([1.0], dtype=torch.float64)
    walk(start, lambda w: landscapes.quadratic_gradient(w, 1.0), RATE, steps, rate=rate, momentum=momentum, each=path)
    found = path.all[:, 0].abs().numpy()
    window = math.ceil(2 * math.pi / omega)
    peaks = np.array([found[i : i + window].max() for i in range(0, len(found) - window, window)])
    times = np.arange(len(peaks)) * window
    settled = len(peaks) // 4
    slope = float(np.polyfit(times[settled:], np.log(peaks[settled:]), 1)[0])
    return slope, found


def run(page: Page) -> None:
    """Compute, check and draw."""
    steps = 1000
    rows, drawn = [], {}
    for momentum in (0.9, 0.99):
        for name, swing, multiple in (("none", 0.0, 2.0), ("2 omega", SWING, 2.0), ("3 omega", SWING, 3.0)):
            slope, found = growth(momentum, swing, multiple, steps)
            omega = math.acos((1 + momentum - RATE) / (2 * math.sqrt(momentum)))
            pumped, lost = swing * omega / 4 * (multiple == 2), -0.5 * math.log(momentum)
            rows.append((momentum, name, slope, pumped, lost))
            drawn[momentum, name] = found
            if name == "none":
                page.check(f"momentum {momentum}, unforced: growth a step", slope, -lost, 1e-3)
            elif name == "2 omega":
                page.check(
                    f"momentum {momentum}, at 2 omega: growth a step", slope, {0.9: -0.028, 0.99: 0.019}[momentum], 1e-3
                )
            else:
                page.holds(f"momentum {momentum}, at 3 omega: growth a step", slope, high=0.0)
    page.table(("momentum", "forcing", "growth a step", "pumped, about", "lost"), rows)

    axes = page.one_axes()
    colours = {(0.99, "2 omega"): RED, (0.99, "3 omega"): ORANGE, (0.9, "2 omega"): BLUE, (0.9, "none"): GREEN}
    for (momentum, name), colour in colours.items():
        found = drawn[momentum, name][:500]
        label = f"momentum {momentum}, {'constant rate' if name == 'none' else 'rate swings at ' + name}"
        axes.semilogy(found, color=colour, linewidth=1, label=label)
    axes.set(
        xlabel="step (the first 500)",
        ylabel="|x|",
        ylim=(1e-10, 1e6),
        title="A swinging rate in resonance with the momentum",
    )
    axes.legend(loc="lower left")
