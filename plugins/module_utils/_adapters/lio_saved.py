# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``targetctl restore`` makes of a target at boot: its part of saveconfig.json (targetctl(8), rtslib-fb)."""

from __future__ import annotations

import json
import os
from typing import Any, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lio_target import DEMO, canonical, ours
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import REVERSIBLE, Secret, met, state_of

# the file of Debian and of others, and the units that restore it
PLACES = {
    "/etc/rtslib-fb-target/saveconfig.json": "rtslib-fb-targetctl.service",
    "/etc/target/saveconfig.json": "target.service",
}
_UNITS = ("/usr/lib/systemd/system/", "/lib/systemd/system/", "/etc/systemd/system/")
CHAP = {
    "username": "chap_userid",
    "password": "chap_password",
    "mutual_username": "chap_mutual_userid",
    "mutual_password": "chap_mutual_password",
}
PLUGINS = {"fileio": "fileio", "iblock": "block"}  # as the kernel calls it, and as the file does
_NAMES = {theirs: ours for ours, theirs in PLUGINS.items()}
EMPTY: dict[str, Any] = {"storage_objects": [], "targets": []}  # rtslib always writes more: this one is ours


def place() -> str | None:
    """The file that this host restores, None where it restores none."""
    for file, unit in PLACES.items():
        if any(os.path.exists(folder + unit) for folder in _UNITS):
            return file
    return next((file for file in PLACES if os.path.exists(file)), None)


class LioSaved:
    """Port ``lio_saved``: IQN -> the same as ``lio_target``, as it will be after a reboot."""

    name, behind, slow = "lio_saved", False, False

    def __init__(self, file: str | None = None) -> None:
        self.given = file

    @property
    def file(self) -> str | None:
        return self.given or place()

    def scan(self, targets: Iterable[str] | None = None) -> dict[str, Any]:
        document = load(self.file)
        if targets is None:
            targets = [str(each.get("wwn")) for each in document["targets"]]
        rows = {target: value(document, target, self.file) for target in targets}
        return {target: row for target, row in rows.items() if row is not None}

    def same(self, target: str, now: Any, declared: Any) -> bool:
        return met(now, declared)

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: str, before: Any, after: Any) -> str:
        return REVERSIBLE

    def refuse(self, target: str, before: Any, after: Any, gone: Any) -> StorageError | None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import lio_savedchange

        return lio_savedchange.refuse(self.file, target, before, after)

    def put(self, target: str, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import lio_savedchange

        lio_savedchange.put(self.file, target, state_of(before), state_of(after))


def load(file: str | None) -> dict[str, Any]:
    """The document; one that is missing is empty. What is not understood is never written over."""
    try:
        with open(file or "", "rb") as stream:
            document = json.loads(stream.read().decode("utf-8"))
        parts = [document.get(part, []) for part in EMPTY]
        if not all(isinstance(part, list) and all(isinstance(each, dict) for each in part) for part in parts):
            raise ValueError("it has no list of targets")
    except FileNotFoundError:
        return {part: [] for part in EMPTY}
    except OSError as error:
        raise failure(error, "cannot read %s" % file) from error
    except (ValueError, AttributeError) as error:
        raise _strange(file) from error
    for part in EMPTY:
        document.setdefault(part, [])
    return dict(document)


def _strange(file: str | None) -> StorageError:
    """Without a word of what is there, which may be a secret."""
    return StorageError("unreadable", "%s is not what targetctl writes" % file, "look at it, or move it away")


def value(document: dict[str, Any], target: str, file: str | None) -> Any:
    """What the file says of a target, None where it says nothing."""
    try:
        return _value(document, target)
    except (AttributeError, TypeError, ValueError) as error:
        raise _strange(file) from error


def _value(document: dict[str, Any], target: str) -> Any:
    found = [each for each in document["targets"] if mine(each, target)]
    objects = {location(each): each for each in document["storage_objects"]}
    left = {spot for spot, each in objects.items() if our_object(each, target)}
    if not found and not left:
        return None
    groups = found[0].get("tpgs", []) if found else []
    group: dict[str, Any] = next((each for each in groups if each.get("tag") == 1), {})
    attributes, luns = group.get("attributes", {}), {}
    for lun in group.get("luns", []):
        spot = str(lun.get("storage_object"))
        left.discard(spot)
        luns[str(lun.get("index"))] = _lun(objects.get(spot, {}))
    return {
        "luns": dict(sorted(luns.items(), key=lambda each: each[0].zfill(5))),
        "portals": tuple(sorted(map(_portal, group.get("portals", [])))),
        "initiators": {str(acl.get("node_wwn")): _initiator(acl) for acl in group.get("node_acls", [])},
        "authentication": attributes.get("authentication", 1) in (1, "1"),
        "demo_mode": any(attributes.get(name, 0) in (1, "1") for name in DEMO),
        "enabled": bool(group) and bool(group.get("enable", True)),
        "leftover": tuple(sorted(left)),
        "_groups": [each.get("tag") for each in groups if each.get("tag") != 1],
    }


def mine(entry: dict[str, Any], target: str) -> bool:
    return entry.get("wwn") == target and entry.get("fabric") == "iscsi"


def our_object(entry: dict[str, Any], target: str) -> bool:
    return ours(str(entry.get("name")))[0] == target


def location(entry: dict[str, Any]) -> str:
    return "/backstores/%s/%s" % (entry.get("plugin"), entry.get("name"))


def _lun(entry: dict[str, Any]) -> dict[str, Any]:
    plugin = _NAMES.get(str(entry.get("plugin")), entry.get("plugin"))
    size = entry.get("size") if plugin == "fileio" else None
    return {"plugin": plugin, "path": entry.get("dev"), "size": size, "serial": entry.get("wwn")}


def _portal(entry: dict[str, Any]) -> str:
    return canonical("%s:%s" % (entry.get("ip_address"), entry.get("port")))


def _initiator(acl: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for word, key in CHAP.items():
        text = acl.get(key)
        found[word] = (Secret(str(text)) if "password" in word else text) if text else None
    seen = []
    for lun in acl.get("mapped_luns", []):
        number, goal = str(lun.get("index")), str(lun.get("tpg_lun"))
        said = number if number == goal else "%s is %s" % (number, goal)
        seen.append(said + " read-only" if lun.get("write_protect") else said)
    own = acl.get("attributes", {}).get("authentication", -1)
    found.update(luns=tuple(sorted(seen, key=lambda each: each.zfill(5))), own_rule=None if own == -1 else str(own))
    return found
