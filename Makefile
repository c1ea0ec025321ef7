# Darkroom's commands. Needs Python 3.11+ and make; everything else is installed into .venv.
.DEFAULT_GOAL := help
.PHONY: help demo test check lint types faults bench starter evaluate gallery clean

PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3,$(if $(shell command -v $(p) 2>/dev/null),$(p))))
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
PACKAGES := tasks storage worker cli

# Which build of PyTorch is installed. Empty: what pip picks, on Linux the one with CUDA. cpu: the one for CPUs alone, on
# Linux from PyTorch's own index; elsewhere there is no other.
TORCH ?=
TORCH_RELEASE := torch==2.13.0
ifneq ($(filter-out cpu,$(TORCH)),)
$(error TORCH is "$(TORCH)"; it can be cpu, or empty for what pip picks)
endif
ifeq ($(TORCH)$(shell uname -s),cpuLinux)
TORCH_RELEASE := $(TORCH_RELEASE)+cpu --extra-index-url https://download.pytorch.org/whl/cpu
endif

# pip says what it fetches, from where and how large; its bars are for a terminal.
INSTALL = $(BIN)/pip install --disable-pip-version-check --progress-bar $$(test -t 1 && echo on || echo off) -c constraints.txt

help:  ## what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Darkroom needs Python 3.11 or newer (PYTHON=... picks one)"; exit 1; }
	@echo "Installing Darkroom and its libraries into $(abspath $(VENV)); what is there already stays."
	@echo "The largest is PyTorch: 0.7 GB on disk for CPUs (TORCH=cpu), about 5 GB with CUDA; the rest takes 1 GB. Unpacking needs some minutes, too."
	@$(PYTHON) -m venv $(VENV)
	@echo "1 of 2: PyTorch" && $(INSTALL) $(TORCH_RELEASE)
	@echo "2 of 2: the other libraries, and Darkroom" && $(INSTALL) -e '.[dev]'
	@du -sh $(VENV) | sed -E 's/^([^[:space:]]+).*/Installed: \1 in all./'
	@touch $@

.types/darkroom:
	@mkdir -p $@ && for p in $(PACKAGES); do ln -sfn ../../$$p $@/$$p; done

demo: $(READY)  ## a server, a worker and two pictures, start to end
	@$(BIN)/darkroom demo

# How many test processes. Four keep two cores busy: half of a test's time is waiting, for a lease to run out, say.
PROCESSES ?= 4
SPREAD := -n $(PROCESSES)

MYPY := $(BIN)/mypy $(foreach p,$(PACKAGES),-p darkroom.$(p)) -p bench -p ops

# Beside the tests, types cost no time of their own; pytest's summary ends it, or what is wrong with the types.
test: lint $(READY) .types/darkroom  ## lint, strict types and all tests
	@$(MYPY) > .types/said 2>&1 & types=$$!; \
	$(BIN)/python -m pytest $(SPREAD) --dist loadfile --no-loadscope-reorder; tests=$$?; \
	wait $$types || { cat .types/said; exit 1; }; exit $$tests

check: lint types $(READY)  ## lint, types, and the unit tests of what changed: for the minute between two edits
	@$(BIN)/python -m pytest -q $(SPREAD) $$($(BIN)/python -m ops.changed)

lint: $(READY)  ## ruff: rules and format
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(READY) .types/darkroom  ## mypy, strict
	@$(MYPY)

faults: $(READY)  ## the long tests: whole storms, hostile pictures, a search through the life of jobs, every combination
	@$(BIN)/python -m pytest tests/unit tests/integration -m thorough --timeout=1200
	@$(BIN)/python -m pytest tests/faults -s --storms=10 --hypothesis-profile=long --timeout=0

bench: $(READY)  ## the measured tables
	@$(BIN)/python -m bench

# STARTER holds checkpoints, so that training goes on where it was stopped; over two hours on two cores.
STARTER ?= $(HOME)/.cache/darkroom-starter

starter: $(READY)  ## train the starter model from nothing into worker/starter
	@$(BIN)/python -m ops.starter train --folder $(STARTER) && $(BIN)/python -m ops.starter export --folder $(STARTER)

evaluate: $(READY)  ## the starter model's table: 300 prompts, judged
	@$(BIN)/python -m ops.starter evaluate

gallery: $(READY)  ## the pictures of the README and of docs/11-kinds.md
	@$(BIN)/python -m ops.starter gallery

clean:  ## everything that make made
	rm -rf $(VENV) .types .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
