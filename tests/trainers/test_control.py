"""`torchpace.control` on what accelerate and Fabric prepare: optimizers, schedulers, loaders and scalers."""

import logging

import accelerate
import pytest
import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins.precision import MixedPrecision
from torch.utils.data import DataLoader, TensorDataset

from torchpace import optim, schedule
from torchpace.control import CurvatureLR, DivergenceGuard, Snapshot, lr_range_test, max_stable_lr, sharpness

pytestmark = pytest.mark.filterwarnings("ignore")
logging.getLogger("lightning.fabric").setLevel(logging.ERROR)


@pytest.fixture(autouse=True)
def _alone():
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    yield
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


class Run:
    """A small network, prepared by a trainer or not."""

    def __init__(self, trainer, seedable=True, workers=0, lr=0.123, make=optim.AdamW):
        torch.manual_seed(0)
        self.inner_model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)).double()
        inputs = torch.randn(64, 6, dtype=torch.float64)
        data = TensorDataset(inputs, inputs.sum(1, keepdim=True).tanh())
        self.data = DataLoader(data, 16, shuffle=True, generator=torch.Generator().manual_seed(1), num_workers=workers)
        self.inner = make(self.inner_model.parameters(), lr=lr)
        self.inner_scheduler = schedule.cosine(100).on(self.inner)
        self.model, self.optimizer, self.scheduler = self.inner_model, self.inner, self.inner_scheduler
        self.backward = torch.Tensor.backward
        if trainer == "accelerate":
            configuration = accelerate.DataLoaderConfiguration(use_seedable_sampler=seedable)
            self.accelerator = accelerate.Accelerator(cpu=True, dataloader_config=configuration)
            self.model, self.optimizer, self.data, self.scheduler = self.accelerator.prepare(
                self.model, self.optimizer, self.data, self.scheduler
            )
            self.backward = self.accelerator.backward
        elif trainer == "fabric":
            fabric = Fabric(accelerator="cpu", devices=1)
            self.model, self.optimizer = fabric.setup(self.model, self.optimizer)
            self.data = fabric.setup_dataloaders(self.data)
            self.backward = fabric.backward

    def loss(self, model, batch):
        return torch.nn.functional.mse_loss(model(batch[0]), batch[1])

    def closure(self, batch):
        def evaluate():
            self.optimizer.zero_grad()
            loss = self.loss(self.model, batch)
            self.backward(loss)
            return loss

        return evaluate

    def epoch(self, guard=None):
        """The losses of an epoch's steps, and the batches."""
        losses, seen = [], []
        for batch in self.data:
            seen.append(batch[0].tolist())
            if guard is None:
                losses.append(self.closure(batch)().item())
                self.optimizer.step()
            else:
                losses.append(guard.step(self.closure(batch)).item())
            self.scheduler.step()
        return losses, seen

    def written(self):
        return [
            [param.tolist() for param in self.inner_model.parameters()],
            str([self.inner.state.get(param, {}) for param in self.inner_model.parameters()]),
            [{name: value for name, value in group.items() if name != "params"} for group in self.inner.param_groups],
            self.inner_scheduler.state_dict(),
            torch.get_rng_state().tolist(),
        ]


each_trainer = pytest.mark.parametrize("trainer", ["accelerate", "fabric"])


@each_trainer
def test_a_snapshot(trainer):
    run = Run(trainer)
    run.epoch()
    snapshot, state = Snapshot(run.model, run.optimizer, run.scheduler).take(), run.written()
    run.epoch()
    assert run.written() != state
    snapshot.restore()
    assert run.written() == state


@pytest.mark.parametrize("seedable", [True, False])
@each_trainer
def test_a_range_test_changes_neither_rates_nor_later_batches(trainer, seedable):
    plain, tested = Run(trainer, seedable), Run(trainer, seedable)
    expected = [plain.epoch() for _ in range(3)]
    found = []
    for epoch in range(3):
        state = tested.written()
        found += [
            lr_range_test(tested.model, tested.optimizer, tested.loss, tested.data, steps=20, progress=False, repeats=2)
            for _ in range(2)
        ]
        assert tested.written() == state
        if epoch == 0:
            assert tested.optimizer.param_groups[0]["lr"] == 0.123
        assert tested.epoch() == expected[epoch]
    assert found[0] == found[1]
    assert len(found[0].losses[0]) > 2
    assert found[0].losses[0] != found[0].losses[1]
    assert len({str(one.losses) for one in found}) == 3  # before each epoch


@each_trainer
def test_a_range_test_within_an_epoch(trainer):
    plain, tested = Run(trainer), Run(trainer)
    expected = [plain.epoch() for _ in range(2)]
    seen = []
    for _ in range(2):
        seen.append([])
        for number, batch in enumerate(tested.data):
            seen[-1].append(batch[0].tolist())
            if number == 1:
                lr_range_test(tested.model, tested.optimizer, tested.loss, tested.data, steps=7, progress=False)
                if trainer == "accelerate":
                    assert tested.accelerator.gradient_state.active_dataloader is tested.data
            tested.closure(batch)()
            tested.optimizer.step()
            tested.scheduler.step()
    assert seen == [batches for _, batches in expected]


@each_trainer
def test_a_range_test_finds_what_it_finds_without_the_trainer(trainer):
    bare, run = Run(None), Run(trainer)
    batch = next(iter(bare.data))
    expected = lr_range_test(bare.model, bare.optimizer, bare.loss, [batch], steps=20, progress=False)
    assert lr_range_test(run.model, run.optimizer, run.loss, [batch], steps=20, progress=False) == expected


@pytest.mark.parametrize("on", ["gradient", "loss"])
@each_trainer
def test_the_guard_does_what_it_does_without_the_trainer(trainer, on):
    """At a rate far too high, with steps taken back."""
    bare, run = (Run(which, lr=3.0, make=optim.SGD) for which in (None, trainer))
    batches = [list(bare.data) for _ in range(3)]
    guards = [DivergenceGuard(one.optimizer, model=one.model, scheduler=one.scheduler, on=on) for one in (bare, run)]
    for epoch in batches:
        for batch in epoch:
            losses = [guard.step(one.closure(batch)).item() for guard, one in zip(guards, (bare, run), strict=True)]
            assert losses[0] == losses[1]
            for one in (bare, run):
                one.scheduler.step()
    assert guards[0].state_dict() == guards[1].state_dict()
    if on == "gradient":
        assert guards[0].rejections > 0
    assert bare.written() == run.written()
    assert not run.inner._optimizer_step_pre_hooks


@each_trainer
def test_curvature(trainer):
    run = Run(trainer, make=optim.SGD)
    batch = next(iter(run.data))

    def loss():
        return run.loss(run.model, batch)

    value = sharpness(loss, run.model).value
    scheduler = CurvatureLR(run.optimizer, loss, safety=0.5, tol=1e-3)
    assert scheduler.get_last_lr() == pytest.approx([0.5 * max_stable_lr(value)], rel=1e-2)
    assert run.optimizer.param_groups[0]["lr"] == scheduler.get_last_lr()[0]
    adam = Run(trainer)
    adam.epoch()
    expected = sharpness(lambda: adam.loss(adam.model, batch), adam.inner_model, optimizer=adam.inner).value
    assert sharpness(lambda: adam.loss(adam.model, batch), adam.model, optimizer=adam.optimizer).value == expected


@pytest.mark.parametrize("seedable", [True, False])
@each_trainer
def test_measuring_on_a_loader_changes_no_later_batches(trainer, seedable):
    plain, measured = Run(trainer, seedable), Run(trainer, seedable)
    expected = [plain.epoch() for _ in range(3)]
    for epoch in range(3):
        sharpness(lambda batch: measured.loss(measured.model, batch), measured.model, data=measured.data)
        scheduler = CurvatureLR(
            optim.SGD(measured.inner_model.parameters(), lr=1.0),
            lambda batch: measured.loss(measured.model, batch),
            measured.data,
            every=1,
        )
        scheduler.optimizer.zero_grad()
        scheduler.optimizer.step()
        scheduler.step()
        assert measured.epoch() == expected[epoch]


def test_fabrics_scaler():
    """Its strategy has the scaler; what the guard does is what it does with the scaler in its own hands."""
    written = []
    for fabrics in (False, True):
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 1)
        optimizer = optim.SGD(model.parameters(), lr=8.0)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=5, backoff_factor=2.0**-60)
        inputs = torch.randn(16, 4)
        net, stepped, fabric = model, optimizer, None
        if fabrics:
            precision = MixedPrecision("bf16-mixed", "cpu")
            precision.scaler = scaler
            fabric = Fabric(accelerator="cpu", devices=1, plugins=[precision])
            net, stepped = fabric.setup(model, optimizer)
        guard = DivergenceGuard(stepped, model=net, scaler=None if fabrics else scaler)

        def closure(net=net, stepped=stepped, scaler=scaler, fabric=fabric, inputs=inputs):
            stepped.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=fabric is None):
                loss = (net(inputs).float() - 1).square().mean()
            if fabric is not None:
                fabric.backward(loss)
            else:
                scaler.scale(loss).backward()
            return loss

        losses = [guard.step(closure).item() for _ in range(20)]
        written.append((losses, guard.state_dict(), scaler.state_dict(), [p.tolist() for p in model.parameters()]))
    assert written[0] == written[1]
    kinds = {event["kind"] for event in written[0][1]["events"]}
    assert "skipped" in kinds
    assert len(kinds) > 1


class Mixed:
    """A small network under Fabric's mixed precision, and a sweep at the same rates by hand."""

    def __init__(self, precision="bf16-mixed", scaler=None):
        torch.manual_seed(0)
        plugin = MixedPrecision(precision, "cpu")
        plugin.scaler = scaler
        self.fabric = Fabric(accelerator="cpu", devices=1, plugins=[plugin])
        self.inner_model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
        self.inner = optim.SGD(self.inner_model.parameters(), lr=0.123, momentum=0.9)
        self.model, self.optimizer = self.fabric.setup(self.inner_model, self.inner)
        self.batches = [torch.randn(16, 6) for _ in range(4)]

    def loss(self, model, batch):
        return (model(batch).float() - batch.sum(1, keepdim=True)).square().mean()

    def sweep(self, lrs):
        losses = []
        for lr, batch in zip(lrs, self.batches, strict=True):
            self.optimizer.param_groups[0]["lr"] = lr
            self.optimizer.zero_grad()
            loss = self.loss(self.model, batch)
            self.fabric.backward(loss)
            self.optimizer.step()
            losses.append(loss.item())
        return losses

    def written(self):
        return [[p.tolist() for p in self.inner_model.parameters()], str(self.inner.state_dict())]


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_a_range_test_under_mixed_precision(precision, scaled):
    """Fabric refuses `loss.backward()` then."""
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0) if scaled else None
    mixed = Mixed(precision, scaler)
    options = {"low": 1e-3, "high": 0.1, "steps": 4, "progress": False, "stop_ratio": 1e9}
    state = mixed.written()
    for _ in range(2):
        found = lr_range_test(
            mixed.model, mixed.optimizer, mixed.loss, mixed.batches, backward=mixed.fabric.backward, **options
        )
        assert mixed.written() == state
    assert scaler is None or (scaler.get_scale(), len(scaler._per_optimizer_states)) == (64.0, 0)
    assert found.losses == [Mixed(precision, scaler).sweep(found.lrs)]
    with pytest.raises(RuntimeError, match=r"Expected backward=fabric.backward in lr_range_test\."):
        lr_range_test(mixed.model, mixed.optimizer, mixed.loss, mixed.batches, **options)
    assert mixed.written() == state


def test_a_range_test_by_accelerates_backward():
    run = Run("accelerate")
    batch = next(iter(run.data))
    expected = lr_range_test(run.model, run.optimizer, run.loss, [batch], steps=20, progress=False)
    seen = []

    def backward(loss):
        seen.append(loss)
        run.accelerator.backward(loss)

    found = lr_range_test(run.model, run.optimizer, run.loss, [batch], steps=20, progress=False, backward=backward)
    assert found == expected
    assert len(seen) >= len(found.losses[0])


def test_curvature_under_mixed_precision():
    """What to call in place of Fabric's module is said, and works."""
    mixed = Mixed()
    batch = mixed.batches[0]
    with pytest.raises(RuntimeError, match=r"expected the module within it, model\.module, under fabric\.autocast"):
        sharpness(lambda: mixed.loss(mixed.model, batch), mixed.model)

    def loss():
        with mixed.fabric.autocast():
            return mixed.loss(mixed.model.module, batch)

    expected = sharpness(lambda: mixed.loss(mixed.inner_model, batch), mixed.inner_model).value
    assert sharpness(loss, mixed.model).value == pytest.approx(expected, rel=0.05)
    scheduler = CurvatureLR(mixed.optimizer, loss, safety=0.5)
    assert scheduler.get_last_lr()[0] == pytest.approx(0.5 * 2 * 1.9 / expected, rel=0.05)
