"""A user's program, for `make lint`: mypy and pyright find no fault in what is right, and each in what is wrong.

Where a wrong call is not reported, its comment is one that suppresses nothing, which is reported. `right` also runs.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT
from typing_extensions import assert_type

from torchpace import control, optim, schedule
from torchpace.optim import checkpoint, lr_scheduler, swa_utils
from torchpace.schedule import PlateauSchedule, PlateauScheduler, Schedule, Scheduler

net = nn.Linear(4, 1)
params = list(net.parameters())


class Warm(optim.AdamW):
    """With an argument of its own, and one of ours passed on."""

    def __init__(self, params: ParamsT, lr: float = 1e-3, *, warm: int = 10, max_grad_norm: float | None = 1.0):
        super().__init__(params, lr, max_grad_norm=max_grad_norm)
        self.warm = warm


def right(folder: Path) -> None:
    optimizer = optim.AdamW(net.parameters(), lr=1e-3, max_grad_norm=1.0, skip_grad_norm=10.0, nonfinite_norm="skip")
    optimizers: list[torch.optim.Optimizer] = [
        optim.SGD(net.named_parameters(), 0.1, 0.9, averaged=True, clip_value=0.5),
        optim.RMSprop([{"params": net.parameters(), "lr": 0.1}], eps_inside=True),
        optim.Adagrad(params, lr=torch.tensor(0.1), mean=True),
        optim.Adam(params, betas=(0.9, 0.95), amsgrad=True, fused=True),
        optim.Adadelta(params, rho=0.8, max_grad_norm=1.0),
        optim.Adamax(params, betas=(0.9, 0.95), maximize=True),
        optim.RAdam(params, lr=torch.tensor(0.1), decoupled_weight_decay=True, clip_value=1.0),
        optim.Rprop(params, etas=(0.4, 1.3), step_sizes=(1e-6, 1)),
        optim.Lion(params, 1e-4, (0.9, 0.99), 0.1, max_grad_norm=1.0, cautious=True),
        optim.AdEMAMix(params, 1e-3, (0.9, 0.999, 0.9999), 5, beta3_warmup=1000, alpha_warmup=1e3, weight_decay=0.1),
        optim.LAMB(params, 1e-3, (0.9, 0.999), 1e-6, 0.01, trust_clip=True, bias_correction=False, clip_value=1.0),
        optim.LARS([{"params": params, "trust_coefficient": None}], 10, 0.9, trust_coefficient=0.01, eps=0),
        optim.NAdam(params, lr=torch.tensor(0.1), momentum_decay=0.01, clip_value=1.0),
        optim.Prodigy(
            params, weight_decay=0.01, safeguard_warmup=True, growth_rate=1.02, slice_p=11, max_grad_norm=1.0
        ),
        optim.ASGD(params, lambd=1e-3, t0=1000, max_grad_norm=1.0),
        optim.Adafactor(params, torch.tensor(0.1), -0.5, (None, 1e-2), d=2, max_grad_norm=1.0),
        optim.Muon(params[:1], 0.02, ns_coefficients="polar_express", ns_dtype=torch.float32, max_grad_norm=1.0),
        optim.Muon(optim.muon_groups(net, lr=0.02, adamw={"lr": 3e-4}, exclude=lambda name, param: param.ndim > 3)),
        optim.Muon(params[:1], ns_coefficients=[(2.0, -1.5, 0.5)] * 3, ns_dtype="bfloat16", adjust_lr_fn="original"),
        optim.ScheduleFreeAdamW(params, 0.01, (0.95, 0.999), weight_decay=0.1, warmup_steps=100, clip_value=1.0),
        optim.ScheduleFreeSGD(net.named_parameters(), 5, 0.95, warmup_steps=1e2, r=0.5, maximize=True),
        Warm(params, warm=3),
    ]

    def loss() -> Tensor:
        return net(torch.ones(8, 4)).square().mean()  # type: ignore[no-any-return]  # torch's modules return Any

    def closure() -> Tensor:
        optimizer.zero_grad()
        now = loss()
        torch.autograd.backward(now)
        return now

    assert_type(optimizer.step(closure), Tensor)
    assert_type(optimizer.step(lambda: 0.5), float)
    assert_type(optimizer.step(), None)
    for each in optimizers:
        each.step()
    assert_type(optimizer.last_path, str | None)
    assert_type(optimizer.last_step_skipped, bool)
    assert_type(optimizer.grad_norm, Tensor | None)
    assert_type(Warm(params).warm, int)
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))], "clip_value": 1.0})

    rate = schedule.warmup(10).then(schedule.cosine(90)).clamp(low=0.1)
    assert_type(rate, Schedule)
    assert_type(rate(5), float)
    assert_type(rate[7], float)
    assert_type(rate[0:3], npt.NDArray[np.float64])
    assert_type((2 * rate + schedule.constant(0.5)).on(optimizer), Scheduler)
    drops = (schedule.warmup(2) * schedule.plateau(0.5, patience=1)).clamp(high=1.0)
    assert_type(drops, PlateauSchedule)
    by_metric = drops.on(optimizer)
    assert_type(by_metric, PlateauScheduler)
    by_metric.step(metrics=0.5)
    by_metric.step(loss().detach())
    lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5).step(metrics=torch.tensor(0.5))
    chained = lr_scheduler.ChainedScheduler([lr_scheduler.StepLR(optimizer, 3), schedule.cosine(9).on(optimizer)])
    lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=9, past_end="hold")
    averaging = swa_utils.SWALR(optimizer, swa_lr=0.1)
    optimizer.step()
    chained.step()
    averaging.step()
    assert_type(control.max_stable_lr(control.sharpness(loss, params), momentum=0.9), float)
    checkpoint.save(optimizer, folder / "adamw.safetensors")
    optim.checkpoint.load(optimizer, folder / "adamw.safetensors")


def wrong(optimizer: optim.AdamW, rate: Schedule) -> None:
    optim.AdamW()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    optim.AdamW(params, max_grad_nrom=1.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    optim.AdamW(params, averaged=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    optim.Adam(params, lr="fast")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    optim.SGD(params, max_grad_norm="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    optim.SGD(params, nonfinite_norm="stop")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    optim.Adagrad(params, 0.1, 0, 0, 0, 1e-10, None, True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    optim.Muon(params[:1], ns_coefficients="cubic")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    optim.Muon(params[:1], ns_dtype="half")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    optim.muon_groups(net, 0.02)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    optim.SparseAdam(params, max_grad_norm=1.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    optim.NoSuch(params)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    Warm(params, clip_value=1.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    optimizer.step(lambda: "loss")  # type: ignore[type-var]  # pyright: ignore[reportCallIssue, reportArgumentType]
    optimizer.last_path = "fused"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    _ = optimizer.grad_norm + 1  # type: ignore[operator]  # pyright: ignore[reportOptionalOperand]
    _ = rate["7"]  # type: ignore[index]  # pyright: ignore[reportCallIssue, reportArgumentType]
    rate.on(optimizer).step(metrics=0.5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    rate.then(abs)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    schedule.cosine("100")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    lr_scheduler.StepLR(optimizer)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    lr_scheduler.OneCycleLR(optimizer, 1, 9, past_end="go")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    lr_scheduler.NoSuchLR(optimizer)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    control.max_stable_lr("4")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
