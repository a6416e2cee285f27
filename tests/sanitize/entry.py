"""Steps through every entry of the native module, for memcheck (`make valgrind`)."""

import contextlib
import ctypes
import gc
import pickle
import sys

import torch

from torchpace import _native, optim, schedule

OPTIMIZERS = {
    optim.Adam: {"amsgrad": True, "weight_decay": 0.1},
    optim.AdamW: {"maximize": True},
    optim.SGD: {"momentum": 0.9, "nesterov": True},
    optim.RMSprop: {"centered": True, "momentum": 0.9},
    optim.Adagrad: {"lr_decay": 0.1},
    optim.Adadelta: {"weight_decay": 0.1},
    optim.Adamax: {"weight_decay": 0.1},
    optim.RAdam: {"betas": (0.9, 0.8)},
    optim.Rprop: {"lr": 0.1},
    optim.Lion: {"weight_decay": 0.1},
    optim.AdEMAMix: {"beta3_warmup": 3, "weight_decay": 0.1},
    optim.LAMB: {},
    optim.LARS: {"momentum": 0.9, "weight_decay": 0.1},
    optim.NAdam: {"weight_decay": 0.1},
    optim.Prodigy: {"weight_decay": 0.1, "d0": 0.1},
    optim.ASGD: {"lambd": 0.1, "t0": 1.0},
    optim.ScheduleFreeAdamW: {"weight_decay": 0.1},
    optim.ScheduleFreeSGD: {"lr": 0.1},
}


def one_too_long():
    """A gradient of one element more than was allocated."""
    malloc = ctypes.CDLL(None).malloc
    malloc.restype, malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    memory = malloc(32 * 4)
    ctypes.memset(memory, 0, 32 * 4)
    param = torch.zeros(33, requires_grad=True)
    param.grad = torch.frombuffer((ctypes.c_float * 33).from_address(memory), dtype=torch.float32)
    optim.SGD([param], 0.1).step()


def tensors():
    """Parameters with gradients: dense, strided, of all types, of many sizes, one without a gradient."""
    params = [torch.ones(size) for size in (0, 1, 5, 33, 1000, 5000)]
    params += [torch.ones(33, dtype=dtype) for dtype in (torch.bfloat16, torch.half, torch.double, torch.cfloat)]
    params += [torch.ones(7, 10)[:, ::2], torch.ones(7, 5).t(), torch.ones(())]
    for param in params:
        param.requires_grad_().grad = torch.full_like(param, 0.5)
    params[-2].grad = torch.ones(5, 1).expand(5, 7)
    return [*params, torch.ones(3, requires_grad=True)]


def fails(step):
    try:
        step()
    except (RuntimeError, TypeError, KeyError, ValueError):
        return
    raise AssertionError("no error")


def steps(kind, options):
    params = tensors()
    # One has a rate for all groups.
    second = {} if kind is optim.Prodigy else {"lr": 0.01}
    groups = [{"params": params[::2]}, {"params": params[1::2], **second}]
    optimizer = kind(groups, **{"lr": 0.1, **options})
    for _ in range(3):
        optimizer.step()
        assert optimizer.last_path == "fused", optimizer.last_path
    # Gradients anew, one gone, one more; a closure; clipped; the state loaded; the plan dropped.
    for param in params:
        param.grad = None if param.grad is None else param.grad.clone()
    params[3].grad, params[-1].grad = None, torch.ones(3)
    optimizer.step(lambda: 1.0)
    for group in optimizer.param_groups:
        group["max_grad_norm"], group["clip_value"] = 0.5, 0.01
    optimizer.step()
    assert optimizer.grad_norm is not None
    optimizer.load_state_dict(pickle.loads(pickle.dumps(optimizer.state_dict())))
    optimizer.step()
    optimizer._plan = None
    gc.collect()
    optimizer.step()
    # What is wrong, at each place where it is found.
    optimizer.param_groups[1]["lr"] = "much"
    fails(optimizer.step)
    optimizer.param_groups[1]["lr"] = 0.1
    name = next(name for name, slot in optimizer.state[params[4]].items() if name != "step" and slot is not None)
    for wrong in (3, torch.ones(2), torch.ones(1000, dtype=torch.int32)):
        right, optimizer.state[params[4]][name] = optimizer.state[params[4]][name], wrong
        fails(optimizer.step)
        optimizer.state[params[4]][name] = right
    optimizer.step()
    assert optimizer.last_path == "fused", optimizer.last_path


def adafactor():
    shapes = [(0,), (), (33,), (5, 0), (1, 1), (7, 5), (3, 600), (2, 3, 17), (40_003,), (300, 600)]
    kinds = (torch.float32, torch.float64, torch.bfloat16, torch.half)
    params = [torch.ones(shape, dtype=dtype, requires_grad=True) for dtype in kinds for shape in shapes]
    optimizer = optim.Adafactor(params, weight_decay=0.1, max_grad_norm=1.0, clip_value=0.1)
    for _ in range(3):
        for param in params:
            param.grad = torch.full_like(param, 0.5)
        optimizer.grad_scale = torch.tensor(2.0)
        optimizer.step()
        assert optimizer.last_path == "fused", optimizer.last_path
    for name, wrong in (("row_var", 3), ("row_var", torch.ones(2)), ("step", torch.ones(2)), ("col_var", None)):
        entries = optimizer.state[params[5]]
        right, entries[name] = entries[name], wrong
        with contextlib.suppress(RuntimeError, TypeError, AssertionError):
            optimizer.step()
        entries[name] = right


def optimizer_of_two():
    return optim.SGD([{"params": [torch.ones(3, requires_grad=True)], "lr": lr} for lr in (0.1, 0.4)], momentum=0.9)


def schedulers():
    module = optim.lr_scheduler
    for make in (
        lambda o: module.StepLR(o, 3),
        lambda o: module.MultiStepLR(o, [2, 2, 5]),
        lambda o: module.CosineAnnealingLR(o, 7),
        lambda o: module.CosineAnnealingWarmRestarts(o, 2, 2),
        lambda o: module.CyclicLR(o, 0.1, 1.0, 3, mode="exp_range", gamma=0.9),
        lambda o: module.OneCycleLR(o, 1.0, 20, past_end="hold"),
        lambda o: optim.swa_utils.SWALR(o, 0.5),
        lambda o: module.LambdaLR(o, lambda step: 0.9**step),
        lambda o: module.SequentialLR(o, [module.ConstantLR(o), module.LinearLR(o)], [4]),
        lambda o: module.ChainedScheduler([module.ExponentialLR(o, 0.9), module.PolynomialLR(o)]),
    ):
        optimizer = optimizer_of_two()
        scheduler = make(optimizer)
        optimizer.step()
        for _ in range(10):
            scheduler.step()
        scheduler.load_state_dict(pickle.loads(pickle.dumps(scheduler.state_dict())))
        scheduler.optimizer.param_groups[0]["lr"] = "much"
        with contextlib.suppress(TypeError):  # torch's, where it takes the step
            _native.advance(scheduler)
    plateau = module.ReduceLROnPlateau(optimizer_of_two(), patience=1)
    for metric in (1.0, 2.0, 3.0, torch.tensor(4.0)):
        plateau.step(metric)
    for wrong in (None, 3, torch.ones(2), object()):
        assert not _native.advance(wrong)
        assert not _native.observe(wrong, wrong)
    fails(lambda: _native.Formula("none"))


def schedules():
    curve = schedule.warmup(5).then(schedule.cosine(20)).clamp(low=0.1).repeat(30) * schedule.function(
        lambda t: 1 / (t + 1)
    )
    assert pickle.loads(pickle.dumps(schedule.warm_restarts(3, growth=2))) == schedule.warm_restarts(3, growth=2)
    assert len(curve.values(0, 1000)) == len(schedule.noam(64, 10).values(0, 1000)) == 1000
    assert schedule.Schedule.from_json(schedule.cyclic(3).above(0.5).to_json()) == schedule.cyclic(3).above(0.5)
    for wrong in ("", "{}", '{"version": 1, "schedule": {"step": {}}}', "[" * 1000):
        fails(lambda wrong=wrong: schedule.Schedule.from_json(wrong))
    fails(lambda: schedule.function(lambda t: "much")(3))
    fails(lambda: schedule.cosine(-1))
    scheduler = (schedule.linear(3, end=0.5).then(schedule.plateau(patience=0)) * curve).on(optimizer_of_two())
    for metric in range(10):
        scheduler.step(float(metric))
    scheduler.load_state_dict(pickle.loads(pickle.dumps(scheduler.state_dict())))


if sys.argv[1:] == ["planted"]:
    one_too_long()
else:
    for kind, options in OPTIMIZERS.items():
        steps(kind, options)
    adafactor()
    schedulers()
    schedules()
    gc.collect()
    print("all steps taken")
