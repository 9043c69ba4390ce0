# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Port ``project_tag``: the project id of a directory (FS_IOC_FSSETXATTR, include/uapi/linux/fs.h).

The id alone limits nobody: whether it is accounted and enforced is for the port ``quota`` to say.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from typing import Any, Container, Iterable, NamedTuple

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.foreign import peek
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import Walk, openat2, refused
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import REVERSIBLE, state_of

_GET, _SET, _INHERIT = 0x801C581F, 0x401C5820, 0x200  # struct fsxattr: xflags, extsize, nextents, projid, cowextsize
_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW
_ABSENT = {"id": 0, "inherit": False}


class ProjectTag:
    name = "project_tag"
    behind = True

    def scan(self, targets: Iterable[str] | None) -> dict[str, Any]:
        """A directory without id and inheritance is untagged: absent. With None nothing."""
        found: dict[str, Any] = {}
        with Walk() as walk:
            for path in targets or ():
                try:
                    value = self._at(walk, path)
                    if value != _ABSENT:
                        found[path] = value
                except StorageError as error:
                    if error.code != "not_found":
                        found[path] = error
        return found

    def put(self, target: str, before: Any, after: Any) -> None:
        wanted = {**_ABSENT, **(state_of(after) or {})}
        with Walk() as walk:
            now = self._at(walk, target)
            if now != {**_ABSENT, **(state_of(before) or {})} and now != wanted:
                raise StorageError("moved", "the project of %s changed since it was read" % target, "run it again")
            if self._at(walk, target, wanted) != wanted:
                raise StorageError("not_enforced", "%s: the filesystem did not keep the project id" % target)

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: str, before: Any, after: Any) -> str:
        return REVERSIBLE

    def _at(self, walk: Walk, path: str, wanted: Any = None) -> dict[str, Any]:
        fd = walk.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK)
        try:
            if wanted is not None:
                set_tag(fd, wanted["id"], wanted["inherit"], path)
            return tag(fd, path)
        finally:
            os.close(fd)


class Tagged(NamedTuple):
    tagged: int  # got another id
    right: int  # had it already
    left: list[str]  # not touched: devices, fifos, sockets, links, and ``shared``
    shared: list[str]  # files that have a name outside of the tree too: they may be somebody else's


def tag(fd: int, where: str) -> dict[str, Any]:
    flags, _extsize, _extents, project = struct.unpack_from("=4I", _ioctl(fd, _GET, bytearray(28), where))
    return {"id": project, "inherit": bool(flags & _INHERIT)}


def set_tag(fd: int, project: int, inherit: bool, where: str) -> None:
    data = _ioctl(fd, _GET, bytearray(28), where)
    flags = struct.unpack_from("=I", data)[0]
    struct.pack_into("=I", data, 0, flags | _INHERIT if inherit else flags & ~_INHERIT)
    struct.pack_into("=I", data, 12, project)
    _ioctl(fd, _SET, data, where)


def tag_tree(
    fd: int,
    project: int,
    limit: int = 1000000,
    depth: int = 128,
    inherit: bool = True,
    skip: Container[str] = (),
) -> Tagged:
    """Tag what lies in a directory, by descriptor, on this mount only; ``limit_exceeded`` past so many entries, levels.

    Directories get the id before their content does, so that what is made meanwhile inherits it. Can be repeated. What
    is in ``skip`` (paths beneath it) is left as it is. A file of many names is tagged when all of them were seen.
    """
    tagged, seen, skipped = 0, 0, 0
    left: list[str] = []
    linked: dict[int, list[str]] = {}
    here = os.open(".", _OPEN | os.O_DIRECTORY, dir_fd=fd)
    above: list[tuple[int, list[str], str]] = []  # what is left to see there
    names, path = os.listdir(here), ""
    try:
        while True:
            while not names:
                if not above:
                    shared = [name for names in linked.values() for name in names]
                    return Tagged(tagged, seen - tagged - len(left + shared) - skipped, left + shared, shared)
                os.close(here)
                here, names, path = above.pop()
            name = names.pop()
            where, seen = os.path.join(path, name), seen + 1
            if seen > limit or len(above) >= depth:
                raise StorageError("limit_exceeded", "more than %d entries or %d levels beneath" % (limit, depth))
            if where in skip:
                skipped += 1
                continue
            try:
                mode = peek(here, name).st_mode
                if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):  # to open a device or a fifo may do something
                    left.append(where)
                    continue
                child = openat2(here, os.fsencode(name), _OPEN)
            except FileNotFoundError:
                continue  # its owner was faster
            except OSError as error:
                raise refused(error, where, tenant=True) from error
            try:
                found = os.fstat(child)
                folder = stat.S_ISDIR(found.st_mode)
                if not folder and not stat.S_ISREG(found.st_mode):
                    left.append(where)
                    continue
                if not folder and found.st_nlink > 1:
                    linked.setdefault(found.st_ino, []).append(where)
                    if len(linked[found.st_ino]) < found.st_nlink:
                        continue
                    skipped += len(linked.pop(found.st_ino)) - 1
                if tag(child, where) != {"id": project, "inherit": folder and inherit}:
                    set_tag(child, project, folder and inherit, where)
                    tagged += 1
                if folder:
                    above.append((here, names, path))
                    here, names, path, child = child, os.listdir(child), where, -1
            finally:
                if child >= 0:
                    os.close(child)
    finally:
        for number in [here] + [entry[0] for entry in above]:
            os.close(number)


def _ioctl(fd: int, request: int, data: bytearray, where: str) -> bytearray:
    try:
        fcntl.ioctl(fd, request, data)
    except OSError as error:
        if error.errno == errno.ENOTTY:
            raise StorageError("unsupported", "%s: its filesystem has no project ids" % where) from error
        raise failure(error, "cannot tag %s" % where) from error
    return data
