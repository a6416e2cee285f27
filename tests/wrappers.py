"""Look-alikes of what people put around optimizers and schedulers: trainers' wrappers, Lookahead, SAM, containers."""

from collections import defaultdict

import torch
from torch.optim import Optimizer


class Prepared(Optimizer):
    """As accelerate's: an Optimizer by class alone, without torch's constructor; everything is a property."""

    def __init__(self, optimizer, scaler=None):
        self.optimizer, self.scaler = optimizer, scaler
        self.skipped = False

    state = property(lambda self: self.optimizer.state)
    param_groups = property(lambda self: self.optimizer.param_groups)
    defaults = property(lambda self: self.optimizer.defaults)

    def zero_grad(self, set_to_none=True):
        self.optimizer.zero_grad(set_to_none)

    def state_dict(self):
        return self.optimizer.state_dict()

    def step(self, closure=None):
        if self.scaler is None:
            self.optimizer.step(closure)
        else:
            before = self.scaler.get_scale()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.skipped = self.scaler.get_scale() < before


class PreparedScheduler:
    """As accelerate's: no scheduler by class."""

    def __init__(self, scheduler, optimizers):
        self.scheduler, self.optimizers = scheduler, optimizers

    def step(self, *args):
        self.scheduler.step(*args)

    def get_last_lr(self):
        return self.scheduler.get_last_lr()


class Delegate:
    """As Fabric's and Lightning's: of the wrapped class by name, with `__getattr__`."""

    def __init__(self, optimizer):
        self._optimizer = optimizer
        self.__class__ = type("Delegate" + type(optimizer).__name__, (type(self), type(optimizer)), {})

    @property
    def optimizer(self):
        return self._optimizer

    def step(self, closure=None):
        return self.optimizer.step() if closure is None else self.optimizer.step(closure)

    def __getattr__(self, name):
        return getattr(self._optimizer, name)


class Slotted:
    """All in slots, and `__getattr__` for the rest."""

    __slots__ = ("__inner",)

    def __init__(self, optimizer):
        self.__inner = optimizer

    def step(self, closure=None):
        return self.__inner.step(closure)

    def __getattr__(self, name):
        return getattr(self.__inner, name)


class Lookahead(Optimizer):
    """Slow weights that follow the fast ones every two steps (Zhang et al. 2019), with torch's constructor."""

    def __init__(self, base):
        self.base = base
        super().__init__(base.param_groups, base.defaults)
        self.param_groups = base.param_groups
        self.count = 0
        self.slow = [[param.detach().clone() for param in group["params"]] for group in self.param_groups]

    def step(self, closure=None):
        loss = self.base.step(closure)
        self.count += 1
        if self.count % 2 == 0:
            for group, slow in zip(self.param_groups, self.slow, strict=True):
                for param, own in zip(group["params"], slow, strict=True):
                    own.lerp_(param.detach(), 0.5)
                    with torch.no_grad():
                        param.copy_(own)
        return loss


class PlainLookahead:
    """The same, no Optimizer, with its slow weights in a state of its own."""

    def __init__(self, optimizer):
        self.optimizer = optimizer
        self.state = defaultdict(dict)

    param_groups = property(lambda self: self.optimizer.param_groups)

    def zero_grad(self, set_to_none=True):
        self.optimizer.zero_grad(set_to_none)

    def step(self, closure=None):
        loss = self.optimizer.step(closure)
        for group in self.param_groups:
            for param in group["params"]:
                slow = self.state[param].setdefault("slow", param.detach().clone())
                slow.lerp_(param.detach(), 0.5)
                with torch.no_grad():
                    param.copy_(slow)
        return loss


class SAM(Optimizer):
    """Climbs before it descends (Foret et al. 2021); by the same gradient, so that it needs no closure."""

    def __init__(self, params, base, **options):
        super().__init__(params, {"rho": 0.05, **options})
        self.base_optimizer = base(self.param_groups, **options)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for param in group["params"]:
                self.state[param]["old"] = param.detach().clone()
                param.add_(param.grad, alpha=1e-3)
                param.copy_(self.state[param]["old"])
        self.base_optimizer.step()
        return loss


class Several:
    """Optimizers in a list, no Optimizer; `step` takes no closure."""

    def __init__(self, *optimizers):
        self.optimizers = list(optimizers)

    def zero_grad(self, set_to_none=True):
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none)

    def step(self):
        for optimizer in self.optimizers:
            optimizer.step()


class Named(Several):
    """In a dict, with the groups of all behind a property; `step` takes a closure."""

    def __init__(self, *optimizers):
        self.by_name = {str(index): optimizer for index, optimizer in enumerate(optimizers)}

    optimizers = property(lambda self: self.by_name.values())
    param_groups = property(lambda self: [group for one in self.by_name.values() for group in one.param_groups])

    def step(self, closure=None):
        loss = None if closure is None else closure()
        super().step()
        return loss


class Listed(list):
    """A list itself."""

    zero_grad, step = (lambda self, *_: [one.zero_grad() for one in self]), (lambda self: [one.step() for one in self])


class Sharded(Optimizer):
    """As ZeroRedundancyOptimizer: groups of its own, copied to those within before a step and back after it."""

    def __init__(self, params, optimizer_class, **options):
        super().__init__(params, {})
        self.optim = optimizer_class([{"params": group["params"]} for group in self.param_groups], **options)
        self._copy(self.optim.param_groups, self.param_groups)

    @staticmethod
    def _copy(sources, targets):
        for source, target in zip(sources, targets, strict=True):
            target.update({name: value for name, value in source.items() if name != "params"})

    def step(self, closure=None):
        self._copy(self.param_groups, self.optim.param_groups)
        loss = self.optim.step(closure)
        self._copy(self.optim.param_groups, self.param_groups)
        return loss


class Engine:
    """What holds an optimizer for a wrapper."""

    def __init__(self, optimizer, others):
        self.opt, self.all = optimizer, [optimizer, *others]


class Engined(Prepared):
    """Its optimizer is in an object, which knows others too."""

    def __init__(self, optimizer, others=()):
        self.engine = Engine(optimizer, others)

    scaler = None
    optimizer = property(lambda self: self.engine.opt)


def _over(wrap):
    """One that is put around an optimizer."""
    return lambda params, cls, **options: _both(wrap, cls(params, **options))


def _both(wrap, *inner):
    return wrap(*inner), list(inner)


def _within(attribute, wrap):
    """One that makes its optimizer itself."""

    def make(params, cls, **options):
        whole = wrap(params, cls, **options)
        return whole, [getattr(whole, attribute)]

    return make


def _halves(wrap):
    """One of two optimizers."""

    def make(params, cls, **options):
        params = list(params)
        return _both(wrap, cls(params[:1], **options), cls(params[1:], **options))

    return make


WRAPPERS = {
    "prepared": _over(Prepared),
    "delegate": _over(Delegate),
    "slotted": _over(Slotted),
    "lookahead": _over(Lookahead),
    "plain lookahead": _over(PlainLookahead),
    "SAM": _within("base_optimizer", SAM),
    "sharded": _within("optim", Sharded),
    "several": _halves(Several),
    "named": _halves(Named),
    "listed": _halves(lambda *inner: Listed(inner)),
    "engined": _over(Engined),
    "prepared lookahead": _over(lambda optimizer: Prepared(Lookahead(optimizer))),
    "delegate of prepared several": _halves(lambda *inner: Prepared(Named(*inner))),
    "several prepared": _halves(lambda *inner: Several(*map(Prepared, inner))),
    "several plain lookaheads": _halves(lambda *inner: Several(*map(PlainLookahead, inner))),
}
# Those whose steps are those of what they wrap.
PLAIN = ("prepared", "delegate", "slotted", "several", "named", "listed", "sharded", "engined", "several prepared")
