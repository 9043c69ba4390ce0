# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What changes a Btrfs through its ioctls: subvolumes, its size, its quota and quota groups. See ``btrfs``."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import time

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import btrfs
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.btrfs import (
    ANY,
    LEVEL,
    MAX_EXCL,
    MAX_RFER,
    RSV_RFER,
    ioctl,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import openat2
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

_SUBVOL_CREATE, _SNAP_DESTROY, _SNAP_CREATE_V2, _RESIZE = 0x5000940E, 0x5000940F, 0x50009417, 0x50009403
_SET_FLAGS = 0x4008941A
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK
_QUOTA_CTL, _QGROUP_ASSIGN, _QGROUP_CREATE, _QGROUP_LIMIT = 0xC0109428, 0x40189429, 0x4010942A, 0x8030942B
_QUOTA_RESCAN, _QUOTA_RESCAN_STATUS = 0x4040942C, 0x8040942D


def subvolume_create(parent_fd: int, name: str) -> None:
    """``moved`` when the name is taken."""
    ioctl(parent_fd, _SUBVOL_CREATE, struct.pack("=q4088s", 0, _name(name)), "create the subvolume %s" % name)


def subvolume_destroy(parent_fd: int, name: str) -> None:
    """A read-only one too; a link of that name is not followed. ``in_use`` while subvolumes are nested in it."""
    try:
        ioctl(parent_fd, _SNAP_DESTROY, struct.pack("=q4088s", 0, _name(name)), "remove the subvolume %s" % name)
    except StorageError as error:
        if error.details.get("errno") != errno.ENOTEMPTY:
            raise
        raise StorageError("in_use", error.message, "remove the subvolumes nested in it first") from error


def snapshot(source_fd: int, parent_fd: int, name: str, read_only: bool = False) -> None:
    data = struct.pack("=qQQ32x4040s", source_fd, 0, 2 if read_only else 0, _name(name))
    ioctl(parent_fd, _SNAP_CREATE_V2, data, "snapshot to %s" % name)


def make_writable(fd: int) -> None:
    """The owner of a subvolume may have made it read-only: then nothing in it could be removed."""
    now = btrfs.flags(fd)
    if now & btrfs.READ_ONLY:
        ioctl(fd, _SET_FLAGS, struct.pack("=Q", now & ~btrfs.READ_ONLY), "make the subvolume writable")


def make_read_only(fd: int) -> None:
    now = btrfs.flags(fd)
    if not now & btrfs.READ_ONLY:
        ioctl(fd, _SET_FLAGS, struct.pack("=Q", now | btrfs.READ_ONLY), "make the subvolume read-only")


def snapshot_nested(source_fd: int, made_fd: int) -> None:
    """A snapshot has an empty directory where another is nested in its source: each gets a snapshot, outermost first.

    What is nested or taken away while we copy is left out.
    """
    me = btrfs.subvolume_id(source_fd)
    base = btrfs.subvolume_path(source_fd, me)
    for number in [child for inside in btrfs.nested(source_fd, me).values() for child in inside]:
        try:
            inside = os.fsencode(btrfs.subvolume_path(source_fd, number)[len(base) :].lstrip("/"))
        except StorageError as error:
            if error.code != "not_found":
                raise
            continue
        with contextlib.ExitStack() as held:
            above, _slash, name = inside.rpartition(b"/")
            try:
                there = openat2(made_fd, above or b".", _FOLDER)
                held.callback(os.close, there)
                os.rmdir(name, dir_fd=there)
            except FileNotFoundError:
                continue
            inner = openat2(source_fd, inside, _FOLDER)
            held.callback(os.close, inner)
            if not btrfs.is_subvolume(inner) or btrfs.subvolume_id(inner) != number:
                raise StorageError("moved", "%r was exchanged while it was copied" % os.fsdecode(inside), "run again")
            snapshot(inner, there, os.fsdecode(name))


def resize(fd: int, size: int | None) -> None:
    """Bytes, or None for all of the device."""
    text = b"max" if size is None else b"%d" % size
    ioctl(fd, _RESIZE, struct.pack("=q4088s", 0, text), "resize the filesystem")


# -- quota groups --------------------------------------------------------------------------------------------------


def quota_enable(fd: int, simple: bool) -> None:
    """Simple quota needs Linux 6.7 (``failed`` with EINVAL before); full quota is right only after ``rescan``."""
    ioctl(fd, _QUOTA_CTL, struct.pack("=QQ", 4 if simple else 1, 0), "enable quota")


def rescan(fd: int, timeout: float) -> None:
    """Count anew (full quota) and wait until it is done: ``timeout`` after that many seconds."""
    try:
        ioctl(fd, _QUOTA_RESCAN, bytes(64), "start the quota rescan")
    except StorageError as error:
        if error.details.get("errno") != errno.EINPROGRESS:
            raise
    deadline = time.monotonic() + timeout
    while struct.unpack_from("=Q", ioctl(fd, _QUOTA_RESCAN_STATUS, bytes(64), "watch the quota rescan"))[0]:
        if time.monotonic() > deadline:
            raise StorageError("timeout", "the quota rescan takes longer than %.6g s" % timeout, "run again later")
        time.sleep(0.02)


def qgroup_create(fd: int, qgroupid: int) -> None:
    """Fine when it is there already."""
    _qgroup(fd, _QGROUP_CREATE, struct.pack("=QQ", 1, qgroupid), "create", qgroupid, errno.EEXIST)


def qgroup_destroy(fd: int, qgroupid: int) -> None:
    """Fine when it is gone already; ``in_use`` while it has members."""
    _qgroup(fd, _QGROUP_CREATE, struct.pack("=QQ", 0, qgroupid), "remove", qgroupid, errno.ENOENT)


def qgroup_assign(fd: int, child: int, parent: int, remove: bool = False) -> None:
    """Fine when it is so already."""
    data = struct.pack("=QQQ", 0 if remove else 1, child, parent)
    _qgroup(fd, _QGROUP_ASSIGN, data, "assign", child, errno.ENOENT if remove else errno.EEXIST)


def qgroup_limit(fd: int, qgroupid: int, max_rfer: int | None, max_excl: int | None = None, mark: int = 0) -> None:
    """Bytes, None lifts. ``mark`` goes to the reserved-bytes field, which the kernel stores and never reads."""
    flags = MAX_RFER | MAX_EXCL | RSV_RFER
    limits = [ANY if limit is None else limit for limit in (max_rfer, max_excl, mark or None)]
    _qgroup(fd, _QGROUP_LIMIT, struct.pack("=QQQQQQ", qgroupid, flags, *limits, 0), "limit", qgroupid)


def _qgroup(fd: int, request: int, data: bytes, verb: str, qgroupid: int, fine: int = 0) -> None:
    try:
        ioctl(fd, request, data, "%s the quota group %d/%d" % (verb, qgroupid >> 48, qgroupid % LEVEL))
    except StorageError as error:
        if not fine or error.details.get("errno") != fine:
            raise


def _name(name: str) -> bytes:
    raw = os.fsencode(name)
    if not raw or len(raw) > 255 or raw in (b".", b"..") or b"/" in raw or b"\0" in raw:
        raise StorageError("invalid", "%.300r is not a name of a subvolume" % name)
    return raw
