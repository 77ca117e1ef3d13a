# The verbs of this repository; CI runs the same ones. `make help` lists them.
#
# The environment is made from the hashed lock and made again only when the lock or a pyproject.toml changes.

PYTHON ?= python3
UV_RELEASE := 0.13.9
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
MEMBERS := $(wildcard workloads/*/pyproject.toml)
WORKERS ?= auto

# Compiled bytecode makes every process start about five times faster; some CI images switch it off.
unexport PYTHONDONTWRITEBYTECODE
export UV_NO_PROGRESS := 1
export UV_PYTHON_DOWNLOADS := never

.DEFAULT_GOAL := help
empty :=
space := $(empty) $(empty)
.PHONY: help env run test test-unit check fmt lint types imports docs docs-check lock lock-check workflows bench stress ci-tools clean

help: ## Show the verbs
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk -F':.*?## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(STAMP): requirements.lock pyproject.toml $(MEMBERS)
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"Python 3.11 or newer is needed, {sys.executable} is {v.major}.{v.minor}; try: make PYTHON=python3.13")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m uv --version >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_RELEASE)
	@echo "environment: installing from requirements.lock"
	@VIRTUAL_ENV=$(VENV) $(BIN)/python -m uv pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r requirements.lock
	@VIRTUAL_ENV=$(VENV) $(BIN)/python -m uv pip install --quiet --python $(BIN)/python --no-deps $(foreach m,. $(dir $(MEMBERS)),-e $(m))
	@touch $@

env: $(STAMP) ## Make the environment only

run: $(STAMP) ## Start the reference fleet on an embedded Temporal server and process examples/orders.jsonl
	@$(BIN)/python examples/run_orders.py

test: $(STAMP) ## Run all tests
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n $(WORKERS) --dist=worksteal

test-unit: $(STAMP) ## Run the unit tests only (seconds)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n $(WORKERS) --dist=worksteal tests/unit

check: lint types imports docs-check lock-check workflows ## Lint, types, layers, freshness of docs and lock, workflows

fmt: $(STAMP) ## Format and mend what can be mended
	@$(BIN)/ruff check --fix --quiet . && $(BIN)/ruff format .

lint: $(STAMP)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(STAMP)
	@MYPYPATH=src:tests/support:benchmarks/workload:$(subst $(space),:,$(wildcard workloads/*/src)) $(BIN)/mypy src workloads/*/src scripts examples benchmarks tests workloads/*/tests

imports: $(STAMP)
	@$(BIN)/lint-imports

docs: $(STAMP) ## Write the generated reference
	@$(BIN)/python scripts/gen_docs.py

docs-check: $(STAMP)
	@$(BIN)/python scripts/gen_docs.py --check

lock: $(STAMP) ## Renew requirements.lock with the newest releases that fit
	@$(BIN)/python scripts/lock.py --upgrade

lock-check: $(STAMP)
	@$(BIN)/python scripts/lock.py --check

workflows: $(STAMP)
	@if [ -d .git ]; then PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/actionlint; fi
	@$(BIN)/zizmor --offline --no-progress --quiet .github

ci-tools: ## Install what the tests use beside Python packages (Debian and Ubuntu, as root)
	@command -v promtool >/dev/null || { apt-get -qq update && apt-get -qq install -y --no-install-recommends prometheus >/dev/null; }

bench: $(STAMP) ## Measure worker overhead and start-up against a bare SDK worker
	@$(BIN)/python benchmarks/overhead.py && $(BIN)/python benchmarks/startup.py

stress: $(STAMP) ## Start and drain a worker 200 times; every exit code must be 0
	@$(BIN)/python benchmarks/drain_cycles.py --cycles 200

clean: ## Remove the environment and everything made by runs
	@rm -rf $(VENV) .fleet .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
