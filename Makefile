# make help lists the goals. VENV= PYTHON=python3 make ... uses an interpreter that already has the packages.
PYTHON ?= python3
VENV ?= .venv
ARGS ?=

ifeq ($(strip $(VENV)),)
PY := $(PYTHON)
READY :=
else
PY := $(VENV)/bin/python
READY := $(VENV)/.installed
endif

.DEFAULT_GOAL := help
.PHONY: help setup bench bench-gpu bench-micro test test-full lint targets docs-figures clean

help: ## list the goals
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv and install the project with all that its tests need

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable '.[test]'
	@touch $@

bench: $(READY) ## run the quick sweep on the CPU (4 minutes on 2 cores); ARGS adds options
	$(PY) -m bench run bench/sweeps/quick.toml $(ARGS)

bench-gpu: $(READY) ## run the GPU sweep on a CUDA device
	$(PY) -m bench run bench/sweeps/gpu.toml $(ARGS)

test: $(READY) ## run the test suite
	$(PY) -m pytest $(ARGS)

test-full: $(READY) ## run the suite with whole products of options instead of pairwise coverage
	$(PY) -m pytest --full $(ARGS)

lint: $(READY) ## check style (ruff) and types (mypy)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

docs-figures: ## put the reference results' numbers and figures into README and docs
	$(PYTHON) docs/numbers.py

bench-micro: $(READY) ## time every layer with pytest-benchmark; ARGS="--benchmark-compare" holds it to the last
	$(PY) -m pytest tests/perf/test_layers_benchmark.py --benchmark-enable --benchmark-only --benchmark-autosave \
	  --benchmark-save-data --benchmark-timer=torch.utils.benchmark.utils.timer.timer \
	  --benchmark-group-by=group --benchmark-columns=median,iqr,rounds $(ARGS)

targets: $(READY) ## run the timing targets and print each with its interval
	$(PY) tests/perf/run_targets.py $(ARGS)

clean: ## remove .venv and caches, never results
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis build *.egg-info
