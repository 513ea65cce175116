# The commands of README.md and CONTRIBUTING.md. All is installed into .venv and .tools here, and nothing elsewhere.

PYTHON ?= python3
# A Python that is named has an environment of its own: `make test PYTHON=python3.13` uses .venv-3.13.
VENV := $(if $(filter python3,$(PYTHON)),.venv,.venv-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null))
BIN := $(VENV)/bin
# For minutes, a package index may be slow or answer with an error.
PIP_INSTALL := PIP_CONSTRAINT=constraints.txt PIP_RETRIES=10 PIP_DEFAULT_TIMEOUT=60 $(BIN)/python -m pip install --disable-pip-version-check --no-input

.PHONY: solo test test-fast lint clean

solo: $(VENV)/installed
	@exec $(BIN)/ampd solo --workers 3

# More at a time than there are cores: most of them wait, for a heartbeat to grow old or a server to come back.
test: $(VENV)/installed-for-tests
	@tests/tools/fetch
	@PATH="$(CURDIR)/.tools/bin:$$PATH" exec $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# For the edit loop: all tests but those that are marked as slow.
test-fast:
	@$(MAKE) --no-print-directory test PYTEST_ARGS="-m 'not slow' $(PYTEST_ARGS)"

lint: $(VENV)/installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is not installed: apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: Python 3.11 or newer is needed, this is $$($(PYTHON) --version); name another: make PYTHON=python3.11" >&2; exit 1; }
	@echo "make: creating the virtual environment $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "make: no virtual environment could be created: on Debian, apt-get install python3-venv" >&2; exit 1; }

$(VENV)/installed: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "make: installing the dependencies into $(VENV) (100 MB, once)"
	@$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/installed-for-tests: $(VENV)/installed
	@echo "make: installing what the tests need into $(VENV) (once)"
	@$(PIP_INSTALL) -e '.[test]'
	@touch $@

clean:
	rm -rf .venv .venv-* .tools .mypy_cache .pytest_cache .ruff_cache .import_linter_cache dist build
