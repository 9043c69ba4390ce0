# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pool of a Ceph cluster. What is not declared is not compared, so nothing is ever set that nobody asked for."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import size
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Cell, Unit
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import ceph_access

KIND, LIST = "ceph_pool", "ceph_pools"
OPTIONS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "type": {"type": "str", "choices": ["replicated", "erasure"]},
    "size": {"type": "int"},
    "min_size": {"type": "int"},
    "pg_num": {"type": "int"},
    "autoscale": {"type": "str", "choices": ["on", "off", "warn"]},
    "crush_rule": {"type": "str"},
    "ec_profile": {"type": "str"},
    "ec_overwrites": {"type": "bool"},
    "application": {"type": "list", "elements": "str"},
    "quota_bytes": {"type": "str"},
    "quota_objects": {"type": "str"},
    "compression": {
        "type": "dict",
        "options": {
            "mode": {"type": "str", "choices": ["none", "passive", "aggressive", "force"]},
            "algorithm": {"type": "str", "choices": ["lz4", "snappy", "zlib", "zstd"]},
            "required_ratio": {"type": "float"},
        },
    },
    "namespaces": {"type": "list", "elements": "str"},
    "nodelete": {"type": "bool"},
    "confirm": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    **ceph_access.OPTIONS,
}
FILTERS = {"name": {"type": "str"}, **ceph_access.OPTIONS}
RULES: dict[str, Any] = {}
world = ceph_access.world
_SAID = ("type", "size", "min_size", "autoscale", "ec_overwrites", "nodelete")
_RANGES = {"size": (1, 10), "min_size": (1, 10), "pg_num": (1, 65536)}


def label(p: dict[str, Any]) -> str:
    return str(p["name"])


def unit(p: dict[str, Any], look: Any) -> Unit:
    """Namespaces go with their pool. One that is not declared stays."""
    target = ceph_access.target(p, ceph_access.name(p["name"]))
    value = declared(p) if p["state"] == "present" else None
    cells = [Cell("ceph_pool", target, value)]
    for namespace in dict.fromkeys(p["namespaces"] or ()) if value is not None else ():
        place = "%s/%s" % (p["name"], ceph_access.name(namespace, "namespaces"))
        cells.append(Cell("ceph_namespace", ceph_access.target(p, place), {}))
    provides = ((KIND, str(target)),)
    return Unit((KIND, str(target)), tuple(cells), (), provides, consents={"confirm": p["confirm"]})


def declared(p: dict[str, Any]) -> dict[str, Any]:
    """Only what is said, and that its placement groups are there (``ready``)."""
    for option, (least, most) in _RANGES.items():
        if p[option] is not None and not least <= p[option] <= most:
            raise _invalid(option, p[option], "is not within %d and %d" % (least, most), "")
    value = {option: p[option] for option in _SAID if p[option] is not None}
    if p["pg_num"] is not None:
        value["pg_num"] = _pg_num(p["pg_num"])
    for option in ("crush_rule", "ec_profile"):
        if p[option] is not None:
            value[option] = ceph_access.name(p[option], option)
    if p["ec_profile"] is not None and value.setdefault("type", "erasure") != "erasure":
        raise _invalid("ec_profile", p["ec_profile"], "is for type: erasure", "leave out one of them")
    if value.get("type") == "erasure" and p["size"] is not None:
        raise _invalid("size", p["size"], "is not for type: erasure", "its profile says k and m: leave it out")
    if p["size"] and p["min_size"] and p["min_size"] > p["size"]:
        raise _invalid("min_size", p["min_size"], "is more than size, %d" % p["size"], "the cluster would not write")
    if p["size"] == 1 and p["confirm"] != p["name"]:
        text = "size 1 keeps one copy of the pool %s: what is on a disk is lost with that disk" % p["name"]
        raise StorageError("would_destroy", text, "repeat the task with confirm: %s" % p["name"], option="size")
    if p["application"] is not None:
        value["application"] = tuple(sorted({ceph_access.name(each, "application") for each in p["application"]}))
    if p["quota_bytes"] is not None:
        value["quota_bytes"] = None if p["quota_bytes"] == "none" else size.parse(p["quota_bytes"], "quota_bytes", 4096)
    if p["quota_objects"] is not None:
        value["quota_objects"] = None if p["quota_objects"] == "none" else _count(p["quota_objects"])
    for option, said in (p["compression"] or {}).items():
        if said is not None:
            value["compression_" + option] = said
    if not 0 < value.get("compression_required_ratio", 1) <= 1:
        said = value["compression_required_ratio"]
        raise _invalid("compression.required_ratio", said, "is not above 0 and at most 1", "such as 0.875")
    return {**value, "ready": True}


def _pg_num(number: int) -> int:
    if number & (number - 1):
        above = 1 << number.bit_length()
        hint = "%d or %d: else some placement groups are twice as large as others" % (above // 2, above)
        raise _invalid("pg_num", number, "is not a power of two", hint)
    return number


def _count(text: str) -> int:
    if not text.isdigit() or not text.isascii() or not 0 < int(text) < 1 << 63:
        raise _invalid("quota_objects", text, "is not a number of objects", "a number from 1, or none")
    return int(text)


def _invalid(option: str, value: Any, problem: str, hint: str) -> StorageError:
    return StorageError("invalid", "%s %r %s" % (option, value, problem), hint, option=option)


def show(p: dict[str, Any], rows: Any) -> dict[str, Any]:
    target = ceph_access.target(p, p["name"])
    found = describe(p["cluster"], p["name"], rows["ceph_pool"].get(target))
    there = [each for each in p["namespaces"] or () if "%s/%s" % (target, each) in rows["ceph_namespace"]]
    return {**found, "namespaces": None if p["namespaces"] is None else sorted(there)}


def describe(cluster: str, name: str, row: Any) -> dict[str, Any]:
    row = row or {}
    plain = "type size min_size pg_num autoscale crush_rule ec_profile ec_overwrites quota_bytes quota_objects".split()
    compression = {word: row.get("compression_" + word) for word in ("mode", "algorithm", "required_ratio")}
    return {
        "cluster": cluster,
        "name": name,
        "id": row.get("_id"),
        **{word: row.get(word) for word in (*plain, "nodelete", "ready")},
        "application": list(row.get("application", ())),
        "compression": compression,
    }


def gather(p: dict[str, Any], ports: Any) -> dict[str, Any]:
    """All pools, or the one with that name, and what is in them."""
    access = ceph_access.access(p)
    wanted = None if p["name"] is None else ceph_access.name(p["name"])
    found = ports["ceph_pool"].used(access)
    pools = [
        {**describe(p["cluster"], name, row), **used}
        for name, (row, used) in sorted(found.items())
        if wanted in (None, name)
    ]
    return {"pools": pools}
