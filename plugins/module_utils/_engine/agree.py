# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two values that are wanted of one thing: both, where they do not contradict. Loaded only where there are two."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.render import target_text


def joined(gathered: Any, spot: Any, one: Any, two: Any, unit: Any) -> Any:
    if isinstance(one, dict) and isinstance(two, dict) and all(one[k] == two[k] for k in one.keys() & two.keys()):
        return {**one, **two}
    gathered.conflict(unit, "%s %s is needed as %r and as %r" % (spot[0], target_text(spot[1]), one, two))
    return one
