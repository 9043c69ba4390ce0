# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modes of files."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError


def mode(value: Any, what: str = "mode") -> int:
    """Octal digits as chmod(1) takes them; an integer is taken as it is (YAML has read the octal already)."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 0o7777:
        return value
    if isinstance(value, str) and 3 <= len(value) <= 5 and not set(value) - set("01234567") and int(value, 8) <= 0o7777:
        return int(value, 8)
    raise StorageError(
        "invalid", "%s %.40r is not an octal mode" % (what, value), 'write it quoted: "0750"', option=what
    )
