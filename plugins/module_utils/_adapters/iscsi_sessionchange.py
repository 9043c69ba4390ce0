# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logging in and out, looking for LUNs, new secrets for a session that stays. Loaded only where something differs.

iscsiadm(8) logs in with the secrets of its record, so that none is on a command line. Before that the portal is asked
(iscsi_login) whether it would let us in, in a process with a deadline.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import time
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import (
    blank,
    child,
    iscsi_login,
    iscsi_recordchange,
    program,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.iscsi_session import AUTH, disks, read
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.sysfs_block import Sysfs, known_as
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

INITIATOR = "/etc/iscsi/initiatorname.iscsi"
MULTIPATHD = "@/org/kernel/linux/storage/multipathd"
_FOLDERS = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
_RELOGIN_SECONDS = 5.0  # for iscsid to begin, after its start
_PORTAL_SECONDS = 10.0  # for a portal to say whether it lets us in
_EXISTS, _AUTH, _TIMEOUT, _NOT_FOUND = 15, 24, 8, 21  # iscsiadm(8), exit status
_CODES = {_AUTH: "denied", _TIMEOUT: "unreachable", _NOT_FOUND: "not_found"}


def refuse(port: Any, target: str, before: Any, after: Any, gone: Any) -> StorageError | None:
    if port.run is None and not any(os.path.exists(folder + "/iscsiadm") for folder in _FOLDERS):
        return StorageError("missing_tool", "iscsiadm is not installed", "open-iscsi or iscsi-initiator-utils has it")
    if after is not None and len(after["portals"]) > 1 and not _multipathd():
        text = "%s has %d portals, and no multipathd runs" % (target, len(after["portals"]))
        hint = "start multipathd.service, without it each path would be a disk of its own; or name one portal"
        return StorageError("unsupported", text, hint)
    return _losing(port, before, after["portals"] if after is not None else (), gone) if before is not None else None


def _multipathd() -> bool:
    with open("/proc/net/unix", encoding="ascii", errors="replace") as stream:
        return any(line.rstrip().endswith(" " + MULTIPATHD) for line in stream)


def _losing(port: Any, row: dict[str, Any], stay: Any, gone: Any) -> StorageError | None:
    """Would a disk that somebody uses go with its last path? Those of a portal that is down count too."""
    leaving = [each for each in row["_sessions"].values() if each["portal"] not in stay]
    alive = set(row["portals"]).intersection(stay)
    if not leaving or (alive and all(lun["multipath"] for lun in row["luns"].values())):
        return None
    look = Sysfs()
    for number, names in disks(leaving).items():
        for name in names:
            path = "/dev/" + (port.map_of(name) or name)
            users = [known_as(user) for user in look.in_use(path, look.resolve(path))]
            error = blank.in_use(row["luns"].get(number, {}).get("path") or path, blank.staying(users, gone))
            if error is not None:
                return error
    return None


def put(port: Any, target: str, before: Any, after: Any) -> None:
    now = _row(port, target)
    if (now["portals"] if now else ()) != (before["portals"] if before else ()):
        raise StorageError("moved", "the sessions of %s changed since they were read" % target, "run it again")
    declared = port.declared.get(target) or {}
    until = time.monotonic() + declared.get("_wait", 30.0)
    if after is not None:
        _admit(target, now, after, declared)
    if now is not None:
        stay = set(after["portals"]) if after is not None else set()
        error = _losing(port, now, stay, ())
        if error is not None:
            raise error
        for number, session in list(now["_sessions"].items()):
            if session["portal"] not in stay:
                _logout(port, target, number, now, until)
    if after is None:
        return
    here = _row(port, target)
    known = {each["portal"] for each in here["_sessions"].values()} if here is not None else set()
    try:
        for portal in after["portals"]:
            if portal not in known:
                _login(port, target, portal, until)
        if here is not None and any(here[word] != after[word] for word, _file in AUTH):
            _renew(port, target, after, here, until)
        _settled(port, target, after, declared, until)
    except StorageError:
        _left(port, target, known)
        raise


def _left(port: Any, target: str, known: set[str]) -> None:
    """Sessions of a put that failed go again: a second path that is no map would be a second name of the same disk."""
    with contextlib.suppress(StorageError, OSError):  # it failed already, and that is told
        now = _row(port, target)
        until = time.monotonic() + _PORTAL_SECONDS
        for number, session in list(now["_sessions"].items()) if now and not _losing(port, now, known, ()) else ():
            if session["portal"] not in known:
                _logout(port, target, number, now, until)


def _row(port: Any, target: str) -> Any:
    row = port.scan([target]).get(target)
    if isinstance(row, StorageError):
        raise row
    return row


# -- in ------------------------------------------------------------------------------------------------------------


def _admit(target: str, here: Any, after: Any, declared: dict[str, Any]) -> None:
    """Ask each portal that is not logged in, or with new secrets all of them. All at the same time."""
    chap = declared.get("_chap") or {word: after[word] for word, _file in AUTH}
    renewed = here is not None and any(here[word] != after[word] for word, _file in AUTH)
    asked = [portal for portal in after["portals"] if here is None or renewed or portal not in here["portals"]]
    initiator, discovery = _initiator(), declared.get("_discovery")

    def ask(portal: str) -> None:
        if discovery and target not in iscsi_login.targets(portal, initiator, discovery, _PORTAL_SECONDS):
            text = "portal %s does not offer %s" % (portal, target)
            raise StorageError("not_found", text, "see what is served there, and to whom")
        iscsi_login.admitted(portal, initiator, target, chap, _PORTAL_SECONDS)

    children = [(portal, child.Child(functools.partial(ask, portal), 2 * _PORTAL_SECONDS)) for portal in asked]
    errors = []
    for portal, each in children:
        try:
            each.answer()
        except StorageError as error:
            errors.append(error)
        except OSError as error:
            errors.append(failure(error, "cannot ask portal %s" % portal))
    if errors:
        raise errors[0]


def _initiator() -> str:
    try:
        with open(INITIATOR, encoding="utf-8") as stream:
            lines = [line.strip().partition("=") for line in stream if not line.lstrip().startswith("#")]
    except OSError as error:
        raise failure(error, "cannot read " + INITIATOR, "set initiator_name") from error
    names = [value.strip() for name, _equals, value in lines if name.strip() == "InitiatorName"]
    if not names:
        raise StorageError("not_found", "%s names no initiator" % INITIATOR, "set initiator_name")
    return names[-1]


def _login(port: Any, target: str, portal: str, until: float) -> None:
    argv = ["iscsiadm", "-m", "node", "-T", target, "-p", portal, "--login"]
    code, _out, err = _run(port, argv, until)
    if code not in (0, _EXISTS):
        said = " ".join(err.decode("utf-8", "replace").split())
        text = "no login to %s at %s: %.300s" % (target, portal, said)
        raise StorageError(_CODES.get(code, "failed"), text, "see the journal of iscsid.service")


def _settled(port: Any, target: str, after: Any, declared: dict[str, Any], until: float) -> None:
    """Every portal logged in, every disk found, named and, with several paths, mapped."""
    tried = False
    while True:
        try:
            now = _row(port, target)
            problem = _lacks(port, target, now, after, declared)
        except StorageError as error:  # a disk that does not answer yet
            now, problem = None, error
        if problem is None:
            return
        if time.monotonic() > until:
            raise problem
        if now is not None and not tried and set(now["portals"]) == set(after["portals"]):
            tried = True
            _look_anew(port, now)
        (port.run or program.execute)(["udevadm", "settle", "--timeout=5"])
        time.sleep(0.05)


def _lacks(port: Any, target: str, now: Any, after: Any, declared: dict[str, Any]) -> StorageError | None:
    portals = set(now["portals"]) if now else set()
    missing = sorted(set(after["portals"]) - portals)
    if missing:
        text = "%s is not logged in at %s" % (target, ", ".join(missing))
        return StorageError("unreachable", text, "see the journal of iscsid.service")
    if not all(read(each["at"] + "/target_state") in ("SCANNED", "") for each in now["_sessions"].values()):
        return StorageError("timeout", "the LUNs of %s are still being looked for" % target, "give it a longer wait")
    lacking = [lun for lun in declared.get("_luns", ()) if lun not in now["luns"]]
    if lacking:
        here = "it has " + (", ".join(now["luns"]) or "none")
        text = "%s shows no LUN %s to this host, %s" % (target, ", ".join(lacking), here)
        return StorageError("not_found", text, "see the LUNs of the target, and who may see them")
    if after.get("multipath") and not now["multipath"]:
        text = "the paths of %s are no map of multipathd" % target
        return StorageError("unsupported", text, "is a disk of it in use? See multipath -v3, and blacklist there")
    unnamed = [number for number, lun in now["luns"].items() if not lun["path"]]
    if unnamed:
        text = "LUN %s of %s has no name in /dev/disk/by-id" % (", ".join(unnamed), target)
        return StorageError("unstable_device", text, "it tells no identification (VPD page 83)")
    if not now["current"]:
        return StorageError("timeout", "the size of a LUN of %s is not what it says" % target, "see the kernel's log")
    return None


def _look_anew(port: Any, now: dict[str, Any]) -> None:
    """LUNs that came, sizes that changed, and paths that belong together."""
    run = port.run or program.execute
    for session in now["_sessions"].values():
        _write("/sys/class/scsi_host/%s/scan" % _host(session), "- - -")
    for lun in now["luns"].values():
        for name in lun["_names"] if lun["_capacity"] not in (None, lun["size"]) else ():
            _write("/sys/block/%s/device/rescan" % name, "1")
        if lun["_map"] and lun["_capacity"] not in (None, lun["size"]):
            run(["multipathd", "resize", "map", read("/sys/block/%s/dm/name" % lun["_map"])])
        if lun["_paths"] > 1 and not lun["multipath"]:
            run(["multipath", "-a", "/dev/" + lun["_names"][0]])  # one that it waits for two paths of
            for name in lun["_names"]:
                run(["multipathd", "add", "path", name])


def _host(session: dict[str, Any]) -> str:
    return next((part for part in os.path.realpath(session["at"]).split("/") if part.startswith("host")), "")


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="ascii") as stream:
            stream.write(text)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            raise failure(error, "cannot write " + path) from error


# -- out -----------------------------------------------------------------------------------------------------------


def _logout(port: Any, target: str, number: str, now: dict[str, Any], until: float) -> None:
    """What was written is on the disk first, and a map goes before its last path."""
    session = now["_sessions"][number]
    run = port.run or program.execute
    names = {name for each in disks([session]).values() for name in each}
    if session["state"] == "LOGGED_IN":
        child.Child(lambda: _synced(sorted(names)), 30.0).answer()
    for made in {port.map_of(name) for name in names} - {""}:
        if names.issuperset(os.listdir("/sys/block/%s/slaves" % made)):
            run(["multipath", "-f", read("/sys/block/%s/dm/name" % made)])
    said = b""
    while os.path.exists(session["at"]):
        code, _out, said = _run(port, ["iscsiadm", "-m", "session", "-r", number, "--logout"], until)
        if code == 0:
            break
        if time.monotonic() > until:
            text = " ".join(said.decode("utf-8", "replace").split())
            hint = "iscsid ends it when the portal answers again, or fails for good"
            raise StorageError("unreachable", "%s is not logged out: %.300s" % (target, text), hint)
        time.sleep(0.2)
    now["_sessions"] = {key: each for key, each in now["_sessions"].items() if key != number}
    while os.path.exists(session["at"]) and time.monotonic() < until:
        time.sleep(0.02)


def _synced(names: list[str]) -> None:
    for name in names:
        fd = os.open("/dev/" + name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


# -- new secrets ---------------------------------------------------------------------------------------------------


def _renew(port: Any, target: str, after: Any, here: dict[str, Any], until: float) -> None:
    """The kernel is told, then iscsid starts anew, logs in with what the kernel says, and no disk is lost."""
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import iscsi_netlink

    if any(here[word] is not None and after[word] is None for word, _file in AUTH):
        error = _losing(port, here, (), ())  # one that stands cannot be rid of a secret
        if error is not None:
            raise error
        for number in list(here["_sessions"]):
            _logout(port, target, number, here, until)
        for portal in after["portals"]:
            _login(port, target, portal, until)
        return
    for number, session in here["_sessions"].items():
        driver = read("/sys/class/scsi_host/%s/proc_name" % _host(session))  # iscsi_tcp, iscsi_iser, or its own name
        handle = read("/sys/class/iscsi_transport/%s/handle" % driver.replace("iscsi_", "", 1))
        for word, _file in AUTH:
            value = after[word]
            text = "" if value is None else value.reveal() if "password" in word else value
            if here[word] != value and text:
                iscsi_netlink.tell(int(handle or 0), int(number), word, text)
    _code, _out, err = (port.run or program.execute)(["systemctl", "try-restart", "iscsid.service"])
    if _code:
        raise StorageError("failed", "iscsid does not start anew: %.300s" % err.decode("utf-8", "replace").strip())
    states = [each["at"] + "/state" for each in here["_sessions"].values()]
    for path in states:
        seen = time.monotonic() + _RELOGIN_SECONDS
        while read(path) == "LOGGED_IN" and time.monotonic() < seen:
            time.sleep(0.01)
        while read(path) != "LOGGED_IN" and time.monotonic() < until:
            time.sleep(0.05)


def _run(port: Any, argv: list[str], until: float) -> tuple[int, bytes, bytes]:
    """An end that is not too near: a login that is cut off goes on in iscsid."""
    iscsi_recordchange.mend()
    seconds = max(until - time.monotonic(), 5.0)
    found: tuple[int, bytes, bytes] = (port.run or program.execute)(argv, timeout=seconds)
    return found
