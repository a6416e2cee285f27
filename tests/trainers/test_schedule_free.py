"""The modes of the schedule-free optimizers under trainers: who calls `train` and `eval`, and who hands both on."""

import accelerate
import lightning
import pytest
import torch
import transformers
from lightning.fabric import Fabric

from torchpace import optim

pytestmark = pytest.mark.filterwarnings("ignore")  # trainers warn of much

OPTIONS = {"ScheduleFreeAdamW": {"lr": 0.02, "warmup_steps": 3}, "ScheduleFreeSGD": {"lr": 0.2}}
each_name = pytest.mark.parametrize("name", OPTIONS)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))

    def forward(self, inputs, labels):
        output = self.net(inputs)
        return {"loss": torch.nn.functional.mse_loss(output, labels), "logits": output}


def model():
    torch.manual_seed(0)
    return Model()


def rows():
    inputs = torch.randn(64, 6, generator=torch.Generator().manual_seed(1))
    return [{"inputs": row, "labels": row.sum(0, keepdim=True).tanh()} for row in inputs]


def batch():
    return {key: torch.stack([row[key] for row in rows()]) for key in ("inputs", "labels")}


def weights(net):
    return torch.nn.utils.parameters_to_vector(net.parameters()).detach().clone()


def point(optimizer, net):
    """Where gradients would be taken, whatever the mode."""
    shares = [group["momentum"] if "momentum" in group else group["betas"][0] for group in optimizer.param_groups]
    z = torch.nn.utils.parameters_to_vector([optimizer.state[param]["z"] for param in net.parameters()])
    if optimizer.param_groups[0]["train_mode"]:
        return weights(net)
    return weights(net).lerp(z, 1 - shares[0])


class Modes(transformers.TrainerCallback):
    def __init__(self):
        self.steps, self.evaluations = [], []

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        self.steps.append(optimizer.param_groups[0]["train_mode"])

    def on_prediction_step(self, args, state, control, **kwargs):
        self.evaluations.append(self.optimizer.param_groups[0]["train_mode"])


def run(name, folder, resume=None, steps=12, **options):
    net = model()
    optimizer = getattr(optim, name)(net.parameters(), **OPTIONS[name])
    constant = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    arguments = transformers.TrainingArguments(
        str(folder),
        max_steps=steps,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=64,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        eval_steps=3,
        **{"save_strategy": "no", "eval_strategy": "steps", **options},
    )
    modes = Modes()
    modes.optimizer = optimizer
    trainer = transformers.Trainer(
        net,
        arguments,
        train_dataset=rows(),
        eval_dataset=rows(),
        optimizers=(optimizer, constant),
        callbacks=[modes],
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer, net, optimizer, modes


@each_name
def test_transformers_evaluates_the_average_and_trains_on(name, tmp_path):
    trainer, net, optimizer, modes = run(name, tmp_path)
    assert modes.steps == [True] * 12
    assert modes.evaluations == [False] * 4
    told = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    optimizer.eval()
    with torch.no_grad():
        assert told[-1] == pytest.approx(net(**batch())["loss"].item(), rel=1e-5)
    # As without evaluations, but for the roundings of to and fro.
    _, quiet, other, _ = run(name, tmp_path, eval_strategy="no")
    torch.testing.assert_close(point(optimizer, net), point(other, quiet), rtol=1e-4, atol=1e-5)
    assert optimizer.last_path == "fused"


@each_name
def test_transformers_goes_on_from_a_checkpoint(name, tmp_path):
    """One saved after an evaluation, in eval mode."""
    _, net, _, _ = run(name, tmp_path, save_strategy="steps", save_steps=6)
    state = torch.load(tmp_path / "checkpoint-6" / "optimizer.pt", weights_only=True)
    assert state["param_groups"][0]["train_mode"] is False
    _, rest, _, modes = run(name, tmp_path, resume=str(tmp_path / "checkpoint-6"))
    assert modes.steps == [True] * 6
    assert torch.equal(weights(rest), weights(net))


@each_name
def test_accelerate_hands_the_modes_on(name, tmp_path):
    accelerator = accelerate.Accelerator(cpu=True)
    net = model()
    optimizer = getattr(optim, name)(net.parameters(), **OPTIONS[name])
    net, prepared = accelerator.prepare(net, optimizer)
    for _ in range(3):
        prepared.zero_grad()
        accelerator.backward(net(**batch())["loss"])
        prepared.step()
    before = weights(net)
    prepared.eval()
    assert optimizer.param_groups[0]["train_mode"] is False
    assert not torch.equal(weights(net), before)
    accelerator.save_state(str(tmp_path))
    held = weights(net)
    prepared.train()
    torch.testing.assert_close(weights(net), before, rtol=1e-5, atol=1e-6)
    accelerator.load_state(str(tmp_path))
    assert optimizer.param_groups[0]["train_mode"] is False
    assert torch.equal(weights(net), held)
    with pytest.raises(RuntimeError, match="is in eval mode"):
        prepared.step()


@each_name
def test_fabric_hands_the_modes_on(name, tmp_path):
    fabric = Fabric(accelerator="cpu", devices=1)
    net = model()
    optimizer = getattr(optim, name)(net.parameters(), **OPTIONS[name])
    wrapped, prepared = fabric.setup(net, optimizer)
    for _ in range(3):
        prepared.zero_grad()
        fabric.backward(wrapped(**batch())["loss"])
        prepared.step()
    before = weights(net)
    prepared.eval()
    assert not torch.equal(weights(net), before)
    with pytest.raises(RuntimeError, match="is in eval mode"):
        prepared.step()
    fabric.save(tmp_path / "state.ckpt", {"net": wrapped, "optimizer": prepared})
    prepared.train()
    torch.testing.assert_close(weights(net), before, rtol=1e-5, atol=1e-6)
    prepared.step()
    fabric.load(tmp_path / "state.ckpt", {"net": wrapped, "optimizer": prepared})
    optimizer.train()
    torch.testing.assert_close(weights(net), before, rtol=1e-5, atol=1e-6)


@each_name
def test_lightning_is_told_by_hooks(name):
    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.inner, self.told = model(), []

        def configure_optimizers(self):
            return getattr(optim, name)(self.inner.parameters(), **OPTIONS[name])

        def on_validation_model_eval(self):
            super().on_validation_model_eval()
            self.optimizers().eval()

        def on_validation_model_train(self):
            super().on_validation_model_train()
            self.optimizers().train()

        def training_step(self, given):
            self.told.append(("train", self.optimizers().param_groups[0]["train_mode"]))
            return self.inner(**given)["loss"]

        def validation_step(self, given):
            self.told.append(("eval", self.optimizers().param_groups[0]["train_mode"]))

    module = Module()
    quiet = dict.fromkeys(["enable_checkpointing", "enable_model_summary", "enable_progress_bar", "logger"], False)
    trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", devices=1, num_sanity_val_steps=0, **quiet)
    loaders = [torch.utils.data.DataLoader(rows(), batch_size=32) for _ in range(2)]
    trainer.fit(module, *loaders)
    epoch = [("train", True)] * 2 + [("eval", False)] * 2
    assert module.told == epoch * 2
