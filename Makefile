# Everything starts with scripts/setup.sh, which does only what is not yet done.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup libvpx build lint format test test-all test-browser demo bench policy benchmark-policy benchmark-headlines lock clean

PYTHON_IN_VENV := .venv/bin/python
PYTEST := $(PYTHON_IN_VENV) -m pytest
# Else every process of the tests, of which there are a hundred, compiles all modules anew.
unexport PYTHONDONTWRITEBYTECODE

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' \
		| while IFS=$$'\t' read -r name text; do printf '  make %-16s %s\n' "$$name" "$$text"; done

setup: ## Debian packages (as root), .venv, libvpx, the compiled extension
	@scripts/setup.sh

libvpx: ## build the patched libvpx alone
	@scripts/setup.sh libvpx

build: setup

lint: setup ## ruff, spelling, English of the docs, mypy and import-linter
	@scripts/lint.sh

format: setup ## let ruff format and sort the sources
	@$(PYTHON_IN_VENV) -m ruff check --fix --quiet . || true
	@$(PYTHON_IN_VENV) -m ruff format .

test: lint ## lint, then the tests that take seconds
	@$(PYTEST) -m "not slow" -n 2 --dist worksteal

test-all: test ## the same, then the slow tests, one at a time
	@$(PYTEST) -m slow --ignore tests/training/test_learning.py
	@$(PYTEST) -m slow tests/training/test_learning.py

test-browser: ## the report in a headless Chromium (installed as root if missing)
	@scripts/setup.sh browser
	@$(PYTEST) -n 0 tests/report/test_browser.py

demo: setup ## encode a real clip with the shipped policy, VBR and the control
	@.venv/bin/muzero-rc demo --out demo

bench: setup ## run the benchmarks, one after the other
	@scripts/bench.sh

benchmark-policy: setup ## the shipped policy's table; CORPUS=folder of videos
	@test -n "$(CORPUS)" || { echo "give CORPUS=folder of videos" >&2; exit 2; }
	@$(PYTHON_IN_VENV) benchmarks/bench_policy.py "$(CORPUS)" --out benchmark-policy

policy: setup ## retrain and evaluate all that is learned; CORPUS=folder of videos, RUN=folder
	@test -n "$(CORPUS)" || { echo "give CORPUS=folder of videos" >&2; exit 2; }
	@run="$(or $(RUN),policy-run)"; \
	how=(--corpus "$(CORPUS)" --preset "$(or $(PRESET),laptop)" --collect.base planned $(ARGS)); \
	if [ -e "$$run/config.json" ]; then how=(--resume); fi; \
	.venv/bin/muzero-rc train --out "$$run" --evaluate "$${how[@]}"

benchmark-headlines: setup ## the tables of README and docs/results.md; CORPUS=folder with an index
	@test -n "$(CORPUS)" || { echo "give CORPUS=folder of videos with index.csv" >&2; exit 2; }
	@$(PYTHON_IN_VENV) benchmarks/bench_headlines.py "$(CORPUS)" --out benchmark-headlines --write

lock: setup ## write requirements.lock anew from pyproject.toml
	@scripts/lock.sh $(PYTHON_IN_VENV)

clean: ## remove what was built (.venv and the download cache stay)
	@rm -rf build demo third_party/libvpx/build .venv/.stamps/extension
