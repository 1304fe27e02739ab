# The commands of this house. `make demo` and `make test` install what they miss.
.PHONY: help setup demo test test-plain test-guests nightly lint bench man clean

help:
	@echo "make demo    build a real nginx image, boot it in two microVMs, fetch a page from each, clean up"
	@echo "             (KEEP=1 leaves it running and prints how to use and end it)"
	@echo "make test    lint, types and every test that this machine can run (PYTEST_ARGS=\"tests/unit -k name\" for some)"
	@echo "make nightly thousands of seeds of the deterministic simulation (SEEDS=5000)"
	@echo "make lint    ruff, mypy and the walls between the rooms"
	@echo "make bench   measure against the peers named in bench/RESULTS.md"
	@echo "make man     write the manual pages to build/man"
	@echo "make setup   install what is missing: Debian packages, .venv, kestrel and the holder"
	@echo "make clean   remove what was built here (not the virtual environment)"

setup:
	@packaging/setup.sh

demo: setup
	@KEEP=$(KEEP) examples/demo.sh

lint: setup
	@.venv/bin/ruff format --check --quiet src tests bench packaging examples
	@.venv/bin/ruff check --quiet src tests bench packaging examples
	@.venv/bin/mypy --no-error-summary
	@.venv/bin/lint-imports --no-cache >/dev/null || .venv/bin/lint-imports --no-cache

test: lint
	@$(MAKE) -s -C native OUT=../build/native test test-agent
ifdef PYTEST_ARGS
	@.venv/bin/pytest $(PYTEST_ARGS)
else
	@$(MAKE) -s --no-print-directory -j2 -k -Oline test-plain test-guests
endif

# Guests spend their time waiting for each other, and the rest does not: side by side they take little more than the longer one.
test-plain:
	@.venv/bin/pytest tests/unit tests/docs tests/contract tests/sim

test-guests:
	@.venv/bin/pytest tests/vm tests/e2e

SEEDS ?= 5000

nightly: setup
	@.venv/bin/python -m tests.sim.deterministic --count $(SEEDS) --from $$(date +%Y%m%d)0000 --keep-going

bench: setup
	@.venv/bin/python -m bench $(BENCH)

man: setup
	@.venv/bin/python -m volant.manual build/man
	@echo "man: build/man; read one: man build/man/volar.1"

clean:
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
