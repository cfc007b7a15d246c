# Every command a person or CI needs. `make` alone lists them.
# On a bare machine Python 3.11 to 3.13 and make are enough: each target makes its own environment from the lock.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.NOTPARALLEL:

# `make test PYTHON=python3.13` has an environment of its own beside the default one.
ifeq ($(origin PYTHON),undefined)
  VENV := .venv
  PYTHON := $(shell for python in python3 python3.13 python3.12 python3.11; do \
    $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null \
      && { echo $$python; exit; }; done; echo python3)
else
  VENV := .venv-$(notdir $(PYTHON))
endif
PY := $(VENV)/bin/python
RUNTIME := $(VENV)/.runtime-ready
DEV := $(VENV)/.dev-ready

# An environment whose interpreter is gone is no environment: its stamps do not count.
ifneq ($(wildcard $(VENV)),)
  $(shell $(PY) -c '' 2>/dev/null || rm -f $(RUNTIME) $(DEV))
endif

FAST := not integration and not simulation and not crash and not docker and not soak and not browser
PYTEST := $(PY) -m pytest -q
# Most tests wait (for a broker, for a silence), so more of them run at a time than there are cores. WORKERS=0: one after another.
WORKERS := 4
TOGETHER := -n $(WORKERS) --dist worksteal
COMPOSE := $(shell command -v docker-compose >/dev/null 2>&1 && echo docker-compose || echo docker compose)

.PHONY: help setup demo up test check lint types imports integration crash \
  compose-up compose-down compose-test bench docs lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

# $(call install,LOCK): pip only writes the stamp when all is in; what an interrupted run left is thrown away.
define install
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
	  { echo "$(PYTHON) is not Python 3.11 to 3.13: name one that is, as in make $@ PYTHON=python3.12" >&2; exit 1; }
	@echo "preparing $(VENV) from $(1) (once)"
	@if [ -e $(VENV)/.installing ] || ! $(PY) -m pip --version >/dev/null 2>&1; then \
	  $(PYTHON) -m venv --clear $(VENV) || \
	    { echo "no virtual environment: on Debian and Ubuntu, apt install python3-venv" >&2; exit 1; }; fi
	@touch $(VENV)/.installing
	@$(PY) -m pip install -qq --disable-pip-version-check --no-input --require-hashes -r $(1)
	@rm -f $(VENV)/.installing
	@touch $@
endef

$(RUNTIME): requirements.lock
	$(call install,requirements.lock)

# It holds what runs, in the same versions.
$(DEV): requirements-dev.lock
	$(call install,requirements-dev.lock)
	@touch $(RUNTIME)

setup: $(DEV)  ## make the environment for working on Hive

demo: $(RUNTIME)  ## start a hive, launch three bots, run ten real tasks, kill a bot, stop
	@$(PY) -m cli demo

up: $(RUNTIME)  ## start a hive and stay; Ctrl-C drains and stops it
	@$(PY) -m cli up

test: $(DEV)  ## run the fast suite
	@$(PYTEST) $(TOGETHER) -m "$(FAST)" $(ARGS)

check: lint types imports test  ## the gate before every commit

lint: $(DEV)  ## ruff: rules and format
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

types: $(DEV)  ## mypy, strict
	@$(PY) -m mypy

imports: $(DEV)  ## who may import whom
	@$(VENV)/bin/lint-imports

integration: $(DEV)  ## several processes of a hive on a real server, and long simulations
	@$(PYTEST) -m "integration or simulation" $(ARGS)

crash: $(DEV)  ## kill processes at seeded moments; nothing may be lost or doubled
	@$(PYTEST) -m "crash" $(ARGS)

compose-up: secrets/admin-key  ## start the stack in containers
	@$(COMPOSE) up --build --detach
	@echo "API on http://127.0.0.1:$${HIVE_PORT:-8090}; the first key is in secrets/admin-key"

# The container's user reads the file; the folder keeps other users of this machine away from it.
secrets/admin-key:
	@mkdir -p -m 0700 secrets
	@(umask 0133; $(PYTHON) -c 'import secrets; print("hive_" + secrets.token_urlsafe(32))' > $@.new) && mv $@.new $@

compose-down:  ## stop the containers; their volumes stay
	@$(COMPOSE) down

compose-test: $(DEV)  ## build the image, start the stack, kill containers, look from outside
	@$(PYTEST) -m "docker" $(ARGS)

bench: $(RUNTIME)  ## measure; prints a table and writes build/bench.json
	@$(PY) -m benchmarks

docs: $(RUNTIME)  ## write docs/events.md from shared/contracts
	@$(PY) -m docs.catalogue

UV_COMPILE := --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --custom-compile-command "make lock"

lock: $(DEV)  ## resolve the dependencies of pyproject.toml again, for Python 3.11 to 3.13
	@$(VENV)/bin/uv pip compile $(UV_COMPILE) -o requirements.lock pyproject.toml
	@$(VENV)/bin/uv pip compile $(UV_COMPILE) -o requirements-dev.lock --extra dev -c requirements.lock pyproject.toml

clean:  ## remove environments, caches and what was built
	rm -rf .venv .venv-python* build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +
