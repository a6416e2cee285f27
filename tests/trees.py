"""Trees of schedulers: every class at small lengths, and sequences and chains of them."""

import torch

import cases
from cases import Schedule


def inverse(step):
    return 1 / (1 + step)


def shrinking(step):
    return 0.8


LEAVES = [
    Schedule("StepLR", {"step_size": 3, "gamma": 0.5}),
    Schedule("MultiStepLR", {"milestones": [2, 5]}),
    Schedule("ConstantLR", {"factor": 0.5, "total_iters": 3}),
    Schedule("LinearLR", {"start_factor": 0.25, "total_iters": 4}),
    Schedule("ExponentialLR", {"gamma": 0.9}),
    Schedule("PolynomialLR", {"total_iters": 6, "power": 1.5}),
    Schedule("CosineAnnealingLR", {"T_max": 4, "eta_min": 1e-3}),
    Schedule("CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 2}),
    Schedule("CyclicLR", {"base_lr": 0.01, "max_lr": [0.1, 0.2], "step_size_up": 3}),
    Schedule("OneCycleLR", {"max_lr": 0.2, "total_steps": 40}),
    Schedule("SWALR", {"swa_lr": 0.05, "anneal_epochs": 4}),
    Schedule("LambdaLR", {"lr_lambda": inverse}),
    Schedule("MultiplicativeLR", {"lr_lambda": shrinking}),
]
COUNT = len(LEAVES)


def sequence(*inner, at=(3, 6)):
    return Schedule("SequentialLR", {"milestones": list(at[: len(inner) - 1])}, inner)


def chain(*inner):
    return Schedule("ChainedScheduler", {}, inner)


def short(*inner):
    return sequence(*inner, at=(2,))


def names(tree):
    return {tree.scheduler}.union(*map(names, tree.inner))


def begins_within(tree):
    """Whether a sequence or a chain is to begin at a milestone, which torch cannot do and ours can."""
    later = tree.inner[1:] if tree.scheduler == "SequentialLR" else ()
    return any(one.inner for one in later) or any(map(begins_within, tree.inner))


def plain(state):
    """A state_dict in which schedulers of both libraries are alike."""
    if isinstance(state, dict):
        return {key: plain(value) for key, value in state.items() if key != "_scale_fn_ref"}
    if isinstance(state, list | tuple):
        return [plain(value) for value in state]
    return getattr(state, "__name__", state)


def begins_in_turn():
    """Whether torch begins a sequence with the one whose turn it is at step 0; before, it was the first (2.10)."""
    optimizer = cases.scheduled()
    parts = [torch.optim.lr_scheduler.ConstantLR(optimizer, factor) for factor in (0.5, 0.25)]
    torch.optim.lr_scheduler.SequentialLR(optimizer, parts, [0])
    return optimizer.param_groups[0]["lr"] == 0.25 * optimizer.param_groups[0]["initial_lr"]


BEGINS_IN_TURN = begins_in_turn()
