# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""LUKS2 made on proved blank, given another key, erased; never over something, never without a proved key.

Imported by the port ``luks`` only when a device is not as declared: a run that changes nothing does not pay for it.
"""

from __future__ import annotations

import json
import os
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import (
    atomic,
    blank,
    blkprobe,
    dmcrypt,
    luksheader,
    signatures,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.cryptsetup import Cryptsetup, key, program
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.luks import MARK, TOKEN, Luks, stamp, value
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.sysfs_block import Sysfs, known_as
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN

BACKUPS = "/var/lib/bulkhead/luks"
LEAST = 32 << 20  # bytes: 16 MiB go to the header


def examine(port: Luks, target: str, head: luksheader.Header | None, now: Any) -> Any:
    """The value of a scan, None where LUKS is not (or blank, where it is declared); the rest goes to ``port.seen``."""
    look, want = Sysfs(), port.wanted.get(target)
    fd = blkprobe.opened(target)
    try:
        content, seen = blank.seen(look, target, fd)
    finally:
        os.close(fd)
    mark = head.subsystem if head and head.subsystem.startswith(MARK) else ""
    ours = mark != "" and port.intents.is_ours(_marked(target), mark=mark)
    begun = now is None and not ours and port.intents.is_ours(target, device=look.identity(look.resolve(target)))
    begun = begun and (content.kind == "blank" or content.detail["begun"])
    users = [known_as(user) for user in seen["_in_use"]]
    if ours:  # by that name a killed run had opened it, to make it blank
        users = [user for user in users if user != dmcrypt.FOLDER + private(mark)]
    seen["_in_use"] = users
    port.seen[target] = seen
    if ours or begun:
        return {"version": None, "unfinished": True, "_mark": mark, **seen}
    if head is None and (want is None or content.kind == "blank"):
        return None  # what else is there is nobody's business who wants no LUKS
    if head is None:
        return {"version": None, "holds": content.fstype or content.kind, **seen}
    if not head.intact:
        if want is None:
            return {"version": None, "holds": "damaged luks", **seen}
        hint = "restore it: cryptsetup luksHeaderRestore, from a backup such as in %s" % BACKUPS
        raise StorageError("unreadable", "both copies of the LUKS header on %s are damaged" % target, hint)
    if head.version == 2:
        port.finished.add(target)
    row = now or value(head)
    if want is None:
        seen["_hollow"] = bool(users) and _hollow(users)
    elif "_new_key" in want and row["opened_by"] != "new_key_file":
        row["opened_by"] = _opened_by(port, target, head, want)
    return {**row, **seen}


def private(mark: str) -> str:
    """The name of the mapping through which we make it blank."""
    return mark.replace(":", "-")


def _hollow(users: list[str]) -> bool:
    """Is there nothing but the open mapping on it, with nothing in it?"""
    if len(users) > 1 or not users[0].startswith(dmcrypt.FOLDER):
        return False
    fd = blkprobe.opened(users[0])
    try:
        return signatures.examine(fd, users[0]).kind == "blank"
    finally:
        os.close(fd)


def slot_of(port: Luks, target: str, head: luksheader.Header, text: bytes) -> int | None:
    """Which slot a key opens, asked once: it takes seconds."""
    known = (head.uuid, head.slots, text)
    if known not in port.proved:
        port.proved[known] = Cryptsetup(port, target).slot(target, text)
    found: int | None = port.proved[known]
    return found


def _opened_by(port: Luks, target: str, head: luksheader.Header, want: dict[str, Any]) -> str:
    """``new_key_file`` when it opens and the old key does no more, as far as the old one is still known."""
    new = slot_of(port, target, head, key(want["_new_key"]))
    try:
        text = key(want["_key"])
    except StorageError as error:
        if error.code != "not_found" or new is None:
            raise
        return "new_key_file"  # whoever has removed the old key's file needs no more proof
    old = slot_of(port, target, head, text)
    if new is None and old is None:
        raise denied(target)
    return "key_file" if new is None or old is not None or not _kept(head) else "new_key_file"


def denied(target: str) -> StorageError:
    return StorageError("denied", "the key does not open the LUKS on %s" % target, "give the key that does")


def _kept(head: luksheader.Header) -> bool:
    """Does the backup of the header, if there is one, open with the same keys?"""
    try:
        fd = os.open(_backup_path(head), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError as error:
        raise failure(error, "cannot read " + _backup_path(head)) from error
    try:
        kept = luksheader.read(fd)
    finally:
        os.close(fd)
    return kept is not None and kept.slots == head.slots


def refuse(port: Luks, target: str, before: Any, after: Any, gone: set[Any]) -> StorageError | None:
    try:
        if after is not None:
            program(port.search)
        _refuse(port, target, before, after, gone)
    except StorageError as error:
        return error
    return None


def _refuse(port: Luks, target: str, before: Any, after: Any, gone: set[Any]) -> None:
    seen = port.seen.get(target)
    if before is not None and before["version"] == 1 and after is not None:
        raise StorageError("unsupported", "%s holds LUKS1" % target, "cryptsetup convert makes LUKS2 of it")
    formats = after is None or before is None or before["version"] != 2
    for field in () if formats else ("cipher", "pbkdf"):
        if after[field] != before[field]:
            text = "%s of the LUKS on %s is given when it is made" % (field, target)
            raise StorageError("unsupported", text, "declare what is there: %s" % before[field], option=field)
    if formats and after is not None:
        key(after.get("_new_key") or after["_key"])
    if seen is None or not formats:
        return  # nothing is there yet: what makes it is beneath us in this plan
    error = blank.vital(target, seen) or blank.in_use(target, blank.staying(seen["_in_use"], gone))
    if error is not None:
        raise error
    if after is not None and seen["_device_size"] < LEAST:
        raise StorageError("no_space", "%s is too small for LUKS2" % target, "it takes %d MiB" % (LEAST >> 20))


def put(port: Luks, target: str, before: Any, after: Any) -> None:
    if after is None:
        _erase(port, target, before)
    elif before is None or before["version"] != 2:
        _format(port, target, before, after)
    else:
        _rotate(port, target, before, after)


# -- made ----------------------------------------------------------------------------------------------------------


def _format(port: Luks, target: str, before: Any, after: dict[str, Any]) -> None:
    """Under a mark, and the mark goes when what is to stand on it would find it blank: a fresh one reads as noise."""
    call, text = Cryptsetup(port, target), key(after.get("_new_key") or after["_key"])
    _close_private(call, before)
    mark = (before or {}).get("_mark") or MARK + os.urandom(8).hex()  # known as ours until the last byte is written
    with blank.Taken(Sysfs(), target, before) as taken:
        port.intents.begin(target, device=taken.look.identity(taken.dev))
        port.intents.begin(_marked(target), mark=mark)
        if before and before.get("_mark"):  # nobody has used what a killed run made
            _forget(luksheader.read(taken.hold))
        taken.wipe()
        path = taken.let()
        argv = ["luksFormat", "--type", "luks2", "--key-file=-", "--subsystem", mark]
        for option in ("cipher", "pbkdf"):
            if after.get(option, UNKNOWN) is not UNKNOWN:
                argv += ["--" + option, after[option]]
        call(*argv, *_cost(after), path, stdin=text)
        call("open", "--type", "luks2", "--key-file=-", path, private(mark), stdin=text)
        _blank(dmcrypt.FOLDER + private(mark))
        call("close", private(mark))
        taken.again()
        head = luksheader.read(taken.hold)
        if head is None or not head.intact or head.subsystem != mark:
            raise StorageError("not_enforced", "%s does not hold the LUKS that was made" % target)
        _backup(taken.hold, head)
        if after.get("_new_key"):
            _remember(call, path, head, 0, after)
        port.intents.end(target)
        call("config", "--subsystem", "", path)
    port.intents.end(_marked(target))


def _marked(target: str) -> str:
    """Of which mark on a device we know; it stays when it is no more there, and then tells of nothing."""
    return target + " mark"


def _cost(after: dict[str, Any]) -> list[str]:
    argv = []
    if after.get("_iterations"):
        argv = ["--pbkdf-force-iterations", str(after["_iterations"])]
    if after.get("_memory"):
        argv += ["--pbkdf-memory", str(after["_memory"] >> 10)]
    return argv


def _blank(path: str) -> None:
    fd = blkprobe.opened(path, os.O_RDWR | os.O_EXCL)
    try:
        blank.zero(fd, os.lseek(fd, 0, os.SEEK_END), path)
    finally:
        os.close(fd)


def _close_private(call: Cryptsetup, before: Any) -> None:
    mark = before and before.get("_mark")
    if mark and os.path.exists(dmcrypt.FOLDER + private(mark)):
        call("close", private(mark))


# -- another key ---------------------------------------------------------------------------------------------------


def _rotate(port: Luks, target: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    """The new key opens before the old one is removed; each step is looked for first, so a killed run goes on."""
    call, new = Cryptsetup(port, target), key(after["_new_key"])
    fd = blkprobe.opened(target)
    try:
        head = _header(fd, target)
        if head.slots != before["_slots"] or head.uuid != before["uuid"]:
            raise StorageError("moved", "the LUKS header of %s changed since it was looked at" % target)
        device = "/proc/%d/fd/%d" % (os.getpid(), fd)
        try:
            old = key(after["_key"])
        except StorageError as error:
            if error.code != "not_found" or slot_of(port, target, head, new) is None:
                raise
            old = None
        if old == new:
            raise StorageError("invalid", "the new key of %s is the old one" % target, "write another one")
        _backup(fd, head)
        if slot_of(port, target, head, new) is None:
            if old is None or slot_of(port, target, head, old) is None:
                raise denied(target)
            _add(call, device, old, new, after)
        slot = call.slot(device, new)
        if slot is None:
            raise StorageError("not_enforced", "%s: the new key was added, but does not open it" % target)
        while old is not None:
            stale = call.slot(device, old)
            if stale is None:
                break
            call("luksKillSlot", "--key-file=-", device, str(stale), stdin=new)  # asks that the new one opens another
        head = _header(fd, target)
        _backup(fd, head)  # or the old key would open what the older one holds
        _remember(call, device, head, slot, after)
    finally:
        os.close(fd)


def _remember(call: Cryptsetup, device: str, head: luksheader.Header, slot: int, after: dict[str, Any]) -> None:
    """Which file was proved, so that a quiet run need not try it."""
    for number, token in head.meta.get("tokens", {}).items():
        if token.get("type") == TOKEN:
            call("token", "remove", "--token-id", number, device)
    token = {"type": TOKEN, "keyslots": [str(slot)], "stamp": stamp(head, after)}
    call("token", "import", "--json-file=-", device, stdin=json.dumps(token).encode())


def _add(call: Cryptsetup, device: str, old: bytes, new: bytes, after: dict[str, Any]) -> None:
    fd = os.memfd_create("key", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as stream:
            stream.write(new)
        pbkdf = after["pbkdf"]
        argv = ["--pbkdf", pbkdf] if pbkdf in ("argon2id", "pbkdf2") else []
        call(
            "luksAddKey", "--key-file=-", *argv, *_cost(after), device, "/proc/%d/fd/%d" % (os.getpid(), fd), stdin=old
        )
    finally:
        os.close(fd)


def _header(fd: int, target: str) -> luksheader.Header:
    head = luksheader.read(fd)
    if head is None or not head.intact or head.version != 2:
        raise StorageError("moved", "%s holds no whole LUKS2 header any more" % target)
    return head


# -- kept and erased -----------------------------------------------------------------------------------------------


def _backup_path(head: luksheader.Header) -> str:
    return "%s/%s.img" % (BACKUPS, head.uuid.replace("/", "_"))


def _backup(fd: int, head: luksheader.Header) -> None:
    """Both copies and the key slots, as cryptsetup luksHeaderRestore takes them."""
    config = head.meta["config"]
    size = 2 * (4096 + int(config["json_size"])) + int(config["keyslots_size"])
    parts, at = [], 0
    while at < size:
        part = os.pread(fd, min(1 << 20, size - at), at)
        if not part:
            raise StorageError("unreadable", "the LUKS header could not be read whole, to keep a copy")
        parts.append(part)
        at += len(part)
    try:
        os.makedirs(BACKUPS, mode=0o700, exist_ok=True)
    except OSError as error:
        raise failure(error, "cannot make " + BACKUPS) from error
    atomic.replace(_backup_path(head), b"".join(parts), mode=0o600)


def _forget(head: luksheader.Header | None) -> None:
    """The copy goes before the header that names it."""
    if head is not None and head.intact and os.path.exists(_backup_path(head)):
        os.unlink(_backup_path(head))


def _erase(port: Luks, target: str, before: dict[str, Any]) -> None:
    """The key slots, then the edges with both copies of the header, then the backup: nothing opens it any more."""
    if before.get("_mark"):
        _close_private(Cryptsetup(port, target), before)
    with blank.Taken(Sysfs(), target, before) as taken:
        head = luksheader.read(taken.hold)
        port.intents.begin(target, device=taken.look.identity(taken.dev))
        end = min(head.offset if head and head.intact else 0, taken.size)
        try:
            for at in range(signatures.EDGE, end, 1 << 20):
                os.pwrite(taken.fd, bytes(min(1 << 20, end - at)), at)
        except OSError as error:
            raise failure(error, "cannot erase the key slots of " + target) from error
        _forget(head)
        taken.wipe()
        taken.let()
        if taken.again().kind != "blank":
            raise StorageError("not_enforced", "%s is not blank after it was erased" % target)
    port.intents.end(target)
    port.intents.end(_marked(target))
