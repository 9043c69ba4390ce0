# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A private place on the real kernel: nothing a test mounts is seen outside, nothing it attaches outlives it.

``private_mounts`` (session) moves the test process to its own mount namespace; ``arena`` gives one test an empty
directory on a fresh tmpfs in it, and afterwards takes down whatever was mounted or loop-attached beneath. Both are
known to every test (tests/conftest.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import struct
import subprocess
import tempfile
from typing import Iterator

import pytest

CLONE_NEWNS = 0x00020000
MS_REC, MS_PRIVATE = 0x4000, 1 << 18
MNT_DETACH = 2
LOOP_SET_STATUS64, LOOP_GET_STATUS64 = 0x4C04, 0x4C05
LO_FLAGS_AUTOCLEAR = 4
_libc = ctypes.CDLL(None, use_errno=True)
_entered_by = 0


def _call(name: str, *args: object) -> None:
    if getattr(_libc, name)(*args) != 0:
        number = ctypes.get_errno()
        raise OSError(number, "%s: %s" % (name, os.strerror(number)))


def enter() -> None:
    """Move this process to a mount namespace of its own from which nothing propagates; once per process tree."""
    global _entered_by
    if _entered_by:
        return
    _call("unshare", CLONE_NEWNS)
    _call("mount", b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None)
    _entered_by = os.getpid()


def mount_points(beneath: str) -> list[str]:
    """Mount points at or beneath a path, in the kernel's order (a stacked one is listed once per mount)."""
    with open("/proc/self/mountinfo", "rb") as f:
        fields = [line.split(b" ")[4] for line in f.read().split(b"\n") if line]
    paths = [os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m.group(1), 8)]), raw)) for raw in fields]
    return [p for p in paths if p == beneath or p.startswith(beneath.rstrip("/") + "/")]


def take_down(beneath: str) -> None:
    """Unmount everything at or beneath a path, deepest and newest first, busy or not, then its loop devices."""
    devices = loop_devices(beneath)
    for path in reversed(mount_points(beneath)):
        _libc.umount2(os.fsencode(path), MNT_DETACH)
    for device in devices:
        subprocess.run(["losetup", "-d", device], check=False, stderr=subprocess.DEVNULL)


def loop_devices(beneath: str) -> list[str]:
    """Attached loop devices (``/dev/loopN``) over a file of this namespace at or beneath a path, however it is named.

    The text in sysfs may be that of another namespace's file: the device and inode number tell.
    """
    found = []
    for name in os.listdir("/sys/block"):
        if name.startswith("loop"):
            with contextlib.suppress(OSError), open("/sys/block/%s/loop/backing_file" % name, "rb") as f:
                backing = os.fsdecode(f.read().rstrip(b"\n"))
                inside = backing.startswith(beneath.rstrip("/") + "/") or backing == beneath
                if inside and _over("/dev/" + name, backing, beneath):
                    found.append("/dev/" + name)
    return found


def _over(device: str, backing: str, beneath: str) -> bool:
    info = bytearray(232)  # struct loop_info64, linux/loop.h, begins with the device and inode number of the file
    with open(device, "rb") as f:
        fcntl.ioctl(f, LOOP_GET_STATUS64, info)
    dev, inode = struct.unpack_from("=QQ", info)
    try:
        seen = os.stat(backing)
        return (seen.st_dev, seen.st_ino) == (dev, inode)
    except FileNotFoundError:  # deleted: then it lies on a filesystem that is seen here
        folders = [beneath, *mount_points(beneath)]
        return dev in {os.stat(folder).st_dev for folder in folders if os.path.exists(folder)}


def image(path: str, size: int = 64 << 20, fstype: str = "") -> str:
    """A sparse file of ``size`` bytes, formatted when ``fstype`` is given; returns the path."""
    with open(path, "wb") as f:
        f.truncate(size)
    if fstype:
        quiet = {"ext4": ["-q", "-F"], "xfs": ["-q", "-f"], "btrfs": ["-q", "-f"], "vfat": []}[fstype]
        subprocess.run(["mkfs." + fstype, *quiet, path], check=True, stdout=subprocess.DEVNULL)
    return path


@contextlib.contextmanager
def loop_device(path: str, *options: str, stays: bool = False) -> Iterator[str]:
    """A loop device over ``path`` for the time of the block; autoclear, so that even a killed test leaves none.

    ``stays``: without autoclear and not held open, as an administrator attaches one.
    """
    argv = ["losetup", "--find", "--show", *options, path]
    device = subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout.decode().strip()
    fd = os.open("/dev/null" if stays else device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if stays:
            yield device
            return
        info = bytearray(232)  # struct loop_info64, linux/loop.h
        fcntl.ioctl(fd, LOOP_GET_STATUS64, info)
        flags = struct.unpack_from("=I", info, 52)[0]
        struct.pack_into("=I", info, 52, flags | LO_FLAGS_AUTOCLEAR)
        fcntl.ioctl(fd, LOOP_SET_STATUS64, info)
        yield device
    finally:
        os.close(fd)
        subprocess.run(["losetup", "-d", device], check=False, stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def place(size: str = "1g") -> Iterator[str]:
    """An empty directory on a fresh tmpfs in the private namespace, taken down with all that stands on it."""
    enter()
    path = os.path.realpath(tempfile.mkdtemp(prefix="bulkhead-test-", dir="/run"))  # /tmp is not root's alone
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755,size=" + size, "arena", path], check=True)
        yield path
    finally:
        take_down(path)
        os.rmdir(path)


@pytest.fixture(scope="session")
def private_mounts() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    enter()


@pytest.fixture
def arena(private_mounts: None) -> Iterator[str]:
    with place() as path:
        yield path
