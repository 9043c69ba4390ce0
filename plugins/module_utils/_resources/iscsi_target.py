# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An iSCSI target of this host: what it serves, where it listens, and who may log in."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names, size
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN, Cell, Unit

KIND, LIST = "iscsi_target", "iscsi_targets"
_CHAP: dict[str, Any] = {
    "username": {"type": "str", "required": True},
    "password": {"type": "str", "required": True, "no_log": True},
    "mutual_username": {"type": "str"},
    "mutual_password": {"type": "str", "no_log": True},
}
_LUN: dict[str, Any] = {
    "lun": {"type": "int", "required": True},
    "device": {"type": "path"},
    "file": {"type": "path"},
    "size": {"type": "str"},
}
_INITIATOR: dict[str, Any] = {
    "iqn": {"type": "str", "required": True},
    "chap": {"type": "dict", "options": _CHAP},
}
OPTIONS: dict[str, Any] = {
    "target": {"type": "str", "required": True},
    "portals": {"type": "list", "elements": "str"},
    "luns": {
        "type": "list",
        "elements": "dict",
        "options": _LUN,
        "mutually_exclusive": [("device", "file"), ("device", "size")],
    },
    "initiators": {"type": "list", "elements": "dict", "options": _INITIATOR},
    "persist": {"type": "bool", "default": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}
RULES: dict[str, Any] = {"required_if": [("state", "present", ["luns"])]}
PORTAL = "0.0.0.0:3260"
WORDS = ("username", "password", "mutual_username", "mutual_password")
MOST_LUN = 65535  # of rtslib, which brings them back
MOST_NAME, MOST_PATH = 223, 255  # RFC 7143; FD_MAX_DEV_NAME of the kernel
# RFC 7143 4.2.7, RFC 3722; a month is one
_IQN = re.compile(
    r"iqn\.[0-9]{4}-(0[1-9]|1[0-2])\.[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[a-z0-9.:-]+)?"
    r"|eui\.[0-9a-f]{16}|naa\.[0-9a-f]{16}([0-9a-f]{16})?",
    re.ASCII,
)
_PORTAL = re.compile(r"(\[[0-9a-f:.]+\]|[0-9.]+)(?::([1-9][0-9]{0,4}))?", re.ASCII | re.IGNORECASE)


def label(p: dict[str, Any]) -> str:
    return str(p["target"])


def iqn(value: Any, what: str = "target") -> str:
    if isinstance(value, str) and len(value) <= MOST_NAME and _IQN.fullmatch(value) and ".." not in value:
        return value
    lower = isinstance(value, str) and value != value.lower()
    hint = "write it in lower case" if lower else "such as iqn.2026-01.org.example:disks, at most 223 characters"
    raise StorageError("invalid", "%s %.250r is no name of iSCSI" % (what, value), hint, option=what)


def portal(value: Any) -> str:
    """``10.0.0.1:3260``, ``[fe80::1]:3260``: one spelling of an address and its port."""
    found = _PORTAL.fullmatch(value) if isinstance(value, str) else None
    try:
        if found is None or int(found.group(2) or 3260) > 65535:
            raise ValueError
        host = found.group(1)
        address = ipaddress.ip_address(host.strip("[]"))
        if (address.version == 6) != (host[0] == "["):
            raise ValueError
    except ValueError:
        hint = "an address and a port, such as 10.0.0.1:3260 or [2001:db8::1]:3260"
        raise StorageError("invalid", "portal %.100r is none" % (value,), hint, option="portals") from None
    return ("[%s]:%s" if address.version == 6 else "%s:%s") % (address, found.group(2) or 3260)


def _words() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._resources import iscsi_target_words

    return iscsi_target_words


def facts(p: dict[str, Any], look: Any) -> list[tuple[str, Any]]:
    """What is served already keeps its serial number, and what was never served may be made."""
    target = iqn(p["target"])
    if p["state"] == "absent":
        return [("lio_target", target)]
    paths = [names.path(lun["file"], "file") for lun in p["luns"] if lun["file"] is not None]
    return [("lio_target", target), ("lio_saved", target), *(("lio_backing", path) for path in paths)]


def unit(p: dict[str, Any], look: Any) -> Unit:
    target = iqn(p["target"])
    if p["state"] == "absent":
        served = [lun["path"] for lun in _row(look, "lio_target", target)["luns"].values()]
        on = tuple((kind, path) for path in served for kind in ("path", "device"))  # it goes before what it stands on
        return Unit((KIND, target), (Cell("lio_target", target, None), Cell("lio_saved", target, None)), on)
    live, saved = (_row(look, port, target) for port in ("lio_target", "lio_saved"))
    luns: dict[str, Any] = {}
    cells: list[Cell] = []
    needs: list[tuple[str, str]] = []
    for lun in sorted(p["luns"], key=lambda each: int(each["lun"])):
        number, path, wanted = _lun(target, lun, look)
        had = [row["luns"].get(number, {}) for row in (live, saved)]
        serials = [str(each["serial"]) for each in had if each.get("path") == path and each.get("serial")]
        luns[number] = {**wanted, "serial": (serials or [serial(target, number)])[0]}
        needs.append(("path", path))
        if lun["file"] is None:  # a given, that nothing here makes
            needs.append(("device", path))
            _words().alone(KIND, path, target, look)
            continue
        known = {each.get("path") for row in (live, saved) for each in row["luns"].values()}
        backing = {"type": "file", "size": size_of(lun), "_known": path in known}
        cells.append(Cell("lio_backing", path, backing))
    _once("lun", [lun["lun"] for lun in p["luns"]])
    _once("file or device", [lun["path"] for lun in luns.values()])
    portals = sorted(map(portal, p["portals"])) if p["portals"] else []
    _once("portal", portals)
    if p["portals"] == []:
        raise StorageError(
            "invalid", "a target listens somewhere", "leave portals out for %s" % PORTAL, option="portals"
        )
    initiators = _initiators(p["initiators"] or [], tuple(luns))
    value = {
        "luns": luns,
        "portals": tuple(portals or live["portals"] or saved["portals"] or [PORTAL]),
        "initiators": initiators,
        "authentication": any(each["username"] for each in initiators.values()),
        "demo_mode": False,
        "enabled": True,
        "leftover": (),
    }
    cells += [Cell("lio_target", target, value), Cell("lio_saved", target, value if p["persist"] else None)]
    consents = {"allow_unstable_device": bool(p.get("allow_unstable_device"))}
    return Unit((KIND, target), tuple(cells), tuple(needs), consents=consents)


def _row(look: Any, port: str, target: str) -> dict[str, Any]:
    row = look.look(port, [target]).get(target)
    return row if isinstance(row, dict) else {"luns": {}, "portals": ()}


def serial(target: str, number: str) -> str:
    """The same for the same LUN of the same target, wherever and whenever it is made: initiators know it by that."""
    return hashlib.sha256(("bulkhead.storage %s %s" % (target, number)).encode()).hexdigest()[:32]


def size_of(lun: dict[str, Any]) -> Any:
    return UNKNOWN if lun["size"] is None else size.parse(lun["size"], "size", 512, unit=512)


def _lun(target: str, lun: dict[str, Any], look: Any) -> tuple[str, str, dict[str, Any]]:
    number = lun["lun"]
    if not 0 <= number <= MOST_LUN:
        raise StorageError("invalid", "lun %d is not in 0..%d" % (number, MOST_LUN), option="lun")
    if lun["device"] is None and lun["file"] is None:
        raise StorageError("invalid", "LUN %d has neither device nor file" % number, "name one", option="luns")
    what = "file" if lun["file"] is not None else "device"
    path = names.path(lun[what], what)
    if "," in path or len(names.encode(path)) > MOST_PATH:
        text = "%s %.300r cannot be told to the kernel" % (what, path)
        raise StorageError("invalid", text, "at most %d bytes, and no comma" % MOST_PATH, option=what)
    system = [each for each in ("/dev", "/proc", "/sys") if names.within(path, each)]
    if (what == "device") != (system == ["/dev"]):
        raise StorageError("invalid", "%s is no %s" % (path, what), "devices lie in /dev, files do not", option=what)
    if what == "device":
        return str(number), path, {"plugin": "iblock", "path": path, "size": None}
    wanted = size_of(lun)
    row = look.look("lio_backing", [path]).get(path)
    if wanted is UNKNOWN and isinstance(row, dict) and row["type"] == "file":
        wanted = row["size"] // 512 * 512
    return str(number), path, {"plugin": "fileio", "path": path, "size": wanted}


def _initiators(given: list[dict[str, Any]], luns: tuple[str, ...]) -> dict[str, Any]:
    found = {}
    _once("initiator", [each["iqn"] for each in given])
    for each in given:
        name, chap = iqn(each["iqn"], "iqn"), each["chap"]
        found[name] = {**(_words().chap(name, chap) if chap else dict.fromkeys(WORDS)), "luns": luns, "own_rule": None}
    if len({each["username"] is None for each in found.values()}) > 1:
        text = "some initiators have chap and some have none"
        raise StorageError("invalid", text, "give it to all of them, or use two targets", option="initiators")
    return dict(sorted(found.items()))


def _once(what: str, values: list[Any]) -> None:
    twice = sorted({str(each) for each in values if values.count(each) > 1})
    if twice:
        raise StorageError("invalid", "%s %s is there twice" % (what, ", ".join(twice)), "name it once", option=what)


def show(p: dict[str, Any], rows: Any) -> dict[str, Any]:
    row = rows.get("lio_target", {}).get(p["target"]) or {"luns": {}, "initiators": {}, "portals": (), "_sessions": []}
    luns = []
    for number, lun in row["luns"].items():
        what = "device" if lun["plugin"] == "iblock" else "file"
        size_bytes = None if lun["size"] is UNKNOWN else lun["size"]
        luns.append({"lun": int(number), what: lun["path"], "size_bytes": size_bytes, "serial": lun["serial"]})
    sessions = row.get("_sessions", ())
    initiators = [
        {"iqn": name, "chap": each["username"] is not None, "logged_in": name in sessions}
        for name, each in row["initiators"].items()
    ]
    return {"target": p["target"], "portals": list(row["portals"]), "luns": luns, "initiators": initiators}
