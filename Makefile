# The ways in: `make demo` shows the main job, `make test` checks everything that must hold,
# `make proof` gathers the long evidence. Each builds .venv first where it is missing or outdated;
# that takes Python 3.11 or later and nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

# Tests run in two processes; more threads than cores in each would only get in their own way.
test: export OMP_NUM_THREADS = 1
test: export TOKENIZERS_PARALLELISM = false

.PHONY: demo test proof venv

demo: $(INSTALLED)
	$(BIN)/isthmus demo

test: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n 2

proof: $(INSTALLED)
	$(BIN)/python benchmarks/proof.py

venv: $(INSTALLED)

# PyTorch comes first and alone: with it in place, nothing else asks for a larger build of it.
$(INSTALLED): pyproject.toml constraints.txt
	@echo 'Installing what Isthmus needs into $(VENV): one to three minutes, once.'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
