# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loop devices (linux/loop.h, loop(4)). A device is known by the device and inode number of its backing file."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import NamedTuple, Tuple

_GET_STATUS64 = 0x4C05
_BLKGETSIZE64 = 0x80081272
INFO = struct.Struct("=QQQQQIIII64s64s32sQQ")  # struct loop_info64, 232 bytes
File = Tuple[int, int]


class Attached(NamedTuple):
    device: str
    backing: bytes  # as sysfs shows it, " (deleted)" taken off: for people, not for identity
    deleted: bool
    file: File  # st_dev and st_ino of the backing file (lo_device is encoded as stat(2) does)
    read_only: bool
    autoclear: bool
    size: int
    whole: bool  # no offset into the file and no limit of its size


def sysfs_text(name: str) -> bytes | None:
    try:
        fd = os.open("/sys/block/%s/loop/backing_file" % name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, 1 << 16)[:-1]  # one page at most; hosts have hundreds of these, mostly free
        finally:
            os.close(fd)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        if exc.errno in (errno.ENODEV, errno.ENXIO):
            return None
        raise


def attached(device: str) -> Attached | None:
    """What a loop device holds, or None when it is free. Opening it takes no part in its use."""
    raw = sysfs_text(device.rpartition("/")[2])
    if raw is None:
        return None
    try:
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as exc:
        if exc.errno in (errno.ENXIO, errno.ENODEV, errno.ENOENT):
            return None
        raise
    try:
        info = INFO.unpack(fcntl.ioctl(fd, _GET_STATUS64, bytes(INFO.size)))
        size = struct.unpack("=Q", fcntl.ioctl(fd, _BLKGETSIZE64, bytes(8)))[0]
    except OSError as exc:
        if exc.errno == errno.ENXIO:
            return None
        raise
    finally:
        os.close(fd)
    deleted = raw.endswith(b" (deleted)")
    if deleted:
        try:
            here = os.stat(raw)  # a file may really be named like this
            deleted = info[:2] != (here.st_dev, here.st_ino)
        except OSError:
            deleted = True
    backing = raw[: -len(b" (deleted)")] if deleted else raw
    flags = info[8]
    return Attached(device, backing, deleted, info[:2], bool(flags & 1), bool(flags & 4), size, info[3:5] == (0, 0))
