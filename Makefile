# What a person does with this repository. Everything runs in .venv; nothing is installed elsewhere.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.PHONY: demo test lint bench docs serve lock clean

.venv: requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch .venv

demo: .venv  ## three faults healed or handed over, in a sandbox cluster
	$(BIN)/quietpager demo $(ARGS)
