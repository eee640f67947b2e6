# Everything that is needed: git, make, Python 3.11 or newer.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= $(shell for p in python3.14 python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
PORT := $(shell sed -n 's/^service-url.*:\([0-9]*\)".*/\1/p' deploy-guard.toml)
VERSION ?= v1.0.0
DEMO := SERVICE_URL=http://127.0.0.1:$(PORT) API_KEY=only-a-demonstration
ASK := $(BIN)/python -c 'import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode())' \
	http://127.0.0.1:$(PORT)/version
PYTEST_ARGS ?= -n auto

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

$(VENV)/.installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "deploy-guard needs Python 3.11 or newer with venv: install python3.11 and python3.11-venv, or set PYTHON=/path/to/python"; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	@touch $@

stage: $(VENV)/.installed ## ship examples/hello to this machine, through the gates in gates/
	@echo '$$ $(DEMO) VERSION=$(VERSION) $(BIN)/pytest --deploy-env=stage gates/'
	@$(DEMO) VERSION=$(VERSION) $(BIN)/pytest --deploy-env=stage gates/
	@echo; echo "It serves:"; $(ASK)

broken: $(VENV)/.installed ## ship a release whose post-check fails, and see it rolled back
	@$(ASK) >/dev/null 2>&1 || $(MAKE) --no-print-directory stage
	@before=$$($(ASK)); \
	echo '$$ $(DEMO) VERSION=v2.0.0 $(BIN)/pytest --deploy-env=stage examples/broken/gates/'; \
	$(DEMO) VERSION=v2.0.0 $(BIN)/pytest --deploy-env=stage examples/broken/gates/; code=$$?; \
	echo; echo "pytest ended with exit code $$code. It serves:"; after=$$($(ASK)); echo "$$after"; \
	test "$$before" = "$$after" || { echo "the old version does not serve"; exit 1; }; \
	exit $$code

test: $(VENV)/.installed-dev ## run the whole test suite
	$(BIN)/pytest $(PYTEST_ARGS)

coverage: $(VENV)/.installed-dev ## run the test suite and measure branch coverage, subprocesses included
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PYTEST_ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

screenshots: $(VENV)/.installed-dev ## write pictures of the gate report of each outcome to build/screenshots (needs Chromium)
	PYTHONPATH=tests $(BIN)/python -m browser build/screenshots
	@echo "Look at build/screenshots"

lint: $(VENV)/.installed-dev ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean: ## stop the demonstration's service and remove what these targets made
	@for f in .deploy/*/service.json; do \
		test -f "$$f" || continue; \
		root=$$(cd "$$(dirname "$$f")" && pwd); \
		pid=$$(sed -n 's/.*"pid": \([0-9]*\).*/\1/p' "$$f"); \
		if test -n "$$pid" && ps -o args= -p "$$pid" 2>/dev/null | grep -q 'server\.py'; then \
			echo "stopping the service of $$root ($$pid)"; kill "$$pid"; fi; done
	rm -rf .deploy .deploy-guard examples/broken/.deploy-guard reports/stage $(VENV)

.PHONY: help stage broken test coverage screenshots lint clean
