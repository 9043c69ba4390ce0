# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changing directories and files in place, and what must be known before one goes; making and removing: dirent.

Imported by the port ``node`` only when something differs: a run that changes nothing does not pay for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
from itertools import islice
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import acl
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.node import (
    CREATION,
    LOOK,
    RIGHTS,
    Node,
    Value,
    xattr,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import (
    Walk,
    openat2,
    refused,
    syscall,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN

OURS = re.compile(rb"\.bulkhead-(trash-)?[0-9a-f]{16}")  # being made, or being removed
IMPLIED = "trusted.bulkhead.implied"  # on directories made only because something beneath them was declared
_MOST = 65536
_SYS_OPEN_TREE, _AT_EMPTY_PATH, _OPEN_TREE_CLONE = 428, 0x1000, 1


def refuse(port: Node, target: str, before: Value | None, after: Value | None, gone: set[Any]) -> StorageError | None:
    if before is None:
        if after and after.get("type") == "subvolume" and not port.subvolumes.get(target, True):
            return StorageError("unsupported", "%s would not lie on btrfs" % target, "declare a directory")
        return None
    if after is not None:
        return _unchangeable(target, before, after)
    if before.get("_link"):
        return StorageError("unsafe_path", "%s is a symbolic link" % target, "remove it by hand")
    mounts = [target] if before["_mounted"] else before.get("_mounts", [])
    busy = sorted(set(mounts) - {spot for name, spot in gone if name != port.name}) if mounts else []
    if busy:
        where = ", ".join(map(repr, busy[:5]))
        return StorageError("in_use", "%s: mounted at %s" % (target, where), "unmount it first", mounts=busy[:32])
    if before.get("_held"):
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import loopusers

        return loopusers.refusal(target, before, gone)
    left = port.left(target, before, gone)
    if left and before["type"] == "directory" and not port.empties:
        text = "%s is not empty: %s" % (target, ", ".join(map(repr, left[:5])))
        return StorageError("would_destroy", text, "empty it first", entries=left[:32])
    return None


def on_btrfs(walk: Walk, target: str) -> bool:
    """Does what is to be made at a path lie on a filesystem that has subvolumes, or is it not known?"""
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import btrfs

    for up in names.ancestors(target):
        try:
            fd = walk.open(up, LOOK | os.O_DIRECTORY)
        except StorageError as error:
            if error.code == "not_found":
                continue
            break
        try:
            return btrfs.magic(fd) == btrfs.MAGIC
        finally:
            os.close(fd)
    return True


def _unchangeable(target: str, now: Value, after: Value) -> StorageError | None:
    if "_trash" in now:
        return None
    if now["type"] != after["type"]:
        text = "%s is a %s, not a %s" % (target, now["type"], after["type"])
        return StorageError("conflict", text, "move it away, or declare what it is")
    if all(now[key] == after[key] for key in now if key in after) or now["_trusted"]:
        return None
    if now["_mounted"]:
        return StorageError("unsafe_path", "%s is a foreign mount" % target, "others could have mounted it there")
    if now.get("_linked"):
        return StorageError("unsafe_path", "%s is a hard link or a stranger's" % target, "whose file is it?")
    return None


def look_inside(value: Value, at: int, name: bytes, fd: int, path: str) -> None:
    """``_entries``, without our own leftovers, and ``_implied``; beneath a mount those of the hidden directory."""
    if value["_mounted"] and name == b".":
        return  # not known, so it stays
    with contextlib.ExitStack() as held:
        if value["_mounted"]:  # a private copy of the mount above it, without the mounts on it: open_tree(2)
            tree = syscall(_SYS_OPEN_TREE, at, b"", _AT_EMPTY_PATH | _OPEN_TREE_CLONE | os.O_CLOEXEC, 0)
            if tree < 0 and ctypes.get_errno() in (errno.EPERM, errno.ENOSYS):
                return
            if tree < 0:  # ENOSPC: fs.mount-max is reached
                text = "cannot look beneath the mount at %s: %s" % (path, os.strerror(ctypes.get_errno()))
                raise StorageError("unreadable", text, "sysctl fs.mount-max bounds the mounts of a namespace")
            held.callback(os.close, tree)
            fd = openat2(tree, name, LOOK | os.O_DIRECTORY)
            held.callback(os.close, fd)
        value["_implied"] = bool(xattr(fd, IMPLIED))
        with os.scandir(fd) as entries:
            found = [os.fsencode(entry.name) for entry in islice(entries, _MOST)]
            others = ("/",) if next(entries, None) else ()  # no name, so it is never gone
        value["_entries"] = tuple(n.decode("utf-8", "surrogateescape") for n in found if not OURS.fullmatch(n)) + others


def put(port: Node, target: str, before: Value | None, after: Value | None) -> None:
    if target in port.again and port.again[target] == after:
        del port.again[target]
        return
    with Walk() as walk:
        fd, now, tenant = -1, None, True
        try:
            at, name, trusted = walk.parent(target)
            tenant = not trusted
            if before is not None or _there(at, name):
                try:
                    fd, now = port.look(walk, target)
                except StorageError as exc:
                    if exc.code != "not_found":
                        raise
            if before is None and after and now and now["_mounted"] and now["type"] == after["type"]:
                port.adopted.add(target)  # the root of a mount that was made a moment ago came with it
                before = now
            if not _as_expected(now, before, after):
                known = port.put_at.get((now["_dev"], now["_ino"]), target) if now and after else target
                if now and known != target and _as_expected(now, after, after):
                    port.again[target] = before
                    return
                raise StorageError("moved", "%s is no longer as it was when the plan was made" % target, "run again")
            if now is not None and after is not None:
                _change(port, walk, target, fd, now, after)
            elif now is not None and now["_mounted"] and target in port.adopted:
                port.adopted.discard(target)  # it goes with its mount
            else:
                from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import dirent

                if now is not None:
                    dirent.remove(port, walk, target, now)
                elif after is not None:
                    dirent.make(port, walk, target, after)
        except OSError as exc:
            raise refused(exc, target, tenant) from exc
        finally:
            if fd >= 0:
                os.close(fd)


def _there(at: int, name: bytes) -> bool:
    """Anything at all? What comes a moment later is never replaced either."""
    try:
        os.close(openat2(at, name, os.O_PATH))
    except OSError as exc:
        return exc.errno != errno.ENOENT
    return True


def _as_expected(now: Value | None, before: Value | None, after: Value | None) -> bool:
    if now is None or before is None:
        return now is before
    if after is None and before.get("_mounted"):
        return bool(now["type"] == before["type"])  # what the mount hid has rights of its own
    wanted = {key: value for key, value in before.items() if key[0] != "_" and key not in CREATION}
    return all(value is UNKNOWN or now.get(key) == value for key, value in wanted.items())


def _change(port: Node, walk: Walk, target: str, fd: int, now: Value, after: Value) -> None:
    problem = _unchangeable(target, now, after)
    if problem is not None:
        raise problem
    size = after.get("size", UNKNOWN)
    if size is not UNKNOWN and size != now["size"]:
        writable = walk.open(target, os.O_RDWR | os.O_NONBLOCK)
        try:
            if not os.path.sameopenfile(fd, writable):
                raise StorageError("moved", "%s was exchanged for another file" % target, "run again")
            os.ftruncate(writable, size)
            os.fsync(writable)
        finally:
            os.close(writable)
    port.put_at[now["_dev"], now["_ino"]] = target
    apply(port, target, fd, now, after)
    with contextlib.suppress(OSError):  # somebody has declared what it shall be: it is no longer merely implied
        os.removexattr(fd, IMPLIED)


def apply(port: Node, path: str, fd: int, now: Value, after: Value) -> None:
    """Owner first (it clears setuid), the default ACL, then ACL and mode, so that a kill leaves a difference that
    the next scan sees. Then read back: some file systems take a mode and forget it."""
    want = {key: now[key] if after.get(key, UNKNOWN) is UNKNOWN else after[key] for key in RIGHTS}
    moves = (want["uid"], want["gid"]) != (now["uid"], now["gid"])
    if moves:
        os.fchown(fd, want["uid"], want["gid"])
    rewrite = moves or want["mode"] != now["mode"] or want["acl"] != now["acl"]
    if want["default_acl"] != now["default_acl"] or (want["default_acl"] and rewrite):  # its base follows the mode
        raw = acl.encode(want["mode"], want["default_acl"]) if want["default_acl"] else b""
        os.setxattr(fd, acl.DEFAULT, raw)
    if rewrite:
        if want["acl"] or now["_raw"][0]:
            os.setxattr(fd, acl.ACCESS, acl.encode(want["mode"], want["acl"]))
        os.fchmod(fd, acl.masked(want["mode"], want["acl"]))  # with an ACL the group bits are its mask
    seen = port.value(fd, now["_mounted"], path)
    lost = [key for key, value in want.items() if seen[key] != value]
    if lost:
        text = "%s: the file system did not keep %s" % (path, ", ".join(lost))
        raise StorageError("not_enforced", text, "it may not support owners, modes or ACLs")
