# The two commands: `make quickstart` and `make test`. Everything else is a step of one of them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
STUDY  := results/quickstart

.PHONY: quickstart test lint unit notebooks docs picture clean help

help:            ## show this list
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(STAMP): pyproject.toml energylab_portal/pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "energylab needs Python 3.11 or later; set PYTHON=python3.x")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]' --editable ./energylab_portal
	touch $@

quickstart: $(STAMP)      ## measure three small models in minutes, rate them, and build their leaderboard and report
	$(BIN)/energylab study run params/studies/quickstart.yaml
	$(BIN)/energylab publish $(STUDY)

test: $(STAMP) lint unit notebooks      ## every check that CI runs

lint: $(STAMP)      ## style and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

unit: $(STAMP)      ## the tests; what needs a missing system part is skipped by name
	$(BIN)/python -m pytest -n 2 --dist loadfile

notebooks: $(STAMP)      ## run a copy of every notebook; cells marked NBVAL_CHECK_OUTPUT must give the committed output
	rm -rf test-output/notebooks && mkdir -p test-output/notebooks
	cp -r notebooks params examples test-output/notebooks
	$(BIN)/python -m pytest -n 2 --dist loadfile --nbval-lax test-output/notebooks/notebooks -p no:cacheprovider --nbval-cell-timeout 300 --nbval-kernel-name python3

docs: $(STAMP)      ## the documentation, into site/; it opens from there without a server
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open $(CURDIR)/site/index.html"

picture: $(STAMP)      ## draw the picture of README.md again, from the published table
	$(BIN)/python docs/assets/make_picture.py

clean:      ## remove the environment
	rm -rf $(VENV)
