# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later

PYTHON ?= python3
ARGS ?=

.PHONY: help demo test lint format unit integration sanity benchmark soak lab lab-test lab-down

help:
	@echo "make demo         the main job on this host, embedded, and gone again (root; ARGS goes to ansible-playbook)"
	@echo "make test         everything that CI runs (root)"
	@echo "make lint         style, types, licences, documentation, the archive"
	@echo "make format       let ruff mend what it can"
	@echo "make unit         tests of single pieces; make integration: of whole plays on this host's kernel (root)"
	@echo "make sanity       ansible-test on the oldest and the newest ansible-core that run here"
	@echo "make lab          guests with a kernel of their own; make lab-test: the tests in them; make lab-down: end them (root)"
	@echo "make benchmark    measurements; make soak: what is too long for CI (root)"

test lint format unit integration sanity benchmark soak lab-test: python
	@$(PYTHON) tools/ci.py $@

lab: python
	@$(PYTHON) tools/packages.py test
	@$(PYTHON) tests/lab up

lab-down: python
	@$(PYTHON) tests/lab down

demo: python
	@$(PYTHON) tools/demo.py $(ARGS)

# A machine without any Python gets Debian's.
.PHONY: python
python:
	@command -v $(PYTHON) >/dev/null || { apt-get -q update && apt-get -q -y install --no-install-recommends python3 python3-venv; }
