"""The gradients of an optimizer's parameters: their norm, and putting them aside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor

from torchpace.optim import _clip


def norm(params: Iterable[Tensor]) -> float:
    """The 2-norm of all gradients, summed in float64."""
    return float(_clip.total_norm([param.grad for param in params if param.grad is not None]))


class Aside:
    """Gradients taken out of their parameters, and put back.

    Args:
        params: the parameters.
        copied: keep copies, as what comes writes to the gradients themselves (default: False).
    """

    def __init__(self, params: Iterable[Tensor], *, copied: bool = False) -> None:
        self._held = [(param, param.grad) for param in params]
        self._copied = False
        if copied:
            self.copy()

    def copy(self) -> None:
        """Keep copies from here on."""
        self._held = [(param, _copy(grad)) for param, grad in self._held]
        self._copied = True

    def put_back(self) -> None:
        """Give the parameters the gradients that they had."""
        for param, grad in self._held:
            if param.grad is not grad:
                param.grad = _copy(grad) if self._copied else grad

    def points_against(self) -> bool:
        """Whether the parameters' gradients now point against these: their dot product is below 0."""
        total = 0.0
        for old, new in self._pairs():
            total += float((old.conj() * new).sum().real if old.is_complex() else (old * new).sum())
        return total < 0

    def _pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        for param, old in self._held:
            if old is not None and param.grad is not None:
                yield old.detach(), param.grad.detach()


def _copy(grad: Tensor | None) -> Tensor | None:
    return None if grad is None else grad.detach().clone()
