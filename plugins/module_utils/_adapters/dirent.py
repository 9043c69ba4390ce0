# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names in a folder that come and go: made under a private name and published, taken away, swept when a run was killed.

Imported by ``nodechange`` only when something is made or removed: a run that changes nothing does not pay for it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import clone
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.node import LOOK, Node, Value
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.nodechange import IMPLIED, OURS, apply
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import Walk, check, libc, openat2
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import encode

_FOLDER = LOOK | os.O_DIRECTORY
_NOREPLACE = 1  # linux/fs.h


def make(port: Node, walk: Walk, target: str, after: Value) -> None:
    """Made under a private name with rights for root alone, completed, and only then published."""
    open_fds: list[int] = []
    try:
        source = -1
        if "source" in after:
            source, origin = port.look(walk, after["source"])
            open_fds.append(source)
            if origin.get("_linked") or (origin["type"] == "file") != (after["type"] == "file"):
                raise StorageError("unsafe_path", "%s cannot be cloned as a %s" % (after["source"], after["type"]))
        folder, name, trusted = walk.parent(target)
        lasts = source >= 0 or after["type"] == "file"
        if after["type"] != "directory" or source >= 0 or not is_swept(port, folder):
            folder = openat2(folder, b".", _FOLDER)
            open_fds.append(folder)
            sweep(port, folder)
        temporary = b".bulkhead-" + os.urandom(8).hex().encode()
        try:
            fd = _make(folder, temporary, source, after)
            open_fds.append(fd)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # says to every sweep: not stale
            if source >= 0:
                _fill(fd, source, after)
            now = port.value(fd, False, target)
            fresh = source < 0 and now["type"] != "file"
            if fresh and (now["uid"] != os.geteuid() or (not trusted and os.listdir(fd))):
                raise StorageError("moved", "%s was exchanged while it was made" % target, "somebody interferes")
            if source < 0 and now["_raw"][1]:
                now["default_acl"] = None  # inherited from the folder: written over, with what is wanted or nothing
            if now["type"] == "file":
                _size(fd, now["size"], after)
            apply(port, target, fd, now, after)
            port.finish(fd, after)
            if after.get("_implied"):
                try:
                    os.setxattr(fd, IMPLIED, b"1")
                except OSError as exc:
                    if exc.errno not in (errno.ENOTSUP, errno.EPERM):
                        raise  # else no such attributes here: then it will not vanish by itself
            if now["type"] == "file":
                os.fsync(fd)
            rename(folder, temporary, name)
        except BaseException:
            with contextlib.suppress(StorageError):  # the first failure is the one to tell; a later run sweeps
                clone.remove(folder, temporary, target)
            raise
        if lasts:
            os.fsync(folder)
        seen = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if (seen.st_dev, seen.st_ino) != (now["_dev"], now["_ino"]):
            raise StorageError("moved", "%s was exchanged while it was published" % target, "somebody interferes")
        port.put_at[seen.st_dev, seen.st_ino] = target
    finally:
        for fd in reversed(open_fds):
            os.close(fd)


def _make(folder: int, name: bytes, source: int, after: Value) -> int:
    """Returns its descriptor. Directories are 0700 and files 0600, whatever the folder's default ACL says."""
    if after["type"] == "file":
        return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    if after["type"] == "directory":
        os.mkdir(name, 0o700, dir_fd=folder)
    else:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import btrfs, btrfschange

        if btrfs.magic(folder) != btrfs.MAGIC:
            raise StorageError("unsupported", "subvolumes are a matter of btrfs", "declare a directory")
        if source >= 0 and not after.get("copy"):
            btrfschange.snapshot(source, folder, name.decode())
        else:
            btrfschange.subvolume_create(folder, name.decode())
    return openat2(folder, name, _FOLDER)


def _fill(fd: int, source: int, after: Value) -> None:
    if after["type"] == "file":
        clone.file(source, fd, share=not after.get("copy"))
    elif after["type"] == "directory" or after.get("copy"):
        clone.tree(source, fd, share=not after.get("copy"))
    else:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import btrfschange

        btrfschange.snapshot_nested(source, fd)


def _size(fd: int, length: int, after: Value) -> None:
    size = after.get("size", UNKNOWN)
    if size is UNKNOWN:
        return
    if size < length:
        raise StorageError("would_shrink", "the source holds %d bytes, more than %d" % (length, size))
    if size and after.get("thick"):
        os.posix_fallocate(fd, 0, size)
    else:
        os.ftruncate(fd, size)


def remove(port: Node, walk: Walk, target: str, now: Value) -> None:
    if "_link" in now:
        raise StorageError("unsafe_path", "%s is a symbolic link" % target, "remove it by hand")
    at, name, _trusted = walk.parent(target)
    folder = openat2(at, b".", _FOLDER)
    try:
        if now["type"] == "file":
            from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import loopusers

            loopusers.released(target, now)
            os.unlink(name, dir_fd=folder)
        elif now["type"] == "subvolume" or port.empties:
            _remove_tree(walk, folder, name, target, now)
        else:
            _remove_empty(port, folder, name)
    finally:
        os.close(folder)


def _remove_empty(port: Node, folder: int, name: bytes) -> None:
    try:
        os.rmdir(name, dir_fd=folder)
    except OSError as exc:
        if exc.errno != errno.ENOTEMPTY:
            raise
        inner = openat2(folder, name, _FOLDER)
        try:
            sweep(port, inner)  # perhaps only what a killed run left is in it
        finally:
            os.close(inner)
        os.rmdir(name, dir_fd=folder)


def _remove_tree(walk: Walk, folder: int, name: bytes, target: str, now: Value) -> None:
    away = encode(trash(target).rpartition("/")[2])
    clone.no_mounts(walk.real(trash(target) if "_trash" in now else target))
    if "_trash" not in now:
        if now["type"] == "subvolume" and clone.destroyed(folder, name):
            return
        clone.remove(folder, away, target)  # of a killed removal, before another directory took its place
        rename(folder, name, away)
    fd = openat2(folder, away, _FOLDER)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        clone.unlock(fd)
        os.fchown(fd, 0, 0)
        os.fchmod(fd, 0o700)  # nobody comes in any more
        clone.remove(folder, away, target)
    finally:
        os.close(fd)


def trash(target: str) -> str:
    """Where a directory is taken apart: the same name for every run, so that the next one finds it."""
    up, _slash, name = target.rpartition("/")
    return "%s/.bulkhead-trash-%s" % (up, hashlib.sha256(encode(name)).hexdigest()[:16])


def sweep(port: Node, folder: int) -> None:
    """Remove what killed runs left in a folder, once a run: names of ours that no living run holds a lock on."""
    if is_swept(port, folder):
        return
    seen = os.fstat(folder)
    port.swept.add((seen.st_dev, seen.st_ino))
    with os.scandir(folder) as entries:
        stale = [name for name in (os.fsencode(entry.name) for entry in entries) if OURS.fullmatch(name)]
    for name in stale:
        # Held by a living run, or a trap laid under our name: it stays, and is not what this run was asked for.
        with contextlib.suppress(OSError, StorageError):
            _sweep_one(folder, name)


def is_swept(port: Node, folder: int) -> bool:
    seen = os.fstat(folder)
    return (seen.st_dev, seen.st_ino) in port.swept


def _sweep_one(folder: int, name: bytes) -> None:
    try:
        fd = openat2(folder, name, LOOK)
    except OSError as exc:
        if exc.errno not in (errno.ELOOP, errno.ENXIO):
            raise
        return os.unlink(name, dir_fd=folder)  # a link or a socket: nothing that a living run holds
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        clone.remove(folder, name, "a leftover")
    finally:
        os.close(fd)


def rename(folder: int, old: bytes, new: bytes) -> None:
    """Publish, or take away, without ever replacing anything: renameat2(2)."""
    try:
        check(libc.renameat2(folder, old, folder, new, _NOREPLACE))
    except OSError as exc:
        if exc.errno not in (errno.EINVAL, errno.ENOSYS):
            raise
        with contextlib.suppress(FileNotFoundError):  # NFS: the next best
            os.stat(new, dir_fd=folder, follow_symlinks=False)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from exc
        os.rename(old, new, src_dir_fd=folder, dst_dir_fd=folder)
