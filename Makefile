# make help lists the goals. VENV= PYTHON=python3 make ... uses an interpreter that already has the packages.
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BUDGET ?= 8m
WHEELS ?= wheels
HAVE ?=

ifeq ($(strip $(VENV)),)
PY := $(PYTHON)
READY :=
else
PY := $(VENV)/bin/python
READY := $(VENV)/.installed
endif

.DEFAULT_GOAL := help
.PHONY: help setup bench bench-gpu bench-gpu-full bench-micro wheels accuracy test test-full test-faults lint targets \
  figures docs docs-figures clean

help: ## list the goals
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv and install the project with all that its tests need

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable '.[test]'
	@touch $@

bench: $(READY) ## run the quick sweep on the CPU (2 minutes on 2 cores); ARGS adds options
	$(PY) -m bench run bench/sweeps/quick.toml $(ARGS)

bench-gpu: $(READY) ## measure the most telling cases on a CUDA device, within BUDGET=8m; again: the next ones
	@$(PY) -m bench env --device cuda --calibrate --seconds 0.5 > /dev/null
	$(PY) -m bench run bench/sweeps/gpu.toml --time-budget $(BUDGET) $(ARGS)

bench-gpu-full: $(READY) ## the whole GPU sweep: hours
	@$(PY) -m bench env --device cuda --calibrate > /dev/null
	$(PY) -m bench run bench/sweeps/gpu.toml $(ARGS)

accuracy: $(READY) ## train and compare (41 minutes on 2 cores); ARGS=--quick: 3 minutes
	$(PY) -m bench run bench/sweeps/accuracy.toml $(ARGS)

wheels: ## fill wheels/ with what a machine without a registry lacks beside torch; HAVE=FILE: its pip freeze
	$(PYTHON) tools/wheels.py $(WHEELS) $(if $(HAVE),--have $(HAVE)) $(ARGS)

test: $(READY) ## run the test suite
	$(PY) -m pytest $(ARGS)

test-full: $(READY) ## run the suite with whole products of options instead of pairwise coverage
	$(PY) -m pytest --full $(ARGS)

test-faults: $(READY) ## kill sweeps 500 times at random moments, and damage 2,000 sweep and 4,000 record files
	$(PY) -m pytest --full tests/faults tests/harness/test_malformed_sweeps.py tests/harness/test_malformed.py $(ARGS)

lint: $(READY) ## check style (ruff) and types (mypy)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

figures: $(READY) ## rebuild figures and tables of results/reference/ from the stored tables
	@set -e; for table in results/reference/*/*/table.parquet; do $(PY) -m bench report $$table --format pdf,png $(ARGS); done

docs: $(READY) ## build the site into site/, tutorials executed (3 minutes)
	PYTHONPATH=$(CURDIR) NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict $(ARGS)

docs-figures: $(READY) ## put the reference results' numbers and figures into README and docs
	$(PY) docs/fill.py

bench-micro: $(READY) ## time every layer with pytest-benchmark; ARGS="--benchmark-compare" holds it to the last
	$(PY) -m pytest tests/perf/test_layers_benchmark.py --benchmark-enable --benchmark-only --benchmark-autosave \
	  --benchmark-save-data --benchmark-timer=torch.utils.benchmark.utils.timer.timer \
	  --benchmark-group-by=group --benchmark-columns=median,iqr,rounds $(ARGS)

targets: $(READY) ## run the timing targets and print each with its interval
	$(PY) tests/perf/run_targets.py $(ARGS)

clean: ## remove .venv and caches, never results
	rm -rf $(VENV) site .pytest_cache .ruff_cache .mypy_cache .hypothesis build *.egg-info
