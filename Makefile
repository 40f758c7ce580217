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

AXE := $(VENV)/share/axe-core/axe.min.js
AXE_SHA512 := 1477dafa598d8d065f273d6af302aa203c02e83131707b7fa648cd41bd3d6b734f8c22a0dab86ee6a6f64b8afbe804b214d36db85a2826965edfb3a0b9d546b5

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

# torchattacks pins an old requests and drags in torchvision; it imports neither.
$(VENV)/tools: $(VENV)/package
	$(PIP) -c $(VENV)/constraints.txt --no-build-isolation --editable ".[dev,peers]"
	$(PIP) -c $(VENV)/constraints.txt --no-deps torchattacks
	@$(MAKE) --no-print-directory $(AXE) || echo "without axe-core its tests are skipped"
	touch $@

# What browsers are asked for faults of a page by; npm fetches it, and the hash is that of 4.14.1.
$(AXE):
	mkdir -p $(@D)
	cd $(@D) && npm pack --silent --fetch-retries 1 axe-core@4.14.1
	$(BIN)/python -c 'import hashlib, sys; from pathlib import Path; \
		found = hashlib.sha512(Path(sys.argv[1]).read_bytes()).hexdigest(); \
		sys.exit(found != "$(AXE_SHA512)" and "axe-core is not the one that is known")' \
		$(@D)/axe-core-4.14.1.tgz
	tar -xzf $(@D)/axe-core-4.14.1.tgz -C $(@D) --strip-components 1 package/LICENSE package/axe.min.js
