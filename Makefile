# make search    set up, then run the embedded demo (offline, minutes on two cores)
# make test      set up, then run the tests
# make slow-test set up, then run the tests that take minutes
# make check     set up, then lint, format and types
# make schema    set up, then write sweep.schema.json anew, from which editors complete a YAML file
# make faults    set up, then kill, fill and damage sweeps in every way we know (half an hour)
# make conformance   set up, then try every model type that transformers has a sequence classifier for (minutes)
# make models-page   set up, then write docs/models.md anew from the same
# make cluster-test  set up, then run sweeps on clusters of hosts that are made on this machine (root, minutes)
# make browser-test  set up, then open report.html in Chromium (as root it is installed where it is missing)
# make docs      set up, then build the documentation as a site into build/site
# make bench     set up, then measure speed: BENCH_DATA=FOLDER of sentence pairs, ROUNDS=3 for medians

PYTHON ?= python3
VENV ?= .venv
ROUNDS ?= 1
BIN := $(VENV)/bin

.PHONY: search test slow-test check schema faults conformance models-page cluster-test browser-test docs bench clean
.DEFAULT_GOAL := search

search: $(VENV)/.ready
	@$(BIN)/python -m tune.search

test: $(VENV)/.ready
	@$(BIN)/python -m pytest -n 2 --dist loadfile

slow-test: $(VENV)/.ready
	@$(BIN)/python -m pytest -n 2 -v -m "slow and not cluster and not gpu and not network"

check: $(VENV)/.ready
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy --no-error-summary
	@echo "ruff and mypy: no problems"

$(VENV)/.ready: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV) (a minute or two the first time)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

schema: $(VENV)/.ready
	@$(BIN)/python -m tune.spec.schema > sweep.schema.json

faults: $(VENV)/.ready
	@$(BIN)/python -m pytest -n 2 --dist loadfile --durations 15 -m "faults and not gpu and not network"

conformance: $(VENV)/.ready
	@$(BIN)/python -m pytest -n 2 -m conformance

models-page: $(VENV)/.ready
	@$(BIN)/python -m tests.conformance.verdicts

# The programs that hosts are made with, and what `ray up` needs.
cluster-test: $(VENV)/.ready
	@$(BIN)/python -m tests.cluster.machine || test -z "$$CI"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev,cluster]'
	@$(BIN)/python -m pytest -m cluster

browser-test: $(VENV)/.ready
	@$(BIN)/python -m tests.browser.machine || test -z "$$CI"
	@$(BIN)/python -m pytest -m browser

docs: $(VENV)/.ready
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	@echo "the site's first page: build/site/index.html"

bench: $(VENV)/.ready
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	@$(BIN)/python -m benchmarks.run --rounds $(ROUNDS)

clean:
	@rm -rf $(VENV)
