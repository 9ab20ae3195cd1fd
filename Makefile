# Two commands matter: `make run` rings a phone in your browser, `make test` proves everything that this machine can prove.
# Each makes its own .venv. Python 3.11 or newer and make are all that must be there: PYTHON=python3.12 make … chooses one.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

.DEFAULT_GOAL := help
.PHONY: help run test check simulate soak coverage format clean python

help: ## Say what can be made
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' Makefile

run: $(VENV)/.installed ## Start the relay with a demo customer that rings in your browser
	@$(BIN)/koppel serve --demo

test: check ## Everything: style, types, layers, and all tests that this machine can run
	@echo "tests"
	@$(BIN)/python -m pytest $(PYTEST)

check: $(VENV)/.developing ## Style, types and layers alone
	@echo "style" && $(BIN)/ruff check && $(BIN)/ruff format --check
	@echo "types" && $(BIN)/mypy && PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright
	@echo "layers" && $(BIN)/lint-imports --no-cache

simulate: $(VENV)/.developing ## Whole calls with faults in virtual time: SEEDS=200 of them, judged by what everybody heard
	@$(BIN)/python -m tests.simulation.run --seeds $(or $(SEEDS),200)

soak: $(VENV)/.developing ## Legs opened, used, abused and closed: CYCLES=100000 of them, and what is left over of them
	@$(BIN)/python -m tests.soak.legs --cycles $(or $(CYCLES),100000)
	@$(BIN)/python -m tests.soak.softphones

coverage: $(VENV)/.developing ## Which lines no test reaches
	@$(BIN)/python -m pytest --quiet --cov --cov-report=term-missing:skip-covered $(PYTEST)

format: $(VENV)/.developing ## Put the source into the usual style
	@$(BIN)/ruff check --fix-only --quiet && $(BIN)/ruff format

clean: ## Remove what was made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist

$(VENV)/.installed: pyproject.toml | python
	@echo "installing Koppel into $(VENV) (once, about a minute)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --editable .
	@touch $@

$(VENV)/.developing: pyproject.toml $(VENV)/.installed
	@echo "installing what the tests need into $(VENV) (once)"
	@$(PIP) install --editable '.[dev]'
	@touch $@

python:
	@test -x $(BIN)/python || test -n "$(PYTHON)" || { \
		echo "Koppel needs Python 3.11 or newer: apt-get install python3 python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments: apt-get install python3-venv" >&2; exit 1; }
