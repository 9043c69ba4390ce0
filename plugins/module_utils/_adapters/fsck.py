# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the checking programs say of a filesystem, each in the way in which it only reads: nothing is ever repaired."""

from __future__ import annotations

import os
from typing import Any, Callable, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import blkprobe
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mkfs import PATH
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.sysfs_block import Sysfs
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

CHECKING = 6 * 3600.0  # seconds
# e2fsck(8), xfs_repair(8), btrfs-check(8), fsck.fat(8); -f: even when the superblock says that it is clean
READS = {
    "ext4": (["e2fsck", "-f", "-n"], "e2fsprogs"),
    "xfs": (["xfs_repair", "-n"], "xfsprogs"),
    "btrfs": (["btrfs", "check", "--readonly"], "btrfs-progs"),
    "vfat": (["fsck.vfat", "-n"], "dosfstools"),
}
# the exit codes that tell of damage; any other than 0 says that it could not be looked at
_DAMAGED = {"ext4": (4, 5, 6, 7), "xfs": (1,), "btrfs": (1,), "vfat": (1,)}


class Health:
    """Port ``health``: path of a device or image -> ``{"health": "clean", "dirty" or "in_use"}``; nothing is declared.

    ``in_use``: not looked at, since a filesystem that changes meanwhile always seems damaged. ``dirty``: its journal
    has what is not in its place yet; a mount puts it there. ``checksum`` for one that is damaged.
    """

    name, behind = "health", True

    def __init__(self, run: Callable[..., Any], search: str = PATH) -> None:
        self.run, self.search = run, search.split(":")

    def scan(self, targets: Iterable[str] | None) -> dict[str, Any]:
        rows: dict[str, Any] = {}
        for target in targets or ():
            try:
                found = self._look(target) if os.path.lexists(target) else ""
            except StorageError as error:
                rows[target] = error
            else:
                if found:
                    rows[target] = {"health": found}
        return rows

    def _look(self, target: str) -> str:
        fd = blkprobe.opened(target)
        try:
            found = blkprobe.quick(fd)
            if found is None or found.fstype not in READS:
                return ""  # what else is there the port of filesystems tells
            look = Sysfs()
            if look.in_use(target, look.resolve(target)):
                return "in_use"
            if found.fstype == "ext4" and os.pread(fd, 4, 1024 + 96)[0] & 4:  # needs_recovery
                return "dirty"
            return self._asked(target, fd, found.fstype)
        finally:
            os.close(fd)

    def _asked(self, target: str, fd: int, fstype: str) -> str:
        argv, package = READS[fstype]
        program = next((p for p in ("%s/%s" % (d, argv[0]) for d in self.search) if os.access(p, os.X_OK)), "")
        if not program:
            text = "%s is not installed" % argv[0]
            raise StorageError("missing_tool", text, "install %s (same name on Debian and RHEL)" % package)
        path = "/proc/%d/fd/%d" % (os.getpid(), fd)  # the very same one, whatever its name leads to now
        rc, out, err = self.run([program, *argv[1:], path], b"", CHECKING)
        if fstype == "xfs" and b"valuable metadata changes in a log" in out + err:
            return "dirty"
        if rc == 0:
            return "clean"
        said = (out.strip() + b"\n" + err.strip()).decode("utf-8", "backslashreplace").strip()
        if rc in _DAMAGED[fstype]:
            hint = "nothing here repairs it: see %s(8), and have a copy first" % argv[0]
            text = "the %s on %s is damaged: %s" % (fstype, target, said[-600:])
            raise StorageError("checksum", text, hint, option="check")
        raise StorageError("failed", "%s on %s: rc %d: %s" % (argv[0], target, rc, said[-600:]), rc=rc)
