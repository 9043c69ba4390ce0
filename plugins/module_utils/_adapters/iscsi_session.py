# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port of iSCSI sessions of this host, read from sysfs (scsi_transport_iscsi). The effects: iscsi_sessionchange.

Beneath ``iscsi_session`` each session tells its target and secrets, beneath ``iscsi_connection`` its portal as it was
asked for (``persistent_address``; a target may send the login elsewhere), and its device holds the disks.
"""

from __future__ import annotations

import errno
import os
import re
from typing import Any, Callable, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.iscsi_record import canonical
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import REVERSIBLE, UNKNOWN, Secret

SESSIONS, CONNECTIONS = "/sys/class/iscsi_session", "/sys/class/iscsi_connection"
AUTH = (
    ("username", "username"),
    ("password", "password"),
    ("mutual_username", "username_in"),
    ("mutual_password", "password_in"),
)
_GONE = (errno.ENOENT, errno.ENODEV, errno.ENOTDIR, errno.ENOTCONN)
_BY_ID = re.compile(r"/dev/disk/by-id/(wwn-|scsi-[0-9SE])")


class IscsiSession:
    """Port ``iscsi_session``: IQN -> its ``portals`` that are logged in, the words of CHAP, ``luns``, and of those
    whether they are maps (``multipath``) and have the size that the target says (``current``).

    ``luns``: number -> ``{path, by_id, multipath, size}``. A door onto those.
    """

    name, behind, slow = "iscsi_session", False, True

    def __init__(self, run: Callable[..., Any] | None = None, root: str = "/sys") -> None:
        self.run, self.root = run, root
        self.declared: dict[str, Any] = {}

    # -- what is there ---------------------------------------------------------------------------------------------

    def scan(self, targets: Iterable[str] | None = None) -> dict[str, Any]:
        found: dict[str, list[dict[str, Any]]] = {}
        for session in self.sessions():
            found.setdefault(session["target"], []).append(session)
        wanted = found if targets is None else [target for target in targets if target in found]
        rows: dict[str, Any] = {}
        for target in wanted:
            try:
                rows[target] = self._row(found[target])
            except StorageError as error:
                rows[target] = error
        return rows

    def sessions(self) -> list[dict[str, Any]]:
        """Each with its number, host, target, portal, state and secrets."""
        sessions, found = self.root + SESSIONS[4:], []
        portals = {}
        for name in _names(self.root + CONNECTIONS[4:]):
            here = "%s%s/%s/" % (self.root, CONNECTIONS[4:], name)
            port = read(here + "persistent_port") or "0"
            portals[name[10:].partition(":")[0]] = canonical(read(here + "persistent_address"), port)
        for name in _names(sessions):
            here, number = "%s/%s" % (sessions, name), name[7:]
            session: dict[str, Any] = {"target": read(here + "/targetname"), "number": number, "at": here}
            if not session["target"]:
                continue  # it is going
            session.update(portal=portals.get(number, ""), state=read(here + "/state"))
            for word, file in AUTH:
                text = read("%s/%s" % (here, file))
                text = "" if text == "(null)" else text
                session[word] = (Secret(text) if "password" in word else text) if text else None
            found.append(session)
        return sorted(found, key=lambda each: int(each["number"]))

    def _row(self, sessions: list[dict[str, Any]]) -> dict[str, Any]:
        alive = [each for each in sessions if each["state"] == "LOGGED_IN"]
        row: dict[str, Any] = {"portals": tuple(sorted({each["portal"] for each in alive}))}
        for word, _file in AUTH:
            values = list(dict.fromkeys(each[word] for each in sessions))
            row[word] = values[0] if len(values) == 1 else tuple(values)
        luns = self.luns(alive)
        row.update(luns=luns, multipath=all(lun["multipath"] or lun["_paths"] < 2 for lun in luns.values()))
        row["current"] = all(lun["_capacity"] in (None, lun["size"]) for lun in luns.values())
        row["_sessions"] = {each["number"]: {k: each[k] for k in ("portal", "state", "at")} for each in sessions}
        return row

    def luns(self, sessions: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """By number; where several paths lead to one and it is a map of dm-multipath, that is the device."""
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.sysfs_block import Sysfs

        look, found = Sysfs(), {}
        said = self.asked([name for names in disks(sessions).values() for name in names])
        for number, names in sorted(disks(sessions).items(), key=lambda pair: int(pair[0])):
            names = [name for name in names if said.get(name, 0) is not None]
            if not names:  # it is no longer served
                continue
            maps = [self.map_of(name) for name in names]
            name = maps[0] or names[0]
            multipath = bool(maps[0]) and len(set(maps)) == 1
            dev = read("%s/block/%s/dev" % (self.root, name))
            links = look.links(dev) if dev else []
            by_id = _named(links, multipath)
            found[number] = {
                "path": by_id,
                "by_id": by_id,
                "multipath": multipath,
                "size": int(read("%s/block/%s/size" % (self.root, name)) or 0) * 512,
                "_paths": len(names),
                "_names": tuple(names),
                "_map": maps[0],
                "_dev": dev,
                "_capacity": said.get(names[0]),
            }
        return found

    def asked(self, names: list[str]) -> dict[str, int | None]:
        """What the target says of each disk; of a portal that does not answer, nothing."""
        if not names or self.root != "/sys":
            return {}
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import scsi

        try:
            return scsi.sizes(names)
        except OSError as error:
            raise StorageError(
                "unreachable", "a LUN does not answer: %s" % error.strerror, "see to the target"
            ) from error

    def map_of(self, name: str) -> str:
        """``dm-N`` where a disk is a path of a multipath map."""
        for holder in _names("%s/block/%s/holders" % (self.root, name)):
            if read("%s/block/%s/dm/uuid" % (self.root, holder)).startswith("mpath-"):
                return holder
        return ""

    # -- what is declared ------------------------------------------------------------------------------------------

    def resolve(self, target: str, declared: Any) -> Any:
        self.declared[target] = declared
        return declared

    def same(self, target: str, now: Any, declared: Any) -> bool:
        if any(value is not UNKNOWN and now[key] != value for key, value in declared.items() if key[0] != "_"):
            return False
        return not self.lacking(now, declared)

    def lacking(self, now: Any, declared: Any) -> list[str]:
        """LUNs that are declared and not there, or have no name yet."""
        return [lun for lun in declared.get("_luns", ()) if not now["luns"].get(lun, {}).get("path")]

    def merge(self, target: str, now: Any, declared: Any) -> Any:
        fresh = {**dict.fromkeys(word for word, _file in AUTH), "luns": UNKNOWN, "multipath": True, "current": True}
        after = {**(now or fresh), **declared}
        if now is not None and self.opens(target, now, after):
            after["luns"] = UNKNOWN
        return after

    def opens(self, target: str, before: Any, after: Any) -> str | None:
        if after is None:
            return None
        shut = before is None or not before["portals"] or not before["current"] or self.lacking(before, after)
        return "unknown" if shut else None

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: str, before: Any, after: Any) -> str:
        """Whoever was logged in is so again: what is in use is not logged out."""
        return REVERSIBLE

    def refuse(self, target: str, before: Any, after: Any, gone: Any) -> StorageError | None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import iscsi_sessionchange

        return iscsi_sessionchange.refuse(self, target, before, after, gone)

    def put(self, target: str, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import iscsi_sessionchange

        iscsi_sessionchange.put(self, target, before, after)


def disks(sessions: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Number of a LUN -> the disks that the sessions have of it, such as ``sdc``."""
    found: dict[str, list[str]] = {}
    for session in sessions:
        device = session["at"] + "/device"
        for place in _names(device):
            for unit in _names("%s/%s" % (device, place)) if place.startswith("target") else ():
                number = unit.rpartition(":")[2]
                if number.isdigit():
                    for name in _names("%s/%s/%s/block" % (device, place, unit)):
                        found.setdefault(number, []).append(name)
    return found


def _named(links: Iterable[str], multipath: bool) -> str | None:
    """The one name by which it is known wherever it is: of a map that of its WWID, of a disk its NAA or serial."""
    links = sorted(links)
    if multipath:
        return next((link for link in links if "/by-id/dm-uuid-mpath-" in link), None)
    fitting = [link for link in links if _BY_ID.match(link)]
    return next((link for link in fitting if "/scsi-3" in link), fitting[0] if fitting else None)


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        if error.errno in _GONE:
            return []
        raise failure(error, "cannot read " + folder) from error


def read(path: str) -> str:
    """The text of an attribute, "" where there is none."""
    try:
        with open(path, "rb") as stream:
            return stream.read().decode("utf-8", "surrogateescape").rstrip("\n")
    except OSError as error:
        if error.errno in _GONE:
            return ""
        raise failure(error, "cannot read " + path) from error
