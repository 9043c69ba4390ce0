# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A volume gets what a snapshot of it kept; what it held is kept in its turn, as a snapshot of its own."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names, size
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Cell, Unit
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import pool_place, snapshot

PREFIX = "before-restore-"


def unit(p: dict[str, Any], look: Any, whose: str) -> Unit:
    key, spot = snapshot.label(p), (snapshot.KIND, snapshot.label(p))
    row = look.look("record", [spot]).get(spot)
    if isinstance(row, StorageError):
        raise row
    if row is None:
        text = "volume %s has no snapshot %s" % (whose, p["name"])
        raise StorageError("not_found", text, "make it first, with state: present")
    number = names.identifier(p["restore_id"] or p["name"], "restore_id")
    known = row.get("restored", [])
    done = Cell("record", spot, {"restored": known if number in known else [*known, number]})
    needs: list[tuple[str, Any]] = [("volume", whose), snapshot.place(row)]
    if number in known:
        return Unit((snapshot.KIND, key), (done,), tuple(needs), (spot,))
    volume = snapshot.volume_of(whose, look, False)
    _possible(row, whose, volume, look)
    name, mark = PREFIX + number, "%s %s" % (row["id"], number)
    kept = (snapshot.KIND, "%s/%s" % (whose, names.identifier(name, "restore_id")))
    there = look.look("record", [kept]).get(kept)
    if isinstance(there, StorageError):
        raise there
    if there is not None and there.get("of") != mark:
        text = "snapshot %s of volume %s is there already" % (name, whose)
        raise StorageError("conflict", text, "say another restore_id", option="restore_id")
    before = there or {**snapshot.recorded(name, whose, volume, look), "of": mark}
    if row["backend"] in pool_place.GROUPS:
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import snapshot_lvm

        content = snapshot_lvm.restored(mark, row, before, volume)
        cells: tuple[Cell, ...] = (Cell("record", kept, before), content, done)
        return Unit((snapshot.KIND, key), cells, tuple(needs), (spot, kept))
    first, folder, body = snapshot.body(kept[1], before, volume, False)
    value = {"restored": mark, "sealed": True, "from": row["path"], "kept": before["path"], "type": body.value["type"]}
    cells = (first, folder, Cell("content", body.value["source"], value), done)
    needs.append(("path", body.value["source"]))
    return Unit((snapshot.KIND, key), cells, tuple(needs), (spot, kept))


def _possible(row: dict[str, Any], whose: str, volume: dict[str, Any], look: Any) -> None:
    beside = look.declared.get(("volume", whose)) or {}
    users = sorted(volume["attachments"])
    if users or beside.get("state") == "attached":
        text = "volume %s is attached to %s" % (whose, ", ".join(users) or "somebody, as declared beside")
        raise StorageError("in_use", text, "detach it to restore it", users=users)
    if row["backend"] == "directory":
        text = "a volume that is a directory is not restored yet: its files would be charged to no project"
        raise StorageError("unsupported", text, "copy from %s what you need" % row["path"])
    if row["backend"] in ("loop", *pool_place.GROUPS) and row["size"] != volume["size"]:
        have, had = size.human(volume["size"]), size.human(row["size"])
        text = "volume %s has %s, and had %s when the snapshot was made" % (whose, have, had)
        raise StorageError("conflict", text, "give it that size again first", size_bytes=row["size"])
