# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole files and trees by descriptor, copied (ioctl_ficlone(2) or sparse) and removed; never past a link or mount."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from itertools import islice
from typing import Any, List, Tuple

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountinfo
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.foreign import peek
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import (
    TENANT,
    check,
    libc,
    openat2,
    refused,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

_FICLONE = 0x40049409
_CHUNK, _BATCH, _REFILLED, _DIRECTORIES = 1 << 20, 4096, 16, 1000000
_SUBVOLUME = 256
_LOOK = os.O_RDONLY | os.O_NONBLOCK
_FOLDER = _LOOK | os.O_DIRECTORY
_Dress = Tuple[os.stat_result, List[Tuple[str, bytes]]]
_UP = TENANT & ~0x08  # not BENEATH: ``..`` is opened, and then proved to be where we came from


def file(source: int, target: int, share: bool = True) -> None:
    """Content of an open file: shared where the file system can and ``share`` allows, else copied without its holes."""
    try:
        if share:
            fcntl.ioctl(target, _FICLONE, source)
            return
    except OSError as exc:
        if exc.errno not in (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS):
            raise
    size, at = os.fstat(source).st_size, 0  # what grows meanwhile is not waited for
    os.ftruncate(target, size)
    while at < size:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
            end = min(size, os.lseek(source, at, os.SEEK_HOLE))
        except OSError as exc:
            if exc.errno != errno.ENXIO:
                raise
            return  # only a hole is left
        while at < end:
            data = os.pread(source, min(_CHUNK, end - at), at)
            if not data:
                return  # it was cut while we read
            at += os.pwrite(target, data, at)


def tree(source: int, target: int, share: bool = True) -> None:
    """Copy what is in one directory to an empty one: owners, modes, ACLs and other attributes, times, links, holes.

    Links stay links; several names of a file stay so within the tree; fifos and sockets are left out; a device is
    ``unsupported``, a mount ``unsafe_path``. What disappears meanwhile is left out. Nobody else may enter the target
    before it is done: its own rights are set last.
    """
    todo: list[bytes] = [b"."]
    done: list[tuple[bytes, _Dress]] = []
    linked: dict[tuple[int, int], bytes] = {}
    while todo:
        path = todo.pop()
        try:
            here = openat2(source, path, _FOLDER)
        except FileNotFoundError:
            if path == b".":
                raise
            os.rmdir(path, dir_fd=target)
            continue
        except OSError as exc:
            raise refused(exc, _text(path), tenant=True) from exc
        there = -1
        try:
            there = openat2(target, path, _FOLDER)
            dress = _undress(here)
            _entries(here, there, path, target, todo, linked, share)
        finally:
            os.close(here)
            if there >= 0:
                os.close(there)
        done.append((path, dress))
        if len(done) + len(todo) > _DIRECTORIES:
            raise StorageError("limit_exceeded", "more than %d directories to copy" % _DIRECTORIES)
    for path, dress in reversed(done):  # deepest first: filling a directory changes its times
        there = openat2(target, path, _FOLDER)
        try:
            _put_on(there, dress)
        finally:
            os.close(there)
    check(libc.syncfs(target))


def _entries(
    here: int,
    there: int,
    path: bytes,
    top: int,
    todo: list[bytes],
    linked: dict[tuple[int, int], bytes],
    share: bool,
) -> None:
    for entry in os.listdir(here):
        name = os.fsencode(entry)
        inner = path + b"/" + name
        try:
            seen = peek(here, name)
            kind = stat.S_IFMT(seen.st_mode)
            if kind == stat.S_IFDIR:
                os.mkdir(name, 0o700, dir_fd=there)
                todo.append(inner)
            elif kind == stat.S_IFLNK:
                os.symlink(os.readlink(name, dir_fd=here), name, dir_fd=there)
                os.chown(name, seen.st_uid, seen.st_gid, dir_fd=there, follow_symlinks=False)
                os.utime(name, ns=(seen.st_atime_ns, seen.st_mtime_ns), dir_fd=there, follow_symlinks=False)
            elif kind == stat.S_IFREG:
                known = linked.get((seen.st_dev, seen.st_ino))
                if known is not None:
                    os.link(known, name, src_dir_fd=top, dst_dir_fd=there, follow_symlinks=False)
                else:
                    _copy(here, there, name, share)
                    if seen.st_nlink > 1:
                        linked[seen.st_dev, seen.st_ino] = inner
            elif kind in (stat.S_IFCHR, stat.S_IFBLK):
                raise StorageError("unsupported", "%r is a device and is not copied" % _text(inner), "remove it first")
        except FileNotFoundError:
            continue  # it was removed while we read
        except OSError as exc:
            if exc.errno in (errno.EINVAL, errno.ENOTDIR):  # no link any more, or no directory
                raise StorageError("moved", "%r was exchanged while it was copied" % _text(inner)) from exc
            raise refused(exc, repr(_text(inner)), tenant=exc.errno in (errno.ELOOP, errno.EXDEV)) from exc


def _copy(here: int, there: int, name: bytes, share: bool) -> None:
    source = openat2(here, name, _LOOK)
    try:
        if not stat.S_ISREG(os.fstat(source).st_mode):
            raise StorageError("moved", "%r was exchanged while it was copied" % _text(name))
        target = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=there)
        try:
            file(source, target, share)
            _put_on(target, _undress(source))
        finally:
            os.close(target)
    finally:
        os.close(source)


def _undress(fd: int) -> _Dress:
    keys = [key for key in os.listxattr(fd) if not key.startswith("trusted.")]  # those are other programs' books
    return os.fstat(fd), [(key, os.getxattr(fd, key)) for key in keys]


def _put_on(fd: int, dress: _Dress) -> None:
    """Owner first (it clears setuid and capabilities), attributes, mode (an ACL's mask is its group bits), times."""
    seen, attributes = dress
    os.fchown(fd, seen.st_uid, seen.st_gid)
    for key, value in attributes:
        os.setxattr(fd, key, value)
    os.fchmod(fd, stat.S_IMODE(seen.st_mode))
    os.utime(fd, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def no_mounts(path: str) -> None:
    """``in_use`` when this mount namespace has anything mounted at or beneath a path."""
    found = [row.path for row in mountinfo.parse(mountinfo.read()) if names.within(row.path, path)]
    if found:
        text = "%s holds a foreign mount: %s" % (path, ", ".join(map(repr, found[:5])))
        raise StorageError("in_use", text, "unmount it first", mounts=found[:32])


def remove(folder: int, name: bytes, path: str) -> None:
    """Take away whatever has this name, with all beneath it, in a fixed number of descriptors however deep it is.

    Raises ``unsafe_path`` at a mount (nothing past it is removed), ``moved`` when somebody moves directories away under
    us, ``in_use`` when somebody fills them as fast as we empty them. Without an error it is gone.
    """
    here = os.dup(folder)
    levels: list[list[Any]] = [[_ident(here), [name], 0]]  # which, what is left in it, how often its last refilled
    try:
        while levels:
            level = levels[-1]
            if level[1]:
                inner = _drop(here, level[1][-1], path)
                if inner < 0:
                    level[1].pop()
                    level[2] = 0
                    continue
                os.close(here)
                here = inner
                os.fchown(here, 0, 0)
                os.fchmod(here, 0o700)  # a tenant that still holds it open makes nothing new in it
                with os.scandir(here) as entries:
                    left = [os.fsencode(entry.name) for entry in islice(entries, _BATCH)]
                level[2] += len(left) < _BATCH  # all of it was seen: emptied now, it ought to stay empty
                if level[2] > _REFILLED:
                    raise StorageError("in_use", "%s: somebody keeps writing there" % path, "stop them first")
                levels.append([_ident(here), left, 0])
                continue
            levels.pop()
            if levels:
                up = openat2(here, b"..", _FOLDER, _UP)
                os.close(here)
                here = up
                if _ident(here) != levels[-1][0]:
                    raise StorageError("moved", "%s: directories are moved while they are removed" % path, "run again")
    except OSError as exc:
        if exc.errno == errno.ENOENT:  # even the way back
            raise StorageError("moved", "%s: others remove it too" % path, "run again") from exc
        raise refused(exc, path, tenant=True) from exc
    finally:
        os.close(here)


def destroyed(here: int, name: bytes) -> bool:
    """A subvolume goes whole, with one call; not while others are nested in it."""
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import btrfschange

    try:
        btrfschange.subvolume_destroy(here, os.fsdecode(name))
    except StorageError as error:
        if error.code != "in_use" and error.details.get("errno") not in (errno.EINVAL, errno.ENOTDIR, errno.ENOENT):
            raise
        return False  # nested ones, or somebody put something else there
    return True


def unlock(fd: int) -> bool:
    """Is a directory a subvolume? Then it is made writable: its owner may have said otherwise."""
    if os.fstat(fd).st_ino != _SUBVOLUME:
        return False
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import btrfs, btrfschange

    if btrfs.is_subvolume(fd):
        btrfschange.make_writable(fd)
        return True
    return False


def _drop(here: int, name: bytes, path: str) -> int:
    """Remove one name; a descriptor when it is a directory that is not empty, -1 when it is gone."""
    number = errno.EISDIR
    for act in (os.unlink, os.rmdir):
        try:
            act(name, dir_fd=here)
            return -1
        except FileNotFoundError:
            return -1
        except OSError as exc:
            if exc.errno == errno.ENOTEMPTY:
                break
            if exc.errno == errno.EBUSY and name.startswith(b".nfs"):
                _let_go(here, name, path)
                return -1
            number = number if exc.errno == errno.ENOTDIR else exc.errno or 0
    else:
        text = "%s: %r cannot be removed: %s" % (path, _text(name), os.strerror(number))
        if number == errno.EBUSY:
            text = "%s: a foreign mount at %r, nothing past it was removed" % (path, _text(name))
            raise StorageError("unsafe_path", text, "unmount it first")
        hint = "is it immutable (lsattr)?" if number == errno.EPERM else ""
        raise StorageError(refused(OSError(number, ""), path).code, text, hint, errno=number)
    try:
        fd = openat2(here, name, _FOLDER)
    except FileNotFoundError:
        return -1  # somebody moved it away
    try:
        gone = unlock(fd) and destroyed(here, name)
    except BaseException:
        os.close(fd)
        raise
    if not gone:
        return fd
    os.close(fd)
    return -1


def _let_go(here: int, name: bytes, path: str) -> None:
    """What an NFS client keeps of a file that was removed: it goes with its last user, and with what could not be
    written. Where the server had no room that is kept for good, so it is cut off.
    """
    for pause in (0.0, 0.1, 0.2, 0.4, 0.8):
        time.sleep(pause)
        with contextlib.suppress(OSError):  # gone, most likely
            _cut(openat2(here, name, os.O_WRONLY | os.O_NONBLOCK))
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=here)
        try:
            os.stat(name, dir_fd=here, follow_symlinks=False)
        except FileNotFoundError:
            return
    text = "%s: a file that was removed is still open on this host" % path
    raise StorageError("in_use", text, "end who has it open (lsof), and run it again")


def _cut(fd: int) -> None:
    try:
        seen = os.fstat(fd)
        if stat.S_ISREG(seen.st_mode) and seen.st_nlink == 1:  # else it is a file of another directory too
            os.ftruncate(fd, 0)
    finally:
        os.close(fd)


def _ident(fd: int) -> tuple[int, int]:
    seen = os.fstat(fd)
    return seen.st_dev, seen.st_ino


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
