"""Tests on a CUDA device: `make test-gpu`, from an installed wheel.

No GPU has run them yet, and no figure of one is recorded. Elsewhere they are skipped. With TORCHPACE_TEST_DEVICE=cpu
those that need nothing of CUDA itself run on the CPU, or on the GPU that a build with the feature `simulated` has there
(`make test-simulated`).
"""

import inspect
import os

import pytest
import torch

import cases

DEVICE = os.environ.get("TORCHPACE_TEST_DEVICE", "cuda")


def pytest_collection_modifyitems(items):
    here = os.path.dirname(__file__)
    no_device = pytest.mark.skip(reason="needs a CUDA device")
    needs_cuda = pytest.mark.skip(reason="needs CUDA itself: graphs, streams, the profiler")
    for item in items:
        if not str(item.path).startswith(here):
            continue
        item.add_marker(pytest.mark.gpu)
        if DEVICE == "cuda" and not torch.cuda.is_available():
            item.add_marker(no_device)
        elif DEVICE != "cuda" and item.get_closest_marker("cuda_itself"):
            item.add_marker(needs_cuda)


@pytest.fixture
def device():
    return torch.device(DEVICE)


@pytest.fixture
def needs(device):
    """`needs(name, option)` skips where torch's optimizer does not take the option on this device."""

    def check(name, option):
        cls = cases.torchs(name)
        if option not in inspect.signature(cls).parameters or (option == "capturable" and device.type != "cuda"):
            pytest.skip(f"torch's {name} has no {option} on {device.type}")
        if option == "fused":
            # Some releases of torch refuse it on some devices, in the constructor or in a step.
            param = torch.ones(1, device=device)
            param.grad = torch.ones_like(param)
            try:
                cls([param], fused=True).step()
            except RuntimeError as error:
                pytest.skip(f"torch's {name} has no fused on {device.type}: {error}")

    return check
