# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restoring a snapshot: a copy of it takes the place of the volume, and the volume the place of the copy, at once.

The copy is complete, and bounded like the volume, before it comes to its place (RENAME_EXCHANGE, rename(2)). At any
moment before, it lies where what was there is to be kept; at any moment after, what was there lies there.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, Callable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import (
    btrfschange,
    clone,
    loopchange,
    nodechange,
    snapshotchange,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.content import LOOK, MARK, Content, marked
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.node import RIGHTS, DataDir, Value
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import (
    Walk,
    check,
    libc,
    openat2,
    refused,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.qgroup import Quota
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

FOLDER = LOOK | os.O_DIRECTORY
_EXCHANGE = 2  # linux/fs.h


class _Fresh(DataDir):
    """The copy, with its mark before it has a name."""

    def __init__(self, mark: str) -> None:
        super().__init__()
        self.mark = mark

    def finish(self, fd: int, after: Value) -> None:
        os.setxattr(fd, MARK, self.mark.encode("ascii"))


def put(port: Content, target: str, before: Value | None, after: Value | None) -> None:
    now = port.look(target)
    if before is None or after is None or now["restored"] not in (before["restored"], after["restored"]):
        raise StorageError("moved", "%s is no longer as it was when the plan was made" % target, "run again")
    if now["restored"] == after["restored"]:
        _finish(after)
        return
    _free(target, after)
    try:
        _copy(target, after)
        _exchange(target, after["kept"])
        _finish(after)
    except BaseException:
        _back(target, after)
        raise


def _back(target: str, after: Value) -> None:
    """As it was, as far as that can be: the failure is the one to tell. The mark says which of the two is the copy."""
    kept, mark, tree = after["kept"], after["restored"], after["type"] == "subvolume"
    exchanged = False
    with contextlib.suppress(StorageError):
        exchanged = marked(target) == mark
        if exchanged:
            _exchange(target, kept)
    with contextlib.suppress(StorageError):
        if marked(target) == mark or marked(kept) != mark:
            return
        if tree and exchanged:
            _on(target, btrfschange.make_writable)
            _bound(kept, target)
        if tree:
            with contextlib.suppress(StorageError):  # a limit that stays is swept later, a copy would not be
                _lift(kept)
        with Walk() as walk:
            at, name, _trusted = walk.parent(kept)
            folder = openat2(at, b".", FOLDER)
        try:
            clone.remove(folder, name, kept)
        finally:
            os.close(folder)


def _on(path: str, act: Callable[[int], None]) -> None:
    with Walk() as walk:
        fd = walk.open(path, FOLDER)
    try:
        snapshotchange.each(fd, act)
    finally:
        os.close(fd)


def _free(target: str, after: Value) -> None:
    """``in_use`` while it is mounted or attached."""
    with Walk() as walk:
        clone.no_mounts(walk.real(target))
        if after["type"] == "file":
            fd = walk.open(target, LOOK)
            seen = os.fstat(fd)
            os.close(fd)
            held = loopchange.find((seen.st_dev, seen.st_ino))
            if held is not None:
                text = "%s is attached as %s" % (target, held.device)
                raise StorageError("in_use", text, "detach it first", device=held.device)


def _copy(target: str, after: Value) -> None:
    """The copy has the rights and the limit that the volume has now."""
    kept = after["kept"]
    try:
        there = marked(kept)
    except StorageError as error:
        if error.code != "not_found":
            raise
        rights = DataDir().scan([target])[target]
        if isinstance(rights, StorageError):
            raise rights from error
        wanted = {"type": after["type"], "source": after["from"], **{key: rights[key] for key in RIGHTS}}
        nodechange.put(_Fresh(after["restored"]), kept, None, wanted)
    else:
        if there != after["restored"]:
            raise StorageError("conflict", "%s is there already" % kept, "say another restore_id")
    if after["type"] == "subvolume":
        _bound(target, kept)


def _bound(one: str, two: str) -> None:
    """The second gets the limit of the first."""
    quota, mine, its = Quota(), ("project", one), ("project", two)
    limits = _limits(quota, mine, its)
    if mine in limits:
        said = {key: limits[mine][key] for key in ("hard", "parent")}
        quota.put(its, limits.get(its), quota.merge(its, limits.get(its), said))


def _lift(path: str) -> None:
    quota, its = Quota(), ("project", path)
    limits = _limits(quota, its)
    if its in limits:
        quota.put(its, limits[its], None)


def _limits(quota: Quota, *targets: Any) -> dict[Any, Any]:
    found = quota.scan(targets)
    for value in found.values():
        if isinstance(value, StorageError):
            raise value
    return found


def _exchange(one: str, two: str) -> None:
    with contextlib.ExitStack() as held:
        ends: list[Any] = []
        for path in (one, two):
            walk = held.enter_context(Walk())
            at, name, trusted = walk.parent(path)
            if not trusted:
                raise StorageError("unsafe_path", "%s lies where others than root can write" % path, "move the pool")
            folder = openat2(at, b".", FOLDER)
            held.callback(os.close, folder)
            ends += [folder, name]
        try:
            check(libc.renameat2(*ends, _EXCHANGE))
            for folder in ends[::2]:
                os.fsync(folder)
        except OSError as error:
            raise refused(error, one) from error


def _finish(after: Value) -> None:
    """What was there is bounded by nothing any more, as nobody can write to it; in the end it cannot be changed."""
    if after["type"] != "subvolume":
        return
    _lift(after["kept"])
    _on(after["kept"], btrfschange.make_read_only)
