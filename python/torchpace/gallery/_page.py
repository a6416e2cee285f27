"""What a script of the gallery fills: a table, checks against known figures, and one figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which people with any colour vision can tell apart.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, BLACK = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#F0E442",
    "#000000",
)
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK)

_STYLE = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 13,
    "axes.labelsize": 12,
    "figure.constrained_layout.use": True,
    "font.size": 11,
    "grid.alpha": 0.3,
    "legend.fontsize": 10,
    "legend.framealpha": 0.9,
    "lines.linewidth": 2,
    "savefig.dpi": 120,
}


class MissingExtraError(ImportError):
    """What the extra `gallery` brings is not there."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: pip install 'torchpace[gallery]'")


@dataclass
class Check:
    """One figure: what was found, what is expected, and whether it passes."""

    name: str
    found: str
    expected: str
    passed: bool

    def __str__(self) -> str:
        return f"{'pass' if self.passed else 'FAIL'}  {self.name}: {self.found}, expected {self.expected}"


@dataclass
class Page:
    """Collects what a script makes.

    Attributes:
        name: of the script.
        quick: whether to do with fewer seeds and shorter runs; the checks allow for that.
        lines: the tables, as text.
        checks: all checks, in order.
        figure: the one that `axes` made.
    """

    name: str
    quick: bool = False
    lines: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    figure: Figure | None = None

    def seeds(self, full: int, quick: int = 100) -> int:
        """How many runs: `full`, or `quick` where time is short."""
        return min(full, quick) if self.quick else full

    def say(self, text: str) -> None:
        """Add a line of text."""
        self.lines.append(text)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Add a table; numbers are written with 4 digits."""
        cells = [list(head), *[[write(cell) for cell in row] for row in rows]]
        widths = [max(len(row[place]) for row in cells) for place in range(len(head))]
        for row in cells:
            others = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
            self.lines.append("  ".join([row[0].ljust(widths[0]), *others]))

    def check(self, name: str, found: float, expected: float, tolerance: float = 0.0) -> None:
        """Check that a number is the expected one, within an absolute tolerance."""
        passed = abs(found - expected) <= tolerance or found == expected
        within = f" within {write(tolerance)}" if tolerance else ""
        self.checks.append(Check(name, write(found), f"{write(expected)}{within}", passed))

    def holds(self, name: str, found: float, low: float = -math.inf, high: float = math.inf) -> None:
        """Check that a number is in a range, its ends included."""
        bounds = [f"at least {write(low)}"] * (low > -math.inf) + [f"at most {write(high)}"] * (high < math.inf)
        self.checks.append(Check(name, write(found), ", ".join(bounds), low <= found <= high))

    def says(self, name: str, found: str, expected: str) -> None:
        """Check that a word is the expected one."""
        self.checks.append(Check(name, found, expected, found == expected))

    def rate(self, name: str, hits: int, trials: int, low: float, high: float | None = None) -> None:
        """Check that a share of runs is the expected one, or from `low` to `high`, within three binomial errors.

        The error of an expected share p is that of the runs made, ``sqrt(p (1 - p) / trials)``, p taken no closer to 0
        or 1 than one run in the trials.
        """
        high = low if high is None else high
        share = hits / trials

        def error(expected: float) -> float:
            inside = min(max(expected, 1 / trials), 1 - 1 / trials)
            return 3 * math.sqrt(inside * (1 - inside) / trials)

        exact = low == high and low in (0.0, 1.0)
        least, most = (low, high) if exact else (low - error(low), high + error(high))
        span = f"{low:.1%}" if low == high else f"{low:.1%} to {high:.1%}"
        allowed = "" if exact else f", within three standard errors of {trials} runs"
        self.checks.append(Check(name, f"{share:.1%}", span + allowed, least <= share <= most))

    def axes(self, rows: int = 1, columns: int = 1, **options: Any) -> npt.NDArray[Any]:
        """The figure's axes, as a matrix.

        Raises:
            MissingExtraError: there is no matplotlib.
        """
        matplotlib = _matplotlib()
        matplotlib.use("Agg")
        matplotlib.rcParams.update(_STYLE)
        from matplotlib.figure import Figure

        size = options.pop("figsize", (6.4 * columns, 4.6 * rows))
        self.figure = Figure(figsize=size)
        axes: npt.NDArray[Any] = self.figure.subplots(rows, columns, squeeze=False, **options)
        return axes

    def one_axes(self, **options: Any) -> Axes:
        """The figure's only axes."""
        found: Axes = self.axes(figsize=(8.4, 5.2), **options)[0, 0]
        return found

    @property
    def passed(self) -> bool:
        """Whether all checks pass."""
        return all(check.passed for check in self.checks)


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise MissingExtraError("the gallery needs matplotlib") from error
    return matplotlib


def write(cell: object) -> str:
    """A cell of a table, numbers with 4 digits."""
    if isinstance(cell, bool) or not isinstance(cell, (int, float)):
        return str(cell)
    return f"{cell:,}" if isinstance(cell, int) else f"{cell:.4g}"
