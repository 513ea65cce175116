# The commands of README.md and CONTRIBUTING.md. All is installed into .venv and .tools here, and nothing elsewhere.

PYTHON ?= python3
BIN := .venv/bin
# For minutes, a package index may be slow or answer with an error.
PIP_INSTALL := PIP_CONSTRAINT=constraints.txt PIP_RETRIES=10 PIP_DEFAULT_TIMEOUT=60 $(BIN)/python -m pip install --disable-pip-version-check --no-input

.PHONY: solo test lint clean

solo: .venv/installed
	@exec $(BIN)/ampd solo --workers 3

# More at a time than there are cores: most of them wait, for a heartbeat to grow old or a server to come back.
test: .venv/installed-for-tests
	@tests/tools/fetch
	@PATH="$(CURDIR)/.tools/bin:$$PATH" exec $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: .venv/installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

.venv/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is not installed: apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: Python 3.11 or newer is needed, this is $$($(PYTHON) --version); name another: make PYTHON=python3.11" >&2; exit 1; }
	@echo "make: creating the virtual environment .venv"
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
		echo "make: no virtual environment could be created: on Debian, apt-get install python3-venv" >&2; exit 1; }

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	@echo "make: installing the dependencies into .venv (100 MB, once)"
	@$(PIP_INSTALL) -e .
	@touch $@

.venv/installed-for-tests: .venv/installed
	@echo "make: installing what the tests need into .venv (once)"
	@$(PIP_INSTALL) -e '.[test]'
	@touch $@

clean:
	rm -rf .venv .tools .mypy_cache .pytest_cache .ruff_cache .import_linter_cache dist build
