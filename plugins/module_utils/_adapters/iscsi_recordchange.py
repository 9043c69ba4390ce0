# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making, changing and removing records of open-iscsi. Loaded only where one differs.

iscsiadm makes a record, so that it has all the defaults of this host (iscsid.conf). What is declared is then written by
us: iscsiadm takes a password on its command line only, and writes into the file that others are reading.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import time
from typing import Any, Iterator

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import atomic, iscsi_record, program
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.iscsi_record import AUTH, CHAP, STARTUP
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lock import private_directory, sync_directory
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN, Secret, met, state_of

_PAIRS = (("username", "password"), ("mutual_username", "mutual_password"), ("mutual_username", "username"))
_STARTUPS = ("automatic", "manual", "onboot")
_MOST = 255  # AUTH_STR_MAX_LEN of usr/config.h, without the NUL
_BAD = re.compile("^\\s|\\s$|[\x00-\x1f\x7f\ud800-\udfff]", re.ASCII)  # lost or cut when the line is read again


def refusal(target: str, before: Any, after: Any) -> StorageError | None:
    """``missing_tool``, or ``invalid`` for what a record cannot hold."""
    if "_files" in after:
        return None
    after = _settled(after)
    startup, portals = after.get("startup"), set(after.get("portals") or ())
    if startup is not None and startup not in _STARTUPS:
        return StorageError("invalid", "startup %.40r is none" % (startup,), option="startup")
    if not portals:
        return StorageError("invalid", "a record of iSCSI has a portal", option="portals")
    error = unfit(before or {}, after)
    return error or (unable() if portals - set((before or {"portals": ()})["portals"]) else None)


def unfit(before: dict[str, Any], after: dict[str, Any]) -> StorageError | None:
    """What of CHAP a file cannot hold, or that is of no use."""
    for field in CHAP:
        value = after.get(field)
        if value is None or value == before.get(field):
            continue
        text = value.reveal() if isinstance(value, Secret) else str(value)
        if not text or _BAD.search(text) or len(text.encode("utf-8", "replace")) > _MOST:
            shown = "" if isinstance(value, Secret) else " %.300r" % text
            hint = "1 to %d bytes, no control characters, no blank at its start or end" % _MOST
            return StorageError("invalid", "a record of iSCSI cannot hold %s%s" % (field, shown), hint, option=field)
    for name, other in _PAIRS:
        if after.get(name) is not None and other in after and after[other] is None:
            return StorageError("invalid", "%s is of no use without %s" % (name, other), option=other)
    return None


def unable() -> StorageError | None:
    if shutil.which("iscsiadm", path="/usr/sbin:/usr/bin:/sbin:/bin"):
        return None
    return StorageError("missing_tool", "iscsiadm is not installed", "open-iscsi or iscsi-initiator-utils has it")


def put(port: Any, target: str, before: Any, after: Any) -> None:
    now = port.row(target)
    if state_of(now) != state_of(before):
        raise StorageError("moved", "the records of %s changed since they were read" % target, "run it again")
    error = refusal(target, now, after) if after is not None else None
    if error is not None:
        raise error
    mend(port.locks)
    try:
        if after is None:
            _become(port, target, {})
        elif "_files" in after:  # taken back, to the very bytes
            texts = {
                path: secret.reveal().encode("utf-8", "surrogateescape") for path, secret in after["_files"].items()
            }
            _become(port, target, texts)
        else:
            _change(port, target, after)
    except OSError as problem:
        raise failure(problem, "cannot write the records of %s" % target) from problem
    found = port.row(target)
    if found is None or after is None:
        good = found is after
    elif "_files" in after:
        good = found["_files"] == after["_files"]
    else:
        good = found["intact"] and met(found, _settled(state_of(after)))
    if not good:
        raise StorageError("failed", "the records of %s do not read back as meant" % target, "look at iscsiadm -m node")


def _change(port: Any, target: str, after: dict[str, Any]) -> None:
    old = _seen(port, target)
    whole = {path: record for path, record in old.items() if record.whole}
    new = sorted(set(after["portals"]) - {record.portal for record in whole.values()})
    made = dict(whole)
    try:
        if whole.keys() != old.keys():  # iscsiadm would take what is left of one for the record
            made = _become(port, target, {path: record.text for path, record in whole.items()})
        for portal in new:
            made = _made(port, target, portal)
        # what is not declared the new ones have from those that were there
        model = iscsi_record.fields(whole[min(whole)].text) if whole else {}
        texts = {}
        for path, record in made.items():
            if record.portal in after["portals"]:
                wanted = {**(model if path not in whole else {}), **_settled(after)}
                texts[path] = edited(record.text, wanted)
        _become(port, target, texts, made)
    except (StorageError, OSError):
        with contextlib.suppress(StorageError, OSError):  # half made is not to be found by a host that boots
            there = _seen(port, target)
            kept = {path for path, record in there.items() if path in old or record.portal not in new}
            _become(port, target, {path: there[path].text for path in kept})
        raise


def _settled(after: dict[str, Any]) -> dict[str, Any]:
    """Without what its records disagree on, which stays as it is where nobody says which is right, and the unknown."""
    said = {field: value for field, value in after.items() if value is not UNKNOWN}
    return {field: value for field, value in said.items() if field == "portals" or not isinstance(value, tuple)}


def _made(port: Any, target: str, portal: str) -> dict[str, iscsi_record.Record]:
    """Have iscsiadm make a record: never where there is one, which it would replace."""
    argv = ["iscsiadm", "-m", "node", "-o", "new", "-T", target, "-p", portal]
    code, _out, err = (port.run or program.execute)(argv)
    found = _seen(port, target)
    if code or not any(record.whole and record.portal == portal for record in found.values()):
        said = err.decode("utf-8", "replace").strip() or "it ended with %d" % code
        raise StorageError("failed", "iscsiadm made no record of %s at %s: %.300s" % (target, portal, said), rc=code)
    return found


def _seen(port: Any, target: str) -> dict[str, iscsi_record.Record]:
    nodes = port.nodes()
    found = iscsi_record.contents(iscsi_record.folder(nodes, target)) if nodes else None
    return found[0] if found else {}


def edited(text: bytes, wanted: dict[str, Any]) -> bytes:
    """A record with what is wanted of it; every other line stays as it is."""
    values = lines_of(wanted, AUTH)
    startup = wanted.get("startup")
    if startup and iscsi_record.fields(text)["startup"] != startup:
        values.update(dict.fromkeys(STARTUP, str(startup)))
    return rewritten(text, values)


def lines_of(wanted: dict[str, Any], prefix: str) -> dict[str, str | None]:
    values: dict[str, str | None] = {}
    for field, word in CHAP.items():
        if field in wanted:
            value = wanted[field]
            values[prefix + word] = value.reveal() if isinstance(value, Secret) else value
            if "password" in field:
                values["%s%s_length" % (prefix, word)] = None  # iscsiadm works it out itself
    if "authmethod" in wanted:
        values[prefix + "authmethod"] = wanted["authmethod"]
    return values


def rewritten(text: bytes, values: dict[str, str | None]) -> bytes:
    ours = set(values)
    new = []
    for line in iscsi_record.lines(text):
        name, value = iscsi_record.named(line) or ("", "")
        if name in ours:
            wanted_value = values.pop(name, None)
            if wanted_value is None:  # or a second one: the last would count
                continue
            line = line if value == wanted_value else _line(name, wanted_value)
        elif line.strip() == b"# END RECORD":
            new += [_line(name, value) for name, value in values.items() if value is not None]
            values.clear()
        new.append(line)
    return b"".join(new)


def _line(name: str, value: str) -> bytes:
    return ("%s = %s\n" % (name, value)).encode("utf-8", "surrogateescape")


def _become(port: Any, target: str, texts: dict[str, bytes], base: Any = None) -> dict[str, iscsi_record.Record]:
    """Make these the only records of a target. ``base``: what they were made from, and must still be there.

    What is written lies beside the portals first, where iscsiadm does not see it: beside the interfaces it would.
    """
    nodes = port.nodes()
    if not nodes:
        raise StorageError("moved", "the database of open-iscsi is gone", "run it again")
    here = iscsi_record.folder(nodes, target)
    base = _seen(port, target) if base is None else base
    if texts and not os.path.isdir(here):
        os.mkdir(here, 0o700)
        sync_directory(nodes)
    staged: dict[str, str] = {}
    try:
        for path, text in sorted(texts.items()):
            if path not in base or base[path].text != text or base[path].exposed:
                staged[path] = "%s/%srecord-%d" % (here, iscsi_record.TEMPORARY, len(staged))
                atomic.replace(staged[path], text, mode=0o600)
        with locked(port.locks):
            if _seen(port, target) != base:
                raise StorageError("moved", "the records of %s changed meanwhile" % target, "run it again")
            for path, temporary in staged.items():
                place = os.path.dirname("%s/%s" % (here, path))
                if not os.path.isdir(place):
                    os.mkdir(place, 0o700)
                os.rename(temporary, "%s/%s" % (here, path))
            _clear(nodes, here, [path for path in base if path not in texts])
    finally:
        for temporary in staged.values():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
    for place in sorted({os.path.dirname("%s/%s" % (here, path)) for path in texts} | {here, nodes}):
        if os.path.isdir(place):
            sync_directory(place)
    return _seen(port, target)


def _clear(nodes: str, here: str, paths: list[str]) -> None:
    """Remove records, what is left of a killed run, and folders that are empty then."""
    gone = set()
    for path in paths:
        os.unlink("%s/%s" % (here, path))
    for name in os.listdir(here) if os.path.isdir(here) else ():
        place = "%s/%s" % (here, name)
        if name.startswith(iscsi_record.TEMPORARY):
            os.unlink(place)
        elif os.path.isdir(place) and not os.listdir(place):
            os.rmdir(place)
            gone.add(place)
    if gone:
        for link in _links(os.path.dirname(nodes)):
            if os.readlink(link) in gone:
                os.unlink(link)
    if os.path.isdir(here) and not os.listdir(here):
        os.rmdir(here)


def _links(base: str) -> Iterator[str]:
    """By which iscsiadm knows how it came to a record (setup_disc_to_node_link of usr/idbm.c)."""
    for kind in ("static", "fw", "isns", "send_targets"):
        for name in iscsi_record.listed("%s/%s" % (base, kind)) or ():
            path = "%s/%s/%s" % (base, kind, name)
            if os.path.islink(path):
                yield path
            elif os.path.isdir(path):
                below = ("%s/%s" % (path, each) for each in os.listdir(path))
                yield from (each for each in below if os.path.islink(each))


# -- the lock of the database ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def locked(folder: str, timeout: float = 30.0) -> Iterator[None]:
    """Keep iscsiadm out while records change.

    It locks by a hard link to ``lock`` under the name ``lock.write``, for which it waits 30 s, and which nobody takes
    away after who died with it (idbm_lock of usr/idbm.c). Ours is a link to a file of our own, which we hold an
    flock(2) on: who gets that knows that a link to it is left of a run that was killed.
    """
    private_directory(folder)
    own, lock, end = folder + iscsi_record.OURS, folder + iscsi_record.LOCK, time.monotonic() + timeout
    fd = os.open(own, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        while not _linked(fd, own, lock):
            if time.monotonic() >= end:
                text = "%s is held; waited %g s" % (lock, timeout)
                raise StorageError("locked", text, "if no iscsiadm runs, one died with it: remove that file")
            time.sleep(0.01)
        try:
            yield
        finally:
            os.unlink(lock)
    finally:
        os.close(fd)


def _linked(fd: int, own: str, lock: str) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samefile(own, lock):
                os.unlink(lock)
        os.link(own, lock)
        return True
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.EAGAIN):
            raise
        return False


def mend(folder: str = iscsi_record.LOCKS) -> None:
    """Before iscsiadm is run: take away the lock that a killed run of ours left."""
    if iscsi_record.abandoned(folder):
        with locked(folder):
            pass
