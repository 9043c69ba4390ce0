# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a volume held at one moment: kept beside it in its pool, where nobody but root comes, and recorded."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Cell, Unit

KIND, LIST = "snapshot", "snapshots"
HOME = ".snapshots"  # no namespace begins with a dot
TYPES = {"btrfs": "subvolume", "directory": "directory", "loop": "file"}
OPTIONS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "volume": {"type": "str", "required": True},
    "namespace": {"type": "str", "default": "default"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}
RULES: dict[str, Any] = {}


def label(p: dict[str, Any]) -> str:
    return "%s/%s/%s" % (p["namespace"], p["volume"], p["name"])


def facts(p: dict[str, Any], look: Any) -> list[tuple[str, Any]]:
    whose = _volume(p)
    names.identifier(p["name"])
    return [("record", ("volume", whose)), ("record", (KIND, label(p)))]


def unit(p: dict[str, Any], look: Any) -> Unit:
    key, whose = label(p), _volume(p)
    row = look.look("record", [(KIND, key)]).get((KIND, key))
    if isinstance(row, StorageError):
        raise row
    gone = p["state"] == "absent"
    if row is None and gone:
        return Unit((KIND, key), (Cell("record", (KIND, key), None),), (("volume", whose),))
    volume = _found(whose, look, gone)
    made = row or recorded(p["name"], p["namespace"], whose, volume)
    cells = tuple(body(key, made, volume, gone))
    needs = (("volume", whose), ("above", made["path"]))
    return Unit((KIND, key), cells, needs, ((KIND, key),), consents={"absent": gone})


def _volume(p: dict[str, Any]) -> str:
    return "%s/%s" % (names.identifier(p["namespace"], "namespace"), names.identifier(p["volume"], "volume"))


def _found(whose: str, look: Any, gone: bool) -> dict[str, Any]:
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


def recorded(name: str, namespace: str, whose: str, volume: dict[str, Any]) -> dict[str, Any]:
    """What the catalogue will hold of a new snapshot."""
    backend = volume["backend"]
    if backend == "memory":
        text = "volume %s is in memory: it has no snapshots" % whose
        raise StorageError("unsupported", text, "copy its files, or use a volume of a pool")
    if backend != "btrfs":
        text = "snapshots of volumes of backend %s are not supported yet" % backend
        raise StorageError("unsupported", text, "use a pool with backend: btrfs")
    home = volume["path"][: -len("/" + whose)]
    path = names.join(home, HOME, whose, name) + (".img" if backend == "loop" else "")
    return {"pool": volume["pool"], "backend": backend, "path": path, "size": volume["size"]}


def body(key: str, row: dict[str, Any], volume: dict[str, Any], gone: bool) -> list[Cell]:
    """Its record stands at the bottom, so that whatever exists is always known."""
    if gone:
        return [Cell("record", (KIND, key), None), Cell(KIND, row["path"], None)]
    made = {"type": TYPES[row["backend"]], "read_only": True}
    made["source"] = volume["path"] + (".img" if row["backend"] == "loop" else "")
    home = row["path"].partition("/%s/" % HOME)[0]
    root = {"type": "directory", "owner": "0", "group": "0", "mode": 0o700, "_implied": True}
    folder = Cell("node", names.join(home, HOME), root, True)
    return [Cell("record", (KIND, key), row), folder, Cell(KIND, row["path"], made)]


# -- what is shown -------------------------------------------------------------------------------------------------


def show(p: dict[str, Any], rows: Any) -> dict[str, Any]:
    key = label(p)
    row = rows["record"].get((KIND, key)) or {}
    there = rows.get(KIND, {}).get(row.get("path"))
    return {
        "name": p["name"],
        "volume": p["volume"],
        "namespace": p["namespace"],
        "id": row.get("id"),
        "pool": row.get("pool"),
        "path": row.get("path"),
        "size_bytes": row.get("size"),
        "status": ("ready" if there else "error") if row else "absent",
        "created_at": row.get("created_at"),
    }
