"""The functions of `torch.optim.functional`, fused where tensors are on the CPU.

Each takes what torch's function of that name takes and does the same, by one sweep over all lists; what cannot be fused
is left to torch's function: other devices, gradients through the step, sparse tensors and subclasses of tensors,
``capturable``, a `GradScaler`'s numbers, `torch.compile`. `adafactor`, `muon` and `sparse_adam` are torch's own.

torch has the module from version 2.15 on; here it is with every version.

Example:
    >>> import torch
    >>> from torchpace.optim import functional
    >>> params, grads, steps = [torch.ones(2)], [torch.ones(2)], [torch.tensor(0.0)]
    >>> means, squares = [torch.zeros(2)], [torch.zeros(2)]
    >>> options = dict(beta1=0.9, beta2=0.999, weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False)
    >>> functional.adam(params, grads, means, squares, [], steps, lr=0.1, **options)
    >>> [round(value, 4) for value in params[0].tolist()], steps
    ([0.9, 0.9], [tensor(1.)])
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import torch
from torch import Tensor
from torch.optim import adadelta as _adadelta
from torch.optim import adagrad as _adagrad
from torch.optim import adam as _adam
from torch.optim import adamax as _adamax
from torch.optim import adamw as _adamw
from torch.optim import asgd as _asgd
from torch.optim import nadam as _nadam
from torch.optim import radam as _radam
from torch.optim import rmsprop as _rmsprop
from torch.optim import rprop as _rprop
from torch.optim import sgd as _sgd
from torch.optim._adafactor import adafactor
from torch.optim._functional import sparse_adam
from torch.optim._muon import muon

from torchpace import _native

__all__ = [
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "asgd",
    "muon",
    "nadam",
    "radam",
    "rmsprop",
    "rprop",
    "sgd",
    "sparse_adam",
]

_P = ParamSpec("_P")


def _fused(function: Callable[_P, None], rule: str, *slots: str, **fixed: Any) -> Callable[_P, None]:
    """A function of torch's with its step fused.

    Args:
        function: torch's.
        rule: the update rule's name.
        *slots: the arguments that hold the rule's slots, in its order.
        **fixed: options of the rule that are no arguments.
    """
    signature = inspect.signature(function)
    grads = "d_p_list" if "d_p_list" in signature.parameters else "grads"

    @wraps(function)
    def fused(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            bound = None  # torch's function says so in its own words
        if bound is not None:
            bound.apply_defaults()
            if _step(rule, {**fixed, **bound.arguments}, grads, slots):
                return
        function(*args, **kwargs)

    fused.__module__ = __name__
    return fused


def _step(rule: str, arguments: dict[str, Any], grads: str, slots: tuple[str, ...]) -> bool:
    """Step, if that can be fused; whether it was done."""
    get = arguments.get
    only_torch = ("differentiable", "capturable", "has_sparse_grad", "grad_scale", "found_inf")
    if torch.compiler.is_compiling() or any(get(name) is not None and get(name) is not False for name in only_torch):
        return False
    if torch._C._len_torch_dispatch_stack() > 0 or torch._C._len_torch_function_stack() > 0:
        return False
    if get("foreach") and get("fused"):
        return False  # torch has a word to say
    lists = [arguments["params"], arguments[grads], *(arguments[name] for name in slots), get("state_steps", [])]
    if not all(isinstance(each, list) for each in lists):
        return False
    params, gradients, *buffers, steps = lists
    fresh: list[bool] = []
    if rule == "sgd" and arguments["momentum"] != 0:
        # New buffers are None.
        fresh = [buffer is None for buffer in buffers[0]]
        if not all(isinstance(param, Tensor) for param in params) or len(fresh) != len(params):
            return False
        buffers[0] = [
            torch.zeros_like(param) if is_new else buffer
            for param, buffer, is_new in zip(params, buffers[0], fresh, strict=True)
        ]
    if torch.is_grad_enabled() and any(getattr(one, "requires_grad", False) for each in lists for one in each):
        return False  # autograd follows torch's, or refuses it
    given = (rule, _options(arguments), params, gradients, buffers, steps, fresh, torch.get_num_threads())
    if not params or _native.step_on_lists(*given) is not None:
        return False
    if fresh:
        lists[2][:] = buffers[0]
    return True


def _options(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments as options of a group."""
    options = {name: value for name, value in arguments.items() if not isinstance(value, list)}
    if "beta1" in options:
        options["betas"] = (options["beta1"], options["beta2"])
    if "etaminus" in options:
        options["etas"] = (options["etaminus"], options["etaplus"])
        options["step_sizes"] = (options["step_size_min"], options["step_size_max"])
        options["lr"] = 0.0  # where step sizes begin, which they did
    return options


# Typed as torch has them.
if TYPE_CHECKING:
    from torch.optim.adadelta import adadelta
    from torch.optim.adagrad import adagrad
    from torch.optim.adam import adam
    from torch.optim.adamax import adamax
    from torch.optim.adamw import adamw
    from torch.optim.asgd import asgd
    from torch.optim.nadam import nadam
    from torch.optim.radam import radam
    from torch.optim.rmsprop import rmsprop
    from torch.optim.rprop import rprop
    from torch.optim.sgd import sgd
else:
    adadelta = _fused(_adadelta.adadelta, "adadelta", "square_avgs", "acc_deltas")
    adagrad = _fused(_adagrad.adagrad, "adagrad", "state_sums")
    adam = _fused(_adam.adam, "adam", "exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs", decoupled_weight_decay=False)
    adamax = _fused(_adamax.adamax, "adamax", "exp_avgs", "exp_infs")
    adamw = _fused(_adamw.adamw, "adam", "exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs", decoupled_weight_decay=True)
    asgd = _fused(_asgd.asgd, "asgd", "etas", "mus", "axs")
    nadam = _fused(_nadam.nadam, "nadam", "mu_products", "exp_avgs", "exp_avg_sqs")
    radam = _fused(_radam.radam, "radam", "exp_avgs", "exp_avg_sqs")
    rmsprop = _fused(_rmsprop.rmsprop, "rmsprop", "square_avgs", "momentum_buffer_list", "grad_avgs")
    rprop = _fused(_rprop.rprop, "rprop", "prevs", "step_sizes")
    sgd = _fused(_sgd.sgd, "sgd", "momentum_buffer_list")
