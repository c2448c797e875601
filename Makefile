# make demo    everything on an invented hospital and bookshop, ends with reports (three minutes)
# make test    checkers and tests; MEDREC_DATA=folder adds the tests on real data sets
# make bench   the recorded benchmarks, into benchmarks/results
# make lint    checkers alone
# make format  what the checkers can mend
# make clean   removes what these made, and the environment
#
# Each sets itself up in $(VENV) with the versions of constraints.txt. For a smaller download
# without CUDA on Linux: PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"

VENV ?= .venv
PIP_ARGS ?=
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
BIN := $(VENV)/bin
READY := $(VENV)/.installed

.PHONY: demo test bench lint format install clean
.DEFAULT_GOAL := demo

demo: $(READY)
	$(BIN)/medssl demo --out demo/med
	$(BIN)/recssl demo --out demo/rec

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(if $(MEDREC_DATA),,-m "not data")

bench: $(READY)
	@for script in $(filter-out benchmarks/checkout.py benchmarks/record.py benchmarks/rec_line.py benchmarks/lightgcn_split.py,$(sort $(wildcard benchmarks/*.py))); do \
		echo "== $$script"; $(BIN)/python $$script || status=1; done; exit $${status:-0}

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(READY)

# setuptools first and pinned, then used for the build: an isolated build would take any version.
$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt $(PIP_ARGS) setuptools
	$(BIN)/python -m pip install --quiet -c constraints.txt $(PIP_ARGS) --no-build-isolation -e ".[dev]"
	@touch $@

clean:
	rm -rf $(VENV) demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
