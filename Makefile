# Each target sets up what it needs. Start with `make demo` or `make test`.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo demo-down test verify lint lock key bench docs

$(VENV)/.ready: requirements/uv.txt requirements/dev.txt lab/bootstrap.sh
	PYTHON=$(PYTHON) lab/bootstrap.sh $(VENV)

demo: $(VENV)/.ready
	$(BIN)/python -m lab demo

demo-down: $(VENV)/.ready
	$(BIN)/python -m lab down

test: lint
	$(BIN)/python -m pytest tests/schema tests/control
	$(BIN)/python -m pytest tests/plugin tests/simulated
	$(BIN)/python -m pytest tests/lab

verify: $(VENV)/.ready
	$(BIN)/python -m pytest tests/hosts

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

key: $(VENV)/.ready
	@$(BIN)/python -m litellm_plugins.keys $(NAME)

bench: $(VENV)/.ready
	$(BIN)/python -m bench.converge

lock: $(VENV)/.ready
	requirements/lock.sh $(BIN)/uv

docs: $(VENV)/.ready
	$(BIN)/python -m docs.generate
