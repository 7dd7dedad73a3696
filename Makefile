# `make` lists the targets. Everything is installed into .venv; nothing outside this folder is touched.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help setup demo test test-slow lint types check docs clean

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
	$(BIN)/python -m pytest --cov=odqa --cov-report=term:skip-covered -m "not slow"

test-slow: setup  ## Run the tests that take minutes (the training recipe: install the extra `training` first)
	$(BIN)/python -m pytest -m slow

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
