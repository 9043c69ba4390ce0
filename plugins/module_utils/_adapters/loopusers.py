# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds an image that is to go: the loop devices over it, and where they are mounted, in any mount namespace.

Imported by ``node`` only when a file is removed: a run that changes nothing does not pay for it.
"""

from __future__ import annotations

import os
from typing import Any, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import holders, loop, loopchange, mountinfo
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError


def look(rows: Iterable[dict[str, Any]]) -> None:
    """``_held`` of what is attached: each device with its mount points here and a process that keeps it elsewhere."""
    files = {(row["_dev"], row["_ino"]): row for row in rows}
    held = [each for each in map(loop.attached, loopchange.backing_files()) if each is not None and each.file in files]
    if not held:
        return
    here = mountinfo.parse(mountinfo.read())
    others = [(pid, mountinfo.parse(table)) for pid, table in holders.namespaces()]
    for each in held:
        rdev = os.stat(each.device).st_rdev
        known = {"%d:%d" % (os.major(rdev), os.minor(rdev)), each.device}  # btrfs shows an anonymous number
        mine = [row.path for row in here if not known.isdisjoint((row.dev, row.source))]
        by = next((pid for pid, table in others if _stays(table, known)), 0)
        files[each.file].setdefault("_held", []).append((each.device, each.autoclear, mine, by))


def _stays(table: list[mountinfo.Mount], known: set[str]) -> bool:
    """Is it mounted in another namespace so that no unmount here takes it along? Those of systemd's services mostly
    follow this one: what is mounted on a shared or slave mount goes when it goes from that mount's peer or master."""
    spread = {row.id: row.propagation for row in table}
    users = [row for row in table if not known.isdisjoint((row.dev, row.source))]
    return any(spread.get(row.parent, "private") == "private" for row in users)


def refusal(target: str, row: dict[str, Any], gone: set[Any]) -> StorageError | None:
    """A device that goes with its last mount is fine when all of its mounts go before."""
    if ("loop", target) in gone:
        return None
    for device, autoclear, mounts, by in row["_held"]:
        left = [path for path in mounts if ("mount", path) not in gone]
        if left or by or not mounts or not autoclear:
            where = "mounted at %s" % ", ".join(map(repr, left[:5])) if left else "in use"
            where = "mounted in the namespace of process %d" % by if by else where
            hint = "unmount it there first" if left or by else "losetup -d %s, once nobody uses it" % device
            return StorageError("in_use", "%s is attached as %s, %s" % (target, device, where), hint, device=device)
    return None


def released(target: str, row: dict[str, Any]) -> None:
    """Proves that no device holds it. One that goes by itself may take a moment after its last mount."""
    held = loopchange.find((row["_dev"], row["_ino"]))
    if held is not None and held.autoclear:
        loopchange.wait_gone(held.device)
    elif held is not None:
        raise StorageError("in_use", "%s is attached as %s" % (target, held.device), "detach it first")
