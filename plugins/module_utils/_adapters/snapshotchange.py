# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making snapshots and taking them away. See ``snapshots``."""

from __future__ import annotations

import contextlib
import os
from typing import Callable, Iterator

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import (
    btrfs,
    btrfschange,
    fsfreeze,
    loopchange,
    mountinfo,
    nodechange,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.node import LOOK, DataDir, Value
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import Walk, openat2
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.snapshots import Snapshots
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

FOLDER = LOOK | os.O_DIRECTORY


class _Body(DataDir):
    """What is made: complete, and read-only before it has its name."""

    def finish(self, fd: int, after: Value) -> None:
        if after["type"] == "subvolume":
            seal(fd)


def put(port: Snapshots, target: str, before: Value | None, after: Value | None) -> None:
    if after is None:
        nodechange.put(port, target, before, None)
    elif before is None:
        with _still(after):
            nodechange.put(_Body(), target, None, {key: after[key] for key in ("type", "source")})
    else:
        _seal(port, target, before)


@contextlib.contextmanager
def _still(after: Value) -> Iterator[None]:
    """An image that is mounted is copied while nobody can write to it; one that others hold is not copied at all."""
    held = None
    if after["type"] == "file":
        with Walk() as walk:
            fd = walk.open(after["source"], LOOK)
        seen = os.fstat(fd)
        os.close(fd)
        held = loopchange.find((seen.st_dev, seen.st_ino))
    if held is None:
        yield
        return
    place = after["source"][: -len(".img")]
    fd = _mounted(held.device, place)
    if fd < 0:
        text = "%s is attached as %s, and not mounted at %s" % (after["source"], held.device, place)
        raise StorageError("in_use", text, "losetup -d %s, once nobody uses it" % held.device, device=held.device)
    try:
        with fsfreeze.frozen(fd, place):
            yield
    finally:
        os.close(fd)


def _mounted(device: str, place: str) -> int:
    """A descriptor of what is mounted from a device at a place; -1 when it is something else, or nothing."""
    rdev = os.stat(device).st_rdev
    known = {"%d:%d" % (os.major(rdev), os.minor(rdev)), device}  # btrfs shows a number of its own
    rows = {row.id for row in mountinfo.parse(mountinfo.read()) if not known.isdisjoint((row.dev, row.source))}
    try:
        with Walk() as walk:
            fd = walk.open(place, FOLDER)
    except StorageError as error:
        if error.code != "not_found":
            raise
        return -1
    if mountinfo.mount_id(fd) in rows:
        return fd
    os.close(fd)
    return -1


def _seal(port: Snapshots, target: str, before: Value) -> None:
    with Walk() as walk:
        fd, now = port.look(walk, target)
        try:
            if (now["type"], now["read_only"]) != (before["type"], before["read_only"]):
                raise StorageError("moved", "%s is no longer as it was when the plan was made" % target, "run again")
            seal(fd)
        finally:
            os.close(fd)


def seal(fd: int) -> None:
    """A subvolume becomes read-only, and what is nested in it before."""
    each(fd, btrfschange.make_read_only)


def each(fd: int, act: Callable[[int], None]) -> None:
    """Of a subvolume and what is nested in it, innermost first."""
    me = btrfs.subvolume_id(fd)
    base = btrfs.subvolume_path(fd, me)
    for number in reversed([child for inside in btrfs.nested(fd, me).values() for child in inside]):
        inside = os.fsencode(btrfs.subvolume_path(fd, number)[len(base) :].lstrip("/"))
        inner = openat2(fd, inside, FOLDER)
        try:
            act(inner)
        finally:
            os.close(inner)
    act(fd)
