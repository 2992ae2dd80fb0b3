# What a developer runs. Each target is one line of the table in CONTRIBUTING.md; `make` lists them.
#
# The environment is .venv, made on the first use (.ci/environment.sh); VENV=.../bin uses another one that
# has the extras dev and test.

VENV = $(CURDIR)/.venv/bin
PYTHON = $(VENV)/python
SCREEN = assets/images/screen.svg

.DEFAULT_GOAL := help
.PHONY: help environment check format quick test full portable docs site screens animation samples wheel clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  \1	/p' Makefile | expand -t 16

environment:
	@if [ "$(VENV)" = "$(CURDIR)/.venv/bin" ]; then \
	  root="$(CURDIR)"; set -eu; . .ci/environment.sh; environment ci "[dev,test]"; fi

check: environment  ## lint, format, types, import contracts: seconds
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	$(VENV)/lint-imports

format: environment  ## let ruff mend what it can
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

quick: environment  ## a sample of the tests: under 30 seconds
	$(PYTHON) -m pytest --quick

test: environment  ## the daily tests: under 4 minutes on two CPUs
	$(PYTHON) -m pytest

full: environment  ## everything that CI checks, the slow tests included
	.ci/run --full

portable: environment  ## the tests that need no ptrace, no KVM and no assembler
	$(PYTHON) -m pytest --portable

docs: environment  ## the API's documentation, from the docstrings, into build/docs
	$(PYTHON) .ci/docs.py build/docs

site: environment  ## the documentation as a site, into build/site
	$(PYTHON) .ci/site.py

screens: environment  ## the README's picture and the golden screens, drawn anew: look at the diff
	$(PYTHON) -m app.tui.screenshot $(SCREEN) assets/guests/hello.s --keys e,e,e
	RINGSCOPE_GOLDEN=write $(PYTHON) -m pytest tests/app/tui -k "session or views or looks or divergence or fewer or four or free"

animation: environment  ## the README's moving picture, filmed anew: wants an idle computer
	mkdir -p build
	$(PYTHON) .ci/animation.py record build/tinyos.cast
	$(PYTHON) .ci/animation.py draw build/tinyos.cast assets/images/tinyos.svg

samples: environment  ## the first lesson's handout and recording, in docs/samples
	$(PYTHON) -m app.main handout two-ways -o docs/samples/two-ways.html --overwrite
	$(PYTHON) -m app.main play two-ways --plain --record docs/samples/two-ways.cast --overwrite < /dev/null > /dev/null

wheel: environment  ## the package, into build/dist
	$(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir build/dist .

clean:  ## remove what was built, but not .venv
	rm -rf build dist .mypy_cache .ruff_cache .import_linter_cache .hypothesis
