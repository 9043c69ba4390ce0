# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where volumes lie: what they, jobs and snapshots have to know of a pool."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names, size
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Cell

BASE = "/var/lib/bulkhead"
JOBS = "/run/bulkhead-jobs"  # what is mounted for jobs
DEFAULT = {"backend": "auto", "path": BASE + "/volumes"}
SNAPSHOTS = ".snapshots"  # their folder in a pool; no namespace begins with a dot
ENFORCED = {"directory": "project_quota", "btrfs": "qgroup", "loop": "block", "lvm": "block", "memory": "tmpfs"}
ENFORCED.update(nfs="project_quota", iscsi="block")
GROUPS = ("lvm", "iscsi")  # their volumes are logical volumes
LATER = ("ceph_rbd", "cephfs")


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
    path = path_of(p)
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
        row.update(lvm().place(p, look, record))
    if backend == "nfs" and (record is None or record["backend"] == backend):
        row.update(_served(p, record))
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


def _served(p: dict[str, Any], record: Any) -> dict[str, str]:
    """``server`` and ``export`` of a pool of NFS, which are for life."""
    config = p.get("config") or {}
    for option in ("server", "export"):
        if not config.get(option):
            text = "config.%s is required for backend nfs" % option
            raise StorageError("invalid", text, "what nfs_mount takes", option="config")
        if record and record[option] != config[option]:
            text = "the pool has %s %s already" % (option, record[option])
            raise StorageError("conflict", text, "make a new pool and move volumes", option="config")
    return {option: config[option] for option in ("server", "export")}


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


def path_of(p: dict[str, Any]) -> str:
    mounts = p["backend"] in (*GROUPS, "nfs")  # its volumes, or its export
    own = "%s/pools/%s" % (BASE, p["name"]) if mounts else ""
    return (p.get("config") or {}).get("path") or (DEFAULT["path"] if p["name"] == "default" else own)


def lvm() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._resources import pool_lvm

    return pool_lvm


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
