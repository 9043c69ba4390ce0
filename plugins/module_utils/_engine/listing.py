# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Actions as people and machines read them: bounded, redacted, the same list in check mode and in the real run."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Action, Unit
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.render import plain, target_text

RESULT_BYTES = 72 * 1024  # actions, errors and diff take up to this much each: a result stays below 256 KiB


def row(action: Action, unit: Unit) -> dict[str, Any]:
    return {
        "kind": unit.key[0],
        "entry": unit.entry or " ".join(unit.key),
        "port": action.port,
        "target": target_text(action.target),
        "verb": action.verb,
        "risk": action.risk,
        "before": plain(action.before),
        "after": plain(action.after),
    }


def rows(actions: list[Action], units: list[Unit]) -> list[dict[str, Any]]:
    return [row(action, units[action.unit]) for action in actions]


def digest(listed: list[dict[str, Any]]) -> str:
    """SHA-256 over the canonical JSON of the whole list (sorted keys, no spaces)."""
    sha = hashlib.sha256()
    for entry in listed:
        sha.update(json.dumps(entry, sort_keys=True, separators=(",", ":"), default=str).encode())
        sha.update(b"\n")
    return sha.hexdigest()


def bounded(listed: list[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """The first ``limit`` rows, fewer where they are so large that the result would pass its bound."""
    room, out = RESULT_BYTES, []
    for entry in listed[: max(0, limit)]:
        room -= len(json.dumps(entry, default=str))
        if room < 0:
            break
        out.append(entry)
    return out


def diff(listed: list[dict[str, Any]]) -> dict[str, str]:
    """Ansible's before/after texts, one block an action; bounded as the rows are."""
    sides: dict[str, list[str]] = {"before": [], "after": []}
    room = RESULT_BYTES
    for entry in listed:
        for side, lines in sides.items():
            block = _block(entry, entry[side])
            room -= len(json.dumps(block))
            if room > 0:
                lines.append(block)
    return {side: "".join(lines) for side, lines in sides.items()}


def _block(entry: dict[str, Any], value: Any) -> str:
    lines = ["%s %s:%s" % (entry["port"], entry["target"], " absent" if value is None else "")]
    if isinstance(value, dict):
        lines.extend("  %s: %s" % (k, json.dumps(v, default=str)) for k, v in sorted(value.items()))
    elif value is not None:
        lines.append("  %s" % json.dumps(value, default=str))
    return "\n".join(lines) + "\n"
