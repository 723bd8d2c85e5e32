# Everything runs in a virtual environment of its own, with the versions of deploy/requirements.lock.
# The Python that makes the environment is never the environment's own, also where that is activated.
OUTSIDE := $(subst $(CURDIR)/.venv/bin:,,$(PATH))
PYTHON ?= $(shell PATH="$(OUTSIDE)"; command -v python3.11 || command -v python3.12 || command -v python3)
BIN := .venv/bin
DATA ?=
CONFIG ?= deploy/us-families.toml
OUT ?= out
SEEDS ?= 1000
START ?= 0
KILLS ?= 200
ROUNDS ?= 200
MINUTES ?= 30
SEED ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test lint check coverage real bench bench-live soak simulate kill-campaign lock clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

# pip of the system installs into the environment, so that a machine without ensurepip will do.
.venv/installed: deploy/requirements.lock pyproject.toml
	$(PYTHON) -m venv --clear --without-pip .venv
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --no-deps --require-hashes -r deploy/requirements.lock
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(OUT)/demo/recording: | .venv/installed
	$(BIN)/sluice generate $@

demo: .venv/installed $(OUT)/demo/recording ## replay a synthetic market and show the result
	$(BIN)/sluice replay $(OUT)/demo/recording --config deploy/demo.toml --out $(OUT)/demo/result

test: .venv/installed ## run the tests, kernels with bounds checks
	NUMBA_BOUNDSCHECK=1 $(BIN)/pytest
	$(BIN)/pytest tests/flows/test_simulation.py

coverage: .venv/installed ## run the tests of the kernels without the compiler, with coverage
	NUMBA_DISABLE_JIT=1 $(BIN)/pytest tests/operators tests/schemas --cov=operators --cov=schemas --cov-report=term

lint: .venv/installed ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test ## all of it: style, types, tests

real: .venv/installed ## replay every strategy over real bars: DATA=DIR with bars_1m/SYMBOL.parquet
	@test -n "$(DATA)" || { echo "make real: say where the bars are: make real DATA=DIR, with DIR/bars_1m/SYMBOL.parquet"; exit 2; }
	@$(BIN)/sluice real $(DATA) --config $(CONFIG)

bench: .venv/installed ## measure bars a second and peak memory
	@$(BIN)/sluice bench

bench-live: .venv/installed ## measure live trading on a real broker: latency, replay of a topic: ROUNDS=n
	@$(BIN)/python -m flows.bench_live --rounds $(ROUNDS)

soak: .venv/installed ## trade live for long, and see that nothing grows: MINUTES=n
	@$(BIN)/python -m flows.soak --minutes $(MINUTES)

simulate: .venv/installed ## search for a breach in sessions at random: SEEDS=n START=s WORKERS=w
	@$(BIN)/sluice simulate --seeds $(SEEDS) --start $(START) $(if $(WORKERS),--workers $(WORKERS))

kill-campaign: .venv/installed ## kill live trading over and over on a real broker: KILLS=n SEED=s
	@cd tests/flows && PYTHONPATH=..:../.. ../../$(BIN)/python kill_campaign.py --kills $(KILLS) --seed $(SEED)

lock: .venv/installed ## resolve the dependencies anew
	$(BIN)/pip-compile --quiet --strip-extras --extra dev --generate-hashes --allow-unsafe --no-emit-index-url \
		--no-emit-trusted-host --no-emit-find-links --no-header -o deploy/requirements.lock pyproject.toml

clean: ## remove the environment, results and caches
	rm -rf .venv $(OUT) .bench build dist *.egg-info
