# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""All loop devices, attaching and detaching them, and the port ``loop``."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import time
from typing import Any, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import programs
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.loop import (
    INFO,
    Attached,
    File,
    attached,
    sysfs_text,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import Walk
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import (
    FORWARD,
    REVERSIBLE,
    UNKNOWN,
    state_of,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import encode

_CLR_FD, _SET_CAPACITY, _CONFIGURE = 0x4C01, 0x4C07, 0x4C0A
_GET_FREE = 0x4C82
_READ_ONLY, _AUTOCLEAR, _DIRECT_IO = 1, 4, 16
_CONFIG = struct.Struct("=II232s64x")  # struct loop_config, 304 bytes
_TRIES, _PATIENCE = 64, 5.0


def backing_files() -> dict[str, bytes]:
    """Device path -> the text of its backing file in sysfs, raw."""
    found = {}
    for name in os.listdir("/sys/block"):
        if name.startswith("loop"):
            raw = sysfs_text(name)
            if raw is not None:
                found["/dev/" + name] = raw
    return found


def find(file: File) -> Attached | None:
    """The loop device over a file, by device and inode number. Two over one file would corrupt it."""
    for device in backing_files():
        held = attached(device)
        if held is not None and held.file == file:
            return held
    return None


def attach(file: int, read_only: bool = False, autoclear: bool = False, direct_io: bool = False) -> tuple[int, str]:
    """Attach an open file; returns an open descriptor of the device and its path.

    With ``autoclear`` the device goes with its last user, so until it is mounted it lives as long as the descriptor:
    a kill at any point leaves none behind. LOOP_CONFIGURE sets all of this in one step (kernel 5.8).
    """
    flags = (_READ_ONLY if read_only else 0) | (_AUTOCLEAR if autoclear else 0) | (_DIRECT_IO if direct_io else 0)
    name = os.readlink(b"/proc/self/fd/%d" % file)[:63]
    info = INFO.pack(0, 0, 0, 0, 0, 0, 0, 0, flags, name, b"", b"", 0, 0)
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for _try in range(_TRIES):
            device = "/dev/loop%d" % fcntl.ioctl(control, _GET_FREE)
            fd = _opened(device, os.O_RDONLY if read_only else os.O_RDWR)
            try:
                fcntl.ioctl(fd, _CONFIGURE, _CONFIG.pack(file, 0, info))
                return fd, device
            except OSError as exc:
                os.close(fd)
                if exc.errno != errno.EBUSY:  # EBUSY: somebody else took this number first
                    raise
    finally:
        os.close(control)
    raise StorageError("in_use", "no loop device was free in %d tries" % _TRIES)


def _opened(device: str, flags: int) -> int:
    """The device node may come a moment after the number (udev)."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return os.open(device, flags | os.O_CLOEXEC)
        except FileNotFoundError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def set_capacity(device: str) -> None:
    """Let the device see that its file has grown."""
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _SET_CAPACITY, 0)
    finally:
        os.close(fd)


def detach(device: str) -> None:
    """Free a device that nobody uses; ``in_use`` otherwise. LOOP_CLR_FD itself would only promise to do it later."""
    try:
        fd = os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)
    except OSError as exc:
        if exc.errno == errno.EBUSY:
            raise StorageError("in_use", "%s is mounted or held" % device, "unmount what stands on it first") from exc
        raise
    try:
        fcntl.ioctl(fd, _CLR_FD, 0)
    except OSError as exc:
        if exc.errno != errno.ENXIO:
            raise
    finally:
        os.close(fd)
    wait_gone(device)


def wait_gone(device: str, patience: float = _PATIENCE) -> None:
    """Until the device is free, which is after its last user has closed it; ``in_use`` after ``patience`` seconds."""
    deadline = time.monotonic() + patience
    name = device.rpartition("/")[2]
    while sysfs_text(name) is not None:
        if time.monotonic() > deadline:
            hint = "another mount namespace or process holds it"
            raise StorageError("in_use", "%s is still attached after %.0f s" % (device, patience), hint, device=device)
        time.sleep(0.005)


class Loop:
    """Port ``loop``: backing file -> ``{read_only, size}``; ``size`` is what the device shows, in bytes."""

    name = "loop"
    behind = True
    slow = False

    def scan(self, targets: Iterable[str] | None = None) -> dict[str, Any]:
        held = [a for a in map(attached, backing_files()) if a is not None]
        if targets is None:
            return {a.backing.decode("utf-8", "surrogateescape"): _value(a) for a in held if not a.deleted}
        by_file = {a.file: a for a in held}
        rows: dict[str, Any] = {}
        for target in targets:
            try:
                programs.unasked(target)
                about = os.stat(encode(target), follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as exc:
                rows[target] = StorageError("unreadable", "%s: %s" % (target, exc.strerror))
                continue
            except StorageError as error:
                rows[target] = error
                continue
            if (about.st_dev, about.st_ino) in by_file:
                rows[target] = _value(by_file[about.st_dev, about.st_ino])
        return rows

    def put(self, target: str, before: Any, after: Any) -> None:
        now: Any = self.scan([target]).get(target)
        if isinstance(now, StorageError):
            raise now
        known = {k: v for k, v in (state_of(before) or {}).items() if v is not UNKNOWN}
        if (now is None) != (before is None) or any(now[k] != v for k, v in known.items()):
            raise StorageError("moved", "the loop device of %s is not what was planned for" % target, "run it again")
        try:
            if after is None:
                detach(now["_device"])
            elif now is None:
                self._attach(target, bool(after.get("read_only")))
            else:
                self._grow(target, now, after)
        except OSError as exc:
            raise failure(exc, "cannot attach or change the loop device of %s" % target) from exc

    def _attach(self, target: str, read_only: bool) -> None:
        with Walk() as walk:  # closed again at once: its descriptors would keep mounts busy
            fd = walk.content(target, os.O_RDONLY if read_only else os.O_RDWR)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise StorageError("invalid", "%s is not a regular file" % target)
            os.close(attach(fd, read_only)[0])
        finally:
            os.close(fd)

    def _grow(self, target: str, now: dict[str, Any], after: dict[str, Any]) -> None:
        if after["read_only"] != now["read_only"]:
            raise StorageError("unsupported", "the loop device of %s must be made again for that" % target)
        set_capacity(now["_device"])
        held = attached(now["_device"])
        if held is None or held.size != after["size"]:
            text = "the loop device of %s shows %s bytes, not %s" % (target, held and held.size, after["size"])
            raise StorageError("not_enforced", text, "is the file as long as that, in whole sectors of 512 bytes?")

    def merge(self, target: str, now: Any, declared: Any) -> Any:
        return {**(now or {"read_only": False, "size": UNKNOWN}), **declared}

    def replaces(self, target: str, before: Any, after: Any) -> bool:
        return bool(before["read_only"] != after["read_only"])

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        if before is None or after is None:
            return after is None
        sizes = before["size"], after["size"]
        return UNKNOWN not in sizes and sizes[1] < sizes[0]

    def risk(self, target: str, before: Any, after: Any) -> str:
        """A device is as long as its file: growth cannot be taken back before the file is, and undo goes top down."""
        return FORWARD if before and after and before["size"] != after["size"] else REVERSIBLE

    def opens(self, target: str, before: Any, after: Any) -> str | None:
        return "unknown" if before is None else None


def _value(held: Attached) -> dict[str, Any]:
    device = {"_device": held.device, "_size": held.size, "_autoclear": held.autoclear}
    return {"read_only": held.read_only, "size": held.size, **device}
