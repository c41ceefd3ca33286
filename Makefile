# Every target creates what it needs: an environment in .venv from the hash-pinned lock files.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
WORKERS ?= auto
# Tests wait for real processes a third of their time: one runs more of them at once than there are cores.
AT_ONCE = $(if $(filter auto,$(WORKERS)),$(shell expr $$(getconf _NPROCESSORS_ONLN) + 1),$(WORKERS))
PACKAGES := config connectors metrics sandbox store worker

.PHONY: help demo test slow chaos simulate lint check format bench lock docs clean

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

.venv/installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "kpisync needs Python 3.11 or newer on the PATH (or: make PYTHON=/path/to/python)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

.venv/installed-dev: .venv/installed requirements-dev.lock
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	@touch $@

demo: .venv/installed ## a simulated company, from two CRMs to KPIs inside them and back (DATA=folder for CSV files)
	$(BIN)/kpisync demo $(if $(DATA),--data $(DATA)) $(if $(CRM),--crm $(CRM))

test: .venv/installed-dev ## all tests, with real PostgreSQL and Redis processes on free ports
	$(BIN)/python -m pytest -n $(AT_ONCE) --dist worksteal -q

slow: .venv/installed-dev ## long tests: random kills, long histories (minutes)
	$(BIN)/python -m pytest -n $(AT_ONCE) --dist worksteal -q -m slow --timeout 1800

chaos: .venv/installed-dev ## storms over server mode, every promise checked afterwards (SEEDS=50 KILLS=20 FIRST=1; HOSTS=2 for two workers, MODE=embedded)
	$(BIN)/python -m tests.chaos.$(if $(filter embedded,$(MODE)),storm,fire) --first $(or $(FIRST),1) --seeds $(or $(SEEDS),50) --kills $(or $(KILLS),20) $(if $(HOSTS),--workers $(HOSTS))

simulate: .venv/installed-dev ## whole installations in one process: every crash, every pair, random seeds (SEEDS=2000 FIRST=1 WORKERS=2)
	$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),2000) --first $(or $(FIRST),1) $(if $(filter-out auto,$(WORKERS)),--jobs $(WORKERS))

lint: .venv/installed-dev ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	MYPYPATH=docs/examples/connector $(BIN)/mypy -p kpisync_example
	$(BIN)/lint-imports

check: lint ## what lint does, and the unit tests
	$(BIN)/python -m pytest -q tests/unit

format: .venv/installed-dev ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: .venv/installed-dev ## write the generated pages (docs/kpis.md, docs/configuration.md)
	$(BIN)/python -m metrics.catalog.document > docs/kpis.md
	$(BIN)/python -m config.reference docs/configuration.md

bench: .venv/installed-dev ## the engine with its peers, and the table of its targets, in hours (DEALS="100000 1000000 4000000" STORE="sqlite postgresql")
	for deals in $(or $(DEALS),100000 1000000 4000000); do for store in $(or $(STORE),sqlite postgresql); do \
		$(BIN)/python -m bench.engine --deals $$deals --store $$store --results bench-results.jsonl || exit 1; done; done
	for store in $(or $(STORE),sqlite postgresql); do \
		$(BIN)/python -m bench.engine_parts --deals $(firstword $(or $(DEALS),100000)) --store $$store || exit 1; done
	$(BIN)/python -m bench.engine --deals $(firstword $(or $(DEALS),100000)) --breadth catalogue --results bench-results.jsonl
	$(BIN)/python -m bench.engine_table bench-results.jsonl

lock: .venv/installed-dev ## pin the newest versions of everything anew
	$(BIN)/uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --upgrade pyproject.toml --group build -o requirements.lock
	$(BIN)/uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 -c requirements.lock pyproject.toml --group dev -o requirements-dev.lock

clean: ## remove the environment and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
