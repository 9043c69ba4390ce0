# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory that NFS clients may mount: declared, persisted and in the table of exportfs(8) are one declaration."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Cell, Unit
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import nfs_export_words as words

KIND, LIST = "nfs_export", "nfs_exports"
OPTIONS: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "clients": {
        "type": "list",
        "elements": "dict",
        "options": {
            "host": {"type": "str", "required": True},
            "options": {"type": "list", "elements": "str"},
        },
    },
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}
RULES: dict[str, Any] = {"required_if": [("state", "present", ["clients"])]}
TABLE = "/etc/exports.d/bulkhead.exports"  # exports(5): what ends in .exports there is read too
LONGEST = 1000  # bytes of a path: nfs-utils has room for 1024


def label(p: dict[str, Any]) -> str:
    return str(p["path"]).rstrip("/") or "/"


def place(p: dict[str, Any]) -> str:
    path = names.path(p["path"])
    problem = "holds a backslash" if "\\" in path else ""  # exportfs(8) reads back another path than it wrote
    if len(names.encode(path)) > LONGEST:
        problem = "is longer than %d bytes" % LONGEST
    if problem:
        text = "path %.300r %s, which exports(5) cannot hold" % (path, problem)
        raise StorageError("invalid", text, "export it by another name, or what is above it", option="path")
    return path


def unit(p: dict[str, Any], look: Any) -> Unit:
    """The line is beneath the live export: who is killed between the two leaves a line, which tells what is ours."""
    path = place(p)
    value = {"clients": words.clients(p["clients"])} if p["state"] == "present" else None
    cells = (Cell("exports", (TABLE, path), value), Cell("exportfs", path, value))
    return Unit((KIND, path), cells, (("path", path),), (("export", path),))


def show(p: dict[str, Any], rows: Any) -> dict[str, Any]:
    path = names.path(p["path"])
    found = rows["exports"].get((TABLE, path)) or {"clients": ()}
    said = [text.rstrip(")").partition("(") for text in found["clients"]]
    clients = [{"host": host, "options": options.split(",") if options else []} for host, _bracket, options in said]
    return {"path": path, "clients": clients}
