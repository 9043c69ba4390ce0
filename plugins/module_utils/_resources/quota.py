# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A limit the kernel enforces. On btrfs a project is a subvolume, on XFS and ext4 an id that directories carry."""

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
FILTERS = {
    "path": {"type": "list", "elements": "path", "required": True},
    "kind": OPTIONS["kind"],
    "name": OPTIONS["name"],
    "id": OPTIONS["id"],
}
RULES: dict[str, Any] = {
    "required_if": [("state", "present", ["soft", "hard", "inodes_soft", "inodes_hard"], True)],
}


def label(p: dict[str, Any]) -> str:
    who = p["name"] if p["id"] is None else p["id"]
    return str(p["path"]) if who is None else "%s %s" % (p["path"], who)


def target_of(p: dict[str, Any], path: str) -> tuple[str, str]:
    """A project is known by its first directory, a user or group by name or number on a filesystem."""
    return ("project" if p["kind"] == "project" else _words().somebody(p), path)


def _words() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._resources import quota_words

    return quota_words


def unit(p: dict[str, Any], look: Any) -> Unit:
    path = names.path(p["path"])
    paths = [path] if p["paths"] is None else _words().paths(p)
    target = target_of(p, paths[0])
    value: Any = None
    if p["state"] == "present":
        value = {}
        for option in ("soft", "hard"):
            if p[option] is not None:
                value[option] = None if p[option] == "none" else size.parse(p[option], option, minimum=4096)
        for option in ("inodes_soft", "inodes_hard"):
            if p[option] is not None:
                value[option] = None if p[option] == "none" else _words().count(p[option], option)
        if p["parent"] is not None:
            value["parent"] = names.path(p["parent"], "parent")
            if value["parent"] == path:
                raise StorageError("invalid", "%s cannot be its own parent" % path, "name another", option="parent")
        if p["grace"] is not None or p["kind"] == "project" and (p["name"], p["id"], p["paths"]) != (None, None, None):
            value.update(_words().about(p, paths))
    needs = tuple(("path", each) for each in paths)
    return Unit((KIND, "%s %s" % target), (Cell("quota", target, value),), needs)


def show(p: dict[str, Any], rows: Any) -> dict[str, Any]:
    target = target_of(p, names.path((p["paths"] or [p["path"]])[0]))
    return describe(target, rows["quota"].get(target))


def describe(target: tuple[str, str], found: Any) -> dict[str, Any]:
    found = found or {}
    limits = {k: found.get(k) for k in ("soft", "hard", "inodes_soft", "inodes_hard")}
    used, hard = found.get("_used_bytes"), found.get("hard")
    name = found.get("name") if target[0] == "project" else target[0].partition(":")[2]
    number = found.get("id", found.get("_id"))
    return {
        "path": target[1],
        "id": number,
        "name": None if name is None or name[:1] == "/" or name.isdigit() else name,
        "limits": limits,
        "grace": found.get("grace"),
        "used_bytes": used,
        "used_inodes": found.get("_used_inodes"),
        "ratio": round(used / hard, 4) if used is not None and hard else None,
        "enforced_by": found.get("_enforced_by"),
    }


def gather(p: dict[str, Any], ports: dict[str, Any]) -> dict[str, Any]:
    """Limits and usage of the paths, in their order. Raises where a path cannot be looked at."""
    found: dict[str, Any] = _words().gather(p, ports["quota"])
    return found
