# What a person does with this repository. Everything runs in .venv; nothing is installed elsewhere.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
FN ?= detect/crash
SOURCES := shared functions infra tests

.PHONY: demo test lint bench docs serve lock clean

demo: .venv ## three faults healed or handed over, in a sandbox cluster (ARGS=--once: unattended)
	$(BIN)/quietpager demo $(ARGS)

test: .venv ## everything that needs nothing but Python
	$(BIN)/pytest -q -n 2 $(ARGS)

lint: .venv ## types, style, layers, and generated files that are current
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m infra.docs --check

bench: .venv ## the figures, as a table
	$(BIN)/python -m tests.bench

docs: .venv ## generate the tables in docs/ and functions/
	$(BIN)/python -m infra.docs

serve: .venv ## one function alone: make serve FN=detect/crash
	$(BIN)/quietpager serve $(FN) $(ARGS)

lock: ## pin requirements again; needs uv
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --quiet requirements/dev.in -o requirements/dev.txt

clean:
	rm -rf .venv build .quietpager

.venv: requirements/dev.txt requirements/run.in pyproject.toml ## the environment
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch .venv
