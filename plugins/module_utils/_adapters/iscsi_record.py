# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records of targets in the database of open-iscsi (iscsiadm(8), FILES): by which portals a host logs in, and how.

``nodes/<iqn>/<address>,<port>`` is a record where the portal group is not known, which is how iscsiadm makes one by
hand; ``nodes/<iqn>/<address>,<port>,<group>`` is a folder with one record for each interface, which is how discovery
does. Addresses are in there as somebody spelled them, IPv6 ones without brackets.
"""

from __future__ import annotations

import ipaddress
import os
import re
import stat
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Tuple

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import (
    REVERSIBLE,
    UNKNOWN,
    Secret,
    met,
    state_of,
)

FOLDERS = ("/var/lib/iscsi", "/etc/iscsi")  # since open-iscsi 2.1.10 the first; a distribution may have another
PARTS = ("/nodes", "/send_targets")
PROGRAMS = tuple(folder + "/iscsiadm" for folder in ("/usr/sbin", "/sbin", "/usr/bin", "/bin"))
LOCKS = "/run/lock/iscsi"
LOCK, OURS = "/lock.write", "/lock.bulkhead"
TEMPORARY = ".bulkhead-"  # iscsiadm passes over a name without a comma beside the portals, not beside the interfaces
AUTH = "node.session.auth."
STARTUP = ("node.startup", "node.conn[0].startup")
CHAP = {  # our word, and theirs behind AUTH
    "username": "username",
    "password": "password",
    "mutual_username": "username_in",
    "mutual_password": "password_in",
}
_FIELDS = ("startup", "authmethod", *CHAP)
_PORTAL = re.compile(r"([^,]+),([0-9]{1,5})(,[0-9]{1,5})?", re.ASCII)
# As usr/idbm.c reads a line, which takes ``name=value`` for none: there is a blank on one side at least.
_LINE = re.compile(rb"([^\s=]+)[\s=]\s*=\s*(\S.*)", re.DOTALL)
_LINES = re.compile(rb"[^\n]*\n|[^\n]+")
_END = re.compile(rb"^# END RECORD$", re.MULTILINE)


class Record(NamedTuple):
    portal: str
    text: bytes
    exposed: bool  # others may read it

    @property
    def whole(self) -> bool:
        """iscsiadm writes in place and does not sync: a crash of the host leaves one without its end."""
        return _END.search(self.text) is not None

    @property
    def told(self) -> bool:
        """Can others read a password?"""
        said = fields(self.text)
        return self.exposed and any(said[field] is not None for field in CHAP if "password" in field)


Found = Tuple[Dict[str, Record], List[str]]  # by path beneath the target's folder; and what does not belong there


class IscsiRecord:
    """Port ``iscsi_record``: IQN -> ``{portals, startup, username, password, mutual_username, mutual_password}``.

    ``authmethod`` follows the names. ``intact``: all of it is whole, nobody else reads a password, and nothing is left
    of a run that was killed. Where records of one target differ, a field holds all that they say.
    """

    name, behind, slow = "iscsi_record", False, False

    def __init__(self, run: Callable[..., Any] | None = None, folder: str | None = None, locks: str = LOCKS) -> None:
        self.run, self.given, self.locks = run, folder, locks

    def scan(self, targets: Iterable[str] | None = None) -> dict[str, Any]:
        nodes = self.nodes()
        if targets is None:
            targets = listed(nodes) or () if nodes else ()
        rows: dict[str, Any] = {}
        for target in targets:
            try:
                row: Any = self.row(target) if nodes else None
            except StorageError as error:
                row = error
            if row is not None:
                rows[target] = row
        return rows

    def nodes(self) -> str:
        """The folder of all records, "" where there is none yet."""
        base = self.base()
        return base + "/nodes" if base and os.path.isdir(base + "/nodes") else ""

    def base(self) -> str:
        return self.given or place()

    def row(self, target: str) -> dict[str, Any] | None:
        found = contents(folder(self.nodes(), target)) if self.nodes() else None
        if found is None:
            return None
        records, left = found[0], found[1]
        whole = [record for _path, record in sorted(records.items()) if record.whole]
        said = [fields(record.text) for record in whole]
        row: dict[str, Any] = {"portals": tuple(sorted({record.portal for record in whole}))}
        for field in _FIELDS:
            row[field] = _one([each[field] for each in said])
        row["intact"] = not (
            left or len(whole) < len(records) or any(record.told for record in whole) or abandoned(self.locks)
        )
        row["_files"] = {
            path: Secret(record.text.decode("utf-8", "surrogateescape")) for path, record in records.items()
        }
        return row

    def same(self, target: str, now: Any, declared: Any) -> bool:
        if "username" in declared and now.get("authmethod", method(declared)) != method(declared):
            return False
        return bool(now.get("intact", True)) and met(now, state_of(declared))

    def merge(self, target: str, now: Any, declared: Any) -> dict[str, Any]:
        there = bool(now and now["portals"])  # else iscsid.conf(5) has the last word
        kept = state_of(now) if there else dict.fromkeys(_FIELDS, UNKNOWN)
        after = {**kept, **state_of(declared), "intact": True}
        return {**after, "authmethod": method(declared)} if "username" in declared else after

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: str, before: Any, after: Any) -> str:
        return REVERSIBLE

    def refuse(self, target: str, before: Any, after: Any, gone: Any) -> StorageError | None:
        if after is None:
            return None
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import iscsi_recordchange

        return iscsi_recordchange.refusal(target, before, after)

    def put(self, target: str, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import iscsi_recordchange

        iscsi_recordchange.put(self, target, before, after)


def method(declared: Any) -> str:
    return "None" if declared["username"] is None else "CHAP"


def place() -> str:
    """The folder that iscsiadm of this host was built for; "" while there is no database."""
    there = [each for each in FOLDERS if any(os.path.isdir(each + part) for part in PARTS)]
    if there == [FOLDERS[0]] or not there:
        return "".join(there)
    for program in PROGRAMS:  # an upgrade may have left the other one behind
        try:
            with open(program, "rb") as stream:
                code = stream.read()
        except OSError:
            continue
        built = [each for each in FOLDERS if each.encode() + b"/nodes" in code]
        if len(built) == 1:
            return built[0]
    if len(there) == 1 or os.path.realpath(there[0] + "/nodes") == os.path.realpath(there[1] + "/nodes"):
        return there[0]
    text = "there are records of iSCSI in %s, and nobody can tell which count" % " and ".join(there)
    raise StorageError("unreadable", text, "remove those that iscsiadm -m node does not show")


def folder(nodes: str, target: str) -> str:
    if not target or "/" in target or target.startswith((".", "-")):
        raise StorageError("invalid", "%.250r is no name of iSCSI" % target, option="target")
    return "%s/%s" % (nodes, target)


def contents(here: str) -> Found | None:
    """What a target's folder holds; None where there is none. What nobody of us put there is not understood."""
    names = listed(here)
    if names is None:
        return None
    records: dict[str, Record] = {}
    left: list[str] = []
    for name in names:
        entry = _PORTAL.fullmatch(name)
        if name.startswith(TEMPORARY):
            left.append(name)
        elif entry is None:
            raise strange("%s/%s" % (here, name))
        elif entry.group(3) is None:
            records[name] = _record("%s/%s" % (here, name), entry)
        else:
            below = listed("%s/%s" % (here, name)) or []
            records.update(("%s/%s" % (name, each), _record("%s/%s/%s" % (here, name, each), entry)) for each in below)
            if not below:
                left.append(name)
    return records, left


def _record(path: str, entry: re.Match[str]) -> Record:
    return read(path, canonical(entry.group(1), entry.group(2)))


def read(path: str, portal: str) -> Record:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            about = os.fstat(stream.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise strange(path)
            text = stream.read()
    except IsADirectoryError as error:
        raise strange(path) from error
    except OSError as error:
        raise strange(path) if os.path.islink(path) else failure(error, "cannot read " + path) from error
    return Record(portal, text, bool(about.st_mode & 0o077))


def strange(path: str) -> StorageError:
    return StorageError("unreadable", "%s is no record of iscsiadm" % path, "look at it, and move it away")


def canonical(address: str, port: str) -> str:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:  # a name
        return "%s:%d" % (address, int(port))
    return ("[%s]:%d" if found.version == 6 else "%s:%d") % (found, int(port))


def listed(path: str) -> list[str] | None:
    try:
        return sorted(os.listdir(path))
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise strange(path) from error
    except OSError as error:
        raise failure(error, "cannot look into " + path) from error


def lines(text: bytes) -> list[bytes]:
    """With their ends; the last one may lack it."""
    return _LINES.findall(text)


def named(line: bytes) -> tuple[str, str] | None:
    """Name and value of a line with its end, None where iscsiadm sees none."""
    found = _LINE.fullmatch(line.strip()) if line.endswith(b"\n") else None
    return (
        (found.group(1).decode("utf-8", "replace"), found.group(2).decode("utf-8", "surrogateescape"))
        if found
        else None
    )


def fields(text: bytes) -> dict[str, Any]:
    """What a record says, with the defaults of iscsiadm for what it does not say."""
    said = dict(filter(None, map(named, lines(text))))
    starts = {said.get(name, "manual") for name in STARTUP}  # either of them is enough to log in at boot
    startup = next((each for each in ("automatic", "onboot") if each in starts), "manual")
    return {"startup": startup, **chap(said, AUTH)}


def chap(said: dict[str, str], prefix: str) -> dict[str, Any]:
    row: dict[str, Any] = {"authmethod": said.get(prefix + "authmethod", "None")}
    for field, word in CHAP.items():
        value = said.get(prefix + word)
        row[field] = Secret(value) if value is not None and "password" in field else value
    return row


def abandoned(locks: str = LOCKS) -> bool:
    """Did a run of ours die with the lock of the database, which then holds up iscsiadm?"""
    try:
        return os.path.samefile(locks + LOCK, locks + OURS)
    except OSError:
        return False


def _one(values: list[Any]) -> Any:
    different = [each for at, each in enumerate(values) if each not in values[:at]]
    return different[0] if len(different) == 1 else tuple(different) or None
