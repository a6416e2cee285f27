"""A model's parameters in groups for Muon."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from torch import Tensor, nn

from torchpace.optim.adamw import AdamW
from torchpace.optim.muon import Muon

Names: TypeAlias = str | Iterable[str]

_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_NORMS = (
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.LocalResponseNorm,
    nn.modules.batchnorm._NormBase,
)


def muon_groups(
    model: nn.Module | Iterable[tuple[str, Tensor]],
    *,
    lr: float | Tensor = 1e-3,
    weight_decay: float = 0.1,
    adamw: Mapping[str, Any] | None = None,
    head: Names | None = None,
    exclude: Callable[[str, Tensor], bool] | Names | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """TODO"""
    _check_options(Muon, options, "options")
    by_adamw = dict(adamw or {})
    _check_options(AdamW, by_adamw, "adamw")
    is_model = isinstance(model, nn.Module)
    if not is_model and head is None and exclude is None:
        raise ValueError(
            "the parameters are without their model, which would tell embeddings and the head; expected their names in "
            "head or exclude, or exclude=() if there are none"
        )
    named = list(model.named_parameters() if isinstance(model, nn.Module) else model)
    for one in named:
        if not (isinstance(one, tuple) and len(one) == 2 and isinstance(one[0], str) and isinstance(one[1], Tensor)):
            raise TypeError(
                f"model has {type(one).__name__} among its parameters, expected pairs of a name and a tensor"
            )
    named = list({id(param): (name, param) for name, param in reversed(named)}.values())[::-1]
    apart = _of_modules(model, head is None) if isinstance(model, nn.Module) else set()
    everywhere = dict(model.named_parameters(remove_duplicate=False)) if isinstance(model, nn.Module) else dict(named)
    if head is not None:
        apart |= _called("head", head, everywhere)
    if exclude is not None and not callable(exclude):
        apart |= _called("exclude", exclude, everywhere)
    groups: tuple[list[tuple[str, Tensor]], list[tuple[str, Tensor]]] = ([], [])
    for name, param in named:
        is_matrix = param.ndim >= 2 and param.shape[0] > 1 and param[0].numel() > 1 and not param.is_complex()
        out = not is_matrix or id(param) in apart or (callable(exclude) and bool(exclude(name, param)))
        groups[out].append((name, param))
    matrices = {"params": groups[0], "lr": lr, "weight_decay": weight_decay, **options}
    others = {"params": groups[1], "use_muon": False, **by_adamw}
    return [group for group in (matrices, others) if group["params"]]


def _check_options(cls: type[Muon] | type[AdamW], options: Mapping[str, Any], name: str) -> None:
    known = [*inspect.signature(cls).parameters][1:]
    for option in options:
        if option not in known:
            raise TypeError(f"{name} has {option!r}, expected options of {cls.__name__}: {', '.join(known)}")


def _of_modules(model: nn.Module, with_head: bool) -> set[int]:
    """The parameters, by `id`, of embeddings and norms, and of the head, if that is to be found."""
    modules = list(model.modules())
    embeddings = {id(param) for one in modules if isinstance(one, _EMBEDDINGS) for param in _own(one)}
    norms = {id(param) for one in modules if isinstance(one, _NORMS) for param in _own(one)}
    linear = [one for one in modules if isinstance(one, nn.Linear)]
    tied = any(id(one.weight) in embeddings for one in linear)
    head = {id(param) for param in _own(linear[-1])} if with_head and linear and not tied else set()
    return embeddings | norms | head


def _own(module: nn.Module) -> list[Tensor]:
    return list(module.parameters(recurse=False))


def _called(argument: str, names: Names, named: Mapping[str, Tensor]) -> set[int]:
    """The parameters of these names, or below modules of these names."""
    found: set[int] = set()
    for name in [names] if isinstance(names, str) else names:
        if not isinstance(name, str):
            raise TypeError(f"{argument} has {name!r}, expected names")
        below = [param for key, param in named.items() if key == name or key.startswith(f"{name}.")]
        if not below:
            raise ValueError(f"{argument} has {name!r}, expected the name of a parameter or a module with parameters")
        found |= {id(param) for param in below}
    return found
