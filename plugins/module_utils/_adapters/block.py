# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port of a block device's settings, through sysfs and BLKROSET (linux/fs.h); the device itself is a given."""

from __future__ import annotations

import fcntl
import os
import re
import struct
from typing import Any, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.sysfs_block import Sysfs, unstable
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import REVERSIBLE, state_of

BLKROSET = 0x125D


class Block:
    """Port ``block``: device path -> ``{"scheduler": str, "read_ahead": bytes, "read_only": bool}``."""

    name, behind = "block", True

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, Any]] = {}

    def unstable(self, target: str) -> StorageError | None:
        """What takes ``allow_unstable_device``."""
        seen = self.seen.get(target)
        return None if seen is None or seen["_stable"] else unstable(target, seen["_by_id"])

    def scan(self, targets: Iterable[str] | None) -> dict[str, Any]:
        if targets is None:
            raise StorageError("unsupported", "block devices are scanned by name only")
        look = Sysfs()
        rows: dict[str, Any] = {}
        for target in targets:
            try:
                rows[target] = self.seen[target] = _row(look, target)
            except StorageError as error:
                if error.code != "not_found":
                    rows[target] = error
        return rows

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        return False

    def risk(self, target: str, before: Any, after: Any) -> str:
        return REVERSIBLE

    def refuse(self, target: str, before: Any, after: Any, gone: set[Any]) -> StorageError | None:
        if before is None or after is None:
            return _given(target)
        if after["scheduler"] != before["scheduler"] and after["scheduler"] not in before["_schedulers"]:
            text = "%s has no scheduler %.40r" % (target, after["scheduler"])
            return StorageError("unsupported", text, "one of %s" % ", ".join(before["_schedulers"]), option="scheduler")
        locks = after["read_only"] and not before["read_only"]
        users = [m for m in before["_mounts"] if m not in {t for _port, t in gone}]
        if locks and before["_protected"]:
            return StorageError("protected", "%s holds %s" % (target, before["_protected"]), "it must stay writable")
        if locks and users:
            return _used(target, users)
        if after["read_ahead"] % 4096:
            return StorageError("invalid", "read_ahead %d is not a multiple of 4096" % after["read_ahead"])
        return None

    def put(self, target: str, before: Any, after: Any) -> None:
        look = Sysfs()
        if before is None or after is None:
            raise _given(target)
        now = _row(look, target)
        if state_of(now) != state_of(before):
            raise StorageError("moved", "the settings of %s changed since they were read" % target, "run it again")
        if after["read_only"] and not now["read_only"] and now["_mounts"]:  # what was to be unmounted first was not
            raise _used(target, now["_mounts"])
        dev = look.resolve(target)
        queue = "%s/dev/block/%s/queue/" % (look.sys, look.disk(dev))
        try:
            if after["scheduler"] != now["scheduler"]:
                _write(queue + "scheduler", after["scheduler"])
            if after["read_ahead"] != now["read_ahead"]:
                _write(queue + "read_ahead_kb", str(after["read_ahead"] // 1024))
            if after["read_only"] != now["read_only"]:
                fd = os.open(target, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
                try:
                    fcntl.ioctl(fd, BLKROSET, struct.pack("i", after["read_only"]))
                finally:
                    os.close(fd)
        except OSError as error:
            raise failure(error, "cannot set up " + target) from error
        seen = state_of(_row(look, target))
        if seen != state_of(after):
            raise StorageError("not_enforced", "%s keeps %r" % (target, seen))


def _row(look: Sysfs, target: str) -> dict[str, Any]:
    dev = look.resolve(target)
    if not dev:
        raise StorageError("invalid", "%s is a file, not a block device" % target)
    disk = look.disk(dev)
    schedulers = look.read(disk, "queue/scheduler")
    chosen = re.search(r"\[([^]]+)\]", schedulers)
    return {
        "scheduler": chosen.group(1) if chosen else schedulers,
        "read_ahead": int(look.read(disk, "queue/read_ahead_kb") or 0) * 1024,
        "read_only": look.read(dev, "ro") == "1",
        "_schedulers": schedulers.replace("[", "").replace("]", "").split(),
        "_size": look.size(dev),
        "_serial": look.serial(dev),
        "_by_id": look.links(dev),
        "_diskseq": look.diskseq(dev),
        "_holders": [look.name(d) for d in look.holders(dev)],
        "_mounts": look.mounts().get(dev, []),
        "_protected": look.protected(dev),
        "_stable": look.stable(target, dev),
    }


def _used(target: str, mounts: list[str]) -> StorageError:
    return StorageError("in_use", "%s is mounted at %s" % (target, ", ".join(mounts)), "unmount it first")


def _given(target: str) -> StorageError:
    return StorageError("not_found", "block device %s is not made or removed by its settings" % target)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
