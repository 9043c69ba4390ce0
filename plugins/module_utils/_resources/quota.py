# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A limit the kernel enforces. On btrfs a project is a subvolume; XFS and ext4 come with their kernels."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names, size
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Cell, Unit

KIND, LIST = "quota", "quotas"
OPTIONS: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "paths": {"type": "list", "elements": "path"},
    "kind": {"type": "str", "choices": ["project", "user", "group"], "default": "project"},
    "name": {"type": "str"},
    "id": {"type": "int"},
    "soft": {"type": "str"},
    "hard": {"type": "str"},
    "inodes_soft": {"type": "str"},
    "inodes_hard": {"type": "str"},
    "grace": {"type": "str"},
    "parent": {"type": "path"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}
FILTERS = {"path": {"type": "list", "elements": "path", "required": True}, "kind": OPTIONS["kind"]}
RULES: dict[str, Any] = {
    "required_if": [("state", "present", ["soft", "hard", "inodes_soft", "inodes_hard"], True)],
}


def label(p: dict[str, Any]) -> str:
    return str(p["path"])


def unit(p: dict[str, Any], look: Any) -> Unit:
    path = names.path(p["path"])
    if p["paths"] not in (None, [path]):
        raise StorageError("unsupported", "paths other than path need project ids", "declare one quota a subvolume")
    for option in ("name", "id", "grace"):
        if p[option] is not None:
            raise StorageError("unsupported", "%s of a quota is not supported yet" % option, "leave it out")
    value: Any = None
    if p["state"] == "present":
        value = {}
        for option in ("soft", "hard"):
            if p[option] is not None:
                value[option] = None if p[option] == "none" else size.parse(p[option], option, minimum=4096)
        for option in ("inodes_soft", "inodes_hard"):
            if p[option] is not None:
                value[option] = None if p[option] == "none" else _count(p[option], option)
        if p["parent"] is not None:
            value["parent"] = names.path(p["parent"], "parent")
            if value["parent"] == path:
                raise StorageError("invalid", "%s cannot be its own parent" % path, "name another", option="parent")
    return Unit((KIND, "%s %s" % (p["kind"], path)), (Cell("quota", (p["kind"], path), value),), (("path", path),))


def _count(value: str, what: str) -> int:
    if value.isascii() and value.isdigit() and 1 <= int(value) < 2**63:
        return int(value)
    raise StorageError(
        "invalid", "%s %.80r is not a number of inodes" % (what, value), "an integer or none", option=what
    )


def show(p: dict[str, Any], rows: Any) -> dict[str, Any]:
    path = names.path(p["path"])
    return describe(path, rows["quota"].get((p["kind"], path)))


def describe(path: str, found: Any) -> dict[str, Any]:
    found = found or {}
    limits = {k: found.get(k) for k in ("soft", "hard", "inodes_soft", "inodes_hard")}
    used, hard = found.get("_used_bytes"), found.get("hard")
    return {
        "path": path,
        "id": found.get("_id"),
        "name": found.get("name"),
        "limits": limits,
        "used_bytes": used,
        "used_inodes": found.get("_used_inodes"),
        "ratio": round(used / hard, 4) if used is not None and hard else None,
        "enforced_by": found.get("_enforced_by"),
    }


def gather(p: dict[str, Any], ports: dict[str, Any]) -> dict[str, Any]:
    """Limits and usage of the paths, in their order. Raises where a path cannot be looked at."""
    targets = [(p["kind"], names.path(path)) for path in p["path"]]
    rows = ports["quota"].scan(targets)
    for target in targets:
        if isinstance(rows.get(target), StorageError):
            raise rows[target].at(target[1])
        if target in ports["quota"].nowhere:  # which is not the same as being there without a limit
            raise StorageError("not_found", "%s does not exist" % target[1], "name a path that exists")
    return {"quotas": [describe(target[1], rows.get(target)) for target in targets]}
