# Every target makes and reuses .venv in this folder; nothing else needs to be installed by hand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo test test-all check bench clean

help: ## show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $(STAMP)

demo: $(STAMP) ## compress a real photograph with the shipped weights, beside other codecs
	$(BIN)/mambaic demo

test: $(STAMP) ## run the tests (no GPU, no network)
	$(BIN)/python -m pytest

test-all: $(STAMP) ## also the slow tests
	$(BIN)/python -m pytest -m "slow or not slow"

check: $(STAMP) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(STAMP) ## scan kernels against their rivals and the memory floor
	$(BIN)/python -m mambaic_kernels.bench

clean: ## remove the environment and caches
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache mambaic-demo
