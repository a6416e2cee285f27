"""Short runs under transformers' Trainer with our optimizers and schedules, against the same runs with torch's."""

import pytest
import torch
import transformers

from torchpace import optim, schedule

# The trainer warns of what a tiny run lacks; of schedulers nobody may.
pytestmark = pytest.mark.filterwarnings("ignore", "error:.*scheduler")

STEPS = 24


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))

    def forward(self, inputs, labels):
        output = self.net(inputs)
        return {"loss": torch.nn.functional.mse_loss(output, labels), "logits": output}


class Rates(transformers.TrainerCallback):
    """The learning rate of each step."""

    def __init__(self):
        self.seen = []

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        self.seen.append(optimizer.param_groups[0]["lr"])


def dataset():
    inputs = torch.randn(64, 6, generator=torch.Generator().manual_seed(1))
    return [{"inputs": row, "labels": row.sum(0, keepdim=True).tanh()} for row in inputs]


def train(configure, folder, metrics=None, resume=None, **options):
    torch.manual_seed(0)
    model = Model()
    optimizer, scheduler = configure(model.parameters())
    arguments = transformers.TrainingArguments(
        str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=16,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        **{"save_strategy": "no", **options},
    )
    rates, told = Rates(), iter(metrics or [])
    trainer = transformers.Trainer(
        model,
        arguments,
        train_dataset=dataset(),
        eval_dataset=dataset(),
        compute_metrics=(lambda _: {"told": next(told)}) if metrics else None,
        optimizers=(optimizer, scheduler),
        callbacks=[rates],
    )
    trainer.train(resume_from_checkpoint=resume)
    return model, rates.seen


def weights(model):
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach().double()


def test_swapping_the_import_changes_nothing(tmp_path):
    runs = []
    for library in (optim, torch.optim):

        def configure(params, library=library):
            optimizer = library.AdamW(params, lr=0.02)
            return optimizer, library.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)

        runs.append(train(configure, tmp_path, max_grad_norm=0.5))
    (ours, our_rates), (torchs, torch_rates) = runs
    assert our_rates == torch_rates
    assert len(set(our_rates)) == STEPS
    torch.testing.assert_close(weights(ours), weights(torchs), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["ours", "composed"])
def test_a_run_goes_on_from_a_checkpoint(kind, tmp_path):
    def configure(params):
        optimizer = optim.AdamW(params, lr=0.02)
        if kind == "ours":
            return optimizer, optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=STEPS)
        return optimizer, schedule.warmup(6).then(schedule.cosine(18)).on(optimizer)

    whole, rates = train(configure, tmp_path, save_strategy="steps", save_steps=8)
    rest, later = train(configure, tmp_path, resume=str(tmp_path / "checkpoint-8"))
    assert later == rates[8:]
    assert torch.equal(weights(rest), weights(whole))


def by_metric(metric="told"):
    return {"eval_strategy": "steps", "eval_steps": 3, "metric_for_best_model": metric}


METRICS = [5.0, 4.0, 4.0, 4.0, 3.0, 3.0, 3.0, 3.0]


def test_a_plateau_gets_its_metric(tmp_path):
    runs = []
    for library in (optim, torch.optim):

        def configure(params, library=library):
            optimizer = library.SGD(params, lr=0.1)
            return optimizer, library.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)

        runs.append(train(configure, tmp_path, METRICS, **by_metric())[1][::3])
    assert runs[0] == runs[1] == [0.1] * 4 + [0.05] * 3 + [0.025]


def test_a_plateau_after_a_warmup(tmp_path):
    """The trainer steps a scheduler that follows a metric at each evaluation, so these are the warmup's steps."""

    def configure(params):
        optimizer = optim.SGD(params, lr=0.1)
        return optimizer, schedule.warmup(2, start=0.5).then(schedule.plateau(0.5, patience=1)).on(optimizer)

    _, rates = train(configure, tmp_path, METRICS, **by_metric())
    assert rates[::3] == pytest.approx([0.05, 0.075, 0.1, 0.1, 0.1, 0.1, 0.1, 0.05])


def test_a_rate_that_goes_both_ways(tmp_path):
    def configure(params):
        optimizer = optim.SGD(params, lr=0.1)
        return optimizer, schedule.plateau(0.5, patience=1, ceiling=4, raises=True).on(optimizer)

    _, rates = train(configure, tmp_path, [4.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0], **by_metric())
    assert rates[::3] == pytest.approx([0.1, 0.1, 0.2, 0.2, 0.4, 0.4, 0.2, 0.2])


def test_our_optimizer_under_the_trainers_own_schedule(tmp_path):
    def configure(params):
        return optim.AdamW(params, lr=0.02), None

    _, rates = train(configure, tmp_path, lr_scheduler_type="linear", warmup_steps=6)
    ours = schedule.warmup(6).then(schedule.linear(STEPS - 6))
    assert rates == pytest.approx([ours(step, 0.02) for step in range(STEPS)], rel=1e-12)
