# Every target sets up .venv by itself from the locked dependencies; Python >= 3.11 and make are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
UV_PIP := VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) pip
# Tests wait as long as they work, so three keep two cores busy. A file stays in one process, all of Apache Kafka in another
# (tests/conftest.py), in the order of the folders: the long ones are not the last.
SIDE_BY_SIDE := -n 3 --dist loadfile --no-loadscope-reorder
# Byte code is worth its few seconds: every service starts from it.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run test test-all simulate chaos weeks replays torture properties crash fuzz lint codes bench lock clean
help:
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

run: $(VENV)/run.stamp ## bring the whole order system up, with customers who order
	@$(BIN)/millstream up --with shoppers

test: $(VENV)/dev.stamp ## the tests that need nothing but Python
	@$(BIN)/pytest -m "not real and not long and not slow" $(SIDE_BY_SIDE) $(ARGS)

test-all: $(VENV)/dev.stamp ## the tests against Apache Kafka and the rest that is real, and those that take their time
	@$(BIN)/pytest -m "(real or slow) and not long" $(SIDE_BY_SIDE) $(ARGS)

simulate: $(VENV)/dev.stamp ## the order system in simulated worlds where everything goes wrong (ARGS="--seeds 2000")
	@$(BIN)/millstream simulate orders $(ARGS)

chaos: $(VENV)/dev.stamp ## the orders while everything fails in turn, on the local broker and on a three-node Apache Kafka
	@$(BIN)/pytest -m long -s tests/chaos/test_orders_under_faults.py $(ARGS)

weeks: $(VENV)/dev.stamp ## ten weeks of orders in a row under all faults and long pauses of every process (CHAOS_WEEKS, CHAOS_SEED)
	@$(BIN)/pytest -m long -s tests/chaos/test_weeks_under_pauses.py $(ARGS)

replays: $(VENV)/dev.stamp ## a week of sensors through Apache Kafka
	@$(BIN)/pytest -m long tests/end_to_end $(ARGS)

torture: $(VENV)/dev.stamp ## the local broker and three workers under kill -9 for ten minutes (TORTURE_SECONDS, TORTURE_SEED)
	@$(BIN)/pytest -m long -s tests/torture $(ARGS)

properties: $(VENV)/dev.stamp ## ten thousand random contracts through every format, ours and other libraries'
	@$(BIN)/pytest -m long tests/contracts $(ARGS)

crash: $(VENV)/dev.stamp ## a crash of the local broker at every operation of its disk, torn, missing and reordered (MILLSTREAM_SEED)
	@$(BIN)/pytest -m long tests/local/broker/test_crash.py $(ARGS)

fuzz: $(VENV)/dev.stamp ## hostile bytes for the local broker, half an hour (ARGS="--seconds 60 --seed 1")
	@$(BIN)/python -m tests.fuzz $(ARGS)

lint: $(VENV)/dev.stamp ## ruff, the words of names (tests/words.py), and pyright
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/python -m tests.words && $(BIN)/pyright --warnings

codes: $(VENV)/dev.stamp ## write docs/codes.md from the codes of errors and log events
	@$(BIN)/python -m tests.codes

bench: $(VENV)/dev.stamp ## measure ours beside the baselines; prints and saves JSON
	@$(BIN)/python -m bench $(ARGS)

lock: $(VENV)/uv.stamp ## choose dependency versions anew
	@$(UV) pip compile -q --universal --generate-hashes --upgrade --no-header --no-emit-package millstream \
		--python-version 3.11 --extra local pyproject.toml apps/pyproject.toml requirements/build.in -o requirements/run.lock
	@$(UV) pip compile -q --universal --generate-hashes --upgrade --no-header --no-emit-package millstream \
		--python-version 3.11 --extra local --extra postgresql -c requirements/run.lock pyproject.toml apps/pyproject.toml \
		requirements/build.in requirements/dev.in -o requirements/dev.lock
	@$(UV) pip compile -q --universal --generate-hashes --upgrade --no-header \
		--python-version 3.11 requirements/peers.in -o requirements/peers.lock

$(VENV)/uv.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Millstream needs Python 3.11 or later; name one: make PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV) && $(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.lock
	@touch $@

# The dev set contains the run set, so whoever has the dev set needs no second pass.
$(VENV)/run.stamp: $(VENV)/uv.stamp requirements/run.lock pyproject.toml apps/pyproject.toml
	@$(UV_PIP) install -q --compile-bytecode --require-hashes -r requirements/run.lock
	@$(UV_PIP) install -q --no-deps --no-build-isolation -e . -e apps
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp requirements/dev.lock
	@$(UV_PIP) install -q --compile-bytecode --require-hashes -r requirements/dev.lock
	@touch $@

clean: ## remove what was built and the local platform's data
	rm -rf $(VENV) .venv-peers .millstream .pytest_cache .ruff_cache
