# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A filesystem on a device or an image: made once on proved blank, labelled, grown; never over something."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Cell, Unit

KIND, LIST = "filesystem", "filesystems"
OPTIONS: dict[str, Any] = {
    "device": {"type": "raw", "required": True},
    "fstype": {"type": "str", "choices": ["ext4", "xfs", "btrfs", "vfat", "swap"]},
    "label": {"type": "str"},
    "uuid": {"type": "str"},
    "quota": {"type": "list", "elements": "str", "choices": ["project", "user", "group"]},
    "features": {"type": "list", "elements": "str"},
    "grow": {"type": "bool", "default": True},
    "check": {"type": "bool", "default": False},
    "allow_shrink": {"type": "bool", "default": False},
    "wipe_token": {"type": "str", "no_log": False},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}
RULES: dict[str, Any] = {"required_if": [("state", "present", ["fstype"])]}
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9A-F]{4}-[0-9A-F]{4}", re.ASCII)


def label(p: dict[str, Any]) -> str:
    return str(p["device"])


def facts(p: dict[str, Any], look: Any) -> list[tuple[str, Any]]:
    return [("health", names.path(p["device"], "device"))] if p.get("check") and p["state"] == "present" else []


def unit(p: dict[str, Any], look: Any) -> Unit:
    device = names.path(p["device"], "device")
    if facts(p, look):
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import filesystem_check

        filesystem_check.sound(p, device, look)
    cells = (Cell("superblock", device, declared(p) if p["state"] == "present" else None),)
    consents = {
        "wipe_token": p["wipe_token"],
        "allow_shrink": p["allow_shrink"],
        "allow_unstable_device": bool(p.get("allow_unstable_device")),
    }
    return Unit(
        (KIND, device), cells, (("device", device), ("path", device)), (("content", device),), consents=consents
    )


def declared(p: dict[str, Any]) -> dict[str, Any]:
    fstype = p["fstype"]
    value: dict[str, Any] = {"fstype": fstype}
    if p.get("label") is not None:  # the port says which labels and features there are
        value["label"] = p["label"]
    if p.get("uuid") is not None:
        if not _UUID.fullmatch(p["uuid"]):
            raise StorageError("invalid", "uuid %.80r is not a UUID" % p["uuid"], "lower case, as uuidgen prints it")
        value["uuid"] = p["uuid"]
    if p.get("features"):
        value["features"] = tuple(sorted(set(p["features"])))
    if p.get("quota"):
        value["quota"] = tuple(sorted(set(p["quota"])))
    if p.get("grow", True) and fstype not in ("vfat", "swap"):
        value["fills"] = True
    return value


def show(p: dict[str, Any], rows: Any) -> dict[str, Any]:
    found = rows["superblock"].get(names.path(p["device"])) or {}
    health = rows["health"].get(names.path(p["device"]), {}).get("health") if facts(p, rows) else None
    out = {key: found.get(key) for key in ("fstype", "uuid", "label")}
    return {"device": p["device"], **out, "size_bytes": found.get("size"), "health": health}
