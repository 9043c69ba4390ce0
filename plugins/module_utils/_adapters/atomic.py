# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file is replaced whole or not at all: temporary beside it, fsync, rename, fsync of the folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import Walk, openat2
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import encode

_TEMPORARY = re.compile(rb"\.bulkhead-[0-9a-f]{16}")
_SEALS = ("security.ima", "security.evm")  # signatures over the old content: the kernel makes new ones


def replace(path: str, data: bytes, mode: int | None = None, keep_from: str | None = "", sweep: bool = True) -> None:
    """Make ``path`` hold exactly ``data``, with owner, mode, ACL and SELinux label of ``keep_from`` ("": itself).

    ``mode`` overrides; a new file is 0644 without it. ``sweep`` away what killed runs left: once a run is enough.
    Raises ``unsafe_path`` for a link that leaves the folder.
    """
    try:
        with Walk() as walk:  # no link of a tenant's on the way
            above, name, _trusted = walk.parent(path)
            at = openat2(above, b".", os.O_RDONLY | os.O_DIRECTORY)
    except OSError as exc:
        raise failure(exc, "cannot open the folder of %s" % path) from exc
    try:
        name = _followed(at, name, path)
        if sweep:
            _sweep(at)
        _write(at, name, data, mode, b"" if keep_from is None else encode(keep_from) or name)
    except OSError as exc:
        hint = "is it immutable (lsattr)?" if exc.errno == errno.EPERM else ""
        raise failure(exc, "cannot replace %s" % path, hint) from exc
    finally:
        os.close(at)


def _followed(at: int, name: bytes, path: str) -> bytes:
    """The name to replace: that of a link's target when the target lies in the same folder."""
    for _hop in range(2):
        try:
            if not stat.S_ISLNK(os.lstat(name, dir_fd=at).st_mode):
                return name
        except FileNotFoundError:
            return name
        link = os.readlink(name, dir_fd=at)
        if b"/" in link or link in (b".", b".."):
            break
        name = link
    raise StorageError("unsafe_path", "%s is a symbolic link that leaves its folder" % path, "name the file itself")


def _write(at: int, name: bytes, data: bytes, mode: int | None, keep_from: bytes) -> None:
    temporary = b".bulkhead-" + os.urandom(8).hex().encode()
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=at)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # says: not stale
        try:
            old = os.open(keep_from, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
        except FileNotFoundError:
            os.fchmod(fd, 0o644 if mode is None else mode)
        else:
            try:
                _dress(old, fd, mode)
            finally:
                os.close(old)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.fsync(fd)
        os.rename(temporary, name, src_dir_fd=at, dst_dir_fd=at)
        os.fsync(at)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=at)
        raise
    finally:
        os.close(fd)


def _dress(old: int, new: int, mode: int | None) -> None:
    """Owner first (it clears setuid), then mode, then the extended attributes (an ACL rewrites the group bits)."""
    about = os.fstat(old)
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    os.fchown(new, about.st_uid, about.st_gid)
    os.fchmod(new, stat.S_IMODE(about.st_mode))
    for key in os.listxattr(old):
        if key not in _SEALS:
            os.setxattr(new, key, os.getxattr(old, key))
    if mode is not None:
        os.fchmod(new, mode)


def _sweep(at: int) -> None:
    """Remove what a killed run left: our pattern, our own regular file, and no living writer holds its lock."""
    for entry in os.listdir(at):
        if not _TEMPORARY.fullmatch(os.fsencode(entry)):
            continue
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            about = os.lstat(entry, dir_fd=at)
            if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid():
                continue
            fd = os.open(entry, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(entry, dir_fd=at)
            finally:
                os.close(fd)
