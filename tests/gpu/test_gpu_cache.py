"""Kernels on disk, and what happens without their compiler."""

import os
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.cuda_itself

STEP = """
import sys, torch
from torchpace import optim
params = [torch.nn.Parameter(torch.ones(1000, device="cuda")) for _ in range(3)]
for param in params:
    param.grad = torch.full_like(param, 0.5)
optimizer = optim.Adam(params, lr=0.1, max_grad_norm=1.0)
optimizer.step()
torch.cuda.synchronize()
print(optimizer.last_path, float(params[0].detach()[0]))
"""


def start(folder, text=STEP, **more):
    environment = os.environ | {"XDG_CACHE_HOME": str(folder)} | more
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", text], env=environment, stdout=pipe, stderr=pipe, text=True)


def end(process):
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return out.strip(), errors


def kernels(folder):
    return sorted((folder / "torchpace" / "kernels").iterdir())


def test_two_processes_fill_it_at_once(tmp_path):
    outs = [end(process)[0] for process in [start(tmp_path) for _ in range(2)]]
    assert outs == [outs[0]] * 2
    assert outs[0].startswith("fused 0.9")
    files = kernels(tmp_path)
    assert files
    assert all(file.suffix == ".bin" for file in files)
    times = [file.stat().st_mtime_ns for file in files]
    assert end(start(tmp_path))[0] == outs[0]
    assert [file.stat().st_mtime_ns for file in kernels(tmp_path)] == times


def test_damaged_files_are_replaced(tmp_path):
    out = end(start(tmp_path))[0]
    whole = {file: file.read_bytes() for file in kernels(tmp_path)}
    for k, (file, content) in enumerate(whole.items()):
        file.write_bytes([b"", content[: len(content) // 2], content[:-1] + b"?"][k % 3])
    assert end(start(tmp_path))[0] == out
    assert {file: file.read_bytes() for file in kernels(tmp_path)} == whole


HIDE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>
void *dlopen(const char *name, int flags) {
    static void *(*real)(const char *, int);
    if (!real)
        real = (void *(*)(const char *, int))dlsym(RTLD_NEXT, "dlopen");
    return real(name && strstr(name, "libnvrtc") ? "/hidden/libnvrtc.so" : name, flags);
}
"""


@pytest.mark.skipif(sys.platform != "linux", reason="hides a library from the loader of Linux")
def test_without_nvrtc_torch_steps(tmp_path):
    """Nothing else hides it: torch has it loaded, so that the loader knows it by its name."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler, for a library that hides NVRTC")
    (tmp_path / "hide.c").write_text(HIDE)
    hide = tmp_path / "hide.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", hide, tmp_path / "hide.c", "-ldl"], check=True)
    steps = STEP.replace("optimizer.step()", "optimizer.step()\noptimizer.step()")
    out, errors = end(start(tmp_path, steps, LD_PRELOAD=str(hide)))
    assert out.startswith("torch: ")
    assert "NVRTC" in out
    assert float(out.split()[-1]) == pytest.approx(0.8, abs=1e-5)
    assert errors.count("RuntimeWarning: torchpace leaves the steps on CUDA devices to torch") == 1
