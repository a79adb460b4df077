# One virtual environment, .venv, holds everything; constraints.txt pins every version that was tested.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --disable-pip-version-check --quiet --constraint constraints.txt

.PHONY: run test check lint types layers clean

# The main job: learn from the default corpus, save a run with its curve, and show what the model writes.
run: .venv/run
	$(BIN)/lightwell train

test: .venv/dev
	$(BIN)/python -m pytest -n 2

# What continuous integration runs besides the tests.
check: lint types layers

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev
	$(BIN)/mypy

layers: .venv/dev
	$(BIN)/lint-imports

.venv/bin/pip:
	$(PYTHON) -m venv .venv

.venv/run: pyproject.toml constraints.txt | .venv/bin/pip
	@echo "Installing torch and what else is needed; this takes a minute or two."
	$(PIP) --editable .
	touch $@

# llms-from-scratch is here to be compared with; its own dependencies (TensorFlow, Jupyter) are not needed for that.
.venv/dev: pyproject.toml constraints.txt | .venv/bin/pip
	@echo "Installing torch and the development tools; this takes about two minutes."
	$(PIP) --editable '.[dev]'
	$(PIP) --no-deps llms-from-scratch
	touch $@ .venv/run

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
