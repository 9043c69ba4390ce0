# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mount made of a device, a file or another path, and what it takes to let go of one again.

Imported only when such a mount is made or removed: a run that changes nothing does not pay for it.
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import (
    loop,
    loopchange,
    mountapi,
    mountinfo,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import Walk
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import encode

# Where a filesystem says what it is: ext2/3/4, XFS, btrfs, FAT32, FAT16/12.
_MAGIC = (
    ("ext4", 0x438, b"\x53\xef"),
    ("xfs", 0, b"XFSB"),
    ("btrfs", 0x10040, b"_BHRfS_M"),
    ("vfat", 0x52, b"FAT32"),
    ("vfat", 0x36, b"FAT1"),
)


def tree(held: ExitStack, walk: Walk, target: str, after: dict[str, Any]) -> int:
    """A detached mount of ``after``, with its flags; it and what must live until it is attached go to ``held``."""
    source = after["source"]
    if after.get("bind"):
        more = mountapi.RECURSIVE if after.get("recursive") else 0
        copy = mountapi.clone(held, mountapi.own(held, walk.open(source, os.O_PATH)), more)
        mountapi.set_flags(copy, None, after, bool(more))
        return copy
    if after.get("fstype") in mountinfo.NETWORK and ":/" in source:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import nfschange

        return nfschange.tree(held, target, after)
    device, extra = source, {}
    if source.startswith("/"):
        device, fstype = _device(held, walk, source, after.get("read_only") is True)
        after = {**after, "fstype": after.get("fstype") or fstype}
        if not after["fstype"]:
            raise StorageError("invalid", "%s shows no filesystem, or several" % source, "set fstype", option="fstype")
        # The filesystem itself is read-only then, or it would write to the device (replay, superblock) all the same.
        extra = {"ro": True} if after.get("read_only") is True else {}
    return mountapi.filesystem(held, target, after.get("fstype") or source, {"source": device, **extra}, after)


def _device(held: ExitStack, walk: Walk, source: str, read_only: bool) -> tuple[str, str]:
    """The block device of a source, and the filesystem it shows. A file gets a loop device that goes with its mount."""
    mode = os.O_RDWR if not read_only and stat.S_ISREG(os.stat(encode(source)).st_mode) else os.O_RDONLY
    backing = mountapi.own(held, walk.content(source, mode))  # a link that was put there since the plan is refused
    about = os.fstat(backing)
    if stat.S_ISBLK(about.st_mode):
        return source, probe(backing)
    if not stat.S_ISREG(about.st_mode):
        raise StorageError("invalid", "source %s is neither a device nor a file" % source, option="source")
    other = loopchange.find((about.st_dev, about.st_ino))
    if other is None:
        fd, device = loopchange.attach(backing, read_only, autoclear=True)
        mountapi.own(held, fd)
    else:  # a second loop device over the same file would corrupt it
        if other.read_only > read_only or not other.whole:
            what = "in part" if not other.whole else "read-only"
            raise StorageError("in_use", "%s is attached %s as %s" % (source, what, other.device), device=other.device)
        device = other.device
        mountapi.own(held, os.open(device, os.O_RDONLY | os.O_CLOEXEC))
    return device, probe(backing)


def released(device: str, dev: str) -> None:
    """After an unmount: wait for the loop device to go, unless it was attached to stay or is mounted elsewhere."""
    held = loop.attached(device)
    if held is not None and held.autoclear and b" %s " % dev.encode() not in mountinfo.read():
        loopchange.wait_gone(device)


def probe(fd: int) -> str:
    """The filesystem of a device by its magic number, "" when it shows none or more than one."""
    found = {fstype for fstype, at, magic in _MAGIC if os.pread(fd, len(magic), at) == magic}
    return found.pop() if len(found) == 1 else ""
