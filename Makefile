# Two commands do everything: `make demo` and `make test`. Both set up what they need; a second run installs nothing.
# Windows: use Git Bash or WSL, or run the commands of `.venv/.ready` by hand.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# PyPI's PyTorch for Linux contains CUDA, 4 GB that a machine without NVIDIA GPU never uses. `make test TORCH=URL` takes
# PyTorch from another index; `make test TORCH=installed` uses the PyTorch that is in $(VENV).
TORCH  ?= locked
DOCS_READY := $(VENV)/.docs-ready
DEMO_VENV  := .venv-demo
DEMO_BIN   := $(DEMO_VENV)/bin
DEMO_READY := $(DEMO_VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check check-page format bench docs notices screenshots lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements/uv.txt requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Blemish needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
ifeq ($(TORCH),locked)
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --require-hashes -r requirements/dev.txt
else
ifeq ($(TORCH),installed)
	@$(BIN)/python -c 'import torch, torchvision' || { \
		echo "TORCH=installed: install torch and torchvision into $(VENV) first"; exit 2; }
else
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --index-url $(TORCH) -r requirements/torch-cpu.txt
endif
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --require-hashes -r requirements/dev-cpu.txt
endif
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --editable .
	@touch $(READY)

$(DOCS_READY): requirements/docs.txt $(READY)
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --require-hashes -r requirements/docs.txt
	@touch $(DOCS_READY)

# The demo has an environment of its own, without PyTorch.
$(DEMO_READY): requirements/uv.txt requirements/demo.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Blemish needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@test -x $(DEMO_BIN)/python || $(PYTHON) -m venv $(DEMO_VENV)
	$(DEMO_BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	VIRTUAL_ENV=$(DEMO_VENV) $(DEMO_BIN)/uv pip install --quiet --require-hashes -r requirements/demo.txt
	VIRTUAL_ENV=$(DEMO_VENV) $(DEMO_BIN)/uv pip install --quiet --no-deps --editable .
	@touch $(DEMO_READY)

demo: $(DEMO_READY)  ## train and evaluate a model on 2,624 images of solar cells, without PyTorch
	$(DEMO_BIN)/blemish demo

test: $(READY)  ## run the tests
	$(BIN)/pytest -n 2 --dist loadfile

test-slow: $(READY)  ## run the tests that take more than a few seconds each
	$(BIN)/pytest -m slow

check: $(READY)  ## lint, format, types, import order, words
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tools/check_words.py

check-page: $(READY)  ## types of the page's JavaScript against the REST schemas (needs Node.js)
	@if command -v npm > /dev/null; then \
		$(BIN)/python tools/page/make_types.py \
		&& npm ci --prefix tools/page --ignore-scripts --no-audit --no-fund --loglevel=error \
		&& tools/page/node_modules/.bin/tsc --project tools/page; \
	else echo "make check-page: skipped, because Node.js (npm) is not installed"; fi

format: $(READY)  ## format, and fix what Ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## measure every row of the table of speed whose peer is installed, and write docs/results.json
	$(BIN)/python -m bench --all

docs: $(READY) $(DOCS_READY)  ## the generated pages of docs/, and the documentation site in site/
	$(BIN)/python docs/make_tables.py
	PATH="$(CURDIR)/$(BIN):$$PATH" NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	$(BIN)/python tools/check_site.py site

notices: $(READY)  ## THIRD_PARTY_NOTICES.md, from the metadata of the installed packages
	$(BIN)/python tools/make_notices.py

screenshots: $(READY)  ## train a model on drawn images, and take the screenshots and the recording of its page (needs Chromium)
	$(BIN)/python docs/make_screenshots.py

LOCK   := uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-header --upgrade
EXTRAS := $(foreach extra,train eval few pretrained segment tune mlflow serve inspections postgresql measure openvino hub video demo parquet remote dev,--extra $(extra))
DEMO_EXTRAS := $(foreach extra,eval few pretrained serve demo,--extra $(extra))

lock: $(READY)  ## new versions and hashes in requirements/, from pyproject.toml
	$(BIN)/$(LOCK) -o requirements/dev.txt $(EXTRAS)
	$(BIN)/python tools/make_cpu_lock.py requirements
	$(BIN)/$(LOCK) -o requirements/detectors.txt $(EXTRAS) --extra yolo --extra rfdetr
	$(BIN)/$(LOCK) -o requirements/serve.txt -c requirements/dev.txt --extra serve
	$(BIN)/$(LOCK) -o requirements/serve-few.txt -c requirements/dev.txt --extra serve --extra few --extra pretrained
	$(BIN)/$(LOCK) -o requirements/demo.txt -c requirements/dev.txt $(DEMO_EXTRAS)
	$(BIN)/$(LOCK) -o requirements/docs.txt -c requirements/dev.txt --extra docs

clean:  ## remove everything that was made, the environment too
	rm -rf $(VENV) $(DEMO_VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build dist site
