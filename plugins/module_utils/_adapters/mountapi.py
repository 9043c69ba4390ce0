# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounts by descriptor: the mount API of Linux 5.2 and mount_setattr(2) of 5.12 (linux/mount.h), and making a mount.

A mount is made detached, with its flags from the first instant, and moved onto a descriptor of its mount point: there
is no moment without ``nosuid``, and a name swapped for a link in between changes nothing.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from contextlib import ExitStack, suppress
from functools import lru_cache
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountinfo, statmount
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mountinfo import Mount
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mounts import (
    ATIME,
    FLAGS,
    MOUNT_KEYS,
    differing,
    flags,
    superblock,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import (
    LINKLESS,
    Walk,
    check,
    libc,
    openat2,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import encode

# System calls: the same numbers on x86_64 and aarch64.
_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT, _MOUNT_SETATTR = 428, 429, 430, 431, 432, 442
_SET_FLAG, _SET_STRING, CREATE, RECONFIGURE = 0, 1, 6, 7
_EMPTY_PATH, RECURSIVE, _UMOUNT_NOFOLLOW, _MNT_DETACH = 0x1000, 0x8000, 8, 2
INTO_GROUP = 0x144  # not onto that one: its peers and masters become that one's (5.15)
_PROPAGATION = {"private": 1 << 18, "slave": 1 << 19, "shared": 1 << 20, "unbindable": 1 << 17}
_DEFAULTS = {"o:mode": 0o1777, "o:uid": 0, "o:gid": 0}  # of a tmpfs that root mounts
_OFF = {"sync": b"async"}  # what lifts an option that is not its name after "no"

_syscall = libc["syscall"]
_syscall.argtypes, _syscall.restype = [ctypes.c_long, *[ctypes.c_void_p] * 5], ctypes.c_long  # numbers, text or NULL


def syscall(number: int, *args: Any) -> int:
    return check(_syscall(number, *args, *[0] * (5 - len(args))))


def put(target: str, before: Any, after: Any) -> None:
    verb = "mount" if before is None else "unmount" if after is None else "change"
    try:
        with ExitStack() as held, Walk() as walk:
            if before is None:
                create(held, walk, target, after)
            else:
                from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountchange

                at, name, _trusted = walk.parent(target)
                mountchange.put(held, target, at, name, before, after)
    except OSError as exc:
        raise failure(exc, "cannot %s %s" % (verb, target)) from exc


def own(held: ExitStack, fd: int) -> int:
    held.callback(os.close, fd)
    return fd


def mount_id(fd: int) -> int:
    """Which mount a descriptor is in, by the number that mountinfo shows."""
    known = statmount.number(fd, statmount.OLD_ID)
    return mountinfo.mount_id(fd) if known is None else known


def _row(number: int) -> Mount | None:
    """One row of the table without parsing the others: what statmount(2) does not answer."""
    data = b"\n" + mountinfo.read()
    start = data.find(b"\n%d " % number) + 1
    return mountinfo.parse(data[start : data.index(b"\n", start) + 1])[0] if start else None


def clone(held: ExitStack, fd: int, more: int = 0) -> int:
    return own(held, syscall(_OPEN_TREE, fd, b"", 1 | os.O_CLOEXEC | _EMPTY_PATH | more))


def move(tree: int, point: int, how: int = 0x44) -> None:
    syscall(_MOVE_MOUNT, tree, b"", point, b"", how)


def open_at(at: int, name: bytes) -> int:
    """The root of what is mounted at a name, or the mount point itself: never through a link."""
    return openat2(at, name, os.O_PATH, LINKLESS)


def look(fd: int, target: str) -> dict[str, Any]:
    row = statmount.row(fd) or _row(mount_id(fd))
    if row is None:
        raise StorageError("moved", "%s was unmounted in between" % target, "run it again")
    options = mountinfo.options(row.super_options)
    return {**flags(row, options), **superblock(row, options, fd), "_row": row}


def set_flags(fd: int, now: dict[str, Any] | None, after: dict[str, Any], recursive: bool = False) -> None:
    """mount_setattr(2): the flags and the propagation that are known and differ, in one step."""
    put = take = spread = 0
    for key in MOUNT_KEYS & after.keys():
        value = after[key]
        if value is UNKNOWN or (now is not None and now[key] == value):
            continue
        if key == "propagation":
            spread = _PROPAGATION[value]
        elif key == "atime":
            put, take = put | ATIME[value], take | 0x70
        elif value:
            put |= FLAGS[key][0]
        else:
            take |= FLAGS[key][0]
    if put or take or spread:
        attributes = struct.pack("=QQQQ", put, take, spread, 0)
        syscall(_MOUNT_SETATTR, fd, b"", _EMPTY_PATH | (RECURSIVE if recursive else 0), attributes, 32)


def configure(context: int, target: str, options: dict[str, Any], command: int) -> None:
    """One fsconfig(2) for each key, so that no value can smuggle in another option. Numbers are plain digits."""
    try:
        for key, value in options.items():
            if value is True:
                syscall(_FSCONFIG, context, _SET_FLAG, encode(key), None, 0)
            elif value is False:
                syscall(_FSCONFIG, context, _SET_FLAG, _OFF.get(key) or b"no" + encode(key), None, 0)
            elif value is not UNKNOWN:
                text = "%o" % value if key == "mode" and isinstance(value, int) else str(value)
                syscall(_FSCONFIG, context, _SET_STRING, encode(key), encode(text), 0)
        syscall(_FSCONFIG, context, command, None, None, 0)
    except OSError as exc:
        said = _kernel_says(context)
        error = failure(exc, "cannot mount %s" % target if command == CREATE else "cannot change %s" % target)
        if "nknown parameter" in said:
            error.code = "unsupported"
        error.message += " (%s)" % said if said else ""
        raise error from exc


def _kernel_says(context: int) -> str:
    """What the kernel wrote about it into the context, one message a read, without its severity letter."""
    said = []
    try:
        for _message in range(16):
            said.append(os.read(context, 4096)[2:].strip().decode("utf-8", "replace"))
    except OSError as exc:
        if exc.errno != errno.ENODATA:
            raise
    return "; ".join(said)


def options_of(value: dict[str, Any]) -> dict[str, Any]:
    return {k[2:]: v for k, v in value.items() if k[:2] == "o:"}


def create(held: ExitStack, walk: Walk, target: str, after: dict[str, Any]) -> None:
    at, name, _trusted = walk.parent(target)
    point = own(held, open_at(at, name))
    if mount_id(point) != mount_id(at):
        raise StorageError("moved", "something is mounted at %s already" % target, "run it again")
    if names.within(_archive(), walk.real(target)):
        _load_all(_archive())
    if after.get("fstype") == "tmpfs" and not after.get("bind"):
        said = {k: v for k, v in after.items() if k not in _DEFAULTS or v != _DEFAULTS[k]}
        tree = filesystem(held, target, "tmpfs", {"source": after.get("source", "tmpfs")}, said)
    else:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mounttree

        tree = mounttree.tree(held, walk, target, after)
    move(tree, point)
    try:
        # A shared mount around the mount point makes what is put there shared: said again after the move.
        set_flags(tree, None, {"propagation": after.get("propagation", UNKNOWN)}, bool(after.get("recursive")))
        now = look(tree, target)
        if now["_row"].path != walk.real(target):
            raise StorageError("unsafe_path", "%s was renamed while it was mounted" % target, "look at it by hand")
        enforced(now, target, after)
    except BaseException:
        # Our own, a moment old, and its name may be somebody else's by now: by descriptor there is only the lazy way.
        check(libc.umount2(b"/proc/self/fd/%d" % tree, _MNT_DETACH))
        raise


@lru_cache(maxsize=None)
def _archive() -> str:
    """The archive that Ansible runs this from; "" when it is run from files."""
    archive = os.path.realpath(__file__.rpartition("/ansible_collections/")[0])
    return archive if os.path.isfile(archive) else ""


@lru_cache(maxsize=None)
def _load_all(archive: str) -> None:
    """A mount over it (it is often in /tmp) hides what is not loaded yet."""
    import importlib
    import pkgutil

    for top in ("ansible", "ansible_collections"):
        for found in pkgutil.walk_packages(["%s/%s" % (archive, top)], top + "."):
            with suppress(ImportError):  # it wants a library that is not here
                importlib.import_module(found.name)


def filesystem(held: ExitStack, target: str, fstype: str, source: dict[str, Any], after: dict[str, Any]) -> int:
    """A detached mount of a new filesystem context; its flags are there from the first instant."""
    try:
        context = own(held, syscall(_FSOPEN, encode(fstype), 1))
    except OSError as exc:
        if exc.errno == errno.ENODEV:
            raise StorageError("unsupported", "this kernel knows no filesystem %r" % fstype) from exc
        raise
    configure(context, target, {**source, **options_of(after)}, CREATE)
    bits = ATIME.get(after.get("atime", ""), 0)
    for key, (bit, _word) in FLAGS.items():
        bits |= bit if after.get(key) is True else 0
    return own(held, syscall(_FSMOUNT, context, 1, bits))


def enforced(now: dict[str, Any], target: str, after: dict[str, Any]) -> None:
    """What the kernel drops silently is a failure, not a detail."""
    wrong = differing(now, after)
    if wrong:
        text = ", ".join("%s is %r instead of %r" % (k, now.get(k, False), after[k]) for k in wrong)
        hint = "the kernel took the options and did not keep them; some need a fresh mount"
        raise StorageError("not_enforced", "%s: %s" % (target, text), hint, fields=wrong)


def unmount(at: int, name: bytes, number: int) -> None:
    """umount2(2) by the directory that holds the name: this very mount, never through a link, lazily or by force."""
    fd = open_at(at, name)
    try:
        if mount_id(fd) != number:
            raise StorageError("moved", "something else was mounted over %r" % name, "run it again")
    finally:
        os.close(fd)  # an open descriptor of the mount would keep it busy
    try:
        check(libc.umount2(b"/proc/self/fd/%d/%s" % (at, name), _UMOUNT_NOFOLLOW))
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise
        raise StorageError("moved", "%r was exchanged while it was unmounted" % name, "somebody interferes") from exc
