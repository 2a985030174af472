# Each target does all its own set-up. Only git, make and python3 (3.10 to 3.12, with venv) are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo test test-slow lint docs bench clean

help:
	@echo "make demo       the whole pipeline on generated images, ends with a table and an HTML report"
	@echo "make test       the tests (about five minutes)"
	@echo "make test-slow  the tests marked slow too"
	@echo "make lint       formatter, linter, type checker, import contracts"
	@echo "make docs       the documentation as a site: build/site/index.html"
	@echo "make bench      the benchmarks, one JSON line a figure"

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
		|| { echo "sc3d needs Python 3.10 to 3.12; try: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (about 2 GB; a few minutes the first time)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --only-binary :all: -c constraints.txt "setuptools>=77" torch
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)
	@$(BIN)/sc3d demo

test: $(STAMP)
	@$(BIN)/pytest -n 2 --dist loadgroup

test-slow: $(STAMP)
	@$(BIN)/pytest -m 'not gpu'

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Warnings, among them links that lead nowhere, are errors.
docs: $(STAMP)
	@$(BIN)/sphinx-build -E -W --keep-going -q -c docs/site -d build/site-work . build/site
	@echo "site: build/site/index.html"

bench: $(STAMP)
	@$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
