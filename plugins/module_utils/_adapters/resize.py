# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Another size or label for a filesystem; xfs and btrfs resize only while mounted, so then they are, unseen."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import struct
from contextlib import ExitStack
from typing import Callable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.blkprobe import Found
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.sysfs_block import Sysfs
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

BTRFS_RESIZE, XFS_GROW, SET_LABEL = 0x50009403, 0x4010586E, 0x41009432  # linux/btrfs.h, xfs_fs.h, fs.h
GET_LABEL, XFS_GEOMETRY = 0x81009431, 0x80705864
Call = Callable[[str, str, "list[str]", str], bytes]  # filesystem, program, arguments, target for messages


def label(call: Call, device: str, at: str, fstype: str, text: str) -> None:
    """``at``: a mount point, or "" when it is not mounted. ext4 has the ioctl since 5.17, its program works always."""
    if at and fstype != "vfat":
        try:
            _ioctl(at, SET_LABEL, bytearray(text.encode().ljust(256, b"\0")))
            return
        except StorageError as error:
            if fstype != "ext4" or error.details.get("errno") != errno.ENOTTY:
                raise
    program, arguments = {
        "ext4": ("e2label", [device, text]),
        "xfs": ("xfs_admin", ["-L", text or "--", device]),
        "btrfs": ("btrfs", ["filesystem", "label", device, text]),
        "vfat": ("fatlabel", [device, text] if text else ["-r", device]),
        "swap": ("swaplabel", ["-L", text, device]),
    }[fstype]
    call(fstype, program, arguments, device)


def live(found: Found, at: str) -> Found:
    """A mounted xfs as the kernel knows it: its superblock on the disk is written much later, past the page cache."""
    block, blocks = struct.unpack_from("=I28xQ", _ioctl(at, XFS_GEOMETRY, bytearray(112)))
    name = bytes(_ioctl(at, GET_LABEL, bytearray(256))).rstrip(b"\0").decode("utf-8", "backslashreplace")
    return found._replace(size=block * blocks, label=name)


def flush(device: str, at: str) -> None:
    """A mounted filesystem keeps its superblock in memory, a loop device keeps it from its file: both write it now."""
    import ctypes

    for place in filter(None, (at, device)):
        fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if place == at and ctypes.CDLL(None, use_errno=True).syncfs(fd):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            os.fsync(fd)
        except OSError as error:
            raise failure(error, "cannot flush " + place) from error
        finally:
            os.close(fd)


def resize(call: Call, look: Sysfs, device: str, at: str, found: Found, size: int) -> None:
    """Make the filesystem span ``size`` bytes, rounded down to its blocks."""
    if device.startswith("/dev/loop"):
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import loopchange

        loopchange.set_capacity(device)
    if found.fstype == "ext4":
        _ext4(call, look, device, at, found, size)
        return
    if not look.resolve(device):
        raise StorageError("unsupported", "%s grows only while mounted" % device, "attach and mount the image first")
    block = found.facts["block"]
    with ExitStack() as held:
        place = at or _mounted(held, device, found.fstype)
        if found.fstype == "xfs":
            _ioctl(place, XFS_GROW, bytearray(struct.pack("=QI4x", size // block, found.facts["imaxpct"])))
        else:
            name = b"%d:%d" % (found.facts["devid"], size // block * block)
            _ioctl(place, BTRFS_RESIZE, bytearray(struct.pack("=q4088s", 0, name)))


def _ext4(call: Call, look: Sysfs, device: str, at: str, found: Found, size: int) -> None:
    """resize2fs(8): online by the kernel, offline after a check that changes nothing (``e2fsck -fn``, never ``-y``)."""
    blocks, force = size // found.facts["block"], []
    if not at:
        free(look, device, found)
        call("ext4", "e2fsck", ["-fn", device], device)
        force = ["-f"]  # waives only the wish for the check that was just made
        if size < found.size:
            least = re.search(rb": ([0-9]+)\s*$", call("ext4", "resize2fs", ["-P", "-f", device], device))
            if not least or int(least.group(1)) > blocks:
                needs = least.group(1).decode() if least else "an unknown number of"
                text = "the ext4 on %s needs %s blocks, %d are declared" % (device, needs, blocks)
                raise StorageError("would_shrink", text, "delete files, or declare more")
    length = 0 if look.resolve(device) else os.path.getsize(device)
    call("ext4", "resize2fs", [*force, device, "%ds" % (size // 512)], device)
    try:
        if length > os.path.getsize(device):
            os.truncate(device, length)  # it cuts an image off; how long the file is, is not for us to say
    except OSError as error:
        raise failure(error, "cannot give %s its length back" % device) from error


def free(look: Sysfs, device: str, found: Found) -> None:
    """Nobody uses an ext4, and whoever did left it whole."""
    users = look.in_use(device, look.resolve(device))
    if users:
        raise StorageError("in_use", "%s is in use: %s" % (device, ", ".join(users)), "release it first")
    if found.facts["dirty"]:
        text = "the ext4 on %s was not unmounted cleanly" % device
        raise StorageError("failed", text, "mount and unmount it once, or repair it")


def _mounted(held: ExitStack, device: str, fstype: str) -> int:
    """A detached mount for the time of ``held``: no namespace shows it, nothing can enter it, a kill ends it."""
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountapi

    try:
        flags = {"nosuid": True, "nodev": True, "noexec": True}
        return mountapi.filesystem(held, device, fstype, {"source": device}, flags)
    except OSError as error:
        raise failure(error, "cannot mount " + device) from error


def _ioctl(place: str | int, request: int, argument: bytearray) -> bytearray:
    try:
        # "." beneath the descriptor of a detached mount is its root
        base = None if isinstance(place, str) else place
        fd = os.open(place if isinstance(place, str) else ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=base)
        try:
            fcntl.ioctl(fd, request, argument)
            return argument
        finally:
            os.close(fd)
    except OSError as error:
        raise failure(error, "cannot change the filesystem at %s" % place) from error
