# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every test gets: our plugins importable as the collection they are, and the plugins of pytest that are ours."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

import trees  # noqa: E402

sys.path.insert(0, str(trees.linked()))

_SUPPORT = "ansible_collections.bulkhead.storage.tests.support."
pytest_plugins = [_SUPPORT + name for name in ("namespace", "skip_gate", "attack", "lab")]
