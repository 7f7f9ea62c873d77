# Everything a fresh machine needs is installed into .venv by the recipes themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo demo-cluster serve test test-long conformance lint bench bench-quick docs clean

help: ## What can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/' | column -t -s:

# Debian keeps venv, OpenMP (which LightGBM needs) and strace in packages of their own; as root they are installed, else named.
DEBIAN = { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq $(1) >/dev/null; } || { echo "missing: apt-get install $(1)"; exit 1; }

$(VENV)/.base: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "stook needs Python 3.11 or newer; say which: make PYTHON=python3.11 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || $(call DEBIAN,python3-venv)
	@$(PYTHON) -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null || $(call DEBIAN,libgomp1)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[examples,pickle]"
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	@command -v strace >/dev/null || ( $(call DEBIAN,strace) ) || echo "without strace, tests that strike single system calls are skipped"
	@tests/servers-from-debian || echo "tests of what is missing are skipped"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev
	@touch $@

demo: $(VENV)/.base ## Install, run the flights example on real data, print a report, end
	$(BIN)/python examples/flights/demo.py

demo-cluster: $(VENV)/.cluster ## The flights example on a whole cluster of this machine, and faults while clients go on; ends with the cluster down
	$(BIN)/python examples/flights/cluster_demo.py

$(VENV)/.cluster: $(VENV)/.base
	tests/servers-from-debian
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[cluster]"
	@touch $@

serve: $(VENV)/.base ## The same, and keep serving on port 6566
	$(BIN)/python examples/flights/demo.py --serve

test: $(VENV)/.dev ## Install what the tests need and run them all
	$(BIN)/python -m pytest

LONG := test_kills test_crashes test_concurrency test_full_disk

test-long: $(VENV)/.dev ## Hundreds of kills at random times and at chosen calls, full disks, races; says how many
	STOOK_TEST_KILLS=200 $(BIN)/python -m pytest $(LONG:%=tests/e2e/%.py) tests/unit/backends/test_sql_failover.py

conformance: $(VENV)/.dev ## Ask every hard case everywhere and write docs/conformance.md
	STOOK_WRITE_CONFORMANCE=1 $(BIN)/python -m pytest tests/conformance

lint: $(VENV)/.dev ## Format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

$(VENV)/.bench: $(VENV)/.cluster
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group bench
	@touch $@

bench: $(VENV)/.bench ## The speed that the README quotes, beside its limits and its peers (about half an hour)
	$(BIN)/python bench/run.py

bench-quick: $(VENV)/.bench ## The same in three minutes, without peers; fails where a ratio is far off
	$(BIN)/python bench/run.py --quick --guard

docs: $(VENV)/.base ## Write docs/reference from the code
	$(BIN)/python docs/generate.py

clean: ## Forget the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis build dist
