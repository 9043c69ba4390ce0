# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths that are asked for by name: not where another user's program (FUSE) may answer, or never answer."""

from __future__ import annotations

import functools
import re


@functools.lru_cache(maxsize=None)
def _mounted() -> bool:
    with open("/proc/self/mountinfo", "rb") as f:
        return re.search(rb" - fuse(blk)?[. ]", f.read()) is not None


def unasked(path: str) -> None:
    """``unsafe_path`` if the way to a path leads through one, or is a tenant's to choose while there is any."""
    if _mounted():
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import foreign

        foreign.unasked(path)
