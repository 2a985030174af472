# Each target does all its own set-up. Only git, make and a Python (3.10 to 3.14, with venv) are needed: the first on the path that fits, or
# what PYTHON names.
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo test test-slow lint docs bench lock clean

help:
	@echo "make demo       the whole pipeline on generated images, ends with a table and an HTML report"
	@echo "make test       the tests, in two processes (about twenty minutes)"
	@echo "make test-slow  the tests marked slow too"
	@echo "make lint       formatter, linter, type checker, import contracts"
	@echo "make docs       the documentation as a site: build/site/index.html"
	@echo "make bench      the benchmarks, one JSON line a figure"
	@echo "make lock       constraints.txt, and whether all of it has wheels for every Python and system (asks the package index)"

$(STAMP): pyproject.toml constraints.txt
	@if test -x $(BIN)/python; then \
		wrong=$$($(BIN)/python install/fits.py) && $(BIN)/python -m pip --version >/dev/null 2>&1 \
		|| { echo "$(VENV) $${wrong:-has no pip}; make clean, then the same again" >&2; exit 2; }; \
	else \
		python=$$(install/find_python.sh $(PYTHON)) && "$$python" -m venv --clear $(VENV); \
	fi
	@echo "installing into $(VENV) (a few minutes the first time; 7 GB on Linux, of which PyTorch with CUDA is 5)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: -c constraints.txt "setuptools>=77" torch
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
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

lock: $(STAMP)
	@$(BIN)/python -m install.lock

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
