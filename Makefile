# Caloric's house-keeping. `make` alone lists the targets.
#
# Every target sets up what it needs (tools/setup) and does nothing twice.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

PY := .venv/bin/python
# pyo3 builds for the interpreter it finds. One and the same for every cargo call, or each would rebuild what the other did.
CARGO := PYO3_PYTHON=$(CURDIR)/$(PY) cargo

# The tests mostly wait for the processes they start. A file stays on one worker: it may share what it has asked the peer.
export SIDE_BY_SIDE := -n 3 --dist loadfile

PYTHON_CODE = $(wildcard python/caloric tests bench examples tools)

# Used as a recipe's first line: stops with one sentence when cargo or CPython is missing. $(error) and not a failing
# command, because make would add lines of its own to that.
need_tools = @$(eval missing := $(shell tools/toolchain missing))$(if $(missing),$(error $(missing)))

need_browser = @$(eval missing := $(shell tools/toolchain missing-browser))$(if $(missing),$(error $(missing)))

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

.PHONY: build
build: ## Build for release into .venv: .venv/bin/caloric, .venv/bin/python -m caloric
	$(need_tools)
	@tools/setup develop

.PHONY: demo
demo: ## Run a Lambda function on Caloric and on awslambdaric, side by side
	$(need_tools)
	@tools/setup develop
	@tools/setup extras cli local bench
	@tools/setup parts
	@$(PY) examples/demo.py

.PHONY: test
test: ## Run the tests, Rust and Python, in .venv
	$(need_tools)
	$(need_browser)
	@tools/setup develop
	@tools/setup extras local test test-local browser
	@tools/setup browser
	@tools/setup parts
	@# The bindings are tested from Python: an extension module does not link outside an interpreter.
	@$(CARGO) test --locked --workspace --exclude caloric-bindings
	@tools/pytest $(PY)

.PHONY: test-all
test-all: ## Run the Python tests on every supported CPython found, from wheels
	$(need_tools)
	@tools/setup develop
	@tools/setup parts
	@tools/matrix

.PHONY: lint
lint: ## Check format, lints, types and stubs
	$(need_tools)
	@tools/setup develop
	@tools/setup extras local test test-local browser bench
	@tools/setup lint
	@tools/lint

.PHONY: format
format: ## Rewrite the code in the one format
	$(need_tools)
	@tools/setup develop
	@tools/setup lint
	@cargo fmt
	@cargo fmt --manifest-path rust/fuzz/Cargo.toml
	@cargo fmt --manifest-path tests/foreign/Cargo.toml
	@$(PY) -m ruff check --fix --select I $(PYTHON_CODE)
	@$(PY) -m ruff format $(PYTHON_CODE)

.PHONY: bench
bench: ## Compare with awslambdaric and AWS's emulator; a table, and JSON under bench/results
	$(need_tools)
	@tools/setup develop
	@tools/setup extras cli local bench
	@tools/setup parts
	@$(PY) -m bench

.PHONY: wheel
wheel: ## Build a wheel for .venv's Python into dist/
	$(need_tools)
	@tools/setup develop
	@tools/setup wheel

.PHONY: fuzz
fuzz: ## Fuzz HTTP code, encoder and decoder, FUZZ_SECONDS (60) for each target
	$(need_tools)
	@tools/setup fuzz
	@tools/fuzz

.PHONY: soak
soak: ## A million invocations of one process: nothing lost, crossed or kept; the result under bench/results
	$(need_tools)
	@tools/setup develop
	@tools/setup extras local bench
	@$(PY) -m bench.soak

.PHONY: clean
clean: ## Remove everything that was built or fetched, but not a CARGO_TARGET_DIR of yours
	@rm -rf .venv .venvs .cache dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks
	@rm -rf target rust/fuzz/target
	@rm -f python/caloric/*.so
	@find . -name __pycache__ -prune -exec rm -rf {} +
