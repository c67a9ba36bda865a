# Two commands matter: `make demo` shows meterd at work, `make test` checks everything.
# Both set up what they need in .venv; they need Python >= 3.11, make and git.

# The first Python that runs (a name on PATH may be a shim that does not) and is new enough.
SUPPORTED := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  "$$p" -c '$(SUPPORTED)' 2>/dev/null && { echo "$$p"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-long check fix bench docs lock wheels system clean

demo: $(VENV)/.run
	$(BIN)/meterd demo

# Three workers for two cores, as much is waited for; files go to them in the order of conftest.py.
# Bytecode is kept, whatever the environment says: processes that tests start compile nothing then.
test test-long: export PYTHONDONTWRITEBYTECODE =

test: system check
	$(BIN)/pytest -q -n 3 --dist loadfile --no-loadscope-reorder

# Also what runs for minutes, with random examples that no other run had.
test-long: system $(VENV)/.dev
	$(BIN)/pytest -o faulthandler_timeout=3600 -m 'long or not long' --hypothesis-profile=new

# Which lines and branches of meterd/ the tests run. No figure is asked for; a test that fails
# keeps none from being told. TESTS="tests/poll tests/wire" measures what these run.
.PHONY: coverage setup dist
coverage: export PYTHONDONTWRITEBYTECODE =
coverage: system $(VENV)/.dev
	$(BIN)/coverage erase
	-$(BIN)/coverage run -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder $(TESTS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered

# Everything that a contributor needs, in .venv.
setup: $(VENV)/.dev

check: $(VENV)/.dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(VENV)/.dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# What is generated from the code: docs/meters.md.
docs: $(VENV)/.dev
	$(BIN)/python docs/generate.py

# The source archive and the wheel, without a network.
dist: $(VENV)/.dev
	$(BIN)/python -m hatchling build --clean

bench: system $(VENV)/.dev
	@sh tests/system.sh influxd:influxdb wrk:wrk
	$(BIN)/python -m bench

# The programs of the system that some tests talk to. Where they cannot be installed, those
# tests are skipped by name; METERD_TEST_ALL=1 turns such a skip into a failure, and
# METERD_TEST_INSTALL=0 installs nothing.
system:
	@sh tests/system.sh

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "meterd needs Python 3.11 or newer, and none was found: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c '$(SUPPORTED)' || { echo "meterd needs Python 3.11 or newer; $(PYTHON) is older" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python requirements.lock pyproject.toml
	$(BIN)/python -m pip install --quiet --require-hashes --only-binary :all: -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	$(BIN)/python -m pip install --quiet --require-hashes --only-binary :all: -r requirements-dev.lock
	@touch $@

# New versions, with hashes, for all supported Pythons; no registry's address gets in. A checkout and
# the container image have the drivers of both servers; Parquet's package is larger than the rest.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --upgrade pyproject.toml --extra mariadb --extra postgres --group build \
	  -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --upgrade -c requirements.lock --group dev -o requirements-dev.lock

# Which of the locked packages have wheels for a 32-bit Raspberry Pi: a table in docs/packages.md.
wheels: $(VENV)/.dev
	$(BIN)/python docs/wheels.py

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
