# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Actions as people and machines read them: bounded, redacted, the same list in check mode and in the real run."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import json
from typing import Any, Callable, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Action, Unit
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.render import plain, target_text

RESULT_BYTES = 72 * 1024  # of these a result holds three at most (actions, diff, errors or resources): below 256 KiB
ERRORS = 1000
ERROR_BYTES = 16 * 1024
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=str).encode
TEXT = 1000  # characters, each up to six bytes of JSON, of a text that is cut


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
        sha.update(_canonical(entry).encode() + b"\n")
    return sha.hexdigest()


def bounded(listed: Iterable[Any], limit: int, room: int = RESULT_BYTES) -> list[Any]:
    """The first ``limit`` rows, fewer where they are so large that the result would pass its bound."""
    out = []
    for entry in itertools.islice(listed, max(0, limit)):
        room -= len(json.dumps(entry, default=str))
        if room < 0:
            break
        out.append(entry)
    return out


def changed(listed: list[dict[str, Any]]) -> Callable[[Iterable[str], str], list[str]]:
    """Asks for the first paths of some ports that were changed at or beneath one; sorted once, however many ask."""
    found: dict[str, list[str]] = {}
    for path, port in sorted({(entry["target"], entry["port"]) for entry in listed}):
        found.setdefault(port, []).append(path)

    def beneath(ports: Iterable[str], root: str) -> list[str]:
        inside = root.rstrip("/") + "/"  # whatever begins so stands in one row, before what follows the slash
        among = set()
        for paths in (found[port] for port in ports if port in found):
            among.update(paths[bisect.bisect_left(paths, inside) : bisect.bisect_left(paths, inside[:-1] + "0")])
            among.update(paths[bisect.bisect_left(paths, root) : bisect.bisect_right(paths, root)])
        return bounded(sorted(among), 100)

    return beneath


def done(listed: list[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """The actions of each port on each target, in their order."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for entry in listed:
        found.setdefault((entry["port"], entry["target"]), []).append(entry)
    return found


def refusals(errors: list[StorageError]) -> dict[str, Any]:
    """What a failed task says: the first error as its own, and as many as fit; the first one always does."""
    first = errors[0]
    rows = [_slim(shown(plain(error.as_dict()))) for error in errors[:ERRORS]]
    said = {"msg": _cut(shown(str(first)), 4 * TEXT), "code": first.code, "hint": _cut(shown(first.hint))}
    return {**said, "errors": bounded(rows, ERRORS), "errors_total": len(errors)}


def shown(value: Any) -> Any:
    """What a terminal would obey or reorder is written as ``repr`` does: tenants make names, and people read them."""
    if isinstance(value, str):
        return value if value.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in value)
    if isinstance(value, dict):
        return {shown(key): shown(each) for key, each in value.items()}
    return [shown(each) for each in value] if isinstance(value, list) else value


def _slim(error: dict[str, Any]) -> dict[str, Any]:
    """An error that is large by itself keeps the beginning of its texts and of its lists; ``cut`` names these."""
    if len(json.dumps(error, default=str)) <= ERROR_BYTES:
        return error
    kept: dict[str, Any] = {}
    cut = []
    for name, value in error["details"].items():
        if len(json.dumps(value, default=str)) > ERROR_BYTES // 8:
            cut.append(name)
            value = bounded(value, ERRORS, ERROR_BYTES // 8) if isinstance(value, list) else _cut(str(value))
        if len(kept) < 8:
            kept[name] = value
    texts = {name: _cut(error[name]) for name in ("entry", "message", "hint")}
    return {**error, **texts, "details": {**kept, "cut": cut}}


def _cut(text: str, most: int = TEXT) -> str:
    return text if len(text) <= most else text[:most] + "..."


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
