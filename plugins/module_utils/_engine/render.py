# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values as people and machines read them: secrets masked, modes in octal digits, nothing that JSON cannot hold."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN, Secret

MASK = "********"
_OCTAL = ("mode", "o:mode")  # people read file modes in octal digits


def plain(value: Any) -> Any:
    """JSON-able, secrets masked, file modes in octal digits, observations (``_`` fields) left out."""
    if value.__class__ is int or value is None or (value.__class__ is str and value.isascii()):
        return value
    if isinstance(value, dict):
        kept = {str(k): v for k, v in value.items() if str(k)[:1] != "_"}
        return {
            k: "%04o" % v if k in _OCTAL and isinstance(v, int) and not isinstance(v, bool) else plain(v)
            for k, v in kept.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value, key=str) if isinstance(value, (set, frozenset)) else value
        return [plain(v) for v in items]
    if isinstance(value, Secret):
        return MASK
    if value is UNKNOWN:
        return "UNKNOWN"
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return value


def target_text(target: Hashable) -> str:
    parts = target if isinstance(target, tuple) else (target,)
    return str(plain(" ".join(str(part) for part in parts)))
