"""Optimizers whose steps demand a closure, as SAM's do, in the guard and the range test: as in a loop by hand."""

import pytest
import torch

import torchpace.optim
from torchpace.control import DivergenceGuard, lr_range_test
from trainings import bits
from wrappers import Delegate, Lookahead, Prepared, Several, Slotted


class Demanding(torch.optim.Optimizer):
    """SAM (Foret et al. 2021): climbs by the gradients there are, evaluates again, descends from where it was."""

    def __init__(self, params, base, **options):
        super().__init__(params, {"rho": 0.05, **options})
        self.base_optimizer = base(self.param_groups, **options)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def climb(self, closure):
        held = [param for group in self.param_groups for param in group["params"]]
        length = torch.stack([param.grad.norm() for param in held]).norm()
        for param in held:
            self.state[param]["old"] = param.detach().clone()
            param.add_(param.grad, alpha=float(0.05 / length))
        with torch.enable_grad():
            loss = closure()
        for param in held:
            param.copy_(self.state[param]["old"])
        self.base_optimizer.step()
        return loss


class Asserts(Demanding):
    def step(self, closure=None):
        assert closure is not None, "Sharpness Aware Minimization requires closure, but it was not provided"
        return self.climb(closure)


class AssertsSilently(Demanding):
    def step(self, closure=None):
        assert closure
        return self.climb(closure)


class Signed(Demanding):
    def step(self, closure):
        return self.climb(closure)


class WritesFirst(Demanding):
    """Calls what it was not given, after it has written."""

    def step(self, closure=None):
        for group in self.param_groups:
            for param in group["params"]:
                param.data.mul_(1.0 if closure else 7.0)
        closure()
        return self.climb(closure)


class NoClosureError(Exception):
    pass


class RaisesItsOwn(Demanding):
    def step(self, closure=None):
        if closure is None:
            raise NoClosureError("SAM")
        return self.climb(closure)


KINDS = {kind.__name__: kind for kind in (Asserts, AssertsSilently, Signed, RaisesItsOwn)}
WRAPS = {"bare": lambda one: one, **{kind.__name__: kind for kind in (Prepared, Delegate, Lookahead, Slotted)}}


class Run:
    def __init__(self, kind, wrap="bare", set_to_none=True, lr=0.05):
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6), torch.nn.Linear(6, 1))
        self.inner = kind(self.model.parameters(), torchpace.optim.SGD, lr=lr, momentum=0.9)
        self.optimizer, self.set_to_none = WRAPS[wrap](self.inner), set_to_none
        self.batches = [torch.randn(16, 4) for _ in range(5)]

    def loss(self, model, batch):
        return (model(batch) - 1).square().mean()

    def closure(self, batch, scaler=None):
        def evaluate():
            self.inner.zero_grad(self.set_to_none)
            loss = self.loss(self.model, batch)
            (loss if scaler is None else scaler.scale(loss)).backward()
            return loss

        return evaluate

    def step(self, batch):
        loss = self.closure(batch)()
        self.optimizer.step(self.closure(batch))
        return loss.item()

    def written(self):
        params = list(self.model.parameters())
        return [
            [bits(tensor) for tensor in [*params, *self.model.buffers()]],
            [None if param.grad is None else bits(param.grad) for param in params],
            [[bits(one.state.get(param, {})) for param in params] for one in (self.inner, self.inner.base_optimizer)],
            [group["lr"] for group in self.inner.param_groups],
        ]


each_kind = pytest.mark.parametrize("kind", KINDS)
each_wrap = pytest.mark.parametrize("wrap", WRAPS)


@each_kind
@each_wrap
def test_the_sweep_is_a_training_with_closures(kind, wrap):
    if kind == "Signed" and wrap == "Slotted":
        wrap = "Prepared"  # Slotted's own step takes no closure as None
    plain, tested = (Run(KINDS[kind], wrap) for _ in range(2))
    state = tested.written()
    options = {"low": 1e-3, "high": 1.0, "steps": 5, "progress": False, "stop_ratio": 1e9}
    found = lr_range_test(tested.model, tested.optimizer, tested.loss, tested.batches, **options)
    assert tested.written() == state
    losses = []
    for lr, batch in zip(found.lrs, plain.batches, strict=True):
        for group in plain.inner.param_groups:
            group["lr"] = lr
        losses.append(plain.step(batch))
    assert found.losses == [losses]
    assert lr_range_test(tested.model, tested.optimizer, tested.loss, tested.batches, **options) == found


@each_kind
@each_wrap
@pytest.mark.parametrize("on", ["gradient", "loss"])
@pytest.mark.parametrize("set_to_none", [True, False])
def test_a_guarded_training_is_the_plain_one(kind, wrap, on, set_to_none):
    plain, guarded = (Run(KINDS[kind], wrap, set_to_none) for _ in range(2))
    guard = DivergenceGuard(guarded.optimizer, model=guarded.model, on=on)
    for batch in plain.batches:
        assert guard.step(guarded.closure(batch)).item() == plain.step(batch)
        assert guarded.written() == plain.written()
    assert guard.rejections == 0


@each_kind
@pytest.mark.parametrize("set_to_none", [True, False])
def test_a_step_that_diverges_is_taken_back(kind, set_to_none):
    """The one that is kept is that of a lower rate, from the same state and gradients."""
    guarded = Run(KINDS[kind], set_to_none=set_to_none, lr=30.0)
    guard = DivergenceGuard(guarded.optimizer, model=guarded.model)
    guard.step(guarded.closure(guarded.batches[0]))
    assert guard.rejections > 0
    plain = Run(KINDS[kind], set_to_none=set_to_none, lr=30.0 * guard.lr_factor)
    plain.step(plain.batches[0])
    assert guarded.written()[:3] == plain.written()[:3]


@pytest.mark.parametrize("on", ["gradient", "loss"])
def test_what_a_step_wrote_before_it_asked_is_undone(on):
    plain, guarded = (Run(WritesFirst) for _ in range(2))
    found = lr_range_test(guarded.model, guarded.optimizer, guarded.loss, guarded.batches, steps=3, progress=False)
    assert found.losses[0][0] == plain.closure(plain.batches[0])().item()
    plain, guarded = (Run(WritesFirst) for _ in range(2))
    guard = DivergenceGuard(guarded.optimizer, model=guarded.model, on=on)
    for batch in plain.batches:
        assert guard.step(guarded.closure(batch)).item() == plain.step(batch)
        assert guarded.written() == plain.written()


class Broken(Asserts):
    """Its assertion is about something else."""

    def step(self, closure=None):
        raise AssertionError("of its own")


@pytest.mark.parametrize("on", ["gradient", "loss"])
def test_what_cannot_be_is_an_error_that_says_so(on):
    for within in (Asserts, AssertsSilently, RaisesItsOwn):
        run = Run(within)
        state = run.written()
        several = Several(run.inner)
        message = "optimizer is a Several, whose step takes no closure, which an optimizer in it demands"
        with pytest.raises(TypeError, match=message):
            lr_range_test(run.model, several, run.loss, run.batches, progress=False)
        assert run.written() == state
        with pytest.raises(TypeError, match=message):
            DivergenceGuard(several, model=run.model, on=on).step(run.closure(run.batches[0]))
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    with pytest.raises(TypeError, match="optimizer is a Signed, whose step demands a closure, and what it evaluates"):
        DivergenceGuard(Run(Signed).inner, scaler=scaler, on=on)
    run = Run(Asserts)
    with pytest.raises(TypeError, match="optimizer is a Asserts, whose step demands a closure, and what it evaluates"):
        DivergenceGuard(run.inner, model=run.model, scaler=scaler, on=on).step(run.closure(run.batches[0], scaler))
    run = Run(Broken)
    with pytest.raises(AssertionError, match="of its own"):
        lr_range_test(run.model, run.optimizer, run.loss, run.batches, progress=False)
    with pytest.raises(AssertionError, match="of its own"):
        DivergenceGuard(run.optimizer, model=run.model, on=on).step(run.closure(run.batches[0]))
