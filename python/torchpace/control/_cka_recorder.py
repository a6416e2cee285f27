"""Representations of a fixed batch, kept over training and compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from torchpace.control._cka import linear_cka
from torchpace.control._numbers import whole


class CKARecorder:
    """Keeps the activations of layers on a fixed batch at chosen steps, and tells how alike they are over time.

    `record` runs the batch through the model in eval mode without gradients. Training modes, the random number
    generators and the buffers are then as they were, and no hook is left on the model, also when it raises. Activations
    are kept on the CPU in float32 (float64 where they are), all dimensions but the first flattened. A layer that is
    called several times in a run has its outputs side by side.

    Args:
        model: the module.
        layers: names of its submodules, as in ``model.named_modules()``.
        probe: the batch: a tensor, a tuple or list of arguments, or a dict of keyword arguments; the first dimension of
            the activations is the examples. At least 2 of them.
        max_features: how many features of a layer to keep at most, the same ones at all times, chosen at random
            (default: None, all).
        seed: of that choice (default: 0).

    Raises:
        ValueError: there is no layer of a name, a name stands twice, or an argument is out of its range.

    As a context manager it lets go of the model and the batch at the end; what was recorded stays.

    Example:
        >>> import torch
        >>> from torchpace import optim
        >>> from torchpace.control import CKARecorder
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
        >>> optimizer = optim.SGD(model.parameters(), lr=0.5)
        >>> inputs = torch.randn(32, 4)
        >>> with CKARecorder(model, ["0", "2"], inputs) as recorder:
        ...     for step in range(21):
        ...         if step % 10 == 0:
        ...             recorder.record(step)
        ...         optimizer.zero_grad()
        ...         (model(inputs) - inputs[:, :2].sin()).square().mean().backward()
        ...         optimizer.step()
        >>> recorder.steps, recorder.matrix("0").shape
        ([0, 10, 20], torch.Size([3, 3]))
        >>> bool(recorder.matrix("2")[0, 2] < recorder.matrix("0")[0, 2] <= 1)  # the last layer moved more
        True
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str],
        probe: Any,
        *,
        max_features: int | None = None,
        seed: int = 0,
    ) -> None:
        modules = dict(model.named_modules())
        if isinstance(layers, str) or not layers:
            raise ValueError(f"layers is {layers!r}, expected a list of at least one name")
        for name in layers:
            if name not in modules:
                raise ValueError(
                    f"layers has {name!r}, expected names of submodules: {', '.join(filter(None, modules))}"
                )
        if len(set(layers)) < len(layers):
            raise ValueError(f"layers is {list(layers)}, expected each name once")
        if max_features is not None:
            max_features = whole("max_features", max_features, 1, "at least 1")
        self.layers: list[str] = list(layers)
        self.steps: list[int] = []
        self._kept: dict[str, list[Tensor]] = {name: [] for name in layers}
        self._choice: dict[str, Tensor] = {}
        self._max_features, self._seed = max_features, whole("seed", seed)
        self._model: nn.Module | None = model
        self._probe = probe

    def __enter__(self) -> CKARecorder:
        """The recorder itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the model and the batch; what was recorded stays."""
        self._model = self._probe = None

    def record(self, step: int) -> None:
        """Run the batch, and keep the activations as those of a step.

        Raises:
            RuntimeError: the recorder is closed, or the model did not call a layer.
            TypeError: a layer's output has no tensor in it.
            ValueError: a layer's output is a number, or of unlike many examples or features as the first time.
        """
        if self._model is None:
            raise RuntimeError("the recorder is closed")
        outputs: dict[str, list[Tensor]] = {name: [] for name in self.layers}
        with _as_it_was(self._model):
            modules, hooks = dict(self._model.named_modules()), []
            try:
                for name in self.layers:
                    hooks.append(modules[name].register_forward_hook(_keeper(name, outputs[name])))
                self._model.eval()
                with torch.no_grad():
                    _call(self._model, self._probe)
            finally:
                for hook in hooks:
                    hook.remove()
        choice = dict(self._choice)
        features = {name: self._features(name, those, choice) for name, those in outputs.items()}
        self._choice = choice
        for name, those in features.items():
            self._kept[name].append(those)
        self.steps.append(step)

    def __repr__(self) -> str:
        """The layers, and the steps that were recorded."""
        return f"CKARecorder(layers={self.layers}, steps={self.steps}, closed={self._model is None})"

    def _features(self, name: str, outputs: list[Tensor], choice: dict[str, Tensor]) -> Tensor:
        if not outputs:
            raise RuntimeError(f"the model did not call the layer {name!r}")
        for output in outputs:
            if output.dim() == 0:
                raise ValueError(f"the output of {name!r} has shape [], expected examples in the first dimension")
        features = torch.cat([output.reshape(len(output), -1) for output in outputs], 1)
        if self._max_features is not None and features.shape[1] > self._max_features:
            if name not in choice:
                generator = torch.Generator().manual_seed(self._seed)
                order = torch.randperm(features.shape[1], generator=generator)
                choice[name] = order[: self._max_features].sort().values
            features = features[:, choice[name]]
        kept = self._kept[name]
        if kept and kept[0].shape != features.shape:
            raise ValueError(f"the output of {name!r} has shape {list(features.shape)}, at first {list(kept[0].shape)}")
        return features

    def similarity(self, layer: str, first: int, second: int, *, unbiased: bool = False) -> float:
        """The linear CKA of a layer between two recorded steps.

        Args:
            layer: its name.
            first: a step that was recorded.
            second: another, or the same.
            unbiased: as for `linear_cka` (default: False).

        Raises:
            KeyError: the layer or a step was not recorded.
        """
        kept = self._kept[layer]
        for step in (first, second):
            if step not in self.steps:
                raise KeyError(f"step {step} was not recorded, those are: {self.steps}")
        return linear_cka(kept[self.steps.index(first)], kept[self.steps.index(second)], unbiased=unbiased)

    def matrix(self, layer: str, *, unbiased: bool = False) -> Tensor:
        """The linear CKA of a layer between all recorded steps: a symmetric matrix of float64, in the order of `steps`.

        Args:
            layer: its name.
            unbiased: as for `linear_cka` (default: False).

        Raises:
            KeyError: the layer was not recorded.
        """
        kept = self._kept[layer]
        found = torch.ones(len(kept), len(kept), dtype=torch.float64)
        for row in range(len(kept)):
            for column in range(row + 1):
                found[row, column] = linear_cka(kept[row], kept[column], unbiased=unbiased)
                found[column, row] = found[row, column]
        return found


def _keeper(name: str, into: list[Tensor]) -> Any:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        found = next(_tensors(output), None)
        if found is None:
            raise TypeError(f"the output of {name!r} is of type {type(output).__name__}, expected a tensor in it")
        found = found.detach().to("cpu")
        # Copied: a layer after it may work in place.
        into.append(found.to(torch.float64 if found.dtype == torch.float64 else torch.float32, copy=True))

    return hook


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, (tuple, list)):
        for value in output:
            yield from _tensors(value)


def _call(model: nn.Module, probe: Any) -> None:
    if isinstance(probe, Mapping):
        model(**probe)
    elif isinstance(probe, (tuple, list)):
        model(*probe)
    else:
        model(probe)


@contextmanager
def _as_it_was(model: nn.Module) -> Iterator[None]:
    """Put modes, buffers and random number generators back."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(module, dict(module._buffers)) for module in model.modules()]
    values = {id(buffer): (buffer, buffer.clone(), buffer._version) for buffer in model.buffers()}
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers()) if tensor.is_cuda}
    with torch.random.fork_rng(devices=[device.index for device in devices]):
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training
            for module, own in buffers:
                module._buffers.clear()
                module._buffers.update(own)
            with torch.no_grad():
                for buffer, value, version in values.values():
                    if buffer._version != version:
                        buffer.copy_(value)
