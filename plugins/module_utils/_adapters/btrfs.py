# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Btrfs through its ioctls (include/uapi/linux/btrfs.h, btrfs_tree.h): subvolumes and quota groups, no btrfs-progs.

What reads is here, what changes is in ``btrfschange``. Every function takes a descriptor of something on the filesystem
and raises StorageError; ``details["errno"]`` is the number. A quota group id is ``level << 48 | number``; ``0/<n>``
belongs to the subvolume with the id n.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import stat
import struct
from typing import Iterable, Iterator, NamedTuple

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import check, libc
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

MAGIC = 0x9123683E
LEVEL = 1 << 48
ROOT_TREE, TOP, FIRST_SUBVOLUME = 1, 5, 256
_QUOTA_TREE, _BACKREF, _REF = 8, 144, 156
_STATUS, _INFO, _LIMIT, _RELATION = 240, 242, 244, 246
_ON, _RESCAN, _INCONSISTENT, _SIMPLE = 1, 2, 4, 8
MAX_RFER, MAX_EXCL, RSV_RFER = 1, 2, 4
ANY = 2**64 - 1
_GET_FLAGS, READ_ONLY = 0x80089419, 2
_TREE_SEARCH_V2, _INO_LOOKUP, _FS_INFO = 0xC0709411, 0xD0009412, 0x8400941F
_PAGE = 1 << 17  # bytes of one page of a tree search


class Status(NamedTuple):
    mode: str  # "simple" or "full"
    inconsistent: bool
    rescanning: bool


class Group(NamedTuple):
    """A quota group as of the last commit; a limit is None where there is none. ``mark`` is what we leave on ours."""

    rfer: int = 0
    excl: int = 0
    max_rfer: int | None = None
    max_excl: int | None = None
    mark: int = 0
    parents: tuple[int, ...] = ()
    members: tuple[int, ...] = ()


def magic(fd: int) -> int:
    """The type of the filesystem, as statfs(2) tells it."""
    buffer = ctypes.create_string_buffer(256)  # struct statfs begins with the type, a long
    try:
        check(libc.fstatfs(fd, buffer))
    except OSError as error:
        raise failure(error, "cannot look at the filesystem") from error
    return ctypes.c_ulong.from_buffer(buffer).value


def is_subvolume(fd: int) -> bool:
    found = os.fstat(fd)
    return found.st_ino == FIRST_SUBVOLUME and stat.S_ISDIR(found.st_mode) and magic(fd) == MAGIC


def flags(fd: int) -> int:
    """Of a subvolume; ``READ_ONLY`` is the one that matters."""
    return int(struct.unpack("=Q", ioctl(fd, _GET_FLAGS, bytes(8), "look at the subvolume"))[0])


def read_only(fd: int) -> bool:
    return bool(flags(fd) & READ_ONLY)


def subvolume_id(fd: int) -> int:
    """The id of the subvolume that holds what ``fd`` is."""
    found = ioctl(fd, _INO_LOOKUP, struct.pack("=QQ4080x", 0, FIRST_SUBVOLUME), "find the subvolume")
    return int(struct.unpack_from("=Q", found)[0])


def subvolume_path(fs_fd: int, subvolid: int) -> str:
    """Its path beneath the top of the filesystem (``a/b``; the top itself is ``""``), or ``not_found``."""
    parts: list[bytes] = []
    while subvolid != TOP:
        up = next(tree_search(fs_fd, ROOT_TREE, (subvolid, _BACKREF, 0), (subvolid, _BACKREF, ANY)), None)
        if up is None:
            raise StorageError("not_found", "there is no subvolume with the id %d" % subvolid)
        _child, _type, parent, data = up
        folder, _sequence, length = struct.unpack_from("=QQH", data)
        found = ioctl(fs_fd, _INO_LOOKUP, struct.pack("=QQ4080x", parent, folder), "find the directory of a subvolume")
        parts.append(bytes(found[16 : found.index(0, 16)]) + data[18 : 18 + length])
        subvolid = parent
    return os.fsdecode(b"/".join(reversed(parts)))


def nested(fd: int, subvolid: int | None = None) -> dict[int, list[int]]:
    """{subvolume: those right inside it}: the whole filesystem's in one pass, or those beneath one subvolume."""
    found: dict[int, list[int]] = {}
    if subvolid is None:
        for parent, kind, child, _data in tree_search(fd, ROOT_TREE, (TOP, _REF, 0), (ANY - 256, _REF, ANY)):
            if kind == _REF:
                found.setdefault(parent, []).append(child)
        return found
    todo = [subvolid]
    while todo:
        at = todo.pop()
        found[at] = [row[2] for row in tree_search(fd, ROOT_TREE, (at, _REF, 0), (at, _REF, ANY))]
        todo.extend(found[at])
    return found


def filesystem_id(fd: int) -> str:
    """The UUID by which sysfs names the filesystem."""
    raw = bytes(ioctl(fd, _FS_INFO, bytes(1024), "look at the filesystem")[16:32]).hex()
    return "-".join((raw[:8], raw[8:12], raw[12:16], raw[16:20], raw[20:]))


# -- quota groups --------------------------------------------------------------------------------------------------


def quota_status(fd: int) -> Status | None:
    """None while quota is off."""
    for _id, _kind, _offset, data in _quota_items(fd, (0, _STATUS, 0), (0, _STATUS, 0)):
        flags = struct.unpack_from("=QQQ", data)[2]
        if flags & _ON:
            mode = "simple" if flags & _SIMPLE else "full"
            return Status(mode, mode == "full" and bool(flags & _INCONSISTENT), bool(flags & _RESCAN))
    return None


def qgroups(fd: int, only: Iterable[int] | None = None) -> dict[int, Group]:
    """All groups in one pass of the quota tree, or some by a few point reads each; empty while quota is off."""
    items: list[tuple[int, int, int, bytes]] = []
    if only is None:
        items.extend(_quota_items(fd, (0, _INFO, 0), (ANY, _RELATION, ANY)))
    for group in only or ():
        items.extend(_quota_items(fd, (0, _INFO, group), (0, _INFO, group)))
        items.extend(_quota_items(fd, (0, _LIMIT, group), (0, _LIMIT, group)))
        items.extend(_quota_items(fd, (group, _RELATION, 0), (group, _RELATION, ANY)))
    found: dict[int, Group] = {}
    links: dict[int, list[int]] = {}
    for one, kind, other, data in items:
        if kind == _INFO:
            _generation, rfer, _rc, excl = struct.unpack_from("=4Q", data)
            found[other] = Group(rfer, excl)
        elif kind == _LIMIT and other in found:
            flags, rfer, excl, mark = struct.unpack_from("=4Q", data)
            found[other] = found[other]._replace(
                max_rfer=rfer if flags & MAX_RFER else None,
                max_excl=excl if flags & MAX_EXCL else None,
                mark=mark if flags & RSV_RFER else 0,
            )
        elif kind == _RELATION:
            links.setdefault(one, []).append(other)
    for one, others in links.items():
        if one in found:
            parents = tuple(o for o in others if o >> 48 > one >> 48)
            found[one] = found[one]._replace(parents=parents, members=tuple(o for o in others if o not in parents))
    return found


def used(fs_id: str, qgroupid: int) -> int | None:
    """Bytes charged right now, from sysfs (the tree is as old as the last commit); None where there is no sysfs."""
    try:
        with open("/sys/fs/btrfs/%s/qgroups/%d_%d/referenced" % (fs_id, qgroupid >> 48, qgroupid % LEVEL), "rb") as f:
            return int(f.read())
    except (OSError, ValueError):
        return None


def tree_search(
    fd: int, tree: int, low: tuple[int, int, int], high: tuple[int, int, int]
) -> Iterator[tuple[int, int, int, bytes]]:
    """Items (objectid, type, offset, data) with keys from ``low`` to ``high``, paged. ``not_found``: no such tree."""
    buffer = bytearray(112 + _PAGE)
    while True:
        struct.pack_into("=7QIII", buffer, 0, tree, low[0], high[0], low[2], high[2], 0, ANY, low[1], high[1], 1 << 20)
        struct.pack_into("=Q", buffer, 104, _PAGE)
        ioctl(fd, _TREE_SEARCH_V2, buffer, "read the tree %d" % tree)
        count, at = struct.unpack_from("=I", buffer, 64)[0], 112
        if not count:
            return
        for _item in range(count):
            _transid, objectid, offset, kind, length = struct.unpack_from("=QQQII", buffer, at)
            yield objectid, kind, offset, bytes(buffer[at + 32 : at + 32 + length])
            at += 32 + length
        if (objectid, kind, offset) >= high:
            return
        if offset < ANY:
            low = objectid, kind, offset + 1
        else:
            low = (objectid, kind + 1, 0) if kind < 255 else (objectid + 1, 0, 0)


def _quota_items(
    fd: int, low: tuple[int, int, int], high: tuple[int, int, int]
) -> Iterator[tuple[int, int, int, bytes]]:
    try:
        yield from tree_search(fd, _QUOTA_TREE, low, high)
    except StorageError as error:
        if error.code != "not_found":
            raise


def ioctl(fd: int, request: int, data: bytes | bytearray, doing: str) -> bytearray:
    """The buffer as the kernel left it; a bytearray is used in place."""
    buffer = data if isinstance(data, bytearray) else bytearray(data)
    try:
        fcntl.ioctl(fd, request, buffer)
    except OSError as error:
        raise failure(error, "cannot %s" % doing) from error
    return buffer
