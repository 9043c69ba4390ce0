# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a volume held at one moment: kept beside it in its pool, where nobody but root comes, and recorded."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Cell, Unit
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import pool_place

KIND, LIST = "snapshot", "snapshots"
TYPES = {"btrfs": "subvolume", "directory": "directory", "loop": "file"}
_COUNTS = ("last", "hourly", "daily", "weekly", "monthly")
OPTIONS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "volume": {"type": "str", "required": True},
    "namespace": {"type": "str", "default": "default"},
    "keep": {"type": "dict", "options": {count: {"type": "int"} for count in _COUNTS}},
    "restore_id": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent", "restored"], "default": "present"},
}
RULES: dict[str, Any] = {}


def label(p: dict[str, Any]) -> str:
    return "%s/%s/%s" % (p["namespace"], p["volume"], p["name"])


def facts(p: dict[str, Any], look: Any) -> list[tuple[str, Any]]:
    whose = _volume(p)
    if "%" not in p["name"]:
        names.identifier(p["name"])
        return [("record", ("volume", whose)), ("record", (KIND, label(p)))]
    _retention().named(p["name"], 0)
    return [("record", ("volume", whose)), ("record", ("snapshots", whose)), ("clock", "utc")]


def unit(p: dict[str, Any], look: Any) -> Unit:
    whose, gone, template = _volume(p), p["state"] == "absent", "%" in p["name"]
    if p["state"] == "restored" and (template or p["keep"]):
        raise StorageError("invalid", "one snapshot is restored, without keep", "name one", option="state")
    if p["keep"] and not template:
        text = "keep counts what a template names, and %s is none" % p["name"]
        raise StorageError("invalid", text, "for example name: daily-%Y-%m-%d", option="keep")
    if p["state"] == "restored":
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import restore

        return restore.unit(p, look, whose)
    rows = _rows(p, whose, look)
    going = sorted(rows) if gone and template else []
    name, now = p["name"], 0
    if template:
        now = look.look("clock", ["utc"])["utc"]
        name = _retention().named(p["name"], now)
    key = "%s/%s" % (whose, name)
    row = look.look("record", [(KIND, key)]).get((KIND, key))
    if isinstance(row, StorageError):
        raise row
    if p["keep"] and not gone:
        going = _retention().pruned(rows, key, now, p["keep"])
    cells = [cell for each in going for cell in body(each, rows[each], {}, True)]
    needs = [("volume", whose), *(place(rows[each]) for each in going)]
    if gone and (row is None or template):
        if not template:
            cells.append(Cell("record", (KIND, key), None))
    else:
        volume = volume_of(whose, look, gone)
        made = row or recorded(name, whose, volume, look)
        if row is None and template:
            made["template"] = p["name"]
        cells += body(key, made, volume, gone)
        needs.append(place(made))
    consents = {"absent": gone or bool(going)}
    return Unit((KIND, label(p)), tuple(cells), tuple(needs), ((KIND, key),), consents=consents)


def place(row: dict[str, Any]) -> tuple[str, Any]:
    """The spot that it stands on."""
    return ("vg", row["path"].split("/")[2]) if row["backend"] in pool_place.GROUPS else ("above", row["path"])


def _lvm() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._resources import snapshot_lvm

    return snapshot_lvm


def _retention() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._resources import retention

    return retention


def _rows(p: dict[str, Any], whose: str, look: Any) -> dict[str, dict[str, Any]]:
    """By key the recorded ones that this template named."""
    if "%" not in p["name"]:
        return {}
    rows = look.look("record", [("snapshots", whose)])
    mine = {key: row for (kind, key), row in rows.items() if kind == KIND and key.startswith(whose + "/")}
    return {key: row for key, row in mine.items() if row.get("template") == p["name"]}


def _volume(p: dict[str, Any]) -> str:
    return "%s/%s" % (names.identifier(p["namespace"], "namespace"), names.identifier(p["volume"], "volume"))


def volume_of(whose: str, look: Any, gone: bool) -> dict[str, Any]:
    """The row of its volume, which is recorded or declared beside. Raises ``not_found``."""
    row = look.look("record", [("volume", whose)]).get(("volume", whose))
    if isinstance(row, StorageError):
        raise row
    beside = look.declared.get(("volume", whose)) or {}
    if not gone and (beside.get("state") == "absent" or not (row or beside.get("state") in ("present", "attached"))):
        raise StorageError("not_found", "there is no volume %s" % whose, "declare it, or name another one")
    if row is None and not gone:
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import volume

        row = volume.recorded(beside, None, look)
    return dict(row or {})


def recorded(name: str, whose: str, volume: dict[str, Any], look: Any) -> dict[str, Any]:
    """What the catalogue will hold of a new snapshot."""
    backend = volume["backend"]
    if backend == "memory":
        text = "volume %s is in memory: it has no snapshots" % whose
        raise StorageError("unsupported", text, "copy its files, or use a volume of a pool")
    if backend == "nfs":
        text = "volume %s is a directory of an NFS server: no server limits a copy of it" % whose
        raise StorageError("unsupported", text, "make snapshots on the server, or copy its files")
    if backend in pool_place.GROUPS:
        more = _lvm().recorded("%s/%s" % (whose, name), volume, look)
        return {"pool": volume["pool"], "backend": backend, "size": volume["size"], **more}
    home = volume["path"][: -len("/" + whose)]
    path = names.join(home, pool_place.SNAPSHOTS, whose, name) + (".img" if backend == "loop" else "")
    row = {"pool": volume["pool"], "backend": backend, "path": path, "size": volume["size"]}
    return {**row, "fstype": volume["fstype"]} if backend == "loop" else row


def body(key: str, row: dict[str, Any], volume: dict[str, Any], gone: bool) -> list[Cell]:
    """Its record stands at the bottom, so that whatever exists is always known."""
    if gone:
        return [Cell("record", (KIND, key), None), Cell(_port(row), row["path"], None)]
    if row["backend"] in pool_place.GROUPS:
        found: list[Cell] = _lvm().body(key, row)
        return found
    made = {"type": TYPES[row["backend"]], "read_only": True}
    made["source"] = volume["path"] + (".img" if row["backend"] == "loop" else "")
    home = row["path"].partition("/%s/" % pool_place.SNAPSHOTS)[0]
    root = {"type": "directory", "owner": "0", "group": "0", "mode": 0o700, "_implied": True}
    folder = Cell("node", names.join(home, pool_place.SNAPSHOTS), root, True)
    return [Cell("record", (KIND, key), row), folder, Cell(KIND, row["path"], made)]


def _port(row: dict[str, Any]) -> str:
    return "lv" if row.get("backend") in pool_place.GROUPS else KIND


# -- what is shown -------------------------------------------------------------------------------------------------


def show(p: dict[str, Any], rows: Any) -> dict[str, Any]:
    name = _retention().named(p["name"], rows["clock"]["utc"]) if "%" in p["name"] else p["name"]
    row = rows["record"].get((KIND, "%s/%s" % (_volume(p), name))) or {}
    there = rows.get(_port(row), {}).get(row.get("path"))
    return {
        "name": name,
        "volume": p["volume"],
        "namespace": p["namespace"],
        "id": row.get("id"),
        "pool": row.get("pool"),
        "path": row.get("path"),
        "size_bytes": row.get("size"),
        "status": ("ready" if there else "error") if row else "absent",
        "created_at": row.get("created_at"),
        "restored": row.get("restored", []),
    }
