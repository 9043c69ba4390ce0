# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Port ``fsinfo``: what the filesystem beneath a path can do. Facts only, read once per call.

``total_bytes`` and ``own`` may be declared of a directory that its NFS server holds to a size: a proof, never made so.
"""

from __future__ import annotations

import fcntl
import os
import struct
from typing import TYPE_CHECKING, Any, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import Walk
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names, size
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import REVERSIBLE

if TYPE_CHECKING:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mountinfo import Mount

_XFS_GEOMETRY, _XFS_REFLINK = 0x8100587E, 1 << 20  # struct xfs_fsop_geom, fs/xfs/libxfs/xfs_fs.h


class FsInfo:
    name = "fsinfo"
    behind = True

    def scan(self, targets: Iterable[str] | None) -> dict[str, Any]:
        """Of each path or its nearest existing ancestor; with None nothing."""
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountinfo

        found: dict[str, Any] = {}
        rows = {row.id: row for row in mountinfo.parse(mountinfo.read())}
        with Walk() as walk:
            for path in targets or ():
                try:
                    fd, _there = walk.nearest(path)
                    try:
                        row = rows[mountinfo.mount_id(fd)]
                        found[path] = _facts(fd, row)
                        if row.fstype == "nfs4":
                            found[path].update(_served(walk, fd, row))
                    finally:
                        os.close(fd)
                except StorageError as error:
                    found[path] = error
                except (KeyError, OSError) as error:
                    found[path] = StorageError("unreadable", "%s: %s" % (path, error), "its mount changes right now")
        return found

    def same(self, target: str, now: dict[str, Any], declared: dict[str, Any]) -> bool:
        """NFS counts in blocks, which may be of 1 MiB, and rounds up."""
        block = now.get("block_bytes", 1)
        blocks = -(-declared["total_bytes"] // block)
        return bool(now["total_bytes"] == blocks * block and (now.get("own") or not declared.get("own")))

    def refuse(self, target: str, before: Any, after: Any, gone: set[Any]) -> StorageError | None:
        if before["total_bytes"] == after["total_bytes"]:
            text = "the server's limit of %s is that of its whole export, and other volumes would share it" % target
            return StorageError("not_enforced", text, "give each directory a project quota of its own on the server")
        has, wants = size.human(before["total_bytes"]), size.human(after["total_bytes"])
        text = "the server shows %s for %s, so nothing holds it to %s" % (has, target, wants)
        hint = "give the directory a project quota (hard) of that size on the server: quota with the paths it charges"
        return StorageError("not_enforced", text, hint, total_bytes=before["total_bytes"])

    def put(self, target: str, before: Any, after: Any) -> None:
        raise StorageError("unsupported", "%s: what a filesystem can do is a fact, not a wish" % target)

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        return False

    def risk(self, target: str, before: Any, after: Any) -> str:
        return REVERSIBLE


def visible(fd: int, inside: str) -> str:
    """Where a path of the filesystem (from its top) is seen, through the mount of ``fd``; else itself."""
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountinfo

    number = mountinfo.mount_id(fd)
    row = next((row for row in mountinfo.parse(mountinfo.read()) if row.id == number), None)
    if row is None or not names.within(inside, row.root):
        return inside
    return row.path.rstrip("/") + inside[len(row.root.rstrip("/")) :] or "/"


def _facts(fd: int, row: Mount) -> dict[str, Any]:
    space = os.fstatvfs(fd)
    has = set(row.super_options.split(b","))
    return {
        "fstype": row.fstype,
        "mount": row.path,
        "project_quota": bool(has & {b"prjquota", b"pquota"}) and _enforced(fd, row.fstype),  # pqnoenforce only counts
        "qgroup": row.fstype == "btrfs",
        "reflink": row.fstype == "btrfs" or (row.fstype == "xfs" and _xfs_reflink(fd)),
        "free_bytes": space.f_bavail * space.f_frsize,
        "total_bytes": space.f_blocks * space.f_frsize,
        "loop": os.path.exists("/dev/loop-control"),
    }


def _served(walk: Walk, fd: int, row: Mount) -> dict[str, Any]:
    """``own``: is the limit another one than that of all that is mounted there?"""
    here, top = os.fstatvfs(fd), walk.open(row.path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return {"block_bytes": here.f_frsize, "own": os.fstatvfs(top).f_blocks != here.f_blocks}
    finally:
        os.close(top)


def _enforced(fd: int, fstype: str) -> bool:
    """ext4 still shows its option after quotaoff(8)."""
    if fstype != "ext4":
        return fstype == "xfs"
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import quotactl

    return bool(quotactl.states(fd)["project"]["on"])


def _xfs_reflink(fd: int) -> bool:
    geometry = bytearray(256)
    fcntl.ioctl(fd, _XFS_GEOMETRY, geometry)
    return bool(struct.unpack_from("=I", geometry, 92)[0] & _XFS_REFLINK)
