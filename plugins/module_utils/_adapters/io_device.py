# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The block device at which the kernel counts the I/O of a path (Documentation/admin-guide/cgroup-v2.rst, io.max).

It takes no partitions. It would take a dm device as well as the disk beneath, and both hold (measured on Linux 6.12
with LVM, thin LVM and LUKS). The disk is taken, because that is what systemd makes of either name whenever it sets
limits anew. A loop device is a disk: what goes through it into its file is mostly charged to nobody down there.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import stat
from typing import Any, NamedTuple

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import encode

BTRFS, CGROUP2 = 0x9123683E, 0x63677270  # linux/magic.h
CGROUPS, SYSFS = "/sys/fs/cgroup", "/sys/dev/block/"
_WRITABLE = re.compile(r"[A-Za-z0-9_.:@+=/-]+", re.ASCII)  # into a unit file, as it is


class Found(NamedTuple):
    number: str  # major:minor of the disk
    known: tuple[str, ...]  # it and what is nothing but it, or a part of it: systemd finds it by any of them
    direct: bool  # named by its device, not by a path on it


class Devices:
    """Nothing is remembered: what stands on what changes."""

    def find(self, source: str) -> Found:
        """``not_found`` for a path that is not there, ``not_enforced`` where no single device stands behind it."""
        try:
            seen = os.stat(source)
        except OSError as error:
            raise failure(error, "cannot look at " + source) from error
        direct = stat.S_ISBLK(seen.st_mode)
        dev = seen.st_rdev if direct else seen.st_dev
        number = "%d:%d" % (os.major(dev), os.minor(dev))
        if not direct and not os.major(dev):
            number = self._btrfs(source)
        return self._disk(number, direct)

    def _btrfs(self, source: str) -> str:
        if filesystem(source) != BTRFS:
            text = "%s lies on no block device of this host" % source
            hint = "tmpfs, overlay and network filesystems have none to limit: name a device"
            raise StorageError("not_enforced", text, hint)
        mounts, place = _sysfs().mounts(), os.path.realpath(source)
        points = {point for each in mounts.values() for point in each}
        while place not in points and place != "/":  # a subvolume looks like a mount, and need not be one
            place = os.path.dirname(place)
        members: list[str] = [dev for dev, here in mounts.items() if place in here]
        if len(members) == 1:
            return members[0]
        text = "%s lies on a Btrfs of %d devices, and each would be limited by itself" % (source, len(members))
        raise StorageError("not_enforced", text, "name one device")

    def _disk(self, number: str, direct: bool) -> Found:
        known = [number]
        while True:
            disk = whole(number)
            if disk != number:
                known.append(disk)
            number = disk
            below = slaves(number)
            leaves = {leaf for each in below for leaf in self._leaves(each)}
            if len(below) > 1 and len(leaves) > 1:  # a stripe, a mirror: all of it passes here
                return Found(number, tuple(known), direct)
            if len(below) > 1:  # a thin pool: systemd would stop above it
                return Found(leaves.pop(), (), direct)._replace(known=tuple(self._parts(below)))
            if not below:
                return Found(number, tuple(known), direct)
            number = below[0]
            known.append(number)

    def _leaves(self, number: str) -> set[str]:
        disk = whole(number)
        below = slaves(disk)
        return {leaf for each in below for leaf in self._leaves(each)} if below else {disk}

    def _parts(self, numbers: list[str]) -> list[str]:
        """The one disk beneath several devices, and before it the parts of it that they lie on."""
        found: list[str] = []
        for number in numbers:
            below = slaves(number)
            found += self._parts(below) if below else [number, whole(number)]
        return list(dict.fromkeys(found))

    def name(self, found: Found) -> str:
        """A path that means the disk after the next boot too; "" where udev has made none."""
        for each in reversed(found.known):
            for link in _sysfs().links(each):
                if _WRITABLE.fullmatch(link):
                    return str(link)
        return ""

    def path(self, number: str) -> str:
        return "/dev/" + os.path.basename(os.path.realpath(SYSFS + number)).replace("!", "/")


def unstable(source: str, found: Found) -> StorageError | None:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import sysfs_block

    if not found.direct or sysfs_block.is_stable_name(source):
        return None
    return sysfs_block.unstable(source, [link for each in found.known for link in _sysfs().links(each)])


def attribute(number: str, name: str) -> str:
    """Of a block device in sysfs; "" where it has none, or is no more."""
    try:
        with open(SYSFS + number + "/" + name, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read().strip()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO):
            return ""
        raise failure(error, "cannot read %s of device %s" % (name, number)) from error


def whole(number: str) -> str:
    return attribute(number, "../dev") if attribute(number, "partition") else number


def slaves(number: str) -> list[str]:
    """What a device of dm or md stands on."""
    try:
        names = sorted(os.listdir(SYSFS + number + "/slaves"))
    except FileNotFoundError:
        return []
    return [attribute(number, "slaves/%s/dev" % name) for name in names]


def _sysfs() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.sysfs_block import Sysfs

    return Sysfs()


def filesystem(path: str) -> int:
    """The magic number of statfs(2), whose structure begins with it, a long."""
    buffer = ctypes.create_string_buffer(256)
    libc: Any = ctypes.CDLL(None, use_errno=True)
    if libc.statfs(encode(path), buffer):
        number = ctypes.get_errno()
        raise failure(OSError(number, os.strerror(number)), "cannot look at the filesystem of " + path)
    return ctypes.c_ulong.from_buffer(buffer).value
