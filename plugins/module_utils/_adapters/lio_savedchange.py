# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing a target's part of saveconfig.json; what the file says of anything else stays. Loaded where it differs."""

from __future__ import annotations

import contextlib
import copy
import json
import os
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import atomic, lio_saved
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import met, state_of

# by what an entry of a list is known
_KEYS: dict[str, tuple[str, ...]] = {"tpgs": ("tag",), "luns": ("index",), "mapped_luns": ("index",)}
_KEYS.update(node_acls=("node_wwn",), portals=("ip_address", "port"))


def refuse(file: str | None, target: str, before: Any, after: Any) -> StorageError | None:
    if before is not None and before["_groups"]:
        text = "%s has other portal groups in %s: %s" % (target, file, before["_groups"])
        return StorageError("conflict", text, "they are not ours: remove them by hand")
    if after is None or file:
        return None
    text = "nothing on this host brings iSCSI targets back after a reboot"
    hint = "install targetcli-fb (Debian) or targetcli, or say persist: false"
    return StorageError("missing_tool", text, hint, option="persist")


def put(file: str | None, target: str, before: Any, after: Any) -> None:
    if file is None:
        raise StorageError("missing_tool", "nothing on this host restores iSCSI targets")
    old = lio_saved.load(file)
    if state_of(lio_saved.value(old, target, file)) != before:
        raise StorageError("moved", "%s changed in %s since it was read" % (target, file), "run it again")
    new = changed(old, target, after)
    found, others = lio_saved.value(new, target, file), [_others(each, target) for each in (old, new)]
    if (found is None) != (after is None) or (after and not met(found, after)) or others[0] != others[1]:
        raise StorageError("failed", "%s would not read back as meant; nothing was written" % file)
    if new == lio_saved.EMPTY:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(file)
        return
    folder = os.path.dirname(file)
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise failure(error, "cannot make " + folder) from error
    text = json.dumps(new, sort_keys=list(new) == sorted(new), indent=2) + "\n"  # as rtslib writes it
    atomic.replace(file, text.encode(), mode=0o600)


def changed(old: dict[str, Any], target: str, after: Any) -> dict[str, Any]:
    """The document with our target as it shall be; what it says of it beside that stays too."""
    new = copy.deepcopy(old)
    had = next((each for each in new["targets"] if lio_saved.mine(each, target)), None)
    objects = {lio_saved.location(each): each for each in new["storage_objects"]}
    served = {number: spot for number, spot in _served(had).items() if spot in objects}
    gone = {spot for spot, each in objects.items() if lio_saved.our_object(each, target)}
    if after is None:
        new["targets"] = [each for each in new["targets"] if each is not had]
    else:
        for number, lun in after["luns"].items():
            plugin = lio_saved.PLUGINS[lun["plugin"]]
            spot = served.get(number, "/backstores/%s/%s:lun%s" % (plugin, target, number))
            if spot not in objects:
                objects[spot] = {"name": "%s:lun%s" % (target, number)}
                new["storage_objects"].append(objects[spot])
            objects[spot].update(_object(lun, plugin))
            served[number] = lio_saved.location(objects[spot])
            gone -= {spot, served[number]}
        entry = _target(target, after, served)
        if had is None:
            new["targets"].append(entry)
        else:
            new["targets"][new["targets"].index(had)] = _over(had, entry)
    elsewhere = {spot for each in new["targets"] if not lio_saved.mine(each, target) for spot in _served(each).values()}
    gone -= elsewhere
    new["storage_objects"] = [each for each in new["storage_objects"] if lio_saved.location(each) not in gone]
    return new


def _served(entry: dict[str, Any] | None) -> dict[str, str]:
    luns = [lun for group in (entry or {}).get("tpgs", []) for lun in group.get("luns", [])]
    return {str(lun.get("index")): str(lun.get("storage_object")) for lun in luns}


def _object(lun: dict[str, Any], plugin: str) -> dict[str, Any]:
    said = {"plugin": plugin, "dev": lun["path"], "wwn": lun["serial"], "write_back": False}
    return {**said, "size": lun["size"]} if plugin == "fileio" else {**said, "readonly": False}


def _target(target: str, after: dict[str, Any], served: dict[str, str]) -> dict[str, Any]:
    acls = []
    for initiator, wanted in after["initiators"].items():
        secrets = {lio_saved.CHAP[word]: wanted[word] for word in lio_saved.CHAP if wanted[word] is not None}
        shown = {key: text if isinstance(text, str) else text.reveal() for key, text in secrets.items()}
        rule = {"authentication": -1 if wanted["own_rule"] is None else int(wanted["own_rule"])}
        maps = [
            {"alias": "bulkhead", "index": int(n), "tpg_lun": int(n), "write_protect": False} for n in wanted["luns"]
        ]
        acls.append({"attributes": rule, "mapped_luns": maps, "node_wwn": initiator, **shown})
    luns = [{"alias": "bulkhead", "index": int(n), "storage_object": served[n]} for n in after["luns"]]
    portals = []
    for portal in after["portals"]:
        host, _colon, port = portal.rpartition(":")
        portals.append({"ip_address": host, "iser": False, "offload": False, "port": int(port)})
    group = {
        "attributes": {
            "authentication": int(after["authentication"]),
            "generate_node_acls": int(after["demo_mode"]),
            "cache_dynamic_acls": int(after["demo_mode"]),
        },
        "enable": after["enabled"],
        "luns": luns,
        "node_acls": acls,
        "parameters": {},
        "portals": portals,
        "tag": 1,
    }
    return {"fabric": "iscsi", "parameters": {}, "tpgs": [group], "wwn": target}


def _over(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """``new``, and beside it what only ``old`` says; but no secret that is no longer one."""
    found = {key: each for key, each in old.items() if key not in lio_saved.CHAP.values()}
    for key, each in new.items():
        if isinstance(each, dict) and isinstance(old.get(key), dict):
            each = _over(old[key], each)
        elif key in _KEYS and isinstance(old.get(key), list):
            had = {tuple(one.get(k) for k in _KEYS[key]): one for one in old[key] if isinstance(one, dict)}
            each = [_over(had.get(tuple(one[k] for k in _KEYS[key]), {}), one) for one in each]
        found[key] = each
    return found


def _others(document: dict[str, Any], target: str) -> list[Any]:
    """All of a document that is not about the target."""
    entry = next((each for each in document["targets"] if lio_saved.mine(each, target)), None)
    served = set(_served(entry).values())
    rest = [each for each in document["targets"] if not lio_saved.mine(each, target)]
    objects = [
        each
        for each in document["storage_objects"]
        if not lio_saved.our_object(each, target) and lio_saved.location(each) not in served
    ]
    return [rest, objects, {key: each for key, each in document.items() if key not in lio_saved.EMPTY}]
