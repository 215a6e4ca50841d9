# Needs GNU make and Python >= 3.11; uv is used where it is installed.
# The environment lives in .venv and is installed once: the stamp follows pyproject.toml, so no later call runs pip.

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/installed
BENCH_STAMP := $(VENV)/installed-bench
PYTHONS := python3 python3.14 python3.13 python3.12 python3.11
WORKERS ?= 2

# One BLAS thread: the processes run side by side, and threads that share cores are slower than one.
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export MKL_NUM_THREADS := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help verify test test-all mutants lint bench clean

help: ## this list
	@echo "usage: make TARGET [ARGS='options for the command behind it'] [PYTHON=/path/to/python3.11]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

verify: $(STAMP) ## run the claims and write report/index.html (ARGS="--level full" for all of them)
	$(PY) -m verification $(ARGS)

test: $(STAMP) ## the tests and doctests; needs no GPU (WORKERS=2 processes)
	$(PY) -m pytest -n $(WORKERS) -m "not slow" $(ARGS)

test-all: $(STAMP) ## also the slow tests, with the nightly hypothesis profile
	HYPOTHESIS_PROFILE=nightly $(PY) -m pytest -n $(WORKERS) $(ARGS)

mutants: $(STAMP) ## break each formula in turn: a test must notice
	$(PY) -m tests.mutants $(ARGS)

lint: $(STAMP) ## ruff (format and rules) and mypy
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

bench: $(BENCH_STAMP) ## time refimpl beside JAX and torch (installs both first)
	$(PY) -m benchmarks $(ARGS)

clean: ## remove reports, caches and builds (the environment stays: delete .venv to install anew)
	rm -rf report build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# ensurepip is asked for first because Debian packs it apart, and `venv` without it leaves half an environment.
$(STAMP): pyproject.toml
	@set -e; \
	for python in $(or $(PYTHON),$(PYTHONS)); do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then found="$$python"; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "refimpl needs Python >= 3.11; tried: $(or $(PYTHON),$(PYTHONS))." >&2; \
	  echo "  'python3' here is: $$(python3 --version 2>&1 || echo missing)" >&2; \
	  echo "  Install a newer Python, or name one: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; \
	fi; \
	echo "installing into $(VENV) with $$("$$found" --version) (once)"; \
	if command -v uv >/dev/null 2>&1; then \
	  uv venv --quiet --seed --allow-existing --python "$$(command -v "$$found")" $(VENV); \
	  uv pip install --quiet --python $(PY) --editable '.[dev]'; \
	elif "$$found" -c 'import ensurepip' >/dev/null 2>&1; then \
	  "$$found" -m venv $(VENV); \
	  $(PY) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'; \
	else \
	  echo "$$found has no ensurepip, so it cannot make a virtual environment." >&2; \
	  echo "  Debian and Ubuntu pack it apart: apt-get install python3-venv. Or install uv." >&2; exit 1; \
	fi
	@touch $@

$(BENCH_STAMP): $(STAMP)
	@if command -v uv >/dev/null 2>&1; then uv pip install --quiet --python $(PY) --editable '.[bench]'; \
	else $(PY) -m pip install --quiet --disable-pip-version-check --editable '.[bench]'; fi
	@touch $@
