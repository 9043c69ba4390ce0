# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""In what a mount was found otherwise than declared. Loaded only where something differed, or may."""

from __future__ import annotations

from typing import Any


def named(found: dict[str, Any], live: dict[str, Any], done: list[dict[str, Any]]) -> list[str]:
    """``live``: what is declared of a mount that is left alone; else it is told by what was done about it."""
    wrong = _left(found, live) if live else _mended(done)
    return sorted({key[2:] if key.startswith("o:") else key for key in wrong})


def _left(found: dict[str, Any], live: dict[str, Any]) -> list[str]:
    seen = {**found.get("_silent", {}), **found}
    wrong = ["source"] * bool(live.get("bind") and live["source"] not in found.get("_sources", ()))
    for key, value in live.items():  # a device has many names, and what has a level may have any
        named_otherwise = key in ("source", "recursive") or (key, value) == ("fstype", "auto")
        if not named_otherwise and value not in (seen.get(key, False), str(seen.get(key)).partition(":")[0]):
            wrong.append(key)
    return wrong


def _mended(actions: list[dict[str, Any]]) -> list[str]:
    if not actions or not isinstance(actions[0]["before"], dict):
        return []
    before, after = actions[0]["before"], actions[-1]["after"] or {}
    return [key for key, value in after.items() if value not in (before.get(key, False), "UNKNOWN")]
