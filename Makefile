# What a person does with this repository. Everything runs in .venv; nothing is installed elsewhere.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
FN ?= detect/crash
SOURCES := shared functions infra tests

.PHONY: demo test slow crash dynamodb lint audit-pins model bench soak docs wheel serve lock clean render cluster cluster-stop cluster-clean build image deploy record e2e e2e-short contract clean-up

demo: .venv ## six faults healed, asked about or handed over, in a sandbox cluster (ARGS=--once: unattended)
	$(BIN)/quietpager demo $(ARGS)

test: .venv ## everything that needs nothing but Python, in minutes
	$(BIN)/pytest -q -n 3 -m "not slow" $(ARGS)

slow: .venv ## the tests that take longer: the cage on an API server (see `make cluster`), 200 crash schedules
	$(BIN)/pytest -q -n 2 -m slow $(ARGS)

crash: .venv ## what is killed, with the larger numbers: 10,000 schedules of kills and stops, the demo with 50 kills
	QUIETPAGER_SCHEDULES=10000 QUIETPAGER_KILLS=50 $(BIN)/pytest -q tests/crash $(ARGS)
	QUIETPAGER_PODS=5000 $(BIN)/pytest -q tests/attack/test_denial_memory.py

dynamodb: .venv ## a stricter DynamoDB for the tests than moto, built once; needs Rust
	$(BIN)/python -m tests.dynamodb

lint: .venv ## types, style, layers, and generated files that are current
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m infra.docs --check

audit-pins: .venv ## what is pinned, held against PyPI's list of known weaknesses, where that can be reached
	$(BIN)/python -m infra.advisories

model: .venv ## every interleaving within bounds, on the shipped functions; and what each mutant breaks
	$(BIN)/python -m tests.model

bench: .venv ## the figures, as a table
	$(BIN)/python -m tests.bench

soak: .venv ## half an hour of faults and lost messages; then all must be finished (SOAK_MINUTES=5)
	$(BIN)/python -m tests.soak

docs: .venv ## generate the tables in docs/ and functions/
	$(BIN)/python -m infra.docs

wheel: .venv ## build the wheel, install it into an empty environment and use it there
	$(BIN)/python -m infra.wheel

serve: .venv ## one function alone: make serve FN=detect/crash
	$(BIN)/quietpager serve $(FN) $(ARGS)

render: .venv ## everything that follows from the function folders, as YAML
	$(BIN)/quietpager render $(ARGS)

build: .venv ## for Knative's func: make build FN=detect/crash, then func deploy (FN= : all); docs/deploy.md
	$(BIN)/python -m infra.func $(FN)

cluster: .venv ## a real Kubernetes and Knative on this machine; needs root and Go (ARGS=--no-knative)
	$(BIN)/python -m infra.testbed start $(ARGS)

cluster-stop: .venv ## stop it; its state is kept
	$(BIN)/python -m infra.testbed stop

cluster-clean: .venv ## stop it and forget its state (ARGS=--all: what was built, too)
	$(BIN)/python -m infra.testbed clean $(ARGS)

image: .venv ## images of functions, without Docker: make image FN=detect/crash (FN= : all)
	$(BIN)/python -m infra.images $(FN)

deploy: .venv ## the whole function set to the test bed, stopped; make deploy FN=detect/crash: one
	$(BIN)/python -m infra.deploy $(if $(filter command line,$(origin FN)),$(FN)) $(ARGS)

record: .venv ## apply a fault and save what happens as a case: make record NAME=... MANIFEST=...
	$(BIN)/python -m infra.record $(NAME) $(MANIFEST) $(ARGS)

e2e: .venv ## real faults on the test bed; needs `make cluster deploy`; stops the cluster at the end
	QUIETPAGER_E2E=1 $(BIN)/pytest -q tests/e2e $(ARGS)
	$(MAKE) contract ARGS=
	$(MAKE) clean-up ARGS=

e2e-short: .venv ## the end-to-end tests that CI runs: without those that kill parts for minutes
	QUIETPAGER_E2E=1 $(BIN)/pytest -q tests/e2e -m "not whole" $(ARGS)

contract: .venv ## the contract suites against the test bed: sandbox and Kubernetes, our broker and Knative
	QUIETPAGER_E2E=1 $(BIN)/pytest -q -n 2 --dist loadfile tests/contract/cluster tests/contract/test_broker.py $(ARGS)

clean-up: .venv ## that a test bed which is stopped or killed leaves nothing behind; leaves it stopped
	$(BIN)/pytest -q tests/testbed $(ARGS)

lock: ## pin requirements again; needs uv
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --quiet requirements/dev.in -o requirements/dev.txt

clean:
	rm -rf .venv build .quietpager

.venv: requirements/dev.txt requirements/run.in requirements/local.in pyproject.toml ## the environment
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch .venv
