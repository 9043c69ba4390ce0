# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories of one root: type, owner, mode, ACL, label, each by file descriptor beneath it."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names, octal
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Cell, Unit

KIND, LIST = "tree", "trees"
OPTIONS: dict[str, Any] = {
    "root": {"type": "path", "required": True},
    "entries": {
        "type": "list",
        "elements": "dict",
        "options": {
            "path": {"type": "str", "required": True},
            "type": {"type": "str", "choices": ["directory", "subvolume", "absent"], "default": "directory"},
            "owner": {"type": "str"},
            "group": {"type": "str"},
            "mode": {"type": "raw"},
            "acl": {"type": "list", "elements": "str"},
            "default_acl": {"type": "list", "elements": "str"},
            "selinux": {
                "type": "dict",
                "options": {"type": {"type": "str", "required": True}, "level": {"type": "str"}},
            },
            "project": {"type": "str"},
        },
    },
    "purge": {"type": "bool", "default": False},
    "confirm": {"type": "path"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}
RULES: dict[str, Any] = {"required_if": [("state", "present", ["entries"])]}


def label(p: dict[str, Any]) -> str:
    return str(p["root"])


def unit(p: dict[str, Any], look: Any) -> Unit:
    root = names.path(p["root"], "root")
    if p["purge"]:
        raise StorageError("unsupported", "purge of a tree is not supported yet", "declare entries of type absent")
    cells, paths = [], [("path", root)]
    confirmed = p["confirm"] is not None and names.path(p["confirm"], "confirm") == root
    for entry in p["entries"] or ():
        where = names.relative(entry["path"])
        path = root if where == "." else names.join(root, where)
        gone = p["state"] == "absent" or entry["type"] == "absent"
        value = None if gone else _value(entry)
        cells.append(Cell("data" if gone and confirmed else "node", path, value))
        paths.append(("path", path))
        if entry["selinux"]:
            said = {key: text for key, text in entry["selinux"].items() if text is not None}
            cells += [Cell("label", path, said)] * (not gone) + [Cell("fcontext", path, None if gone else said)]
    if not cells:
        gone = p["state"] == "absent"
        cells.append(Cell("data" if gone and confirmed else "node", root, None if gone else {"type": "directory"}))
    cells.sort(key=lambda cell: str(cell.target).count("/"))  # parents stand below their children
    consents = {"absent": confirmed, "hint": "repeat the task with confirm: %s to remove it with its content" % root}
    return Unit((KIND, root), tuple(cells), (("path", root),), tuple(paths), consents=consents)


def _value(entry: dict[str, Any]) -> dict[str, Any]:
    if entry.get("project"):
        raise StorageError("unsupported", "project of a tree entry is not supported yet", "leave it out")
    value = {"type": entry["type"]}
    if entry["mode"] is not None:
        value["mode"] = octal.mode(entry["mode"])
    value.update((k, entry[k]) for k in ("owner", "group", "acl", "default_acl") if entry[k] is not None)
    return value


def show(p: dict[str, Any], rows: Any) -> dict[str, Any]:
    root = names.path(p["root"])
    paths = [names.join(root, entry["path"]) for entry in p["entries"] or ()] or [root]
    stands = [path for path in paths if rows["node"].get(path) or rows.get("mounted", {}).get(path)]
    changed = rows["changed"](("node", "mounted", "data", "label"), root)
    return {"counts": {"declared": len(paths), "present": len(stands)}, "changed_paths": changed}
