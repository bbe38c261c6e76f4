# Every target builds the environment in .venv first; nothing is preinstalled
# but Python ≥ 3.11 and make. `make venv` does that alone.

PYTHON ?= python3
WORKDIR ?= runs/reproduce
# Figures made at a time; one on an accelerator.
JOBS ?= 2
# Another environment can be elsewhere: make test PYTHON=python3.13 VENV=.venv313
VENV ?= .venv
BIN := $(VENV)/bin
# Programs compiled once are kept: most of a short run is compilation.
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0
READY := $(VENV)/.ready
# Versions known to work together, of this Python if it has its own.
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
CONSTRAINTS := $(firstword $(wildcard constraints-$(VERSION).txt) constraints.txt)
TESTS ?=

.PHONY: venv reproduce reproduce-more reproduce-mazes reproduce-full test faults lint hooks docs benchmark clean

# A first look, in minutes; reproduce-more adds to the same report.
reproduce: $(READY)
	$(BIN)/python -m experiments.reproduce --preset=quick --jobs=$(JOBS) --workdir=$(WORKDIR)

reproduce-more: $(READY)
	$(BIN)/python -m experiments.reproduce --preset=quick --figure=more --jobs=$(JOBS) --workdir=$(WORKDIR)

# The maze figures train transformers by themselves on every core there is.
reproduce-mazes: $(READY)
	$(BIN)/python -m experiments.reproduce --preset=quick --figure=all_mazes --workdir=$(WORKDIR)

reproduce-full: $(READY)
	$(BIN)/python -m experiments.reproduce --preset=full --figure=all --jobs=$(JOBS) --workdir=$(WORKDIR)-full

# `make test LONG=1` is the whole suite; COVERAGE=1 says which lines no test runs,
# for a fifth of the time. The floor is in pyproject.toml.
EXTENT = $(if $(LONG),,-m "not long")
EXTENT += $(if $(COVERAGE),--cov --cov-report=term-missing:skip-covered)
test: $(READY)
	$(BIN)/python -m pytest -n auto $(EXTENT) $(TESTS)

# At length what tests/faults/ does briefly.
faults: $(READY)
	$(BIN)/python -m tests.faults.groups
	$(BIN)/python -m tests.faults.configs
	$(BIN)/python -m tests.faults.damage
	$(BIN)/python -m tests.faults.kills
	$(BIN)/python -m tests.faults.full_disk

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Before every commit: what `make lint` does.
hooks: $(READY)
	$(BIN)/pre-commit install

docs: $(READY)
	$(BIN)/python -m sphinx -q -W --keep-going docs build/docs

benchmark: $(READY)
	$(BIN)/python -m benchmarks.run

$(READY): setup.py $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit(f"Python {v[0]}.{v[1]} found; 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@# setuptools warns of every editable installation.
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) -e '.[dev]'
	@touch $@

venv: $(READY)

clean:
	rm -rf $(VENV) .cache build *.egg-info
