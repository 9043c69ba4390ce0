# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths reached by descriptor (openat2(2)), and the walk from ``/`` that knows where root's territory ends."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from typing import NamedTuple

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import encode

# include/uapi/linux/openat2.h
NO_XDEV, NO_MAGICLINKS, NO_SYMLINKS, BENEATH = 0x01, 0x02, 0x04, 0x08
LINKLESS = BENEATH | NO_SYMLINKS | NO_MAGICLINKS
TENANT = LINKLESS | NO_XDEV
_SYS_OPENAT2 = 437  # the same on x86_64 and aarch64
_RETRIES, _HOPS, _PLACES = 64, 40, 256
# What a mount of these shows (owners, modes, links) is the answer of somebody else's program or machine:
# FUSE, NFS, SMB 2 and 1, 9p, Ceph, AFS (include/uapi/linux/magic.h); 0 is not known.
_FOREIGN = (0x65735546, 0x6969, 0xFE534D42, 0xFF534D42, 0x01021997, 0x00C36400, 0x6B414653, 0x5346414F, 0)

libc = ctypes.CDLL(None, use_errno=True)
syscall = libc["syscall"]
syscall.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
syscall.restype = ctypes.c_long
_hows: dict[tuple[int, int, int], bytes] = {}

_UNSAFE = {
    errno.ELOOP: "is a symbolic link",
    errno.EXDEV: "is a foreign mount, or leaves its directory",
    errno.ENOTDIR: "is not a directory",
    errno.ENXIO: "is a socket, or a device that is not there",
}


def refused(exc: OSError, path: str, tenant: bool = False) -> StorageError:
    """The error for an errno; in tenant territory a link, a mount or a non-directory on the way is ``unsafe_path``."""
    number = exc.errno or 0
    if tenant and number in _UNSAFE:
        text = "%s %s, where others than root can write" % (path, _UNSAFE[number])
        return StorageError("unsafe_path", text, "look at it by hand", errno=number)
    if number in (errno.ENOTEMPTY, errno.ETXTBSY, errno.EAGAIN):
        return StorageError("in_use", "%s: %s" % (path, os.strerror(number)), errno=number)
    return failure(exc, path)


def check(result: int) -> int:
    """The result of a libc call, or OSError with its errno."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def openat2(at: int, relative: bytes, flags: int, resolve: int = TENANT, mode: int = 0) -> int:
    """openat2(2) with O_CLOEXEC; OSError. EAGAIN (a rename raced a ``..``) is tried again, not for ever."""
    how = _hows.get((flags, resolve, mode))
    if how is None:
        how = _hows[flags, resolve, mode] = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, resolve)
    if b"\0" in relative:  # C would silently open what stands before it
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    for _attempt in range(_RETRIES):
        fd: int = syscall(_SYS_OPENAT2, at, relative, how, 24)
        if fd >= 0:
            return fd
        if ctypes.get_errno() not in (errno.EAGAIN, errno.EINTR):
            break
    return check(fd)


def is_link(at: int, name: bytes) -> bool:
    """Asked so that no server of a mount there is: stat(2) would."""
    try:
        os.readlink(name, dir_fd=at)
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise
        return False
    return True


def beneath(anchor: int, relative: str, flags: int, resolve: int = TENANT) -> int:
    """Open what lies beneath an anchor: no link, no mount, no way out. Raises StorageError."""
    try:
        return openat2(anchor, encode(relative), flags, resolve)
    except OSError as exc:
        raise refused(exc, relative, tenant=True) from exc


class _Place(NamedTuple):
    fd: int
    trusted: bool  # only root decides what the names in this directory mean
    real: str  # its path without root's links


class Walk:
    """Directories from ``/`` down, each opened once, with where root's territory ends.

    As long as every directory passed is owned by root and writable by nobody else, links owned by root and mounts are
    followed: they are root's own. Beneath the first directory that somebody else owns or can write to (group bits are
    the ACL's mask; sticky or not), or that a foreign server or FUSE program shows us, is tenant territory: no links,
    no mounts, no way out. What another user's program shows is not entered at all. The descriptors are lent: valid
    until the next call.
    """

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}

    def __enter__(self) -> Walk:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        while self._places:
            os.close(self._places.popitem()[1].fd)

    def parent(self, path: str) -> tuple[int, bytes, bool]:
        """(descriptor of the directory that holds it (O_PATH), its name there, is that directory trusted)."""
        up, _slash, name = path.rpartition("/")
        place = self._place(up or path[:1])
        return place.fd, encode(name or "."), place.trusted

    def open(self, path: str, flags: int, mode: int = 0) -> int:
        """Open by the rules of the walk; the caller closes it. ``not_found`` is a proven ENOENT."""
        at, name, trusted = self.parent(path)
        try:
            return _reach(at, name, flags, path, trusted, mode)[0]
        except OSError as exc:
            if not trusted or exc.errno != errno.ELOOP:
                raise refused(exc, path, not trusted) from exc
        return self.open(self.follow(path), flags, mode)

    def nearest(self, path: str) -> tuple[int, bool]:
        """(a descriptor of the path or of its nearest existing directory above, was it the path itself)."""
        here = path
        while True:
            try:
                return self.open(here, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK), here == path
            except StorageError as error:
                if error.code != "not_found" or here == "/":
                    raise
            here = names.parent(here)

    def content(self, path: str, flags: int) -> int:
        """Open what is to be read, written or mounted as a whole: a device or file that root's own names lead to.

        Where others can write that is a plain file with one name, of root or of its directory's owner. Never waits.
        """
        fd = self.open(path, flags | os.O_NONBLOCK)
        try:
            seen, (at, _name, trusted) = os.fstat(fd), self.parent(self.follow(path))
            theirs = seen.st_nlink == 1 and seen.st_uid in (0, os.fstat(at).st_uid)
            if not trusted and not (stat.S_ISREG(seen.st_mode) and theirs):
                text = "%s is a hard link, a stranger's or no plain file, where others than root can write" % path
                raise StorageError("unsafe_path", text, "look at it by hand")
            return fd
        except BaseException:
            os.close(fd)
            raise

    def real(self, path: str) -> str:
        """The path with the links of root above it resolved."""
        up, _slash, name = path.rpartition("/")
        return _below(self._place(up or "/").real, name) if name else "/"

    def follow(self, path: str) -> str:
        """Where root's own links at this very path lead, or ``unsafe_path``."""
        for hops in range(_HOPS, 0, -1):
            at, name, _trusted = self.parent(path)
            try:
                if not is_link(at, name):
                    return path
            except OSError as exc:
                raise refused(exc, path) from exc
            path = self._goal(path, hops)
        raise StorageError("unsafe_path", "%s: too many links" % path, path=path)

    def _place(self, path: str, hops: int = _HOPS) -> _Place:
        place = self._places.get(path)
        if place is not None:
            return place
        if not self._places:
            fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            self._places["/"] = _Place(fd, _roots_own(os.fstat(fd)), "/")
        if len(self._places) > _PLACES and hops == _HOPS:  # thousands of parents must not use up the descriptors
            for old in [known for known in self._places if not names.within(path, known)]:
                os.close(self._places.pop(old).fd)
        here, rest = names.path(path), []
        while here not in self._places:
            here, _slash, name = here.rpartition("/")
            here = here or "/"
            rest.append(name)
        place = self._places[here]
        while rest:
            here = _below(here, rest[-1])
            place = self._places[here] = self._step(place, rest.pop(), here, hops)
        return place

    def _step(self, at: _Place, name: str, path: str, hops: int) -> _Place:
        try:
            fd, asks = _reach(at.fd, encode(name), os.O_PATH | os.O_DIRECTORY, path, at.trusted)
        except OSError as exc:
            if not at.trusted or exc.errno != errno.ELOOP:
                raise refused(exc, path, not at.trusted) from exc
            goal = self._place(self._goal(path, hops), hops - 1)
            return goal._replace(fd=os.dup(goal.fd))
        return _Place(fd, at.trusted and not asks and _roots_own(os.fstat(fd)), _below(at.real, name))

    def _goal(self, path: str, hops: int) -> str:
        """What the link at ``path`` says, as an absolute path; its ``..`` are the real parents, as in the kernel."""
        up, _slash, name = path.rpartition("/")
        at = self._place(up or "/", hops)
        try:
            # A link of somebody else in root's directory was left there before the directory became root's.
            theirs = os.stat(encode(name), dir_fd=at.fd, follow_symlinks=False).st_uid != 0
            if theirs or not at.trusted or hops <= 0:
                text = "%s is a symbolic link" % path
                raise StorageError("unsafe_path", text, "it is not root's, or loops", path=path)
            text = os.readlink(encode(name), dir_fd=at.fd).decode("utf-8", "surrogateescape")
        except OSError as exc:
            raise refused(exc, path) from exc
        goal = "/" if text.startswith("/") else at.real
        for part in text.split("/"):
            if part == "..":
                goal = names.parent(self._place(goal, hops - 1).real)
            elif part not in ("", "."):
                goal = _below(goal, part)
        return goal


def _below(base: str, name: str) -> str:
    return base.rstrip("/") + "/" + name


def _roots_own(seen: os.stat_result) -> bool:
    return seen.st_uid == 0 and not seen.st_mode & 0o022


def _reach(at: int, name: bytes, flags: int, path: str, trusted: bool, mode: int = 0) -> tuple[int, bool]:
    try:
        return openat2(at, name, flags, TENANT, mode), False
    except OSError as exc:
        if exc.errno != errno.EXDEV:
            raise
        fd, asks = enter(at, name, flags if trusted else os.O_PATH, path, trusted)
        if not trusted:
            os.close(fd)
            raise
        return fd, asks


def enter(at: int, name: bytes, flags: int, path: str, trusted: bool) -> tuple[int, bool]:
    """(what is mounted at a name, does it show the answers of a server). A server that may hang is asked nothing."""
    fd = openat2(at, name, os.O_PATH, LINKLESS)
    try:
        asks = _magic(fd) in _FOREIGN
        if asks:
            from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import foreign

            asks = foreign.judged(fd, path, trusted)
        return os.open("/proc/self/fd/%d" % fd, flags | os.O_CLOEXEC), asks  # the mount that was looked at
    finally:
        os.close(fd)


def _magic(fd: int) -> int:
    """The type of a filesystem as the kernel itself knows it, by statx(2) and statmount(2); 0 before Linux 6.8."""
    about, answer = ctypes.create_string_buffer(256), ctypes.create_string_buffer(512)
    libc.statx(fd, b"", 0x5000, 0x4000, about)  # of this descriptor, without a sync: the mount's unique number
    asked = ctypes.create_string_buffer(struct.pack("=QQQ", 24, struct.unpack_from("=144xQ", about)[0], 1))
    syscall(457, ctypes.addressof(asked), answer, 512, 0)
    return int(struct.unpack_from("=24xQ", answer)[0])
