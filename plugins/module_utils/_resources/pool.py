# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pool of volumes: where they live, what bounds them, how many there may be."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names, size
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Cell, Unit

KIND, LIST = "pool", "pools"
BASE = "/var/lib/bulkhead"
JOBS = "/run/bulkhead-jobs"  # what is mounted for jobs
DEFAULT = {"backend": "auto", "path": BASE + "/volumes"}
SNAPSHOTS = ".snapshots"  # their folder in a pool; no namespace begins with a dot
ENFORCED = {"directory": "project_quota", "btrfs": "qgroup", "loop": "block", "lvm": "block", "memory": "tmpfs"}
ENFORCED.update(nfs="project_quota", iscsi="block")
GROUPS = ("lvm", "iscsi")  # their volumes are logical volumes
LATER = ("ceph_rbd", "cephfs")
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
    if p["state"] == "present" and p["backend"] in GROUPS and (p["config"] or {}).get("vg"):
        wanted.append(("vg", p["config"]["vg"]))
    elif p["state"] == "present" and p["backend"] != "memory" and _path(p):
        wanted.append(("fsinfo", names.path(_path(p), "config.path")))
    return wanted


def unit(p: dict[str, Any], look: Any) -> Unit:
    name = names.identifier(p["name"])
    record = look.look("record", [("pool", name)]).get(("pool", name))
    if isinstance(record, StorageError):
        raise record
    where = ("pool", name)
    if p["state"] == "absent":
        return _absent(p, look, record)
    row = declared(p, look, record)
    cells = [Cell("record", where, row)]
    needs: tuple[Any, ...] = ()
    if row["backend"] == "nfs":
        made = _nfs().mounted(row, look)
        cells += [*base(row["path"]), *made.cells]
        return made._replace(key=(KIND, name), cells=tuple(cells), provides=(("pool", name), *made.provides))
    if row["path"]:
        cells += base(row["path"])
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
        made = _nfs().mounted(record, look, gone=True)
        return made._replace(key=(KIND, name), cells=(*cells, *made.cells), provides=(*provides, *made.provides))
    if record["path"] and record["path"] != DEFAULT["path"]:
        cells.append(Cell("node", record["path"], None))
    return Unit((KIND, name), tuple(cells), (("path", record["path"]),) if record["path"] else (), provides)


def shelf() -> Cell:
    """What jobs have mounted is out of everybody's sight."""
    return Cell("node", JOBS, {"type": "directory", "owner": "0", "group": "0", "mode": 0o700}, True)


def base(path: str) -> list[Cell]:
    """Everything of ours lies in one root-only directory."""
    if names.within(path, BASE) and path != BASE:
        return [Cell("node", BASE, {"type": "directory", "owner": "0", "group": "0", "mode": 0o700}, True)]
    return []


def declared(p: dict[str, Any], look: Any, record: Any) -> dict[str, Any]:
    """The row of a pool. What is not declared is left as recorded."""
    backend = p["backend"]
    if backend in LATER:
        raise StorageError("unsupported", "backend %s is not supported yet" % backend, "use directory, loop or btrfs")
    path = _path(p)
    if backend == "memory":
        path = ""
    elif not path:
        raise StorageError(
            "invalid", "config.path is required for backend %s" % backend, "an absolute path", option="config"
        )
    else:
        path = names.path(path, "config.path")
    # on Btrfs only subvolumes can be limited
    if backend == "auto" or backend == "directory" and (record is None or record["backend"] == "btrfs"):
        backend = record["backend"] if record else choose(path, look)
        if (p["backend"], backend) == ("directory", "loop"):
            text = "nothing holds a directory in %s to a size" % path
            raise StorageError("not_enforced", text, "use auto, or mount XFS or ext4 with prjquota", option="backend")
    row: dict[str, Any] = {"backend": backend, "path": path}
    if backend in GROUPS and (record is None or record["backend"] == backend):
        row.update(_lvm().place(p, look, record))
    if backend == "nfs" and (record is None or record["backend"] == backend):
        row.update(_nfs().place(p, record))
    if record and record["backend"] != backend:
        raise StorageError(
            "conflict", "the pool is a %s pool already" % record["backend"], "make a new pool and move volumes"
        )
    if record and record["path"] != path:
        raise StorageError(
            "conflict", "the pool lies at %s already" % record["path"], "make a new pool and move volumes"
        )
    limits = (("max_volume_size", size.parse), ("max_volumes_per_namespace", _count), ("overcommit", _ratio))
    for option, read in limits:
        if p.get(option) == "none":  # lifts it; where there is none, nothing is to be written down
            row.update({option: None} if (record or {}).get(option) is not None else {})
        elif p.get(option) is not None:
            row[option] = read(p[option], option)
    return row


def _count(text: str, what: str) -> int:
    if text.isascii() and text.isdigit() and 1 <= int(text) < 2**63:
        return int(text)
    raise StorageError("invalid", "%s must be at least 1" % what, "a number, or none to lift it", option=what)


def _ratio(value: Any, what: str) -> float:
    if re.fullmatch(r"[0-9]{1,4}(\.[0-9]+)?", str(value), re.ASCII) and 1.0 <= float(value) <= 1000.0:
        return float(value)
    hint = "a ratio such as 2.0, or none to lift it"
    raise StorageError("invalid", "%s %.80r is not in 1..1000" % (what, value), hint, option=what)


def choose(path: str, look: Any) -> str:
    """``auto``: subvolumes or directories where the port ``quota`` can hold them to a size, else loop images."""
    found: Any = covering(path, look)
    if found is None:
        found = look.look("fsinfo", [path]).get(path) or {}
        if isinstance(found, StorageError):
            raise found
        projects = found.get("project_quota")
    else:
        projects = {"prjquota", "pquota"}.intersection(found.get("options") or ())
    return "btrfs" if found.get("fstype") == "btrfs" else "directory" if projects else "loop"


def covering(path: str, look: Any) -> Any:
    """The declared mount that ``path`` will lie on, when this very declaration mounts it."""
    best = None
    for (kind, where), params in look.declared.items():
        deeper = best is None or len(where) > len(best["path"])
        if kind in ("mount", "tmpfs") and params["state"] == "mounted" and names.within(path, where) and deeper:
            best = params
    return best


def _path(p: dict[str, Any]) -> str:
    mounts = p["backend"] in (*GROUPS, "nfs")  # its volumes, or its export
    own = "%s/pools/%s" % (BASE, p["name"]) if mounts else ""
    return (p.get("config") or {}).get("path") or (DEFAULT["path"] if p["name"] == "default" else own)


def _lvm() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._resources import pool_lvm

    return pool_lvm


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
    if row.get("backend") in GROUPS:
        total, used = _lvm().room(row, dict(groups))
    return {
        "name": name,
        "phase": "error" if lost else "ready" if row else "pending",
        "backend": row.get("backend"),
        "enforced_by": ENFORCED.get(row.get("backend", "")),
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
    pools = {"default": {**DEFAULT, **sizes, "backend": mine[0]["backend"] if mine else DEFAULT["backend"]}}
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


def known(name: str, look: Any) -> dict[str, Any]:
    """The pool a volume names: declared beside it, recorded, or the built-in default. Raises ``not_found``."""
    record = look.look("record", [("pool", name)]).get(("pool", name))
    if isinstance(record, StorageError):
        raise record
    params = look.declared.get(("pool", name))
    if params is not None and params["state"] == "absent":
        raise StorageError("conflict", "pool %s is declared absent beside it" % name, "declare one of them", pool=name)
    if params is not None:
        return {**(record or {}), **declared(params, look, record)}
    if record is not None:
        return dict(record)
    if name == "default":
        return {"backend": choose(DEFAULT["path"], look), "path": DEFAULT["path"]}
    raise StorageError(
        "not_found", "there is no pool %r" % name, "declare it in pools, or with the pool module", pool=name
    )
