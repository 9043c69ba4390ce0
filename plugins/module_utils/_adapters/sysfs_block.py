# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts about block devices from /sys, /proc and /dev: who they are, what stands on them, who uses them. No program."""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import Callable, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountinfo
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import encode

VITAL = ("/", "/boot", "/boot/efi", "/efi", "/usr", "/var")
# EFI system and BIOS boot partitions (UEFI 2.10 5.3.3; GRUB manual), as udev records them
BOOT = "boot partition"
_BOOT = re.compile("ID_PART_ENTRY_TYPE=(c12a7328-f81f-11d2-ba4b-00a0c93ec93b|21686148-6449-6e6f-744e-656564454649)")
_STABLE = re.compile(r"/dev/(disk/by-(id|uuid|partuuid)/[^/]+|mapper/(?!control$)[^/]+|rbd/.+|md/[^/]+)")
_LV = re.compile(r"/dev/(?!(?:disk|mapper|block|char|bus|cpu|fd|input|net|pts|shm|snd|vfio|md|rbd)/)([^/]+)/([^/]+)")
# a loop device without a file says EINVAL; ENODEV and ENXIO: it went while we looked
_NOTHING = (errno.ENOENT, errno.ENOTDIR, errno.EINVAL, errno.ENODEV, errno.ENXIO)


def is_stable_name(path: str) -> bool:
    """Does a path name the same thing after a reboot, by its text? ``/dev/sdX``, ``/dev/loopN``, by-label do not."""
    return not path.startswith("/dev/") or bool(_STABLE.fullmatch(path) or _LV.fullmatch(path))


def unstable(target: str, links: list[str]) -> StorageError:
    hint = "name it %s" % links[0] if links else "name it by id, or set allow_unstable_device: true"
    return StorageError("unstable_device", "%s may be another device after a reboot" % target, hint, links=links)


class Sysfs:
    """One look: mounts, loop and vital devices are read at most once, so make a new one for each scan or put.

    ``dev`` is always the text ``major:minor``; ``""`` stands for an image file.
    """

    def __init__(self, root: str = "") -> None:
        self.sys, self.proc, self.by, self.udev = (root + p for p in ("/sys", "/proc", "/dev/disk", "/run/udev/data"))
        self._mounts: dict[str, list[str]] | None = None
        self._loops: dict[tuple[int, int], list[str]] | None = None
        self._vital: dict[str, str] | None = None

    def resolve(self, path: str) -> str:
        """Raises ``not_found``, or ``invalid`` for what is neither a block device nor a regular file."""
        try:
            seen = os.stat(path)
        except OSError as error:
            raise failure(error, "cannot look at " + path) from error
        if not stat.S_ISBLK(seen.st_mode) and not stat.S_ISREG(seen.st_mode):
            raise StorageError("invalid", "%s is neither a block device nor an image file" % path)
        return _number(seen.st_rdev) if stat.S_ISBLK(seen.st_mode) else ""

    def read(self, dev: str, *names: str) -> str:
        """The first attribute that exists and is not empty."""
        texts = (_file("%s/dev/block/%s/%s" % (self.sys, dev, name)) for name in names)
        return next(filter(None, texts), "")

    def name(self, dev: str) -> str:
        return os.path.basename(os.path.realpath("%s/dev/block/%s" % (self.sys, dev)))

    def disk(self, dev: str) -> str:
        """The whole disk of a partition, else the device itself."""
        return self.read(dev, "../dev") if self.read(dev, "partition") else dev

    def size(self, dev: str) -> int:
        return int(self.read(dev, "size") or 0) * 512

    def logical_block_size(self, dev: str) -> int:
        return int(self.read(self.disk(dev), "queue/logical_block_size") or 512)

    def diskseq(self, dev: str) -> str:
        """Changes whenever another medium stands behind the same number (kernel 5.15)."""
        return self.read(self.disk(dev), "diskseq")

    def serial(self, dev: str) -> str:
        disk = self.disk(dev)
        return self.read(disk, "serial", "device/serial") or self.read(disk, "device/vpd_pg80")[4:].strip()

    def identity(self, dev: str) -> str:
        """What stays the same after a reboot: dm uuid, md uuid, WWN, serial, loop backing file; "" when unknown."""
        disk = self.disk(dev)
        if disk != dev:
            whole = self.identity(disk)
            return "%s-part%s" % (whole, self.read(dev, "partition")) if whole else ""
        known = self.read(dev, "dm/uuid", "dm/name", "md/uuid", "wwid", "device/wwid")
        return known or self.serial(dev) or self.read(dev, "loop/backing_file")

    def links(self, dev: str) -> list[str]:
        """The by-id, by-uuid and by-partuuid links to a device; one stat for each such link of the host."""
        folders = [self.by + "/by-" + kind for kind in ("id", "uuid", "partuuid")]
        return [p for p in (f + "/" + e for f in folders for e in _entries(f)) if _device(p) == dev]

    def stable(self, path: str, dev: str) -> bool:
        """``is_stable_name``, and ``/dev/<vg>/<lv>`` really is that logical volume."""
        lv = _LV.fullmatch(path) if dev else None
        if lv:
            return self.read(dev, "dm/name") == "-".join(part.replace("-", "--") for part in lv.groups())
        return is_stable_name(path)

    # -- what stands on what ---------------------------------------------------------------------------------------

    def partitions(self, dev: str) -> list[str]:
        if not dev:
            return []
        here = "%s/dev/block/%s/" % (self.sys, dev)
        return [_file(here + e + "/dev") for e in _entries(here) if os.path.exists(here + e + "/partition")]

    def holders(self, dev: str) -> list[str]:
        return self._standing(dev, "holders")

    def slaves(self, dev: str) -> list[str]:
        return self._standing(dev, "slaves")

    def _standing(self, dev: str, kind: str) -> list[str]:
        folder = "%s/dev/block/%s/%s/" % (self.sys, dev, kind)
        return [_file(folder + e + "/dev") for e in _entries(folder)]

    def beneath(self, dev: str) -> set[str]:
        """Everything a device stands on: slaves, the disk of a partition, what holds the file of a loop device."""
        return _reach(dev, lambda d: [*self.slaves(d), self.disk(d), *self._under(self.read(d, "loop/backing_file"))])

    def above(self, dev: str) -> set[str]:
        return _reach(dev, lambda d: [*self.holders(d), *self.partitions(d)])

    def loops(self, path: str) -> list[str]:
        """Loop devices over an image file, by its inode and not by its name."""
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import loop, loopchange

        if self._loops is None:
            self._loops = {}
            for held in map(loop.attached, sorted(loopchange.backing_files())):
                if held is not None:
                    self._loops.setdefault(held.file, []).append(held.device)
        want = os.stat(path)
        return self._loops.get((want.st_dev, want.st_ino), [])

    # -- who uses it -----------------------------------------------------------------------------------------------

    def mounts(self) -> dict[str, list[str]]:
        """Device -> mount points in this namespace; a mounted btrfs counts for each of its devices."""
        if self._mounts is None:
            self._mounts = {}
            with open(self.proc + "/self/mountinfo", "rb") as f:
                rows = mountinfo.parse(f.read())
            for row in rows:  # btrfs shows an anonymous device: its source tells
                dev = _device(row.source) if row.dev.startswith("0:") else row.dev
                for member in self._pool(dev) if dev else ():
                    self._mounts.setdefault(member, []).append(row.path)
        return self._mounts

    def _pool(self, dev: str) -> Iterable[str]:
        """All devices of the mounted btrfs that ``dev`` belongs to, else itself."""
        folder = self.sys + "/fs/btrfs"
        for here in ("%s/%s/devices/" % (folder, uuid) for uuid in _entries(folder)):
            members = [_file(here + e + "/dev") for e in _entries(here)]
            if dev in members:
                return members
        return [dev]

    def swaps(self) -> list[str]:
        lines = _file(self.proc + "/swaps").split("\n")[1:]
        return [mountinfo.text(encode(line.split(" ", 1)[0])) for line in lines]

    def in_use(self, path: str, dev: str) -> list[str]:
        """Who uses a device or image, or what stands on it: mount points, ``/dev/<holder>``, ``/dev/loopN``, ``swap``.

        An exclusive open tells of other mount namespaces too, where nothing else does (reliability.md I2).
        """
        if not dev:
            return self.loops(path)
        users, swaps = [], {_device(swap) for swap in self.swaps()}
        for each in [dev, *sorted(self.above(dev))]:
            users += self.mounts().get(each, []) + ["swap"] * (each in swaps)
            users += ["/dev/" + self.name(holder) for holder in self.holders(each)]
        if not users and busy(path):
            from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import lio_holder

            users = lio_holder.targets({dev, *self.above(dev)}) or ["another program or mount namespace"]
        return list(dict.fromkeys(users))

    def protected(self, dev: str) -> str:
        """What a device must not be touched for: ``/`` and its like, active swap, a boot partition; "" for nothing."""
        if not dev:  # an image: who uses it is told by its loop devices
            return ""
        if self._vital is None:
            self._vital = {}
            for path, reason in [(path, path) for path in VITAL] + [(swap, "swap") for swap in self.swaps()]:
                for each in [d for d in [_device(path)] if d] or self._under(path):
                    for below in [each, *self.beneath(each)]:
                        self._vital.setdefault(below, reason)
        records = (_file("%s/b%s" % (self.udev, each)) for each in (dev, *self.partitions(dev)))
        return self._vital.get(dev) or (BOOT if any(map(_BOOT.search, records)) else "")

    def _under(self, path: str) -> list[str]:
        """The devices that hold a file or folder, [] when it is not there (or deleted)."""
        if not path or not os.path.exists(path):
            return []
        dev = _number(os.stat(path).st_dev)
        while dev.startswith("0:") and not os.path.ismount(path):
            path = os.path.dirname(os.path.realpath(path))
        return [d for d, points in self.mounts().items() if path in points] if dev.startswith("0:") else [dev]


def busy(path: str) -> bool:
    """Does somebody hold a block device exclusively (open(2), O_EXCL without O_CREAT)?"""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError as error:
        if error.errno == errno.EBUSY:
            return True
        raise failure(error, "cannot open " + path) from error
    return False


def known_as(user: str) -> str:
    """``/dev/dm-3`` by the name that plans know: of a mapping, of a logical volume, of the pool of a hidden one.

    In names of LVM's a dash is doubled, and the layer of a hidden volume is told at the end of its UUID.
    """
    if not user.startswith("/dev/dm-"):
        return user
    name, uuid = (_file("/sys/block/%s/dm/%s" % (user[5:], what)) for what in ("name", "uuid"))
    if not uuid.startswith("LVM-"):
        return "/dev/mapper/" + name if name else user
    vg, lv = (name.replace("--", "\0").split("-") + [""])[:2]
    if uuid.endswith(("-tdata", "-tmeta")):
        lv = lv[: -len("_tdata")]
    return ("/dev/%s/%s" % (vg, lv)).replace("\0", "-")


def _file(path: str) -> str:
    """Text of a small file, "" when it is not there."""
    try:
        with open(path, "rb") as f:
            return f.read().rstrip(b"\n \0").decode("utf-8", "surrogateescape")
    except OSError as error:
        if error.errno not in _NOTHING:
            raise failure(error, "cannot read " + path) from error
        return ""


def _entries(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):  # it may go at any moment
        return []


def _device(path: str) -> str:
    """major:minor of a device node, "" for anything else: the source of a mount may be any text."""
    try:
        seen = os.stat(path if path.startswith("/") else "/" + path)
    except (OSError, ValueError):
        return ""
    return _number(seen.st_rdev) if stat.S_ISBLK(seen.st_mode) else ""


def _number(rdev: int) -> str:
    return "%d:%d" % (os.major(rdev), os.minor(rdev))


def _reach(dev: str, edges: Callable[[str], list[str]]) -> set[str]:
    found: set[str] = set()
    todo = [dev]
    while todo:
        new = {d for d in edges(todo.pop()) if d} - found - {dev}
        found |= new
        todo.extend(new)
    return found
