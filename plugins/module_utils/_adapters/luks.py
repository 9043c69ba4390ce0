# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port of LUKS2 on devices: what the header says and what is declared. The effects: lukschange."""

from __future__ import annotations

import os
import re
import stat
from typing import Any, Callable, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import luksheader, programs, remote_disk
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import DESTROYS, FORWARD, UNKNOWN

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
MARK = "bulkhead:"  # in the subsystem field of a header whose content is not yet blank
TOKEN = "bulkhead-key"  # the type of the token that says which key file was proved last
_CIPHER = re.compile(r"[a-z0-9]+(-[a-z0-9():]+)+", re.ASCII)


class Luks:
    """Target: path of a device. Value: see ``value``; declared are ``version``, ``cipher``, ``pbkdf``, ``opened_by``.

    Keys come as ``_key`` and ``_new_key``: the path of a file, or a Secret.
    """

    name, behind, slow = "luks", True, True

    def __init__(self, run: Callable[..., Any], search: str = PATH) -> None:
        self.run, self.search = run, search.split(":")
        self.wanted: dict[str, dict[str, Any]] = {}
        self.seen: dict[str, dict[str, Any]] = {}  # observations of the last scan, of blank targets too
        self.finished: set[str] = set()  # what the last scan found to be LUKS, in order
        self.making: set[str] = set()  # what is planned to become so
        self.proved: dict[Any, Any] = {}  # which slot a key opens: it takes seconds to find out

    # -- pure ------------------------------------------------------------------------------------------------------

    def resolve(self, target: str, value: dict[str, Any]) -> dict[str, Any]:
        cipher = value.get("cipher")
        if cipher is not None and not _CIPHER.fullmatch(cipher):
            hint = "such as aes-xts-plain64"
            raise StorageError("invalid", "cipher %.80r is not one of dm-crypt" % cipher, hint, option="cipher")
        self.wanted[target] = value
        return value

    def same(self, target: str, now: dict[str, Any], declared: dict[str, Any]) -> bool:
        if now.get("unfinished"):
            return False
        return all(now.get(k) == v for k, v in declared.items() if k[0] != "_")

    def merge(self, target: str, now: Any, declared: dict[str, Any]) -> dict[str, Any]:
        if now is None or now["version"] != 2 or now.get("unfinished"):
            fresh = {"uuid": UNKNOWN, "cipher": UNKNOWN, "pbkdf": UNKNOWN, "keyslots": (0,), **declared}
            self.making.add(target)
            if target not in self.seen:
                fresh["_missing"] = target  # the plan says whether something else brings it
            return fresh
        slots = now["keyslots"] if self.same(target, now, declared) else UNKNOWN
        return {**now, **declared, "keyslots": slots}

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: str, before: Any, after: Any) -> str:
        if before is None or before.get("unfinished"):
            return FORWARD
        if after is None:
            return FORWARD if before.get("_hollow") else DESTROYS
        return FORWARD if before["version"] == after["version"] else DESTROYS

    def consent(self, target: str, before: Any, after: Any) -> tuple[str, Any]:
        return "wipe_token", before["_token"]

    def unstable(self, target: str) -> StorageError | None:
        """What takes ``allow_unstable_device``: a name that may mean another device after a reboot."""
        seen = self.seen.get(target)
        if seen is None or seen["_stable"]:
            return None
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import sysfs_block

        return sysfs_block.unstable(target, seen["_by_id"])

    def refuse(self, target: str, before: Any, after: Any, gone: set[Any]) -> StorageError | None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import lukschange

        return lukschange.refuse(self, target, before, after, gone)

    @property
    def intents(self) -> Any:
        """What we began and may not have finished; asked for only where LUKS is not as declared."""
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.catalogue import Intents, Record

        return Intents(Record())

    # -- looking ---------------------------------------------------------------------------------------------------

    def scan(self, targets: Iterable[str] | None) -> dict[str, Any]:
        if targets is None:
            raise StorageError("unsupported", "LUKS is looked for by device only")
        rows = {}
        for target in targets:
            try:
                row = self._look(target)
            except StorageError as error:
                row = error
            if row is not None:
                rows[target] = row
        return rows

    def _look(self, target: str) -> Any:
        self.seen.pop(target, None)
        self.finished.discard(target)
        self.making.discard(target)
        programs.unasked(target)
        if not os.path.lexists(target):
            return None
        want, head, now = self.wanted.get(target), None, None
        try:
            fd = remote_disk.opened(target)
            try:
                if not stat.S_ISBLK(os.fstat(fd).st_mode):
                    hint = "attach an image with losetup(8), and name the loop device"
                    raise StorageError("unsupported", "%s is not a block device" % target, hint)
                head = luksheader.read(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise failure(error, "cannot read " + target) from error
        if head and head.intact and head.version == 2 and not head.subsystem.startswith(MARK):
            self.finished.add(target)
            now = value(head)
            if want and "_new_key" in want:
                now["opened_by"] = "new_key_file" if proved(head, want) else "key_file"
            if want and self.same(target, now, want):
                return now
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import lukschange

        return lukschange.examine(self, target, head, now)

    # -- doing -----------------------------------------------------------------------------------------------------

    def put(self, target: str, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import lukschange

        lukschange.put(self, target, before, after)


def value(head: luksheader.Header) -> dict[str, Any]:
    slots = head.meta.get("keyslots", {})
    kinds = sorted({str(slot.get("kdf", {}).get("type")) for slot in slots.values()})
    ciphers = sorted({str(s.get("encryption")) for s in head.meta.get("segments", {}).values()})
    return {
        "version": head.version,
        "uuid": head.uuid,
        "cipher": ",".join(ciphers),
        "pbkdf": ",".join(kinds),
        "keyslots": tuple(sorted(map(int, slots))),
        "opened_by": None,
        "_slots": head.slots,
    }


def proved(head: luksheader.Header, want: dict[str, Any]) -> bool:
    """Does a token in the header say that just this file, unchanged since, opened it when the old key did no more?

    What is kept tells nothing about a key: a digest of the file's name, inode and times, and one of the key slots.
    """
    tokens = [t for t in head.meta.get("tokens", {}).values() if t.get("type") == TOKEN]
    return bool(tokens) and stamp(head, want) in [t.get("stamp") for t in tokens]


def stamp(head: luksheader.Header, want: dict[str, Any]) -> str:
    import hashlib

    old = want["_key"] if isinstance(want["_key"], str) else ""
    try:
        at = os.stat(want["_new_key"])
    except OSError as error:
        raise failure(error, "cannot look at the new key file %s" % want["_new_key"]) from error
    facts = (
        head.uuid,
        head.slots,
        old,
        want["_new_key"],
        at.st_dev,
        at.st_ino,
        at.st_size,
        at.st_mtime_ns,
        at.st_ctime_ns,
    )
    return hashlib.sha256(repr(facts).encode("utf-8", "surrogateescape")).hexdigest()[:32]
