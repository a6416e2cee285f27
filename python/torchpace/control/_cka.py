"""How alike two representations of the same examples are: linear centered kernel alignment."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def linear_cka(x: Tensor, y: Tensor, *, unbiased: bool = False) -> float:
    r"""Linear centered kernel alignment of two sets of features of the same examples.

    With the columns of :math:`X` and :math:`Y` centered:

    .. math::
        \text{CKA} = \frac{\lVert Y^\top X \rVert_F^2}{\lVert X^\top X \rVert_F \, \lVert Y^\top Y \rVert_F}

    1 for ``x`` itself, also rotated, scaled or shifted; between 0 and 1. With few examples for the number of features
    it is well above 0 even for independent ones; `unbiased` takes the unbiased estimates of the three norms, and may
    then be below 0. Computed in float64, from the examples' inner products or the features', whichever are fewer.

    Args:
        x: of shape (examples, features), real, at least 2 examples (4 if `unbiased`).
        y: of shape (examples, other features), the same examples in the same order.
        unbiased: whether to use the unbiased estimator (default: False).

    Returns:
        A number; NaN where it is not defined: features that are the same for all examples, or that are not finite, or
        an unbiased norm at or below 0.

    Raises:
        TypeError: an argument is not a real tensor.
        ValueError: an argument is not a matrix, they are of unlike many examples, or of too few.

    Paper:
        Kornblith, Norouzi, Lee and Hinton, Similarity of neural network representations revisited, 2019.
        Song, Smola, Gretton, Bedo and Borgwardt, Feature selection via dependence maximization, 2012 (unbiased).

    Example:
        >>> import torch
        >>> from torchpace.control import linear_cka
        >>> generator = torch.Generator().manual_seed(0)
        >>> x = torch.randn(100, 5, generator=generator)
        >>> rotation = torch.linalg.qr(torch.randn(5, 5, generator=generator)).Q
        >>> round(linear_cka(x, 3 * x @ rotation + 1), 6)
        1.0
        >>> other, another = torch.randn(2, 100, 500, generator=generator)
        >>> linear_cka(other, another) > 0.5, abs(linear_cka(other, another, unbiased=True)) < 0.1
        (True, True)
    """
    left, right = _centered(x, y, 4 if unbiased else 2)
    if unbiased:
        return _ratio(_unbiased(left, right), _unbiased(left, left), _unbiased(right, right))
    return _ratio(_biased(left, right), _biased(left, left), _biased(right, right))


class MinibatchCKA:
    r"""Linear CKA of more examples than fit in memory at once, from batches.

    The unbiased estimates of the three norms are averaged over the batches, each weighed alike, and then divided; what
    comes of it does not depend on the batches' size, as an average of their CKAs would.

    Paper:
        Nguyen, Raghu and Kornblith, Do wide and deep networks learn the same things?, 2021.

    Example:
        >>> import torch
        >>> from torchpace.control import MinibatchCKA
        >>> generator = torch.Generator().manual_seed(0)
        >>> cka = MinibatchCKA()
        >>> for _ in range(50):
        ...     x = torch.randn(16, 5, generator=generator)
        ...     cka.update(x, x @ torch.diag(torch.tensor([1.0, 1.0, 1.0, 1.0, 3.0])))
        >>> 0.5 < cka.value < 0.9
        True
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self._sums = [0.0, 0.0, 0.0]
        self.batches: int = 0

    def update(self, x: Tensor, y: Tensor) -> None:
        """Add a batch.

        Args:
            x: of shape (examples, features), real, at least 4 examples.
            y: of shape (examples, other features), the same examples in the same order.

        Raises:
            TypeError: an argument is not a real tensor.
            ValueError: an argument is not a matrix, they are of unlike many examples, or of too few.
        """
        left, right = _centered(x, y, 4, scale=False)
        found = [_unbiased(*pair) for pair in ((left, right), (left, left), (right, right))]
        self._sums = [total + value for total, value in zip(self._sums, found, strict=True)]
        self.batches += 1

    def __repr__(self) -> str:
        """How many batches there were, and the alignment."""
        return f"MinibatchCKA(batches={self.batches}, value={self.value:.4g})"

    @property
    def value(self) -> float:
        """The alignment over all batches so far; NaN where there was none, or as for `linear_cka`."""
        return _ratio(*self._sums)


def _centered(x: Tensor, y: Tensor, least: int, *, scale: bool = True) -> tuple[Tensor, Tensor]:
    """Checked, in float64, with means of 0; constant features become 0."""
    for name, value in (("x", x), ("y", y)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} is of type {type(value).__name__}, expected a tensor")
        if value.is_complex():
            raise TypeError(f"{name} is of {value.dtype}, expected a real type")
    shapes = f"x has shape {list(x.shape)} and y {list(y.shape)}"
    if x.dim() != 2 or y.dim() != 2:
        raise ValueError(f"{shapes}, expected matrices of (examples, features)")
    if len(x) != len(y):
        raise ValueError(f"{shapes}, expected as many examples in both")
    if len(x) < least:
        raise ValueError(f"{shapes}, expected at least {least} examples")
    return _center(x, scale), _center(y, scale).to(x.device)


def _center(x: Tensor, scale: bool) -> Tensor:
    x = x.detach().to(torch.float64)
    largest = x.abs().max() if x.numel() else x.new_zeros(())
    if scale and 0 < largest < math.inf:
        x = x / largest  # products then neither overflow nor vanish
        largest = torch.ones_like(largest)
    centered = x - x.mean(0)
    # What rounding leaves of features that are constant.
    return torch.where(centered.abs() <= 8 * torch.finfo(torch.float64).eps * largest, 0.0, centered)


def _few_examples(x: Tensor, y: Tensor) -> bool:
    return len(x) ** 2 < x.shape[1] * y.shape[1]


def _biased(x: Tensor, y: Tensor) -> float:
    """The squared norm of y^T x."""
    if _few_examples(x, y):
        return float(((x @ x.T) * (y @ y.T)).sum())
    return float((y.T @ x).square().sum())


def _unbiased(x: Tensor, y: Tensor) -> float:
    """HSIC_1 of Song et al., equation 4: K and L are the Gram matrices with empty diagonals."""
    n = len(x)
    squares_x, squares_y = x.square().sum(1), y.square().sum(1)
    # The sum of K * L, and the rows' sums of each: features have a mean of 0, so a whole row of x x^T has a sum of 0.
    together = _biased(x, y) - float(squares_x @ squares_y)
    rows_x, rows_y = -squares_x, -squares_y
    all_x, all_y = float(rows_x.sum()), float(rows_y.sum())
    return (together + all_x * all_y / ((n - 1) * (n - 2)) - 2 / (n - 2) * float(rows_x @ rows_y)) / (n * (n - 3))


def _ratio(both: float, left: float, right: float) -> float:
    if not (left > 0 and right > 0):
        return math.nan
    return both / (math.sqrt(left) * math.sqrt(right))
