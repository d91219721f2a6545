# Targets make and reuse .venv in this folder, each with what it needs; nothing else needs to be
# installed by hand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# a process for every core, of one thread each
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist worksteal

.PHONY: help demo test test-all check bench clean

help: ## show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.eval $(VENV)/.dev $(VENV)/.dev,browser,ray: $(VENV)/.%: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) -e '.[$*]'
	touch $@

demo: $(VENV)/.eval ## compress a real photograph with the shipped weights, beside other codecs
	$(BIN)/mambaic demo

test: $(VENV)/.dev ## run the tests (no GPU, no network)
	$(PYTEST)

test-all: $(VENV)/.dev,browser,ray ## also the slow tests
	$(PYTEST) -m "slow or not slow"

check: $(VENV)/.dev ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev ## scan kernels against their rivals and the memory floor
	$(BIN)/python -m mambaic_kernels.bench

clean: ## remove the environment and caches
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache mambaic-demo
