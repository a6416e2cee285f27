"""The curvature of a loss in its sharpest directions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from torchpace.control import _eigen
from torchpace.control._hessian import Hessian, Method, copied
from torchpace.control._kept import kept
from torchpace.control._numbers import real, whole
from torchpace.control._params import Params, listed
from torchpace.control._precondition import as_real, preconditioners
from torchpace.control._untouched import Untouched
from torchpace.control._vectors import norm, scale_

Scale = Tensor | float
"""A factor for each element of a parameter, or one for all; of a complex parameter for its parts."""


@dataclass(frozen=True)
class Sharpness:
    r"""Eigenvalues of a Hessian, as `sharpness` found them.

    Attributes:
        values: the eigenvalues, the wanted end first.
        residuals: :math:`|Hv - \lambda v|` of each with its unit vector :math:`v`: some eigenvalue is as near as this.
        converged: whether each residual is below ``tol`` times its eigenvalue.
        iterations: the vectors that the operator was applied to.
        products: the Hessian-vector products that it took.
        method: "exact", by differentiating twice, or "difference".
        eigenvectors: of each eigenvalue a tensor for each parameter, together of length 1; None if not asked for.
    """

    values: tuple[float, ...]
    residuals: tuple[float, ...]
    converged: bool
    iterations: int
    products: int
    method: Literal["exact", "difference"]
    eigenvectors: tuple[tuple[Tensor, ...], ...] | None = None

    @property
    def value(self) -> float:
        """The first eigenvalue."""
        return self.values[0]

    @property
    def residual(self) -> float:
        """The first eigenvalue's residual."""
        return self.residuals[0]

    def __float__(self) -> float:
        """The first eigenvalue."""
        return self.values[0]


def sharpness(
    loss: Callable[..., Tensor],
    params: Params,
    *,
    data: Iterable[Any] | None = None,
    k: int = 1,
    which: Literal["largest", "smallest", "magnitude"] = "largest",
    optimizer: Optimizer | None = None,
    model: torch.nn.Module | None = None,
    solver: Literal["lanczos", "power"] = "lanczos",
    method: Literal["auto", "exact", "difference"] = "auto",
    max_iter: int | None = None,
    tol: float = 1e-3,
    difference_step: float | None = None,
    seed: int = 0,
    eigenvectors: bool = False,
) -> Sharpness:
    r"""The largest eigenvalue of the loss's Hessian, :math:`\lambda_{max}(H)`, or some eigenvalues at one end.

    Lanczos builds an orthonormal basis of :math:`v, Hv, H^2 v, \dots` from a random :math:`v`, in float32 at the least,
    with sums in float64; power iteration keeps the last vector alone. :math:`Hv` is the derivative of the gradient's
    product with :math:`v`. With an ``optimizer`` that divides by :math:`P`, the eigenvalues are those of
    :math:`P^{-1} H`, found in the symmetric form :math:`P^{-1/2} H P^{-1/2}`.

    Gradients, parameters, torch's random numbers (of the CPU and of the GPUs that the parameters are on), what a loader
    will give and, where the model is known, its buffers and its training or evaluation mode are afterwards as before,
    also after an error or an interruption. Each evaluation of the loss sees the same random numbers and buffers; so
    dropout is one fixed mask.

    Args:
        loss: ``loss()``, or ``loss(batch)`` where there is ``data``; a tensor of one real element that depends on the
            parameters and is finite. It must not call ``backward`` itself, nor use functions that do so in the backward
            pass, such as `torch.utils.checkpoint` with ``use_reentrant=True``: they hide parameters. Of what Fabric
            prepared for mixed precision it calls ``model.module``, under ``fabric.autocast()``.
        params: the parameters, as an optimizer takes them, with names or in groups too; or a module, whose parameters
            they are and which then is the ``model`` too. Those that do not require a gradient are held fixed, as are
            those that the optimizer has not stepped on; ones that the loss does not use have curvature 0.
        data: batches, whose losses are averaged, all with the same weight; read once, and kept for the time of the
            call: a few are enough (default: None).
        k: the number of eigenvalues, at least 1; more than 1 with "lanczos" alone (default: 1).
        which: the end of the spectrum: "largest" and "smallest" heed the sign, "magnitude" does not. Where all
            eigenvalues are negative, the largest is the one next to 0 (default: "largest").
        optimizer: SGD (:math:`P = 1`), RMSprop, Adagrad, Adam or AdamW, torch's or ours, in whose state :math:`P` is;
            Adam's is :math:`(1 - \beta_1^t) (\sqrt{\hat v} + \epsilon)`. Weight decay is not part of :math:`H`. It may
            be prepared by a trainer, within a wrapper, or several in one (default: None, :math:`P = 1`).
        model: whose buffers (of a BatchNorm, say) the loss changes (default: None).
        solver: "lanczos" needs few products and keeps a vector for each; "power" needs many and keeps two
            (default: "lanczos").
        method: "exact" differentiates twice; "difference" takes central differences of the gradient, where an operator
            has no second derivative; "auto" tries the one and falls back to the other (default: "auto").
        max_iter: the most products, at least 1 (default: None, 40 for "lanczos" and 200 for "power").
        tol: the residual that is small enough, in units of the eigenvalue, above 0 (default: 1e-3).
        difference_step: how far "difference" goes either way, above 0, in parameter units (default: None, the cube root
            of the type's precision, times the parameters' root mean square where that is above 1).
        seed: of the random first vector, which leaves torch's own random numbers alone (default: 0).
        eigenvectors: return them too (default: False).

    Returns:
        The eigenvalues, in units of the loss by parameter units squared (with an optimizer: of 1 by a learning rate),
        and how they were found. One that occurs several times may be found once.

    Raises:
        ValueError: an argument is out of its range, a parameter is given twice or is not the optimizer's, or none has
            an element; the loss is not one real number.
        TypeError: ``loss`` does not return a tensor, ``params`` is one tensor or holds something else, ``data`` draws
            from an iterator that it holds, an argument is of a wrong type, or the optimizer is none that is known.
        RuntimeError: the loss depends on no parameter or hides some in a function that calls ``backward``, it or a
            product is not finite, the optimizer has no state yet, or what torch raises in the loss and its derivatives.

    Paper:
        Lanczos, An iteration method for the solution of the eigenvalue problem of linear differential and integral
        operators, 1950. Pearlmutter, Fast exact multiplication by the Hessian, 1994. Cohen et al., Adaptive gradient
        methods at the edge of stability, 2022 (preconditioned).

    Example:
        >>> import torch
        >>> from torchpace.control import max_stable_lr, sharpness
        >>> weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        >>> found = sharpness(lambda: (torch.tensor([0.5, 2.0]) * weight.square()).sum(), [weight])
        >>> round(found.value, 4), found.converged, round(max_stable_lr(found), 4)
        (4.0, True, 0.5)
    """
    check_problem(loss, model, data)
    if solver not in ("lanczos", "power"):
        raise ValueError(f"solver is {solver!r}, expected 'lanczos' or 'power'")
    how = Measurement.checked(k, which, method, max_iter, tol, difference_step, seed)
    if how.k != 1 and solver == "power":
        raise ValueError(f"k is {k}, expected 1 with the solver 'power'")
    if isinstance(params, torch.nn.Module) and model is None:
        model = params
    given = listed(params)
    live: list[tuple[int, Scale]] = [(at, 1.0) for at, param in enumerate(given) if param.requires_grad]
    if optimizer is not None:
        known = preconditioners(optimizer, [given[at] for at, _ in live]) if live else []
        live = [(at, found.divisor**-0.5) for (at, _), found in zip(live, known, strict=True) if found is not None]
    problem = Problem(loss, [given[at] for at, _ in live], model, how)
    found, hessian = problem.measure(data, None, [scale for _, scale in live], None, solver)
    vectors = None
    if eigenvectors:
        vectors = tuple(_among(given, [at for at, _ in live], vector) for vector in found.vectors)
    return Sharpness(
        tuple(found.values),
        tuple(found.residuals),
        found.converged,
        found.iterations,
        hessian.products,
        "difference" if hessian.method == "difference" else "exact",
        vectors,
    )


@dataclass(frozen=True)
class Measurement:
    """Which eigenvalues are wanted, and how."""

    k: int
    which: _eigen.Which
    method: Method
    max_iter: int | None
    tol: float
    difference_step: float | None
    seed: int

    @classmethod
    def checked(
        cls, k: Any, which: Any, method: Any, max_iter: Any, tol: Any, difference_step: Any, seed: Any
    ) -> Measurement:
        """From what a user gave.

        Raises:
            TypeError: an argument is of a wrong type.
            ValueError: one is out of its range.
        """
        k = whole("k", k, 1)
        if which not in ("largest", "smallest", "magnitude"):
            raise ValueError(f"which is {which!r}, expected 'largest', 'smallest' or 'magnitude'")
        if method not in ("auto", "exact", "difference"):
            raise ValueError(f"method is {method!r}, expected 'auto', 'exact' or 'difference'")
        if max_iter is not None:
            max_iter = whole("max_iter", max_iter, 1, "None or a whole number >= 1")
        tol = real("tol", tol, _is_positive, "a finite number > 0")
        if difference_step is not None:
            difference_step = real("difference_step", difference_step, _is_positive, "a finite number > 0")
        return cls(k, which, method, max_iter, tol, difference_step, whole("seed", seed))


@dataclass(frozen=True)
class Problem:
    """A loss over parameters, and how its curvature is to be measured."""

    loss: Callable[..., Tensor]
    params: list[Tensor]
    model: torch.nn.Module | None
    how: Measurement

    def measure(
        self,
        data: Iterable[Any] | None,
        count: int | None,
        scales: Sequence[Scale],
        shifts: Sequence[Scale] | None,
        solver: str,
    ) -> tuple[_eigen.Found, Hessian]:
        """Eigenvalues of ``S H S + D``, where S and D are diagonal; their vectors are multiplied by S.

        The loss is that of the first `count` batches, or of all.
        """
        how = self.how
        size = sum(param.numel() * (2 if param.is_complex() else 1) for param in self.params)
        if size == 0:
            raise ValueError("params has no element that is not held fixed, expected at least one")
        if how.k > size:
            raise ValueError(f"k is {how.k}, expected at most {size}, the number of elements that are not held fixed")
        generator = torch.Generator().manual_seed(how.seed)
        untouched = Untouched(self.params, self.model)
        # A user may measure in a block without gradients, as schedulers step in one.
        with torch.inference_mode(False), untouched, torch.no_grad():
            batches = None if data is None else _read(data, count)
            hessian = Hessian(self.loss, self.params, batches, untouched, how.method, how.difference_step)

            def draw() -> list[Tensor]:
                return [_random(param, generator) for param in self.params]

            def times(vector: Sequence[Tensor]) -> list[Tensor]:
                product = times_diagonal(scales, hessian(times_diagonal(scales, vector)))
                if shifts is not None:
                    torch._foreach_add_(product, times_diagonal(shifts, vector))
                return product

            if solver == "power":
                found = _eigen.power(times, draw, how.which, how.max_iter or 200, how.tol)
            else:
                eps = max((torch.finfo(param.dtype).eps for param in self.params), default=0.0)
                found = _eigen.lanczos(times, draw, size, how.k, how.which, how.max_iter or 40, how.tol, eps)
            vectors = []
            for vector in found.vectors:
                vector = copied(times_diagonal(scales, vector))
                scale_(1 / (norm(vector) or 1.0), vector, vector)
                vectors.append(vector)
        return _eigen.Found(found.values, found.residuals, vectors, found.iterations, found.converged), hessian


def check_problem(loss: Any, model: Any, data: Any) -> None:
    """Raise TypeError where one is of a wrong type."""
    if not callable(loss):
        raise TypeError(f"loss is of type {type(loss).__name__}, expected a function")
    if not isinstance(model, torch.nn.Module | None):
        raise TypeError(f"model is of type {type(model).__name__}, expected Module")
    if not isinstance(data, Iterable | None):
        raise TypeError(f"data is of type {type(data).__name__}, expected batches")


def _read(data: Iterable[Any], count: int | None) -> list[Any]:
    """The first batches, or all."""
    with kept(data):
        batches = list(islice(data, count))
    if not batches:
        raise ValueError("data has no batch, expected at least one")
    return batches


def _is_positive(number: float) -> bool:
    return math.isfinite(number) and number > 0


def times_diagonal(diagonal: Sequence[Scale], vector: Sequence[Tensor]) -> list[Tensor]:
    """The product of a diagonal matrix with a vector."""
    return [_times(scale, tensor) for scale, tensor in zip(diagonal, vector, strict=True)]


def _times(scale: Scale, tensor: Tensor) -> Tensor:
    if isinstance(scale, float):
        return tensor if scale == 1.0 else tensor * scale
    product = (as_real(tensor) * scale).to(as_real(tensor).dtype)
    return torch.view_as_complex(product) if tensor.is_complex() else product


def _random(param: Tensor, generator: torch.Generator) -> Tensor:
    dtype = torch.promote_types(param.dtype, torch.float32)
    # Drawn on the CPU, so that the start is the same on every device.
    return torch.randn(param.shape, generator=generator, dtype=dtype).to(param.device)


def _among(given: list[Tensor], places: list[int], vector: list[Tensor]) -> tuple[Tensor, ...]:
    """The parts of a vector at their parameters' places, zeros at the others'."""
    part_at = dict(zip(places, vector, strict=True))
    return tuple(part_at[at] if at in part_at else torch.zeros_like(param) for at, param in enumerate(given))
