# One virtual environment, .venv, holds everything; constraints.txt pins every version that was tested.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --disable-pip-version-check --quiet --constraint constraints.txt

.PHONY: run test torture mutants docs check lint types layers bench bench-check lab-cards clean

# The main job: learn from the default corpus, save a run with its curve, and show what the model writes.
run: .venv/run
	$(BIN)/lightwell train

test: .venv/dev
	$(BIN)/python -m pytest -n 2

# Training processes killed and checkpoints damaged, until nobody would bet on them; some ten minutes. Then 300 starts of
# three processes, of which most are aborted after the end: an hour more. The tests have a handful of it.
TORTURE_FLAGS ?= --kills 60 --damages 40
TEAMS_FLAGS ?= --starts 300
torture: .venv/dev
	PYTHONPATH=tests $(BIN)/python tests/torture.py $(TORTURE_FLAGS)
	PYTHONPATH=tests $(BIN)/python tests/torture_teams.py $(TEAMS_FLAGS)

# Plausible slips made one at a time: which of them no test notices. Some hours for all; WORDS=clip for some.
mutants: .venv/dev
	PYTHONPATH=tests $(BIN)/python tests/mutants.py $(WORDS)

# The cards in docs/lab, made anew: a night of two processors, resumable.
lab-cards: .venv/dev
	$(BIN)/lightwell lab all --budget night --out lab/cards
	for card in lab/cards/*-night; do \
	  mkdir -p docs/lab/$$(basename $$card) && cp $$card/card.json $$card/card.md $$card/*.svg $$card/*.webp docs/lab/$$(basename $$card)/; \
	done
	cp lab/cards/index.html docs/lab/

# docs/configuration.md, from the configuration classes.
docs: .venv/dev
	$(BIN)/python -m lightwell.training.settings.table > docs/configuration.md

# What continuous integration runs besides the tests.
check: lint types layers

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev
	$(BIN)/mypy

layers: .venv/dev
	$(BIN)/lint-imports

# Against the peers, on all shapes, into docs/performance.md: about an hour. NANOGPT=PATH adds a checkout of nanoGPT.
BENCH_SHAPES ?= S S-dropout M M1024
BENCH_FLAGS ?= --rounds 7
bench: .venv/run .venv-peers/installed
	$(BIN)/lightwell bench $(BENCH_SHAPES) --peers .venv-peers/bin/python $(if $(NANOGPT),--nanogpt $(NANOGPT)) \
		$(BENCH_FLAGS) --out docs/performance.json
	$(BIN)/python -m lightwell.bench.table docs/performance.json docs/performance.md

# A training step against bare matrix products of the same FLOPs: fails where it has become about twice as slow.
bench-check: .venv/run
	$(BIN)/python -m lightwell.bench.check

.venv/bin/pip:
	$(PYTHON) -m venv .venv

.venv/run: pyproject.toml constraints.txt | .venv/bin/pip
	@echo "Installing torch and what else is needed; this takes a minute or two."
	$(PIP) --editable '.[fast]'
	touch $@

# llms-from-scratch is here to be compared with; its own dependencies (TensorFlow, Jupyter) are not needed for that.
.venv/dev: pyproject.toml constraints.txt | .venv/bin/pip
	@echo "Installing torch and the development tools; this takes about two minutes."
	$(PIP) --editable '.[dev]'
	$(PIP) --no-deps llms-from-scratch
	touch $@ .venv/run

# The peers, in an environment of their own. litgpt and llms-from-scratch come without what they ask for (an older
# huggingface-hub than transformers works with; TensorFlow and Jupyter) but with what their models import. A
# torchvision, should one come along, does not load beside this torch.
PEERS_PIP := .venv-peers/bin/pip install --disable-pip-version-check --quiet --constraint constraints.txt
.venv-peers/installed: constraints.txt
	@echo "Installing the peers; this takes a few minutes."
	$(PYTHON) -m venv .venv-peers
	$(PEERS_PIP) transformers accelerate lightning torchmetrics 'jsonargparse[signatures]' psutil
	$(PEERS_PIP) --no-deps litgpt llms-from-scratch
	.venv-peers/bin/pip uninstall --quiet --yes torchvision
	touch $@

clean:
	rm -rf .venv .venv-peers .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
