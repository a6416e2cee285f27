"""The learning-rate range test."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer

from torchpace.control._bar import Bar
from torchpace.control._batches import Batches
from torchpace.control._numbers import real, whole
from torchpace.control._range_result import RangeTest, smooth
from torchpace.control._snapshot import Snapshot
from torchpace.control._stepping import Stepping
from torchpace.optim import _unwrap

Loss = Callable[[Any, Any], Any]
Backward = Callable[[Tensor], object]


def lr_range_test(
    model: Module,
    optimizer: Optimizer,
    loss: Loss,
    data: Iterable[Any],
    *,
    low: float = 1e-7,
    high: float = 10.0,
    steps: int = 100,
    mode: Literal["exponential", "linear"] = "exponential",
    smoothing: float = 0.5,
    stop_ratio: float = 2.0,
    repeats: int = 1,
    seed: int = 0,
    progress: bool = True,
    backward: Backward | None = None,
) -> RangeTest:
    r"""Train at learning rates that rise from step to step, see where the loss falls and where it rises, undo it all.

    At step :math:`t` of :math:`n` the rate is :math:`\eta_t = l (h / l)^{t / (n - 1)}`, or on a line from :math:`l` to
    :math:`h`. The loss of each batch is smoothed, :math:`m_t = \beta m_{t-1} + (1 - \beta) L_t` with
    :math:`m_0 = 0`, over :math:`1 - \beta^t`. The sweep stops where a loss is not finite, or where the smoothed loss
    is above its least value by more than `stop_ratio` times its first.

    The suggestion is a sixth of the rate at which the smoothed loss is least; see `RangeTest`.

    Afterwards, and also if it is interrupted or fails, everything is as it was, to the bit: model, buffers and modes,
    gradients, the optimizer with all that it wraps, global random numbers, and a loader with the loaders, samplers,
    counts of epochs and generators in it, whatever class it is of, and with what its classes and functions keep in
    variables of their own and of their modules. Of a dataset it is what its attributes are; what they hold inside and
    changes when it is read, such as a list, stays changed. So does what installed packages keep in variables of
    modules, and what other processes and threads or extension modules do.

    Args:
        model: the module to train, in the mode (train or eval) that it is in.
        optimizer: any optimizer of torch's or ours over its parameters, also as accelerate or Fabric prepared it,
            within a wrapper, or several in one. The rate is that of the group with the largest ``lr``; the others keep
            their proportions. One whose step demands a closure (a SAM) gets it, with the gradients there; LBFGS, which
            evaluates by itself, without.
        loss: called as ``loss(model, batch)``, returns the loss, one number, to call ``backward()`` on.
        data: a DataLoader, prepared by a trainer or not, a list of batches, or another iterable that begins anew each
            time; gone through as often as needed.
        low: :math:`l`, above 0, parameter units per gradient unit (default: 1e-7).
        high: :math:`h`, above `low` (default: 10).
        steps: :math:`n`, batches of a sweep, at least 2 (default: 100).
        mode: "exponential" or "linear" (default: "exponential").
        smoothing: :math:`\beta`, at least 0, for none, and below 1 (default: 0.5).
        stop_ratio: above 0; `math.inf` for no stop (default: 2).
        repeats: sweeps, each from the same state with other random numbers and another order of the batches; at least
            1 (default: 1).
        seed: of the random numbers of the first sweep, at least 0; the next have the next (default: 0).
        progress: show a bar, if tqdm is installed (default: True).
        backward: called with the loss in the place of its own ``backward()``: what a trainer has for it, such as
            ``fabric.backward`` under mixed precision (default: None, ``loss.backward()``, scaled if the optimizer
            brings a GradScaler).

    Returns:
        A `RangeTest`.

    Raises:
        TypeError: an argument is of a wrong type, or `data` can be gone through only once, or draws from an iterator
            that it holds and that cannot be put back, such as that of a loader which never ends.
        ValueError: an argument is out of its range, the optimizer has none of the model's parameters, `data` has no
            batches, or a sweep's first loss is not finite.
        RuntimeError: the loss depends on none of the optimizer's parameters, or asks for another `backward`.

    Paper:
        Smith, Cyclical learning rates for training neural networks, 2017.

    Example:
        >>> import torch
        >>> from torchpace import optim
        >>> from torchpace.control import lr_range_test
        >>> x = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> model = torch.nn.Module()
        >>> model.x = x
        >>> curvatures = torch.tensor([4.0, 0.5])
        >>> def loss(model, batch):
        ...     return (curvatures * model.x**2).sum() / 2
        >>> optimizer = optim.SGD([x], lr=1e-3)
        >>> found = lr_range_test(model, optimizer, loss, [None], low=1e-4, progress=False)
        >>> 0.5 / 10 < found.suggestion < 0.5  # the bound is 2 / 4
        True
        >>> x.tolist(), optimizer.param_groups[0]["lr"]
        ([1.0, 1.0], 0.001)
    """
    _check_types(model, optimizer, loss, backward)
    low = real("low", low, lambda x: math.isfinite(x) and x > 0, "a finite number > 0")
    high = real("high", high, lambda x: math.isfinite(x) and x > low, f"a finite number > low ({low})")
    steps, repeats = whole("steps", steps, 2, "at least 2"), whole("repeats", repeats, 1, "at least 1")
    smoothing = real("smoothing", smoothing, lambda x: 0 <= x < 1, "a number >= 0 and < 1")
    stop_ratio = real("stop_ratio", stop_ratio, lambda x: x > 0, "a number > 0")
    seed = whole("seed", seed, 0)
    if mode not in ("exponential", "linear"):
        raise ValueError(f"mode is {mode!r}, expected 'exponential' or 'linear'")
    batches = Batches(data)
    lrs = [_rate(low, high, step / (steps - 1), mode) for step in range(steps)]
    rates = _Rates(optimizer)
    training = _Training(model, optimizer, loss, backward)
    losses: list[list[float]] = []
    snapshot = Snapshot(model, optimizer).take()
    with ExitStack() as stack:
        stack.callback(snapshot.restore)
        stack.enter_context(batches.kept())
        bar = stack.enter_context(Bar(steps * repeats if progress else None))
        for repeat in range(repeats):

            def begin(number: int = seed + repeat) -> None:
                snapshot.restore()
                snapshot.seed_random(number)
                rates.set(lrs[0])

            begin()
            with closing(batches.of_repeat(seed, repeat)) as drawn:
                losses.append(_sweep(training, drawn, lrs, rates, smoothing, stop_ratio, bar, begin))
    return RangeTest(lrs, losses, [smooth(found, smoothing) for found in losses])


def _sweep(
    training: _Training,
    batches: Iterator[Any],
    lrs: list[float],
    rates: _Rates,
    smoothing: float,
    stop_ratio: float,
    bar: Bar,
    begin: Callable[[], None],
) -> list[float]:
    """The losses up to where the sweep stops."""
    losses: list[float] = []
    for lr in lrs:
        rates.set(lr)
        number = training.step(next(batches), begin)
        if not math.isfinite(number):
            if not losses:
                raise ValueError(f"the first loss is {number}, expected a finite number")
            break
        losses.append(number)
        bar.advance(lr, number)
        smoothed = smooth(losses, smoothing)
        if smoothed[-1] > min(smoothed) + stop_ratio * abs(smoothed[0]):
            break
    return losses


class _NotFiniteError(Exception):
    """A loss is not finite, so no step is made."""


class _Training:
    """Steps on batches."""

    def __init__(self, model: Module, optimizer: Optimizer, loss: Loss, backward: Backward | None) -> None:
        self._model, self._optimizer, self._loss = model, optimizer, loss
        self._backward = backward or self._own_backward
        self._stepping = Stepping(optimizer, scaled=_unwrap.scaling(optimizer)[0] is not None)
        self._evaluates_itself = bool(_unwrap.within(optimizer, torch.optim.LBFGS))

    def step(self, batch: Any, begin: Callable[[], None]) -> float:
        """A step, which begins anew where the first one fails for want of a closure; the loss before it."""
        values: list[float] = []

        def closure() -> Tensor:
            self._optimizer.zero_grad()
            value = self._evaluate(batch)
            values.append(value.item())
            if not math.isfinite(values[0]):
                raise _NotFiniteError
            self._backward(value)
            if all(param.grad is None for param in _unwrap.params(self._optimizer)):
                raise RuntimeError("the loss depends on none of the optimizer's parameters")
            return value

        def again() -> None:
            begin()
            values.clear()
            closure()

        step: Callable[..., Any] = self._optimizer.step
        with suppress(_NotFiniteError), torch.enable_grad():
            if self._evaluates_itself:
                step(closure)
            else:
                closure()
                self._stepping.step(step, closure, again)
        return values[0]

    def _evaluate(self, batch: Any) -> Tensor:
        value = self._loss(self._model, batch)
        if not isinstance(value, Tensor) or value.numel() != 1:
            what = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise TypeError(f"loss returned {what}, expected a tensor of one number")
        return value

    def _own_backward(self, loss: Tensor) -> None:
        scaler, _ = _unwrap.scaling(self._optimizer)
        scaled: Any = loss if scaler is None else scaler.scale(loss)
        try:
            scaled.backward()
        except RuntimeError as error:
            if "fabric.backward" in str(error):
                raise RuntimeError(f"{error} Expected backward=fabric.backward in lr_range_test.") from error
            raise


def _rate(low: float, high: float, share: float, mode: str) -> float:
    return low + (high - low) * share if mode == "linear" else low ** (1 - share) * high**share


class _Rates:
    """The groups of an optimizer, and of those within it, that have a learning rate, and their shares of the largest.

    A wrapper may have groups of its own, copies of those within: each wrapper's are in proportion among themselves.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._shares: list[tuple[dict[str, Any], float]] = []
        innermost = _unwrap.innermost(optimizer)
        outer = [part for part in _unwrap.parts(optimizer) if all(part is not inner for inner in innermost)]
        known: set[int] = set()
        for together in (innermost, *([part] for part in outer)):
            groups = [group for part in together for group in _unwrap.own_groups(part) if "lr" in group]
            groups = [group for group in groups if id(group) not in known]
            known.update(map(id, groups))
            largest = max((float(group["lr"]) for group in groups), default=0.0)
            self._shares += [(group, float(group["lr"]) / largest if largest > 0 else 1.0) for group in groups]
        if not self._shares:
            raise ValueError("optimizer has no group with an 'lr', expected at least one")

    def set(self, lr: float) -> None:
        """Give the group of the largest rate this one, and the others theirs."""
        for group, share in self._shares:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr * share)
            else:
                group["lr"] = lr * share


def _check_types(model: Any, optimizer: Any, loss: Any, backward: Any) -> None:
    if not isinstance(model, Module):
        raise TypeError(f"model is of type {type(model).__name__}, expected Module")
    if not _unwrap.is_optimizer(optimizer):
        raise TypeError(f"optimizer is of type {type(optimizer).__name__}, expected Optimizer")
    if not callable(loss):
        raise TypeError(f"loss is of type {type(loss).__name__}, expected a function of the model and a batch")
    if backward is not None and not callable(backward):
        raise TypeError(f"backward is of type {type(backward).__name__}, expected a function of the loss")
    if {id(param) for param in model.parameters()}.isdisjoint(map(id, _unwrap.params(optimizer))):
        raise ValueError("optimizer has none of the parameters of model, expected at least one")
