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

VENV := .venv
BIN := $(VENV)/bin
INSTALLED_RUN := $(VENV)/.installed-run
INSTALLED_ALL := $(VENV)/.installed-all
RUN_EXTRAS := starter,jax
PACKAGING := pyproject.toml constraints.txt
PIP := $(BIN)/python -m pip --disable-pip-version-check
PROOFS := $(sort $(patsubst benchmarks/proof_%.py,%,$(wildcard benchmarks/proof_*.py)))

.PHONY: help run setup test check format bench docs clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@for proof in $(PROOFS); do \
		printf 'make %-20s %s\n' "proof-$${proof//_/-}" "$$(sed -n '1s/^"""\(.*[^"]\)"*$$/\1/p' "benchmarks/proof_$$proof.py")"; \
	done

run: $(INSTALLED_RUN) ## Install what it takes and complete PROMPT with the real starter model
	@$(BIN)/gemcut run starter --temperature 0 -- "$$PROMPT"

setup: $(INSTALLED_ALL) ## Install all that tests and checks need, the three backends included

test: $(INSTALLED_ALL) ## Run the tests
	@$(BIN)/python -m pytest -q $(PYTEST_ARGS)

check: $(INSTALLED_ALL) ## Format, lint, types, import layers, size budgets, docs, notebooks; no tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python scripts/check_budgets.py
	$(BIN)/python scripts/cli_docs.py --check
	$(BIN)/python scripts/check_docs.py
	$(BIN)/python scripts/check_notebooks.py

format: $(INSTALLED_ALL) ## Format the code and sort its imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED_ALL) ## Write docs/cli.md from the --help pages
	$(BIN)/python scripts/cli_docs.py

bench: $(INSTALLED_ALL) ## Measure speed and memory against the peers; tables and benchmarks/results/*.json
	$(BIN)/python benchmarks/run.py

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
