# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making snapshots and taking them away. See ``snapshots``."""

from __future__ import annotations

import os

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import btrfs, btrfschange, nodechange
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
        nodechange.put(_Body(), target, None, {key: after[key] for key in ("type", "source")})
    else:
        _seal(port, target, before)


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
    me = btrfs.subvolume_id(fd)
    base = btrfs.subvolume_path(fd, me)
    for number in reversed([child for inside in btrfs.nested(fd, me).values() for child in inside]):
        inside = os.fsencode(btrfs.subvolume_path(fd, number)[len(base) :].lstrip("/"))
        inner = openat2(fd, inside, FOLDER)
        try:
            btrfschange.make_read_only(inner)
        finally:
            os.close(inner)
    btrfschange.make_read_only(fd)
