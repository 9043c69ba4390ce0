# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a declaration with ``check`` asks before anything else: loaded only for one."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError


def sound(p: dict[str, Any], device: str, look: Any) -> None:
    """Raises what the port ``health`` found: ``checksum``, ``missing_tool`` and others; ``unsupported`` for swap."""
    if p["fstype"] == "swap":
        raise StorageError("unsupported", "there is nothing to check in swap", "leave it out", option="check")
    found = look.look("health", [device]).get(device)
    if isinstance(found, StorageError):
        raise found
