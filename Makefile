# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later

PYTHON ?= python3
ARGS ?=

.PHONY: help demo test lint format unit integration sanity benchmark soak

help:
	@echo "make demo         the main job on this host, embedded, and gone again (root; ARGS goes to ansible-playbook)"
	@echo "make test         everything that CI runs (root)"
	@echo "make lint         style, types, licences, documentation, the archive"
	@echo "make format       let ruff mend what it can"
	@echo "make unit         tests of single pieces; make integration: of whole plays on this host's kernel (root)"
	@echo "make sanity       ansible-test on the oldest and the newest ansible-core that run here"
	@echo "make benchmark    measurements; make soak: what is too long for CI (root)"

test lint format unit integration sanity benchmark soak: python
	@$(PYTHON) tools/ci.py $@

demo: python
	@$(PYTHON) tools/demo.py $(ARGS)

# A machine without any Python gets Debian's.
.PHONY: python
python:
	@command -v $(PYTHON) >/dev/null || { apt-get -q update && apt-get -q -y install --no-install-recommends python3 python3-venv; }
