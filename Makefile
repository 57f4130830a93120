# sensorhub: `make demo` shows it, `make test` tests it.
FOR ?=
SPEED ?= 3600
PYTEST ?=

.PHONY: help setup demo test lint format bench lock clean
.DEFAULT_GOAL := help

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

setup: ## everything for demo and tests: system packages, Python, MicroPython, browser libraries, test chain
	@tools/setup test

demo: ## the whole chain on real readings until Ctrl-C; FOR=60s ends by itself and verifies, SPEED=3600 hours replayed an hour
	@tools/setup run
	@.venv/bin/python tools/demo --speed $(SPEED) $(if $(FOR),--for $(FOR))

test: ## every test, two a core since most of them wait; PYTEST="tests/log -k fsck" for some
	@tools/setup test
	@.venv/bin/python -m pytest -n $$((2 * $$(nproc))) $(PYTEST)

lint: ## ruff, mypy and pyright
	@tools/setup test
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/pyright --pythonpath .venv/bin/python --typeshedpath $$(echo .venv/lib/python3*/site-packages)

format: ## format the code
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

bench: ## speed and memory of the hot paths, as tables
	@tools/setup test
	@for script in tests/bench/bench_*.py tests/firmware/bench_*.py; do echo; echo "== $$script"; .venv/bin/python $$script || exit 1; done

lock: ## pin every Python dependency with hashes
	@tools/lock

clean: ## remove what setup and demo made
	rm -rf .venv .cache demo build dist tests/chain/node_modules gateway/sensorhub/web/node_modules gateway/sensorhub/web/static/vendor
