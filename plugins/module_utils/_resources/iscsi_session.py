# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A session of this host with an iSCSI target: its record for the boot, the login, and the LUNs that come of it."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Cell, Unit
from ansible_collections.bulkhead.storage.plugins.module_utils._resources.iscsi_target import (
    MOST_LUN,
    WORDS,
    _once,
    iqn,
    portal,
)

KIND, LIST = "iscsi_session", "iscsi_sessions"
_CHAP: dict[str, Any] = {
    "username": {"type": "str", "required": True},
    "password": {"type": "str", "required": True, "no_log": True},
    "mutual_username": {"type": "str"},
    "mutual_password": {"type": "str", "no_log": True},
}
OPTIONS: dict[str, Any] = {
    "target": {"type": "str", "required": True},
    "portals": {"type": "list", "elements": "str"},
    "chap": {"type": "dict", "options": _CHAP},
    "discovery_chap": {"type": "dict", "options": _CHAP},
    "initiator_name": {"type": "str"},
    "startup": {"type": "str", "choices": ["automatic", "manual"]},
    "luns": {"type": "list", "elements": "int"},
    "wait": {"type": "int", "default": 30},
    "state": {
        "type": "str",
        "choices": ["connected", "disconnected", "present", "absent"],
        "default": "connected",
    },
}
RULES: dict[str, Any] = {"required_if": [("state", "connected", ["portals"]), ("state", "present", ["portals"])]}
INITIATOR = "/etc/iscsi/initiatorname.iscsi"
MOST_WAIT = 600


def label(p: dict[str, Any]) -> str:
    return str(p["target"])


def facts(p: dict[str, Any], look: Any) -> list[tuple[str, Any]]:
    """The secrets of a record that are not declared are those to ask a portal with."""
    return [("iscsi_record", iqn(p["target"]))] if p["state"] in ("connected", "present") else []


def unit(p: dict[str, Any], look: Any) -> Unit:
    target, state = iqn(p["target"]), p["state"]
    key, provides = (KIND, target), (("iscsi", target),)
    gone = [Cell("iscsi_record", target, None), Cell("iscsi_session", target, None)]
    if state in ("absent", "disconnected"):
        return Unit(key, tuple(gone[state == "disconnected" :]), (), provides)
    portals = tuple(sorted(map(portal, p["portals"])))
    if not portals:
        raise StorageError("invalid", "a target has a portal", "name one", option="portals")
    _once("portal", list(portals))
    chap = _said(target, p["chap"]) if p["chap"] else None
    record: dict[str, Any] = {"portals": portals}
    if p["startup"] is not None:
        record["startup"] = p["startup"]
    elif not _row(look, "iscsi_record", target):
        record["startup"] = "automatic"
    record.update(chap or {})
    cells = [Cell("iscsi_record", target, record)]
    if p["initiator_name"] is not None:
        name = {"name": iqn(p["initiator_name"], "initiator_name")}
        cells.insert(0, Cell("iscsi_initiator", INITIATOR, name, True))
    if state == "connected":
        cells.append(Cell("iscsi_session", target, _session(p, target, portals, chap, look)))
    return Unit(key, tuple(cells), (), provides)


def _said(target: str, chap: dict[str, Any]) -> dict[str, Any]:
    from ansible_collections.bulkhead.storage.plugins.module_utils._resources import iscsi_target_words

    return dict(iscsi_target_words.chap(target, chap))


def _session(p: dict[str, Any], target: str, portals: tuple[str, ...], chap: Any, look: Any) -> dict[str, Any]:
    luns = p["luns"] or []
    _once("lun", luns)
    for lun in luns:
        if not 0 <= lun <= MOST_LUN:
            raise StorageError("invalid", "lun %d is not in 0..%d" % (lun, MOST_LUN), option="luns")
    if not 1 <= p["wait"] <= MOST_WAIT:
        text = "wait %d is not in 1..%d seconds" % (p["wait"], MOST_WAIT)
        raise StorageError("invalid", text, option="wait")
    value: dict[str, Any] = {"portals": portals, "current": True, **(chap or {})}
    if len(portals) > 1:
        value["multipath"] = True
    record = _row(look, "iscsi_record", target)
    known = chap or {word: record.get(word) for word in WORDS}
    value.update(_luns=tuple(sorted(map(str, luns))), _wait=float(p["wait"]), _chap=known)
    if p["discovery_chap"]:
        value["_discovery"] = _said(target, p["discovery_chap"])
    return value


def _row(look: Any, port: str, target: str) -> dict[str, Any]:
    row = look.look(port, [target]).get(target)
    return row if isinstance(row, dict) else {}


def show(p: dict[str, Any], rows: Any) -> dict[str, Any]:
    row = rows.get("iscsi_session", {}).get(p["target"])
    if not isinstance(row, dict):
        return {"target": p["target"], "sessions": [], "devices": []}
    sessions = [{"portal": each["portal"], "state": each["state"]} for each in row.get("_sessions", {}).values()]
    devices = []
    for number, lun in row["luns"].items() if isinstance(row["luns"], dict) else ():
        device = {name: lun[name] for name in ("path", "by_id", "multipath")}
        devices.append({"lun": int(number), **device, "size_bytes": lun["size"]})
    return {"target": p["target"], "sessions": sessions or [{"portal": each} for each in row["portals"]], "devices": devices}
