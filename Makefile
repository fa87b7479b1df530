# Every target makes its own environment on first use; a second call does no work.
PYTHON := .venv/bin/python
BIN := .venv/bin
STAMP := .venv/.installed
SCHEDULES := 10000
REAL := 200

.DEFAULT_GOAL := help
.PHONY: help demo test check lint fmt bench skill lock crash-matrix ccxt-suite fault-storm panic-drill soak

help:  ## Lists the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(STAMP): requirements.lock pyproject.toml
	@sh deploy/environment.sh
	@touch $@

demo: $(STAMP)  ## Runs everything embedded and trades on paper; ARGS passes options on.
	@$(BIN)/neurotrade demo $(ARGS)

test: $(STAMP)  ## Runs every test that can run on this machine.
	@$(BIN)/pytest $(ARGS)

lint: $(STAMP)  ## Format, lint, types, import contracts.
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

check: lint test  ## What CI runs.

fmt: $(STAMP)  ## Formats and applies safe fixes.
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(STAMP)  ## Benchmarks as ratios against peers; ARGS="--json FILE".
	@$(PYTHON) -m tests.bench $(ARGS)

skill: $(STAMP)  ## The whale detector on labelled cascades beside baselines, and on recorded sessions (docs/whales.md).
	@$(PYTHON) -m tests.skill $(ARGS)

crash-matrix: $(STAMP)  ## Cuts every await of a real order, kills the processes at each of its named steps and under trading.
	@$(PYTHON) -m tests.crash_matrix $(ARGS)

fault-storm: $(STAMP)  ## Seeded schedules of faults over real trading: SCHEDULES=10000 in memory, REAL=200 on real servers; ARGS="--seed S --json FILE".
	@$(PYTHON) -m tests.fault_storm --schedules $(SCHEDULES) --real $(REAL) $(ARGS)

panic-drill: $(STAMP)  ## Panics over 60 positions, calm and in a storm: seconds until verified flat; ARGS="--runs N --json FILE".
	@$(PYTHON) -m tests.panic_drill $(ARGS)

soak: $(STAMP)  ## Feeds and a reader over 500 symbols of a fast market for half an hour: memory, drift, stale decisions; ARGS="--minutes N --json FILE".
	@$(PYTHON) -m tests.soak --minutes 30 --symbols 500 --speed 120 $(ARGS)

ccxt-suite: $(STAMP)  ## Runs ccxt's own live suite against the sandbox; fetches its pinned source unless CCXT_SOURCE names the folder.
	@$(PYTHON) -m tests.ccxt_suite $(ARGS)

lock: $(STAMP)  ## Pins the dependencies anew; needs uv.
	@uv pip compile -q --python-version 3.12 --generate-hashes --no-emit-index-url --no-emit-find-links --extra local --extra dev pyproject.toml -o requirements.lock --custom-compile-command "make lock"
	@uv pip compile -q --python-version 3.12 --generate-hashes --no-emit-index-url --no-emit-find-links pyproject.toml -o deploy/requirements.lock --custom-compile-command "make lock"
