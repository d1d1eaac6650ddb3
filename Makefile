# The two commands: `make demo` and `make test`. Both install what they need into .venv, once.
#
# PYTHON=python3.12      the interpreter that makes .venv (3.10 or newer)
# PIP_INDEX_URL=URL      a package index other than pip's default
# TORCH_INDEX=URL        one more index, for a build of torch that the first has not (a CPU build, say)

.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
SHELL := /bin/sh

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
INDEXES := $(if $(PIP_INDEX_URL),--index-url $(PIP_INDEX_URL)) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: demo test lint types tests format constraints wheel clean

demo: $(STAMP)
	$(BIN)/python examples/demo.py

test: lint types tests

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

tests: $(STAMP)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=...")'
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(PIP) install --quiet $(INDEXES) --constraint constraints.txt hatchling editables
	$(PIP) install --quiet $(INDEXES) --constraint constraints.txt --no-build-isolation --editable '.[dev,dataloader2,safetensors]'
	touch $@

# Renews constraints.txt after a change of dependencies; what is pinned stays unless it must move.
constraints: $(STAMP)
	$(PIP) install --quiet $(INDEXES) uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --no-header --no-annotate \
		--extra dev --extra dataloader2 --extra safetensors --output-file constraints.txt pyproject.toml

wheel: $(STAMP)
	$(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

clean:
	rm -rf $(VENV) build dist htmlcov .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
