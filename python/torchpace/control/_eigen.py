"""Eigenvalues of a symmetric operator at one end of its spectrum."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from torchpace.control._vectors import Vector, axpy_, dot, norm, scale_

Which = Literal["largest", "smallest", "magnitude"]
Operator = Callable[[Vector], list[Tensor]]
"""Gives its product with a vector, in tensors that the caller may write to."""


class NotFiniteError(RuntimeError):
    """A product is infinite or NaN."""


@dataclass(frozen=True)
class Found:
    """Eigenvalues, the wanted end first."""

    values: list[float]
    residuals: list[float]
    vectors: list[list[Tensor]]
    iterations: int
    converged: bool


def lanczos(
    times: Operator,
    draw: Callable[[], list[Tensor]],
    size: int,
    k: int,
    which: Which,
    most: int,
    tol: float,
    eps: float,
) -> Found:
    """The Lanczos method, every vector made orthogonal to all before it.

    Where the vectors span a space that the operator maps into itself, a new one is drawn if more eigenvalues are
    wanted: so one that occurs several times is found as often. `eps` is the precision of the products.
    """
    basis: list[list[Tensor]] = []
    diagonal: list[float] = []
    beside: list[float] = []  # how each vector hangs together with the one before; 0 where a new one was drawn
    begin, ahead = 0, _unit(draw())
    while True:
        basis.append(ahead)
        ahead = times(basis[-1])
        diagonal.append(dot(basis[-1], ahead))
        axpy_(-diagonal[-1], basis[-1], ahead)
        if len(basis) > 1 and beside[-1] != 0:
            axpy_(-beside[-1], basis[-2], ahead)
        rest = _orthogonalize(ahead, basis)
        if not (math.isfinite(rest) and math.isfinite(diagonal[-1])):
            raise NotFiniteError("a product with the Hessian is not finite")
        count = len(basis)
        values, weights = _ritz(diagonal, beside, 0)
        extent = float(values.abs().max())
        wanted = _order(values, which)[:k]
        residuals = [rest * abs(float(weights[-1, at])) for at in wanted]
        good = count >= k and all(
            residual <= tol * max(abs(float(values[at])), tol * extent)
            for at, residual in zip(wanted, residuals, strict=True)
        )
        is_closed = count == size or rest <= 10 * eps * extent
        if is_closed and count < min(size, most) and _needs_more(diagonal, beside, begin, k, which, eps * extent):
            fresh = draw()
            _orthogonalize(fresh, basis)
            begin, ahead = count, _unit(fresh)
            beside.append(0.0)
            continue
        good = good and (begin == 0 or is_closed or _last_is_good(diagonal, beside, begin, which, rest, tol))
        if good or is_closed or count >= most:
            vectors = [_combination(weights[:, at].tolist(), basis) for at in wanted]
            converged = good or (is_closed and count >= k)
            return Found([float(values[at]) for at in wanted], residuals, vectors, count, converged)
        scale_(1 / rest, ahead, ahead)
        beside.append(rest)


def power(times: Operator, draw: Callable[[], list[Tensor]], which: Which, most: int, tol: float) -> Found:
    """Power iteration, which finds the eigenvalue of the greatest magnitude.

    Where that is at the other end of the spectrum, a second run with the operator shifted by it finds the wanted one.
    """
    found = _dominant(times, draw(), 0.0, most, tol)
    (value,) = found.values
    wrong_end = value < 0 if which == "largest" else value > 0
    if which == "magnitude" or not wrong_end:
        return found
    if found.iterations >= most:
        return replace(found, converged=False)
    again = _dominant(times, draw(), value, most - found.iterations, tol)
    converged, iterations = found.converged and again.converged, found.iterations + again.iterations
    return Found(again.values, again.residuals, again.vectors, iterations, converged)


def _dominant(times: Operator, vector: list[Tensor], shift: float, most: int, tol: float) -> Found:
    vector = _unit(vector)
    iterations, converged = 0, False
    while True:
        ahead = times(vector)
        iterations += 1
        axpy_(-shift, vector, ahead)
        length, value = norm(ahead), dot(vector, ahead)
        if not math.isfinite(length):
            raise NotFiniteError("a product with the Hessian is not finite")
        axpy_(-value, vector, ahead)
        residual = norm(ahead)
        converged = residual <= tol * abs(value) or length == 0
        if converged or iterations >= most:
            return Found([value + shift], [residual], [vector], iterations, converged)
        axpy_(value, vector, ahead)
        vector = _unit(ahead)


def _unit(vector: list[Tensor]) -> list[Tensor]:
    length = norm(vector)
    if length > 0:
        scale_(1 / length, vector, vector)
    return vector


def _orthogonalize(vector: list[Tensor], basis: list[list[Tensor]]) -> float:
    """Take from a vector its parts along a basis; its length then.

    What takes away most of the vector leaves an error that is not small beside the rest, and is done again.
    """
    before = norm(vector)
    for _ in range(3):
        for other in basis:
            axpy_(-dot(other, vector), other, vector)
        after = norm(vector)
        if not after <= before / 2:
            break
        before = after
    return after


def _ritz(diagonal: list[float], beside: list[float], begin: int) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending, and eigenvectors of the tridiagonal matrix from a row on."""
    matrix = torch.diag(torch.tensor(diagonal[begin:], dtype=torch.float64))
    if len(diagonal) - begin > 1:
        side = torch.tensor(beside[begin:], dtype=torch.float64)
        matrix += torch.diag(side, 1) + torch.diag(side, -1)
    values, vectors = torch.linalg.eigh(matrix)
    return values, vectors


def _order(values: Tensor, which: Which) -> list[int]:
    """The places of ascending values, those wanted first."""
    places = list(range(len(values)))
    if which == "largest":
        places.reverse()
    elif which == "magnitude":
        places.sort(key=lambda at: -abs(float(values[at])))
    return places


def _rank(value: float, which: Which) -> float:
    """A number that is greater for values wanted rather."""
    return {"largest": value, "smallest": -value, "magnitude": abs(value)}[which]


def _needs_more(diagonal: list[float], beside: list[float], begin: int, k: int, which: Which, margin: float) -> bool:
    """Whether, after a closed space, another may hold one of the k wanted: not if the last one held none of them."""
    if k == 1:
        return False
    if begin == 0:
        return True
    before, _ = _ritz(diagonal[:begin], beside[: begin - 1], 0)
    last, _ = _ritz(diagonal, beside, begin)
    ranks = sorted((_rank(value, which) for value in before.tolist()), reverse=True)
    best = max(_rank(value, which) for value in last.tolist())
    return len(ranks) < k or best > ranks[k - 1] + 10 * margin


def _last_is_good(
    diagonal: list[float], beside: list[float], begin: int, which: Which, rest: float, tol: float
) -> bool:
    """Whether the most wanted value of the last space, too, has settled."""
    values, weights = _ritz(diagonal, beside, begin)
    best = _order(values, which)[0]
    return rest * abs(float(weights[-1, best])) <= tol * float(values.abs().max())


def _combination(weights: list[float], basis: list[list[Tensor]]) -> list[Tensor]:
    total = [torch.zeros_like(tensor) for tensor in basis[0]]
    for weight, vector in zip(weights, basis, strict=True):
        axpy_(weight, vector, total)
    return total
