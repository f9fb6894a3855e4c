# Gemcut's tasks. `make help` lists them. Everything is installed into .venv, pinned by constraints.txt.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first Python of at least 3.11 that can make a virtual environment; name another with PYTHON=/path/to/python.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	"$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo "$$python"; break; }; done)

# What `make run` completes.
PROMPT ?= The planets of the solar system, in order from the Sun, are
# Handed over by the environment, so that quotes in it are safe.
export PROMPT

# More arguments for pytest, such as PYTEST_ARGS="-x tests/text".
PYTEST_ARGS ?=
# The slowest first.
BACKEND_TESTS := test-tensorflow test-jax test-torch

VENV := .venv
BIN := $(VENV)/bin
INSTALLED_RUN := $(VENV)/.installed-run
INSTALLED_ALL := $(VENV)/.installed-all
RUN_EXTRAS := starter,jax
PACKAGING := pyproject.toml constraints.txt
PIP := $(BIN)/python -m pip --disable-pip-version-check
PROOFS := $(sort $(patsubst benchmarks/proof_%.py,%,$(wildcard benchmarks/proof_*.py)))

.PHONY: help run setup test $(BACKEND_TESTS) test-plain check format bench docs clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@for proof in $(PROOFS); do \
		printf 'make %-20s %s\n' "proof-$${proof//_/-}" "$$(sed -n '1s/^"""\(.*[^"]\)"*$$/\1/p' "benchmarks/proof_$$proof.py")"; \
	done

run: $(INSTALLED_RUN) ## Install what it takes and complete PROMPT with the real starter model
	@$(BIN)/gemcut run starter --temperature 0 -- "$$PROMPT"

setup: $(INSTALLED_ALL) ## Install all that tests and checks need, the three backends included

test: $(INSTALLED_ALL) ## Run the tests; those that need a Keras backend once on each
	@$(MAKE) --no-print-directory --keep-going --jobs=2 --output-sync=target $(BACKEND_TESTS) test-plain

# Keras takes one backend a process. Exit code 5 is no failure: PYTEST_ARGS left this process without tests.
$(BACKEND_TESTS): test-%:
	@echo "Tests of the $* backend"
	@KERAS_BACKEND=$* $(BIN)/python -m pytest -q -m backend $(PYTEST_ARGS) || [ $$? = 5 ]

test-plain:
	@echo "Tests without a backend"
	@$(BIN)/python -m pytest -q -m "not backend" $(PYTEST_ARGS) || [ $$? = 5 ]

check: $(INSTALLED_ALL) ## Format, lint, types, import layers, size budgets, docs, notebooks; no tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python scripts/check_budgets.py
	$(BIN)/python scripts/cli_docs.py --check
	$(BIN)/python scripts/model_docs.py --check
	$(BIN)/python scripts/check_docs.py
	$(BIN)/python scripts/check_notebooks.py

format: $(INSTALLED_ALL) ## Format the code and sort its imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED_ALL) ## Write what is generated: docs/cli.md, the table of docs/models.md, the notebooks' outputs
	$(BIN)/python scripts/cli_docs.py
	$(BIN)/python scripts/model_docs.py
	$(BIN)/python scripts/run_notebooks.py

bench: $(INSTALLED_ALL) .venv-kerashub/.installed ## Measure speed against the peers: tables, benchmarks/results/*.json
	$(BIN)/python benchmarks/run.py

# KerasHub drags in the whole of TensorFlow, so it has an environment of its own.
.venv-kerashub/.installed: benchmarks/requirements-kerashub.txt | $(BIN)/python
	"$(PYTHON)" -m venv .venv-kerashub
	.venv-kerashub/bin/python -m pip install -q -r benchmarks/requirements-kerashub.txt
	@touch $@

# A slow proof: benchmarks/proof_NAME.py, whose first docstring line `make help` prints.
proof-%: $(INSTALLED_ALL)
	$(BIN)/python benchmarks/proof_$(subst -,_,$*).py

clean: ## Remove the virtual environment and every cache
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "make: found no Python >= 3.11 that can make a virtual environment." >&2; \
		echo "On Debian or Ubuntu: apt-get install python3 python3-venv. Elsewhere: make PYTHON=/path/to/python ..." >&2; \
		exit 1; \
	fi
	@"$(PYTHON)" -m venv --clear $(VENV) || { rm -rf $(VENV); \
		echo "make: $(PYTHON) -m venv failed; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }

# pip writes to standard error, so that standard output carries only the answer of `make run`.
define install
@echo "Installing .[$(1)] into $(VENV), pinned by constraints.txt (the first time this takes minutes) ..." >&2
@$(PIP) install -q -c constraints.txt hatchling >&2
@$(PIP) install -q -c constraints.txt --no-build-isolation -e '.[$(1)]' >&2
@touch $@
endef

$(INSTALLED_RUN): $(PACKAGING) | $(BIN)/python
	$(call install,$(RUN_EXTRAS))

$(INSTALLED_ALL): $(PACKAGING) | $(BIN)/python
	$(call install,dev)
	@touch $(INSTALLED_RUN)
