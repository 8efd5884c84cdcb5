# Every target sets up what it needs in .venv, so `make demo` and `make test` work on a fresh clone.

PYTHON ?= python3
# Exact, so that everyone runs the same; may hold pip options too. For the CPU build on a Linux machine whose pip
# would take the CUDA build: make test TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"
TORCH ?= torch==2.13.0
# Where wheels of torch-scatter and torch-sparse are kept between clones
WHEELS ?= $(HOME)/.cache/dwf-optim/wheels
# Compilers that run at once in that build; each one takes 1 to 2 GB
MAX_JOBS ?= 2
BENCHMARKS := lr_window lr_study mnist recommend target_sparsity target_sparsity_laws debias early_flush layer_policies \
  structured frontier-mnist frontier analyses step gated_step iteration monitor storage near_zero outside_writes linear conv engine \
  overhead shrink onnx serving
# What a name runs, where it is not a module's. The runs of these take hours (python -m benchmarks.frontier run ...,
# python -m benchmarks.analyses run); from those that are committed their pages are made in seconds.
RUN_frontier-mnist := benchmarks.frontier report mnist-lenet-300-100 mnist-lenet-5
RUN_frontier := benchmarks.frontier report
RUN_analyses := benchmarks.analyses report
target := $(BENCHMARKS)

VENV := .venv
PY := $(VENV)/bin/python
STAMPS := $(VENV)/.stamps
# Holds pip to the torch that is installed: rather than replace it, pip fails.
PIP_INSTALL := $(PY) -m pip install -c $(STAMPS)/torch

.SHELLFLAGS := -eu -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo test test-fast mutants sanitize dist packaging lint docs bench clean

help:  ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

demo: $(STAMPS)/demo  ## train dense and factorized, and compare them
	$(PY) -m benchmarks.demo

test: $(STAMPS)/dev $(STAMPS)/torch-sparse  ## run all tests (the first time builds torch-sparse: about 10 minutes)
	$(PY) -m pytest

test-fast: $(STAMPS)/dev  ## run the tests that are quick and do not need torch-sparse
	$(PY) -m pytest -m "not slow and not torch_sparse"

mutants: $(STAMPS)/dev  ## plant known bugs one at a time, and list which property tests find each (fast=1: six)
	$(PY) -m tests.mutations $(if $(fast),--fast)

sanitize: $(STAMPS)/dev  ## run the extensions' tests on builds that watch memory and undefined behaviour (GCC)
	$(PY) -m tests.sanitized

dist: $(STAMPS)/dev  ## build sdist and wheel into dist/
	rm -rf dist
	$(PY) -m build --sdist --no-isolation
	$(PY) -m pip wheel --no-cache-dir --no-deps --no-build-isolation -w dist dist/*.tar.gz
	ls -l dist

packaging: dist  ## install sdist and wheel where there is no compiler, and train
	$(PY) -m pytest tests/packaging

lint: $(STAMPS)/dev  ## check style, format and types
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy

docs: $(STAMPS)/docs  ## build the documentation into build/docs; a warning is an error
	$(PY) -m sphinx --fail-on-warning --keep-going -b dirhtml docs build/docs

bench: $(STAMPS)/bench $(STAMPS)/torch-sparse  ## run the benchmarks, or one: make bench target=mnist
	$(if $(filter-out $(BENCHMARKS),$(target)),$(error unknown benchmark in "$(target)", there are: $(BENCHMARKS)))
	$(foreach name,$(target),$(PY) -m $(or $(RUN_$(name)),benchmarks.$(name)) &&) true

clean:  ## remove .venv, builds and caches of this clone (the wheels in ~/.cache stay)
	rm -rf $(VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment: one stamp a step. An existing .venv is installed into, never replaced.

$(STAMPS)/venv:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=...")'
	$(PY) -m pip --version 2>/dev/null || $(PYTHON) -m venv $(VENV)
	mkdir -p $(STAMPS)
	touch $@

# torch comes first and alone, so that pip never chooses one; the stamp names the build as a constraint.
$(STAMPS)/torch: $(STAMPS)/venv Makefile
	$(PY) -m pip install $(TORCH)
	$(PY) -c 'import torch; print(f"torch=={torch.__version__}")' >$@

$(STAMPS)/bench $(STAMPS)/demo $(STAMPS)/dev $(STAMPS)/docs: $(STAMPS)/%: $(STAMPS)/torch pyproject.toml CMakeLists.txt $(wildcard csrc/* */csrc/* */csrc/*/*)
	$(PIP_INSTALL) -e '.[$*]'
	touch $@

# PyPI has no wheels of torch-scatter and torch-sparse, and a built one fits one torch and one Python only, which pip's own
# cache does not know: hence a folder of their own. They are built in a folder beside it and moved in when both are
# done, so what lies there is whole. FORCE_ONLY_CPU: the same wheels whether torch is a CPU or a CUDA build.
WHEEL_DIR = $(WHEELS)/$(shell sed 's/==/-/; s/+.*//' $(STAMPS)/torch)-$(shell $(PY) -c 'import sys; print("cp%d%d" % sys.version_info[:2])')

$(STAMPS)/torch-sparse: $(STAMPS)/dev
	mkdir -p "$(WHEEL_DIR)"
	if ! ls "$(WHEEL_DIR)"/torch_scatter-*.whl "$(WHEEL_DIR)"/torch_sparse-*.whl; then \
	  echo "building torch-scatter and torch-sparse: about 10 minutes, once"; \
	  $(PIP_INSTALL) setuptools wheel ninja; \
	  part=$$(mktemp -d "$(WHEEL_DIR)/build.XXXXXX"); trap 'rm -rf "$$part"' EXIT; \
	  FORCE_ONLY_CPU=1 MAX_JOBS=$(MAX_JOBS) $(PY) -m pip wheel --no-cache-dir --no-build-isolation --no-deps -w "$$part" torch-scatter torch-sparse; \
	  mv "$$part"/*.whl "$(WHEEL_DIR)"; \
	fi
	$(PY) -m pip install --no-deps --force-reinstall "$(WHEEL_DIR)"/torch_scatter-*.whl "$(WHEEL_DIR)"/torch_sparse-*.whl
	$(PY) -c 'import torch_scatter, torch_sparse'
	touch $@
