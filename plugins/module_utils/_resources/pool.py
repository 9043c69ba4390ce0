# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pool of volumes: where they live, what bounds them, how many there may be."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Cell, Unit
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import pool_place

KIND, LIST = "pool", "pools"
OPTIONS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "backend": {
        "type": "str",
        "choices": ["auto", "directory", "loop", "lvm", "btrfs", "nfs", "iscsi", "ceph_rbd", "cephfs", "memory"],
    },
    "config": {
        "type": "dict",
        "options": {
            "path": {"type": "path"},
            "vg": {"type": "str"},
            "thin_pool": {"type": "str"},
            "server": {"type": "str"},
            "export": {"type": "str"},
            "cluster": {"type": "str"},
            "pool_name": {"type": "str"},
            "monitors": {"type": "list", "elements": "str"},
            "user": {"type": "str"},
            "keyring_path": {"type": "path"},
            "namespace": {"type": "str"},
        },
    },
    "max_volume_size": {"type": "str"},
    "max_volumes_per_namespace": {"type": "str"},
    "overcommit": {"type": "raw"},
    "confirm": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}
FILTERS = {"name": {"type": "str"}}
RULES: dict[str, Any] = {"required_if": [("state", "present", ["backend"])]}


def label(p: dict[str, Any]) -> str:
    return str(p["name"])


def facts(p: dict[str, Any], look: Any) -> list[tuple[str, Any]]:
    wanted: list[tuple[str, Any]] = [("record", ("pool", names.identifier(p["name"])))]
    if p["state"] == "present" and p["backend"] in pool_place.GROUPS and (p["config"] or {}).get("vg"):
        wanted.append(("vg", p["config"]["vg"]))
    elif p["state"] == "present" and p["backend"] != "memory" and pool_place.path_of(p):
        wanted.append(("fsinfo", names.path(pool_place.path_of(p), "config.path")))
    return wanted


def unit(p: dict[str, Any], look: Any) -> Unit:
    name = names.identifier(p["name"])
    record = look.look("record", [("pool", name)]).get(("pool", name))
    if isinstance(record, StorageError):
        raise record
    where = ("pool", name)
    if p["state"] == "absent":
        return _absent(p, look, record)
    row = pool_place.declared(p, look, record)
    cells = [Cell("record", where, row)]
    needs: tuple[Any, ...] = ()
    if row["backend"] == "nfs":
        made: Unit = _nfs().mounted(row, look)
        cells += [*pool_place.base(row["path"]), *made.cells]
        return made._replace(key=(KIND, name), cells=tuple(cells), provides=(("pool", name), *made.provides))
    if row["path"]:
        cells += pool_place.base(row["path"])
        cells.append(Cell("node", row["path"], {"type": "directory", "owner": "0", "group": "0", "mode": 0o711}))
        needs = (("path", row["path"]),)
    if "vg" in row:
        needs += (("vg", row["vg"]),)
    return Unit((KIND, name), tuple(cells), needs, (("pool", name),))


def _absent(p: dict[str, Any], look: Any, record: Any) -> Unit:
    name = p["name"]
    provides = (("pool", name),)
    if record is None:
        return Unit((KIND, name), (Cell("record", ("pool", name), None),), provides=provides)
    if p["confirm"] != name:
        raise StorageError(
            "would_destroy", "the pool would go", "repeat the task with confirm: %s" % name, confirm=name
        )
    leaving = [key for (kind, key), other in look.declared.items() if kind == "volume" and other["state"] == "absent"]
    rows = look.look("record", [("volume", key) for key in leaving])
    going = [key for key in leaving if (rows.get(("volume", key)) or {}).get("pool") == name]
    if record.get("_volume_count", 0) > len(going):
        held = [key for key in record.get("_volumes", ()) if key not in going]
        text = "the pool holds %d volumes: %s" % (record["_volume_count"] - len(going), ", ".join(held[:10]))
        raise StorageError("in_use", text, "remove the volumes first", volumes=held)
    cells = [Cell("record", ("pool", name), None)]
    if record["backend"] == "nfs":
        made: Unit = _nfs().mounted(record, look, gone=True)
        return made._replace(key=(KIND, name), cells=(*cells, *made.cells), provides=(*provides, *made.provides))
    if record["path"] and record["path"] != pool_place.DEFAULT["path"]:
        cells.append(Cell("node", record["path"], None))
    return Unit((KIND, name), tuple(cells), (("path", record["path"]),) if record["path"] else (), provides)


def _nfs() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._resources import pool_nfs

    return pool_nfs


def show(p: dict[str, Any], rows: Any) -> dict[str, Any]:
    return describe(p["name"], rows["record"].get(("pool", p["name"])), rows.get("fsinfo", {}), rows.get("vg", {}))


def describe(name: str, row: Any, fsinfo: Any, groups: Any = ()) -> dict[str, Any]:
    row = row or {}
    info = fsinfo.get(row.get("path")) or {}
    lost = isinstance(info, StorageError)  # a file server that is gone, a disk that fails
    info = {} if lost else info
    total, free = info.get("total_bytes"), info.get("free_bytes")
    used = total - free if total is not None and free is not None else None
    if row.get("backend") in pool_place.GROUPS:
        total, used = pool_place.lvm().room(row, dict(groups))
    return {
        "name": name,
        "phase": "error" if lost else "ready" if row else "pending",
        "backend": row.get("backend"),
        "enforced_by": pool_place.ENFORCED.get(row.get("backend", "")),
        "path": row.get("path"),
        "capacity_bytes": total,
        "used_bytes": used,
        "provisioned_bytes": row.get("_provisioned", 0),
        "volumes": row.get("_volume_count", 0),
        "max_volume_size": row.get("max_volume_size"),
        "max_volumes_per_namespace": row.get("max_volumes_per_namespace"),
    }


def gather(p: dict[str, Any], ports: Any) -> dict[str, Any]:
    """Every recorded pool, and the built-in one. What cannot be looked at is in phase ``error``, never left out."""
    records = ports["record"].scan(None)
    volumes = [row for (kind, _key), row in records.items() if kind == "volume"]
    mine = [row for row in volumes if row.get("pool") == "default"]
    sizes = {"_volume_count": len(mine), "_provisioned": sum(row["size"] for row in mine)}
    ours = pool_place.DEFAULT
    pools = {"default": {**ours, **sizes, "backend": mine[0]["backend"] if mine else ours["backend"]}}
    pools.update((key, row) for (kind, key), row in records.items() if kind == "pool")
    if p["name"] is not None:
        pools = {name: row for name, row in pools.items() if name == p["name"]}
    paths = [row["path"] for row in pools.values() if row["path"]]
    vgs = {row["vg"] for row in pools.values() if "vg" in row}
    groups = ports["vg"].scan(vgs) if vgs else {}
    there, facts = ports["node"].scan(paths), ports["fsinfo"].scan(paths)
    found = []
    for name, row in sorted(pools.items()):
        bad = "vg" in row and row["vg"] not in groups
        bad = (
            bad or isinstance(facts.get(row["path"]), StorageError) or isinstance(there.get(row["path"]), StorageError)
        )
        shown = describe(name, row, facts, groups)
        if bad or row["path"] and row["path"] not in there:
            shown["phase"] = "error" if bad or name != "default" or mine else "pending"
        found.append(shown)
    return {"pools": found}
