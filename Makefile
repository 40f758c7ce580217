# Every target sets up what it needs: on a fresh machine `make demo` or `make test` is enough.
#
#   make PYTHON=python3.12 test          another interpreter (3.11 or later)
#   make TORCH="torch --index-url INDEX" demo
#                                        another build of PyTorch than the default index has: where
#                                        that is a large CUDA build, name PyTorch's CPU index
#   make OUT=elsewhere demo              another folder for the demo's report

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch -c constraints.txt
OUT ?= demo
WORKERS ?= 2

BIN := $(VENV)/bin
# A log that nobody watches needs no progress bars.
PIP := $(BIN)/python -m pip --disable-pip-version-check install $(if $(CI),--quiet --progress-bar off)
# One thread each: small tensors gain nothing from more, and WORKERS processes share the cores.
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

# What files of ours are held against and only npm has: by what browsers are asked for a page's
# faults, and the schema of SARIF. Each is the one with this hash.
NPM := $(VENV)/share/npm
AXE_SHA512 := 1477dafa598d8d065f273d6af302aa203c02e83131707b7fa648cd41bd3d6b734f8c22a0dab86ee6a6f64b8afbe804b214d36db85a2826965edfb3a0b9d546b5
SARIF_SHA512 := 0357ce84f77a21ce620e4e05f583f0d6a341e1717eefe22f891ef197caf617a433424c7972963d2ec1a4dab1318852047016e3a559d29b058606e9004a4890f4

.DEFAULT_GOAL := help
.PHONY: help demo test test-all check format bench peers build clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## /\1	/p' $(MAKEFILE_LIST) | expand -t 12

demo: $(VENV)/package  ## attack, certify and compare small models; prints the report's path
	$(BIN)/robustcode demo --out $(OUT)

test: $(VENV)/tools  ## the tests, without those marked long
	$(PYTEST) -m "not long"

test-all: $(VENV)/tools  ## every test
	$(PYTEST)

check: $(VENV)/tools  ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/tools  ## write the format that check wants
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/tools  ## speed, memory and accuracy beside the peers; prints the tables
	@set -e; for script in benchmarks/[a-z]*.py; do \
		echo "$$script"; $(BIN)/python "$$script"; done

peers: $(VENV)/tools  ## only install what tests and benchmarks are held against

build: $(VENV)/tools  ## wheel and sdist, in dist/
	$(BIN)/python -m build --no-isolation

clean:  ## remove what make made, the virtual environment included
	rm -rf $(VENV) build dist demo *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# PyTorch comes first and by itself, so that no later line chooses another build of it.
$(VENV)/package: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		"robustcode needs Python 3.11 or later; this is " + sys.version.split()[0] \
		+ ": make PYTHON=python3.12 ..")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH)
	grep -v '^torch==' constraints.txt > $(VENV)/constraints.txt
	$(PIP) -c $(VENV)/constraints.txt setuptools
	$(PIP) -c $(VENV)/constraints.txt --no-build-isolation --editable .
	touch $@

# torchattacks pins an old requests and drags in torchvision; it imports neither. imagecorruptions
# wants the OpenCV that needs a screen's libraries; what it computes is in the other one as well.
$(VENV)/tools: $(VENV)/package
	$(PIP) -c $(VENV)/constraints.txt --no-build-isolation --editable ".[dev,peers]"
	$(PIP) -c $(VENV)/constraints.txt --no-deps torchattacks imagecorruptions
	@$(MAKE) --no-print-directory --keep-going $(NPM)/axe.min.js $(NPM)/sarif.json || \
		echo "what npm could not fetch is missing, and the tests that need it are skipped"
	touch $@

$(NPM)/axe.min.js: FETCHED := axe-core@4.14.1 $(AXE_SHA512) axe.min.js
$(NPM)/sarif.json: FETCHED := @microsoft/jest-sarif@1.0.0-beta.0 $(SARIF_SHA512) lib/schemas/sarif-2.1.0-rtm.5.json
$(NPM)/axe.min.js $(NPM)/sarif.json:
	mkdir -p $(@D)
	sh tests/npm_file.sh $(FETCHED) $@
