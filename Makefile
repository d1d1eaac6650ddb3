# The two commands: `make demo` and `make test`. Both install what they need into .venv, once.
# Also: `make bench` compares this library with its peers, and `make bench-quick` is a quick check.
#
# PYTHON=python3.12      the interpreter that creates .venv (3.10 or newer)
# PIP_INDEX_URL=URL      a package index other than pip's default
# TORCH_INDEX=URL        an additional index, for a build of torch that the first one lacks (such as the CPU build)

.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
SHELL := /bin/sh

PYTHON ?= python3
VENV := .venv
PEERS := .venv-peers
ECOSYSTEM := .venv-ecosystem
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
LOWEST := .venv-lowest
# The environment that benchmarks run in.
BENCH := $(if $(filter ray hf-stream,$(WORKS)),$(ECOSYSTEM),$(VENV))
PIP := python -m pip --disable-pip-version-check --no-input
LIGHT := ,test-light
# One process for each core. Every test has its own bucket, folder and ports.
PARALLEL := --numprocesses=auto --maxprocesses=8 --dist=worksteal
# With what its checkpoints need, and no more: it asks for an old version of Hugging Face datasets, and for wandb.
TORCHTITAN := 'torchtitan==0.3.0; python_version >= "3.11"' docstring-parser==0.18.0 spmd-types==0.2.3 tyro==1.0.17 typeguard==4.6.1
INDEXES := $(if $(PIP_INDEX_URL),--index-url $(PIP_INDEX_URL)) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: demo test test-ecosystem chaos bench bench-quick bench-scale bench-publish figures lint types tests interop lowest docs notebooks format constraints wheel package clean

demo: $(STAMP)
	$(BIN)/python examples/demo.py

test: lint types tests interop

# `oss://` in the tools that people train with. `make test` runs the same files as far as a tool is in .venv: those of the
# extra test-light are. TESTS=tests/ecosystem/test_zarr.py runs one file.
test-ecosystem: $(ECOSYSTEM)/installed
	$(ECOSYSTEM)/bin/python -m pytest $(PARALLEL) $(or $(TESTS),$(wildcard tests/ecosystem tests/integrations) tests/examples tests/benchmarks/test_programs.py)

# All faults, for minutes. SEED=7 repeats a run, ROUNDS=20 makes the soak longer, CHAOS=chaos/test_soak.py runs one part.
chaos: $(STAMP)
	OSS_CHAOS_SEED=$(SEED) OSS_CHAOS_ROUNDS=$(ROUNDS) $(BIN)/python -m pytest $(or $(CHAOS),chaos) --show-capture=no --tb=short --timeout=600 -o faulthandler_timeout=0

# WORKS="small save"       only these works; `python -m benchmarks --list` lists all
# WORKS="ray hf-stream"    these need the packages of `make test-ecosystem`, and run only if they are named
bench: $(PEERS)/installed $(BENCH)/installed
	@mkdir -p build
	$(BENCH)/bin/python -m benchmarks $(WORKS) --peers $(PEERS)/bin/python --json build/benchmarks.json --charts build/charts

bench-quick: $(PEERS)/installed $(BENCH)/installed
	$(BENCH)/bin/python -m benchmarks $(WORKS) --peers $(PEERS)/bin/python --quick

# The rate over the number of processes, in less than 8 minutes; made for a machine with 16 cores. BUDGET=60 ends it after 60 s.
bench-scale: $(PEERS)/installed
	@mkdir -p build
	$(BIN)/python -m benchmarks scale --rounds 1 --budget $(or $(BUDGET),440) --peers $(PEERS)/bin/python --json build/scale.json --charts build/charts

# NAME=epyc-2-cores        the folder of docs/figures that the results go to; those of other works stay there
# MACHINE="what it is"     how readers should see this machine
# WORKS="small save"       only these works; by default all of the page, which takes two or three hours
# ONLY="C++ connector,wrk" only these beside this library; by default all, which takes twice as long for small objects
# ROUNDS=3                 measurements of each participant; 5 by default
bench-publish: $(PEERS)/installed $(BENCH)/installed
	$(if $(NAME),,$(error make bench-publish NAME=folder MACHINE="what it is"))
	@mkdir -p build docs/figures/$(NAME)
	$(BENCH)/bin/python -m benchmarks $(or $(WORKS),works curves scale) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(ONLY),--only "$(ONLY)") --machine "$(MACHINE)" --peers $(PEERS)/bin/python --json build/publish.json
	$(BIN)/python -m benchmarks --merge $(wildcard docs/figures/$(NAME)/run.json) build/publish.json --json docs/figures/$(NAME)/run.json
	$(BIN)/python -m benchmarks.page --peers $(PEERS)/bin/python

# Writes tables and charts of docs/ from docs/figures/*/run.json.
figures: $(PEERS)/installed
	$(BIN)/python -m benchmarks.page --peers $(PEERS)/bin/python

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

tests: $(STAMP)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PARALLEL)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# Official SDKs against the emulator: oss2, alibabacloud-oss-v2 and npm's ali-oss. An SDK that can't be installed is named and left out.
interop: $(STAMP)
	$(BIN)/python -m interop

# The tests, with the lowest versions of everything that the package requires.
lowest: $(LOWEST)/installed
	$(LOWEST)/bin/python -m pytest $(PARALLEL)

# The site, in build/site. It is built without the network.
docs: $(VENV)/docs-installed
	$(BIN)/python -m mkdocs build --quiet --strict
	@echo "build/site/index.html"

# The notebooks of docs/notebooks, from their first cell to their last.
notebooks: $(VENV)/notebooks-installed
	$(BIN)/python -m pytest tests/docs/test_notebooks.py

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(STAMP): pyproject.toml constraints.txt
	$(call make-venv,$(VENV),constraints.txt,$(LIGHT))

$(LOWEST)/installed: pyproject.toml constraints-lowest.txt
	$(call make-venv,$(LOWEST),constraints-lowest.txt)

define make-venv
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=...")'
	@echo "Installing into $(1): once, and it takes a minute or more"
	$(1)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(1)
	$(1)/bin/$(PIP) install --quiet $(INDEXES) --constraint $(2) editables hatchling setuptools wheel
	$(1)/bin/$(PIP) install --quiet $(INDEXES) --constraint $(2) --no-build-isolation --editable '.[dev,cli,dataloader2$(3)]'
	$(1)/bin/$(PIP) install --quiet $(INDEXES) --no-deps --upgrade --target $(1)/torchdata-0.11 torchdata==0.11.0
	touch $(1)/installed
endef

# Extras that only some targets need, each installed at its first use.
$(VENV)/docs-installed $(VENV)/notebooks-installed $(VENV)/release-installed: $(VENV)/%-installed: $(STAMP)
	$(BIN)/$(PIP) install --quiet $(INDEXES) --constraint constraints.txt --no-build-isolation --editable '.[$*]'
	touch $@

# A second environment, because the C++ connector has the same name as this library. It also sees the packages of the first
# one, so that both sides use the same torch, and those of the ecosystem once they are there.
$(PEERS)/installed: benchmarks/peers.txt $(STAMP)
	$(call make-second-venv,$(PEERS))
	$(PEERS)/bin/$(PIP) install --quiet $(INDEXES) --requirement benchmarks/peers.txt
	$(PEERS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib").replace("$(PEERS)", "$(ECOSYSTEM)"))' \
		>>"$$($(PEERS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/main_environment.pth"
	touch $@

# Another one, because these packages are large. constraints.txt pins torch and the rest to what the first one has.
$(ECOSYSTEM)/installed: pyproject.toml constraints.txt $(STAMP)
	$(call make-second-venv,$(ECOSYSTEM))
	$(ECOSYSTEM)/bin/$(PIP) install --quiet $(INDEXES) --constraint constraints.txt --no-build-isolation --editable '.[test-ecosystem]'
	$(ECOSYSTEM)/bin/$(PIP) install --quiet $(INDEXES) --no-deps $(TORCHTITAN)
	ln -sfn $(CURDIR)/$(VENV)/torchdata-0.11 $(ECOSYSTEM)/torchdata-0.11
	touch $@

define make-second-venv
	@echo "Installing into $(1): once, and it takes a minute or more"
	$(BIN)/python -m venv --clear $(1)
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		>"$$($(1)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/main_environment.pth"
endef

# Renews constraints.txt after a change of dependencies. Pinned versions stay unless they have to change.
constraints: $(STAMP)
	$(BIN)/$(PIP) install --quiet $(INDEXES) uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --no-header --no-annotate \
		--extra dev --extra cli --extra dataloader2 --extra test-light --extra test-ecosystem --extra docs --extra notebooks --extra release \
		--output-file constraints.txt pyproject.toml

wheel: $(STAMP)
	$(BIN)/$(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

# What a release uploads, checked: the source archive and the wheel.
package: $(VENV)/release-installed
	rm -rf dist
	$(BIN)/python -m hatchling build --directory dist
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

clean:
	rm -rf $(VENV) $(LOWEST) $(PEERS) $(ECOSYSTEM) build dist htmlcov .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
