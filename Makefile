# Two commands do everything: `make demo` and `make test`. Both set up what they need; a second run installs nothing.
# Windows: run these under Git Bash or WSL; or do by hand what `.venv/.ready` does.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# How many findings of tools/words.txt are accepted; this number may only fall.
MAX_WORDS := 2600
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check format bench docs screenshots lock clean

help:  ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements/uv.txt requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Blemish needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --require-hashes -r requirements/dev.txt
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --editable .
	@touch $(READY)

demo: $(READY)  ## train, measure and explain a model on 2,624 real solar cells
	$(BIN)/blemish demo

test: $(READY)  ## the tests
	$(BIN)/pytest -n 2 --dist loadfile

test-slow: $(READY)  ## the tests that take more than a few seconds each
	$(BIN)/pytest -m slow

check: $(READY)  ## lint, format, types, import order, words
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tools/check_words.py --max $(MAX_WORDS)

format: $(READY)  ## mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## comparisons side by side with peers
	for script in bench/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

docs: $(READY)  ## the tables in docs/ that are made from the code
	$(BIN)/python docs/make_tables.py

screenshots: $(READY)  ## the pictures of the page, from drawn images (needs Chromium)
	$(BIN)/python docs/make_screenshots.py

LOCK   := uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-header --upgrade
EXTRAS := $(foreach extra,train eval segment serve openvino hub video demo dev,--extra $(extra))

lock: $(READY)  ## new pins from pyproject.toml: versions and hashes, no addresses
	$(BIN)/$(LOCK) -o requirements/dev.txt $(EXTRAS)
	$(BIN)/$(LOCK) -o requirements/detectors.txt $(EXTRAS) --extra yolo --extra rfdetr
	$(BIN)/$(LOCK) -o requirements/serve.txt -c requirements/dev.txt --extra serve

clean:  ## everything that was made, the environment too
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build dist
