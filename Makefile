# `make help` lists the targets. They use .venv, which `make install` makes.

PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2
SEED ?= 9
MUTANTS ?= 100
KILLS ?= 1000
TESTS ?= tests
PYTEST = $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install demo serve test test-quick test-slow test-later test-pythons coverage check audit services format \
	bench mutants faults lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: .venv/.installed ## Make .venv with the locked dependencies

.venv/.installed: pyproject.toml requirements/build.txt requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Thingmint needs Python 3.11 or later: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@echo "Making .venv: this downloads and installs the locked dependencies, which takes a few minutes."
	$(PYTHON) -m venv .venv
	@echo "1 of 3: the tools that build packages"
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/build.txt
	@echo "2 of 3: $$(grep -c '==' requirements/dev.txt) packages, the longest part"
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	@echo "3 of 3: Thingmint itself"
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: install ## Start servers and use them with real clients, step by step
	@echo "The demo takes about half a minute."
	@$(BIN)/python scripts/demo.py

serve: install ## Serve from ./data until Ctrl-C
	@$(BIN)/thingmint serve --data-dir data

test: install ## Run all tests but the slow ones
	$(PYTEST) -m "not slow"

test-slow: install ## Run the slow tests: kills, outages, full disks, the blocks of all pages
	$(PYTEST) -m slow

test-quick: install ## Run the unit tests and the demo, in about a minute
	$(PYTEST) tests/unit tests/e2e/test_demo.py

test-later: install ## Run the unit tests with the clock 400 days ahead
	@command -v faketime >/dev/null || { echo "make test-later needs faketime; on Debian: apt-get install faketime"; exit 1; }
	faketime '+400 days' $(PYTEST) tests/unit

test-pythons: install ## Run the unit tests on every Python from 3.11 to 3.14 that this machine has
	@$(BIN)/python scripts/test_pythons.py --numprocesses $(WORKERS) --dist worksteal tests/unit

coverage: install ## Run the tests (or TESTS=tests/unit) and report the lines that they do not reach
	$(BIN)/coverage erase
	$(PYTEST) --cov --cov-report=term --cov-report=html $(TESTS)
	@echo "Line by line: build/coverage/html/index.html"

check: install ## Lint, spelling, words, types, imports between packages, licences
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell *.md Makefile pyproject.toml docs scripts src tests
	$(BIN)/python scripts/check_words.py
	$(BIN)/validate-pyproject pyproject.toml
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/licences.py

audit: install ## Look up known vulnerabilities of the locked packages, if the package index has them
	@$(BIN)/python scripts/audit.py

services: ## Install the brokers, TLS libraries, Chromium and faketime that some tests use (Debian, as root)
	@scripts/services.sh

format: install ## Format the code, and correct what ruff can correct
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install ## Measure the real server, and write docs/benchmarks.md
	@$(BIN)/python scripts/bench.py

mutants: install ## Change src in 100 places and run the tests on each (hours; continues where it was stopped)
	@mkdir -p build
	@$(BIN)/python scripts/mutants.py draw --seed $(SEED) --count $(MUTANTS) build/mutants.json
	@$(BIN)/python scripts/mutants.py run build/mutants.json

faults: install ## Kill the server under load 1,000 times (hours; continues where it was stopped)
	@$(BIN)/python scripts/faults.py --kills $(KILLS) build/faults

.PHONY: docs
docs: install ## Build the documentation site in build/docs, which a server of this clone has at /docs
	@$(BIN)/python scripts/docs_site.py

.PHONY: screenshots
screenshots: install ## Write the pictures of README.md and docs/console.md (needs Chromium and pngquant)
	SCREENSHOTS=1 $(BIN)/python -m pytest tests/e2e/console/test_screenshots.py

.PHONY: served
served: install ## Write the tables of what is served (README.md, docs/aws.md, docs/served.md) from the code
	@$(BIN)/python scripts/served.py

.PHONY: examples
examples: install ## Call a temporary server, and write the examples of the OpenAPI documents
	@$(BIN)/python scripts/examples.py

lock: install ## Compile requirements/*.txt from pyproject.toml
	$(BIN)/python scripts/lock.py

clean: ## Remove .venv, .venvs, caches and coverage (never ./data)
	rm -rf .venv .venvs .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build/coverage
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
