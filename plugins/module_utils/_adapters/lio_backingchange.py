# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making image files, and letting them grow; one that nobody has written to can be taken back."""

from __future__ import annotations

import os
import stat
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import Walk
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import state_of


def put(port: Any, target: str, before: Any, after: Any) -> None:
    now = port.scan([target]).get(target)
    if isinstance(now, StorageError):
        raise now
    if (now and state_of(now)) != (before and state_of(before)):
        raise StorageError("moved", "%s is not as it was when it was looked at" % target, "run it again")
    try:
        with Walk() as walk:
            if now is None:
                _make(walk, target, after["size"])
            elif after is None:
                _take_back(walk, target, before["size"])
            else:
                _grow(walk, target, now["size"], after["size"])
    except OSError as error:
        raise failure(error, "cannot make or change " + target) from error
    seen = port.scan([target]).get(target)
    if (seen and state_of(seen)) != (after and state_of(after)):
        raise StorageError("not_enforced", "%s is %r" % (target, seen and state_of(seen)))


def unsafe(target: str) -> StorageError | None:
    try:
        with Walk() as walk:
            return None if walk.parent(target)[2] else _theirs(target)
    except StorageError as error:
        return None if error.code == "not_found" else error  # a folder that is yet to be made is looked at then


def _theirs(target: str) -> StorageError:
    text = "%s lies where others than root can write" % target
    return StorageError("unsafe_path", text, "keep images in a folder of root's")


def _make(walk: Walk, target: str, size: int) -> None:
    """A kill in between leaves one that is too short, which grows."""
    folder, name, trusted = walk.parent(target)
    if not trusted:
        raise _theirs(target)
    at = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=at)
        try:
            os.ftruncate(fd, size)
            os.fsync(fd)
        except OSError:
            os.unlink(name, dir_fd=at)
            raise
        finally:
            os.close(fd)
        os.fsync(at)
    finally:
        os.close(at)


def _grow(walk: Walk, target: str, size: int, more: int) -> None:
    fd = walk.content(target, os.O_RDWR)
    try:
        if os.fstat(fd).st_size != size or more < size:
            raise StorageError("moved", "%s is not as it was when it was looked at" % target, "run it again")
        os.ftruncate(fd, more)
        os.fsync(fd)
    finally:
        os.close(fd)


def _take_back(walk: Walk, target: str, size: int) -> None:
    folder, name, _trusted = walk.parent(target)
    seen = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISREG(seen.st_mode) or seen.st_size != size or seen.st_blocks:
        raise StorageError("would_destroy", "%s has been written to" % target, "remove it by hand")
    os.unlink(name, dir_fd=folder)
