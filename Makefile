# memnb: `make` lists the targets.
#
#   PRESET=stored|quick|paper   ONLY=ARTEFACT   OUT=FOLDER   JOBS=N      for `make reproduce`
#   PYTHON=/path/to/python3.x                                            for the environment
#   PIN="torch==2.13.0 ..."                                              for `make lock`
.DEFAULT_GOAL := help
.PHONY: help setup reproduce test guarantees kernels lint lab wheel readme lock clean distclean
SHELL := /bin/sh

VENV  := .venv
STAMP := $(VENV)/.memnb-installed

# What a run writes into a notebook beside its outputs: times, and the version of its Python.
NOTEBOOK_KEYS := metadata.language_info.version cell.metadata.execution cell.metadata.papermill

# A Python that was named is taken as it is; otherwise the bootstrap may find a newer one.
ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell command -v python3 || command -v python)
else
EXACT := --exact
endif

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## make .venv and install the locked packages (instant the second time)

# An environment whose interpreter is gone (an upgrade, a moved folder) is made anew.
ifneq ($(wildcard $(STAMP)),)
ifneq ($(shell $(VENV)/bin/python -c 'print("runs")' 2>/dev/null),runs)
.PHONY: $(STAMP)
endif
endif

$(STAMP): requirements.lock pyproject.toml tools/bootstrap.py
	@test -n "$(PYTHON)" || { echo "memnb: Python 3.11 or newer is needed, but there is no python3 on PATH; install one, or name it: make setup PYTHON=/path/to/python3.12" >&2; exit 1; }
	@"$(PYTHON)" tools/bootstrap.py $(EXACT)

reproduce: setup ## train the small models, run every notebook, write report/index.html
	@$(VENV)/bin/memnb reproduce $(if $(PRESET),--preset "$(PRESET)") $(if $(ONLY),--only "$(ONLY)") $(if $(OUT),--out "$(OUT)") $(if $(JOBS),--jobs "$(JOBS)")

# Three workers with a thread each, since on two cores one often waits for a process that it started;
# results of the tests stay out of runs/ and report/. In the order of their names the many short
# notebooks come last, so that no worker is left with a long file.
test: setup ## run all tests, and every notebook against its committed output
	@OMP_NUM_THREADS=1 MEMNB_OUT="$(CURDIR)/build/test-output" $(VENV)/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --nbval-lax --nbval-current-env tests notebooks

guarantees: setup ## run the tests of the guarantees, keep how they end in data/reference/
	@OMP_NUM_THREADS=1 MEMNB_OUT="$(CURDIR)/build/test-output" PYTHONPATH=tests $(VENV)/bin/python -m pytest -n 2 --dist loadfile -p guarantee_record --guarantees data/reference/guarantees.json tests

# Triton comes with PyTorch for CUDA only; its interpreter and its compiler need no card.
TRITON := build/triton

kernels: setup ## run the Triton kernels in its interpreter, compile them for cards (Linux; gets 290 MB)
	@test -d $(TRITON)/triton || $(VENV)/bin/python -m pip install --quiet --no-deps --target $(TRITON) triton==3.9.0
	@OMP_NUM_THREADS=1 PYTHONPATH=$(TRITON) TRITON_INTERPRET=1 $(VENV)/bin/python -m pytest -n 3 tests/test_fused.py tests/test_flash.py tests/test_sums.py
	@OMP_NUM_THREADS=1 PYTHONPATH=$(TRITON) $(VENV)/bin/python -m pytest -n 3 tests/test_kernels_compile.py

lint: setup ## ruff, formatting, notebook outputs, types (the checks of pre-commit)
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/nbstripout --verify --keep-count --extra-keys "$(NOTEBOOK_KEYS)" $(wildcard notebooks/*.ipynb)
	@$(VENV)/bin/mypy

lab: setup ## open the notebooks in JupyterLab
	@$(VENV)/bin/jupyter lab --notebook-dir=notebooks

wheel: setup ## build dist/memnb-*.whl, which carries the notebooks and the committed rows
	@$(VENV)/bin/python -m build --wheel --no-isolation

readme: setup ## write the headline results into README.md from the committed rows
	@$(VENV)/bin/python tools/readme.py

# By the oldest Python that memnb serves: newer ones run what it can run, not the reverse.
lock: ## resolve the newest versions afresh (with PYTHON=python3.11) into requirements.lock
	@"$(PYTHON)" tools/lock.py $(PIN)

clean: ## remove what tools leave behind (not the environment, runs, data or report)
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	@find memnb tests tools notebooks -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf

distclean: clean ## remove .venv, runs, data, report and pages as well
	@rm -rf $(VENV) runs report pages data/cache
