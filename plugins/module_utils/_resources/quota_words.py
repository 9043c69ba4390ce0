# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only some quotas say: whose they are, their id, for how long a soft limit may be exceeded. And a look."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names, times
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import quota


def somebody(p: dict[str, Any]) -> str:
    """``user:<name or number>`` or ``group:<...>``."""
    if (p["name"] is None) == (p["id"] is None):
        text = "a quota of a %s needs either its name or its id" % p["kind"]
        raise StorageError("invalid", text, "name one", option="name")
    who = str(_id(p["id"])) if p["name"] is None else p["name"]
    if not 1 <= len(who) <= 255 or set(who) & set(": /") or not who.isprintable():
        raise StorageError("invalid", "%s %.80r is no name" % (p["kind"], who), "name one", option="name")
    return "%s:%s" % (p["kind"], str(_id(int(who))) if who.isascii() and who.isdigit() else who)


def paths(p: dict[str, Any]) -> list[str]:
    found = [names.path(each, "paths") for each in p["paths"]]
    if p["kind"] != "project" or not found or len(set(found)) < len(found):
        text = "paths of a quota are the directories of a project, each once"
        raise StorageError("invalid", text, "leave it out", option="paths")
    return found


def about(p: dict[str, Any], charged: list[str]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    if p["grace"] is not None:
        value["grace"] = times.seconds(p["grace"], "grace")
    if p["kind"] == "project":
        if p["name"] is not None:
            value["name"] = names.identifier(p["name"])
        if p["id"] is not None:
            value["id"] = _id(p["id"])
        if len(charged) > 1:
            value["paths"] = charged
    return value


def gather(p: dict[str, Any], port: Any) -> dict[str, Any]:
    targets = [quota.target_of(p, names.path(path)) for path in p["path"]]
    rows = port.scan(targets)
    for target in targets:
        if isinstance(rows.get(target), StorageError):
            raise rows[target].at(target[1])
        if target in port.nowhere:  # which is not the same as being there without a limit
            raise StorageError("not_found", "%s does not exist" % target[1], "name a path that exists")
    return {"quotas": [quota.describe(target, rows.get(target)) for target in targets]}


def count(value: str, what: str) -> int:
    if value.isascii() and value.isdigit() and 1 <= int(value) < 2**63:
        return int(value)
    raise StorageError(
        "invalid", "%s %.80r is not a number of inodes" % (what, value), "an integer or none", option=what
    )


def _id(value: int) -> int:
    if 1 <= value <= 2**32 - 2:
        return value
    text = "id %d is not in 1..4294967294" % value
    raise StorageError("invalid", text, "0 is root, and what belongs to no project", option="id")
