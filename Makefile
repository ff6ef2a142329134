# Everything a person does with this tree. `make` alone lists the targets.
#
# Two environments: `.tools` holds the installer and nothing else; `.venv` holds what
# requirements.lock pins by hash, and the two distributions of this tree in editable form.
# Stamp files remember what was installed, so a second `make run` starts at once.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first Python of 3.11 or newer on this machine.
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$name" && break; done)

# Passed on only when given, so that BURSAR_… variables and bursar.toml keep their say. HOST is taken
# from the command line alone: some shells and compiler kits export a HOST of their own.
HOST =
PORT ?=
DATA ?=
SERVE = $(if $(HOST),--host "$(HOST)") $(if $(PORT),--port "$(PORT)") $(if $(DATA),--data-dir "$(DATA)")
WORKERS ?= 2
SERVICES ?= .services
ARGS ?=

export UV_PYTHON_DOWNLOADS := never

UV := .tools/bin/uv
BIN := .venv/bin
TOOLS_STAMP := .tools/.uv-0.13
STAMP := .venv/.synced

.PHONY: help setup run services services-stop test check format bench bench-peers overspend faults lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## Make the environment; the others do it by themselves
	@echo "Ready: make run, make test"

run: $(STAMP) ## Serve on 127.0.0.1:8317, data in ./data (HOST= PORT= DATA= change it)
	@exec $(BIN)/bursar serve $(SERVE) $(ARGS)

services: $(STAMP) ## Start a PostgreSQL of your own, installed first if root may; says how to try it
	@exec $(BIN)/python tests/support/services.py start $(SERVICES)

services-stop: $(STAMP) ## Stop it; its data stay in .services
	@exec $(BIN)/python tests/support/services.py stop $(SERVICES)

test: $(STAMP) ## Run every test (ARGS="-k name" picks some)
	@exec $(BIN)/pytest -n $(WORKERS) $(ARGS)

check: $(STAMP) ## The gate: lint, format, types, layers, sizes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/pytest tests/repo

format: $(STAMP) ## Put the code into its form
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

bench: $(STAMP) ## Measure speed and size; writes a results file under bench/results
	@exec $(BIN)/python bench/run.py $(ARGS)

bench-peers: $(STAMP) ## Measure other products, each in an environment of its own
	@exec $(BIN)/python bench/peers.py $(ARGS)

overspend: $(STAMP) ## Try to overspend a budget of one dollar, and print by how much (ARGS="--clients 50")
	@exec $(BIN)/python bench/overspend.py $(ARGS)

faults: $(STAMP) ## The long form of the crash and fault proofs
	@BURSAR_TEST_LONG=1 exec $(BIN)/pytest -m long $(ARGS)

lock: $(TOOLS_STAMP) ## Pin the dependencies anew (ARGS=--upgrade takes newer ones)
	$(UV) pip compile -q --universal --generate-hashes --group dev --no-header --no-annotate \
		$(ARGS) pyproject.toml -o requirements.lock

clean: ## Remove environments and caches; data stays
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .schemathesis dist
	find $(wildcard src sdk tests bench) -name __pycache__ -type d -prune -exec rm -rf {} +

$(TOOLS_STAMP):
	@test -n "$(PYTHON)" || { echo "Bursar needs Python 3.11 or newer with venv: none found. Set PYTHON=." >&2; exit 1; }
	@echo "Preparing .tools"
	@$(PYTHON) -m venv .tools || { echo "Python's venv module is missing: on Debian, apt install python3-venv." >&2; exit 1; }
	@.tools/bin/python -m pip install -q --disable-pip-version-check 'uv>=0.13,<0.14'
	@touch $@

$(STAMP): $(TOOLS_STAMP) pyproject.toml sdk/pyproject.toml requirements.lock
	@echo "Preparing .venv"
	@test -x $(BIN)/python || $(UV) venv -q --clear --python "$(PYTHON)" .venv
	@$(UV) pip sync -q --python $(BIN)/python --require-hashes requirements.lock
	@$(UV) pip install -q --python $(BIN)/python --no-deps -e . -e sdk
	@touch $@
