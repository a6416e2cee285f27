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
    """Put a model's parameters into groups for :class:`Muon`: its hidden matrices, and all else under AdamW's rule.

    Under AdamW's rule are the weights of ``Embedding`` and ``EmbeddingBag``; the head, which is the ``Linear`` that is
    tied to an embedding or else the last one by the order of ``model.modules()``; norms; and what is a vector, as
    biases and whatever has a single row or column once flattened. All other parameters are Muon's: convolutions
    flattened to (o, i * h * w), and weights of several matrices (the gates of an ``LSTM``, ``in_proj_weight`` of
    attention) as one.
    A parameter that is there twice is in one group, once. Frozen ones are there too: without a gradient no step touches
    them, and they can be thawed later.

    Embeddings that are plain parameters (of positions, say) look like matrices, and a head that is a convolution like
    any other: they have to be named.

    Args:
        model: the model; or its named parameters, where nothing tells embeddings, norms and head, so that `head` or
            `exclude` has to be given.
        lr: Muon's learning rate (default: 1e-3).
        weight_decay: Muon's decay (default: 0.1).
        adamw: options of AdamW's group: ``lr``, ``betas``, ``eps``, ``weight_decay`` and so on; what is missing is as
            :class:`AdamW` has it (default: None).
        head: names of modules or parameters that are the head, in place of the one that would be found; ``()`` for none
            (default: None).
        exclude: more that is AdamW's: names of modules or parameters, or a function of a parameter's name and the
            parameter (default: None).
        options: of Muon's group, as :class:`Muon` has them (default: none).

    Returns:
        The groups, Muon's first, with names; those without parameters are left out. The constructor takes them as they
        are, and `add_param_group` each of them.

    Raises:
        TypeError: `adamw` or `options` has what is no option; `model` has no parameters with names.
        ValueError: a name is that of no parameter or module; `model` is no module, and neither `head` nor `exclude`
            given.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from torchpace import optim
        >>> model = nn.Sequential(nn.Embedding(50, 16), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 50))
        >>> groups = optim.muon_groups(model, lr=0.02, adamw={"lr": 3e-4}, momentum=0.9)
        >>> [[name for name, _ in group["params"]] for group in groups]
        [['1.weight'], ['0.weight', '1.bias', '3.weight', '3.bias']]
        >>> optimizer = optim.Muon(groups)
        >>> model(torch.arange(8)).square().mean().backward()
        >>> optimizer.step()
        >>> [group["lr"] for group in optimizer.param_groups]
        [0.02, 0.0003]
    """
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
