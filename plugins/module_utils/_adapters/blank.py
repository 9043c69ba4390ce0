# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard of every port that overwrites a device: it is blank by our own reads, or its token was typed; nobody uses
it; this host does not stand on it; and it is the same device with the same content when it is written to.

A program never proves any of this. ``seen`` goes into a row for ``refusal`` and ``consent``; ``Taken`` is for ``put``.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import blkprobe, signatures
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.sysfs_block import BOOT, Sysfs, known_as
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

MOMENT = 2.0  # seconds


def seen(look: Sysfs, target: str, fd: int) -> tuple[signatures.Content, dict[str, Any]]:
    """What is on a device or in an image, and the observations of it that the others here ask for."""
    dev = look.resolve(target)
    users = look.in_use(target, dev)
    content = signatures.examine(fd, identity(look, target, dev), bool(users))
    stable = look.stable(target, dev)
    return content, {
        "_device_size": content.detail["device_size"],
        "_token": content.token,
        "_live": bool(users),
        "_in_use": users,
        "_protected": look.protected(dev),
        "_stable": stable,
        "_by_id": [] if stable else look.links(dev),
    }


def vital(target: str, found: dict[str, Any], fresh: bool = False) -> StorageError | None:
    """``protected``: root, boot, swap or the ESP stands on it. A ``fresh`` one is not yet what it is called."""
    if found["_protected"] and not (fresh and found["_protected"] == BOOT):
        text = "%s holds %s of this host" % (target, found["_protected"])
        return StorageError("protected", text, "choose another device")
    return None


def in_use(target: str, users: list[str]) -> StorageError | None:
    if users:
        text = "%s is in use: %s" % (target, ", ".join(users))
        return StorageError("in_use", text, "release it first, or declare its users absent too", users=users)
    return None


def staying(users: list[str], gone: set[Any]) -> list[str]:
    """Those users that the same plan does not remove. The hidden volumes of a thin pool go with it."""
    leaving = {"/dev/%s/%s" % target if port == "thin_pool" else target for port, target in gone}
    leaving |= {os.path.realpath(t) for t in leaving if isinstance(t, str) and t.startswith("/dev/")}
    return [user for user in users if user not in leaving and known_as(user) not in leaving]


class Taken:
    """A device or image for one ``put``: opened for ourselves alone, and proved to be what was seen before.

    ``before`` is None for a device that was blank, else a row with the ``_token`` of what may be destroyed. Raises
    ``in_use``, ``protected`` or ``moved``. ``hold`` is a descriptor that stays when ``let`` hands the device over to a
    program, which wants the exclusive open for itself; by this descriptor it cannot meet another file.
    """

    def __init__(self, look: Sysfs, target: str, before: Any) -> None:
        self.look, self.target, self.hold = look, target, -1
        self.dev = look.resolve(target)
        users, needed = look.in_use(target, self.dev), look.protected(self.dev)
        fresh = before is None or before.get("unfinished")  # blank, which is proved below; or half made by us
        if users or needed and not (fresh and needed == BOOT):
            raise StorageError("in_use" if users else "protected", "%s holds %s" % (target, needed or ", ".join(users)))
        self.fd = blkprobe.opened(target, os.O_RDWR | (os.O_EXCL if self.dev else 0))
        try:
            self.hold = os.open("/proc/self/fd/%d" % self.fd, os.O_RDONLY | os.O_CLOEXEC)
            claim(self.hold, target)
            self.stamp = _stamp(look, os.fstat(self.fd))
            live = bool(before and before.get("_live"))
            self.content = signatures.examine(self.fd, identity(look, target, self.dev), live)
            self.size: int = self.content.detail["device_size"]
            if self.content.kind != "blank" if before is None else self.content.token != before.get("_token"):
                raise StorageError("moved", "the content of %s changed since it was looked at" % target)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Taken:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def wipe(self) -> None:
        if self.content.kind != "blank":
            zero(self.fd, self.size, self.target)

    def let(self) -> str:
        """Let go of the exclusive open; a path for a program that opens the very same file."""
        os.close(self.fd)
        self.fd = -1
        return "/proc/%d/fd/%d" % (os.getpid(), self.hold)

    def steady(self) -> None:
        """``moved`` where the name leads to another device meanwhile."""
        if not os.path.exists(self.target) or _stamp(self.look, os.stat(self.target)) != self.stamp:
            raise StorageError("moved", "%s became another device meanwhile" % self.target, "look at both")

    def again(self) -> signatures.Content:
        """What is there now that a program is done, on the same device."""
        self.steady()
        return signatures.examine(self.hold, self.target, live=True)  # nobody asks for a token of it

    def close(self) -> None:
        for each in (self.fd, self.hold):
            if each >= 0:
                os.close(each)
        self.fd = self.hold = -1


def claim(fd: int, target: str) -> None:
    """Our programs inherit the lock on an image, so it is not free as long as one of a killed run still writes to it.

    A device they open exclusively, which is a lock of their own. What another thread of ours starts has all descriptors
    for a moment, between fork(2) and execve(2): also one that we closed meanwhile.
    """
    if stat.S_ISREG(os.fstat(fd).st_mode):
        end = time.monotonic() + MOMENT
        while not _locked(fd):
            if time.monotonic() > end:
                text = "a program of an earlier run still works on %s" % target
                raise StorageError("in_use", text, "wait until it has ended")
            time.sleep(0.01)
        os.set_inheritable(fd, True)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def zero(fd: int, size: int, target: str, base: int = 0) -> None:
    """The first and last 4 MiB of ``size`` bytes from ``base``. The head first: without it nothing can be mounted."""
    chunk = bytes(1 << 20)
    try:
        for start, end in ((0, min(signatures.EDGE, size)), (max(signatures.EDGE, size - signatures.EDGE), size)):
            while start < end:
                start += os.pwrite(fd, chunk[: end - start], base + start)
        os.fsync(fd)
    except OSError as error:
        raise failure(error, "cannot wipe " + target) from error


def identity(look: Sysfs, target: str, dev: str) -> str:
    if dev:
        return look.identity(dev) or target
    found = os.stat(target)
    return "file %d:%d" % (found.st_dev, found.st_ino)


def _stamp(look: Sysfs, found: os.stat_result) -> tuple[Any, ...]:
    """What a path leads to, beyond its name: a device number alone may be given to another disk."""
    if stat.S_ISBLK(found.st_mode):
        return found.st_rdev, look.diskseq("%d:%d" % (os.major(found.st_rdev), os.minor(found.st_rdev)))
    return found.st_dev, found.st_ino
