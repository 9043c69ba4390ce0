# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounts that hide others, and binds beneath whose source something is mounted: what a look at them shows besides."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mountinfo import Mount, Table
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import ancestors, within


def stack(table: Table, row: Mount) -> dict[str, Any]:
    """What a mount hides at its own mount point, top-most first, and the mounts that stand on that."""
    over: list[str] = []
    under: list[tuple[int, str]] = []
    below: list[str] = []
    while row.path != "/" and row.parent in table.by_id and table.by_id[row.parent].path == row.path:
        row = table.by_id[row.parent]
        over.append(" ".join((row.fstype, row.source) if table.first(row) and row.root == "/" else ("bind", row.root)))
        under.append((row.id, row.dev))
        below += [child.path for child in table.children[row.id] if child.path != row.path]
    return {"over": over, "_under": under, "_below": below}


def lacking(table: Table, row: Mount, sources: set[str]) -> dict[str, list[str]]:
    """By source: where something is mounted beneath it and nothing beneath its bind ``row``, relative to both."""
    lacks = {}
    for source in sources:
        found = {}
        for path in table.beneath(source):
            child, rest = table.at(path), path[len(source.rstrip("/")) :]
            if child is None or child.propagation == "unbindable" or within(path, row.path):
                continue  # hidden, never to be brought along, or the bind itself
            if table.at(row.path + rest) is None:
                found[rest] = rest[1:]
        lacks[source] = [rest for path, rest in found.items() if found.keys().isdisjoint(ancestors(path))]
    return {source: rests for source, rests in lacks.items() if rests}
