"""Small trainings with all that a training may consist of, and their state written down to the bit."""

import random

import numpy as np
import torch

import cases
import torchpace.optim
import torchpace.schedule
from torchpace.control import Snapshot

SCHEDULERS = ["none", "ExponentialLR", "SequentialLR", "ReduceLROnPlateau", "LambdaLR", "CyclicLR", "ours"]


def network(dtype=torch.float32):
    model = torch.nn.Sequential(
        torch.nn.Linear(5, 6), torch.nn.BatchNorm1d(6), torch.nn.ReLU(), torch.nn.Dropout(0.4), torch.nn.Linear(6, 2)
    )
    model.register_buffer("hidden", torch.zeros(3), persistent=False)
    return model.to(dtype)


class Steep:
    """A user's function with a memory."""

    def __init__(self):
        self.calls = 0
        self.seen = []

    def __call__(self, epoch):
        self.calls += 1
        self.seen.append(epoch)
        return 0.9**epoch


def schedule(kind, optimizer, library=cases.TORCHS):
    if kind == "none":
        return []
    if kind == "ours":
        rates = [torchpace.schedule.cosine(20).on(optimizer)]
        decays = "weight_decay" in optimizer.defaults  # Rprop does not
        return [*rates, torchpace.schedule.linear(9).on(optimizer, "weight_decay")] if decays else rates
    if kind == "LambdaLR":
        return [library.LambdaLR(optimizer, Steep())]
    if kind == "ReduceLROnPlateau":
        return [library.ReduceLROnPlateau(optimizer, patience=0)]
    row = next(row for row in cases.SCHEDULERS if row.scheduler == kind)
    more = {"cycle_momentum": False} if kind == "CyclicLR" else {}
    return [row.make(library, optimizer, **more)]


class Training:
    """All that a training consists of, its steps, and its state written down to the bit."""

    def __init__(self, make, scheduler="none", dtype=torch.float32, library=cases.TORCHS, scaler=False):
        torch.manual_seed(3)
        random.seed(3)
        np.random.seed(3)
        self.dtype = dtype
        self.model = network(dtype)
        params = list(self.model.parameters())
        self.optimizer = make([{"params": params[:2]}, {"params": params[2:], "weight_decay": 0.1}])
        self.schedulers = schedule(scheduler, self.optimizer, library)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2) if scaler else None

    def snapshot(self, **options):
        return Snapshot(self.model, self.optimizer, self.schedulers, self.scaler or (), **options)

    def closure(self, set_to_none=True):
        """Evaluates a batch that is drawn here."""
        batch = torch.randn(8, 5, dtype=self.dtype)

        def evaluate():
            self.optimizer.zero_grad(set_to_none)
            noise = random.uniform(0.5, 1) * float(np.random.uniform(0.5, 1))
            loss = (self.model(batch) * noise).square().mean()
            self.model.hidden += 1
            (loss if self.scaler is None else self.scaler.scale(loss)).backward()
            return loss

        return evaluate

    def step(self, set_to_none=True, guard=None):
        closure = self.closure(set_to_none)
        if guard is not None:
            guard.step(closure)
        elif self.scaler is None:
            self.optimizer.step(closure)
        else:
            closure()
            self.scaler.step(self.optimizer)
            self.scaler.update()
        for scheduler in self.schedulers:
            plateau = isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
            scheduler.step(1.0) if plateau else scheduler.step()

    def written(self):
        """The values of all, tensors as bytes."""
        params = list(self.model.parameters())
        numbers = {id(param): index for index, param in enumerate(params)}
        return [
            [(name, bits(tensor)) for name, tensor in [*self.model.named_parameters(), *self.model.named_buffers()]],
            [(module.training, [p.requires_grad for p in module.parameters()]) for module in self.model.modules()],
            [None if param.grad is None else bits(param.grad) for param in params],
            [(numbers[id(param)], bits(entry)) for param, entry in self.optimizer.state.items()],
            [bits({k: v for k, v in group.items() if k != "params"}) for group in self.optimizer.param_groups],
            [bits(entries(scheduler)) for scheduler in self.schedulers],
            None if self.scaler is None else bits(self.scaler.state_dict()),
            [bits(torch.get_rng_state()), random.getstate(), bits(np.random.get_state()[1])],
        ]

    def objects(self):
        """The identities and places of all tensors and containers that last."""
        return [
            [(id(tensor), tensor.data_ptr()) for tensor in [*self.model.parameters(), *self.model.buffers()]],
            [id(param.grad) for param in self.model.parameters()],
            [
                (id(entry), [(name, id(value)) for name, value in entry.items()])
                for entry in self.optimizer.state.values()
            ],
            [(id(group), id(group["params"])) for group in self.optimizer.param_groups],
            [id(group["lr"]) for group in self.optimizer.param_groups if isinstance(group["lr"], torch.Tensor)],
        ]


def entries(scheduler):
    found = {name: value for name, value in vars(scheduler).items() if name != "optimizer"}
    found["_schedulers"] = [entries(inner) for inner in found.get("_schedulers", [])]
    found["lr_lambdas"] = [vars(function) for function in found.get("lr_lambdas", []) if hasattr(function, "__dict__")]
    return found


def bits(value):
    if isinstance(value, torch.Tensor):
        plain = value.detach().clone().contiguous().flatten()
        return str(value.dtype), tuple(value.shape), plain.view(torch.uint8).numpy().tobytes() if plain.numel() else b""
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, dict):
        return [(key, bits(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [bits(item) for item in value]
    return value if isinstance(value, (int, float, str, bool, type(None))) else type(value)


def maker(name, library=torchpace.optim, **options):
    return lambda groups: getattr(library, name)(groups, **options)


MAKERS = {
    f"{library.__name__} {name}": maker(name, library, **({"momentum": 0.9, "lr": 0.1} if name == "SGD" else {}))
    for library in (torchpace.optim, torch.optim)
    for name in (cases.OPTIMIZERS if library is torchpace.optim else cases.IN_TORCH)
}
