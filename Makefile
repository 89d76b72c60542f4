# `make serve` and `make test` are all a fresh clone needs; `make` alone lists the rest.
#
# PYTHON makes the environment in .venv. To change to another one later: make clean, then make setup PYTHON=...
# On Linux pip fetches the CUDA build of torch by default; requirements.lock says how to choose a CPU-only one.

PYTHON ?= python3
PORT   ?= 8000
# Not taken from the environment, where some shells keep the machine's own name in HOST: make serve HOST=0.0.0.0
HOST   := 127.0.0.1
# More arguments for pytest: make test ARGS='-k kraft -x'; ARGS='-n 0' for one process, which a debugger can enter
ARGS   :=
# More arguments for docker build: make docker-build DOCKER_ARGS='--build-arg TORCH_INDEX=https://pypi.org/simple'
DOCKER_ARGS :=

VENV   := .venv
BIN    := $(VENV)/bin

# Stamps: each exists only after its installation ended well, and is out of date when the wanted packages change.
SERVE_STAMP := $(VENV)/.installed-serve
ALL_STAMP   := $(VENV)/.installed-all
# Present while an installation runs. One found at the start was left by an interrupted run: .venv is then made anew.
UNFINISHED  := $(VENV)/.unfinished

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help serve setup test lint types format examples docker-build docker-test clean new-venv

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

serve: $(SERVE_STAMP)  ## serve the shipped model on HOST and PORT (127.0.0.1, 8000)
	$(BIN)/pcdm serve --host $(HOST) --port $(PORT)

setup: $(ALL_STAMP)  ## install everything into .venv: the pcdm command, all extras, the development tools

test: $(ALL_STAMP)  ## run the test suite (ARGS: more arguments for pytest)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(ALL_STAMP)  ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(ALL_STAMP)  ## check types
	$(BIN)/mypy

format: $(ALL_STAMP)  ## mend what lint can mend by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

examples: $(ALL_STAMP)  ## make the interface's and the README's answers anew, after a change of the shipped model
	$(BIN)/python -m service.examples

docker-build:  ## build the image of the service, pcdm (DOCKER_ARGS: more arguments for docker build)
	docker build --target cpu --tag pcdm $(DOCKER_ARGS) .

docker-test:  ## build and start the containers of docker-compose.yml, check them, remove them (docs/deploy.md)
	PYTHON=$(PYTHON) deploy/test/run

clean:  ## remove .venv and all caches; keeps runs and weights
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One recipe for both sets of packages: what serving needs, and everything.
$(SERVE_STAMP): EXTRAS := data
$(ALL_STAMP):   EXTRAS := benchmark,data,load,otel,train,dev

$(SERVE_STAMP) $(ALL_STAMP): pyproject.toml requirements.lock
	@if [ -e $(UNFINISHED) ]; then echo "The last installation was interrupted: starting anew."; rm -rf $(VENV); fi
	@test -x $(BIN)/python || $(MAKE) --no-print-directory new-venv
	@rm -f $(SERVE_STAMP) $(ALL_STAMP)
	@touch $(UNFINISHED)
	@echo "Installing packages into $(VENV): this takes some minutes the first time ..."
	@$(PIP_INSTALL) setuptools
	@$(PIP_INSTALL) --no-build-isolation --editable '.[$(EXTRAS)]'
	@rm $(UNFINISHED)
	@touch $(SERVE_STAMP) $@

# The pinned setuptools, installed first, builds the project: hence --no-build-isolation above.
PIP_INSTALL = $(BIN)/python -m pip --disable-pip-version-check --no-input install --constraint requirements.lock

new-venv:
	@command -v $(PYTHON) >/dev/null || { \
		echo "$(PYTHON) not found: install Python 3.11 or newer, or name another: make setup PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is not Python 3.11 or newer: install one and name it: make setup PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments: install its venv module," \
		"on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@mkdir -p $(VENV)
	@touch $(UNFINISHED)
	@echo "Making $(VENV) with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv $(VENV)
