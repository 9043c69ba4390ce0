# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a recursive bind brings along: taken off with it or not at all, and brought when it is missing.

Loaded only when a bind is changed or removed.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from typing import Any, Iterator, NamedTuple

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountapi, mountinfo
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mountapi import (
    RECURSIVE,
    clone,
    mount_id,
    open_at,
    own,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mountinfo import Mount, Table
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mounts import FLAGS
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import Walk
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import within

_ALONE = {"propagation": "private"}


class _Kept(NamedTuple):
    """A mount that is about to go, as a detached twin to mount again, and one more that remembers its peers."""

    mount: Mount
    twin: int
    peer: int


@contextmanager
def without(row: Mount, at: int, name: bytes) -> Iterator[None]:
    """A bind without what came along, deepest gone first. Should the block fail, all of it is mounted again.

    Only what is still mounted at the source is taken off; else the kernel refuses, and the message names who holds it.
    """
    table = Table(mountinfo.parse(mountinfo.read()))
    brought, todo = [], [row.id]
    while todo:
        children = table.children.get(todo.pop(), [])
        brought += children
        todo += [child.id for child in children]
    if not brought or not all(table.mirrored(row, child) for child in brought):
        yield
        return
    with ExitStack() as held:
        kept = [_keep(held, mount, mount is not row) for mount in (row, *brought)]
        try:
            # Being peers of the source, they would take its own mounts along.
            with ExitStack() as briefly:
                mountapi.set_flags(own(briefly, open_at(at, name)), None, _ALONE, True)
            for child in reversed(brought):
                with Walk() as walk:
                    above, leaf, _trusted = walk.parent(child.path)
                    mountapi.unmount(above, leaf, child.id)
            yield
        except BaseException as exc:
            lost = _restore(kept)
            if lost:
                text = "%s is in use, and could not be put back: %s" % (row.path, ", ".join(lost))
                raise StorageError("failed", text, "look at it by hand", lost=lost) from exc
            raise


def _keep(held: ExitStack, mount: Mount, goes: bool) -> _Kept:
    with Walk() as walk, ExitStack() as briefly:  # an open descriptor of the mount would keep it busy
        above, leaf, _trusted = walk.parent(mount.path)
        fd = own(briefly, open_at(above, leaf))
        if mount_id(fd) != mount.id:
            raise StorageError("moved", "something else was mounted over %s" % mount.path, "run it again")
        twin = clone(held, fd) if goes else -1
        if goes:  # as long as anything beneath it is missing
            mountapi.set_flags(twin, None, _ALONE)
        return _Kept(mount, twin, clone(held, fd) if mount.propagation in ("shared", "slave") else -1)


def _restore(kept: list[_Kept]) -> list[str]:
    """Top first what is missing; then, when nothing can spread any more, everybody's peers. Returns what failed."""
    lost = []
    with Walk() as walk:
        for again in (True, False):
            for mount, twin, peer in kept:
                try:
                    above, leaf, _trusted = walk.parent(mount.path)
                    with ExitStack() as briefly:
                        fd = own(briefly, open_at(above, leaf))
                        if again and twin >= 0 and mount_id(fd) == mount_id(above):
                            mountapi.move(twin, fd)
                        elif not again and peer >= 0:
                            mountapi.move(peer, fd, mountapi.INTO_GROUP)
                except (OSError, StorageError):
                    lost.append(mount.path)
    return lost


def bring(root: int, target: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Mount beneath a bind what stands beneath its source and did not come along; or, walked back, take it off."""
    source, missing = (after if after["recursive"] else before)["_brings"]
    row = mountapi.look(root, target)["_row"]
    with ExitStack() as held:
        peer = clone(held, root) if row.propagation in ("shared", "slave") else -1
        if peer >= 0:
            mountapi.set_flags(root, None, _ALONE)
        try:
            if after["recursive"]:
                _bring(target, source, missing, row, after)
            else:
                _take(["%s/%s" % (target, rest) for rest in missing])
        finally:
            if peer >= 0:
                mountapi.move(peer, root, mountapi.INTO_GROUP)


def _bring(target: str, source: str, missing: list[str], row: Mount, after: dict[str, Any]) -> None:
    flags: dict[str, Any] = {flag: True for flag in FLAGS if after.get(flag) is True}
    flags.update(_ALONE if row.propagation == "private" else {})
    with ExitStack() as held, Walk() as walk:
        done: list[str] = []
        try:
            for rest in missing:
                path = "%s/%s" % (target, rest)
                tree = clone(held, own(held, walk.open("%s/%s" % (source.rstrip("/"), rest), os.O_PATH)), RECURSIVE)
                mountapi.set_flags(tree, None, flags, True)
                above, leaf, _trusted = walk.parent(path)
                point = own(held, open_at(above, leaf))
                if mount_id(point) != mount_id(above):
                    raise StorageError("moved", "something is mounted at %s already" % path, "run it again")
                mountapi.move(tree, point)
                done.append(path)
        except BaseException:
            held.close()
            walk.close()
            _take(done)
            raise


def _take(paths: list[str]) -> None:
    for path in paths:
        rows = [row for row in mountinfo.parse(mountinfo.read()) if within(row.path, path)]
        for row in reversed(rows):
            with Walk() as walk:
                above, leaf, _trusted = walk.parent(row.path)
                mountapi.unmount(above, leaf, row.id)
