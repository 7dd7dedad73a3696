# `make` lists the targets. Everything is installed into .venv; nothing outside this folder is touched.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help setup demo test test-slow test-models bench bench-quick lint types check docs clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) --editable '.[files]'
	@touch $@

.venv/installed-test: .venv/installed
	$(PIP) --editable '.[files,test]'
	@touch $@

setup: .venv/installed-test  ## Make .venv with everything that the tests need

demo: .venv/installed  ## Index the sample corpus and ask it a question
	$(BIN)/odqa index data/corpus --index-dir indexes/demo --prune
	$(BIN)/odqa query "Who designed the tower of Cape Dorrit?" --index-dir indexes/demo

test: setup  ## Run all tests, with the bundled models
	$(BIN)/python -m pytest --cov=odqa --cov-report=term:skip-covered -m "not slow and not models"

test-slow: setup  ## Run the tests that take minutes (install the extras `training` and `bench` first)
	$(BIN)/python -m pytest -m slow

.venv/installed-models: .venv/installed-test
	$(PIP) --editable '.[files,test,training]'
	@touch $@

test-models: .venv/installed-models  ## Compare networks of the published systems' full size with PyTorch (half an hour, 6 GB)
	$(BIN)/python -m pytest -m models

# One for each question of docs/performance.md; benchmarks/README.md tells which.
BENCHMARKS := indexing_squad indexing_wiki encoder_share question batch_questions threads cold_start vector_search \
	hybrid_search growth disk peak_memory memory systems pruned
BENCH_DATA = $(if $(SQUAD),--squad '$(SQUAD)') $(if $(WIKI),--wiki '$(WIKI)')

.venv/installed-bench: .venv/installed-test
	$(PIP) --editable '.[files,test,bench]'
	@touch $@

bench: .venv/installed-bench .venv/installed-models  ## Measure what docs/performance.md shows (hours): SQUAD=FILE WIKI=FOLDER
	@for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py $(BENCH_DATA) || exit 1; done
	$(BIN)/python benchmarks/report.py
	$(BIN)/python docs/generate.py

bench-quick: .venv/installed-bench  ## See that every benchmark works, on tiny sizes; writes no result
	@for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py --quick $(BENCH_DATA) || exit 1; done

lint: setup  ## Check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup  ## Check types
	$(BIN)/mypy

check: lint types test  ## All of the above

docs: setup  ## Write the generated parts of the documentation anew
	$(BIN)/python docs/generate.py

clean:  ## Remove .venv, caches and the demo index
	rm -rf .venv build dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache indexes/demo
