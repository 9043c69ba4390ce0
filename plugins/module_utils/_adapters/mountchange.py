# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changing and removing what is mounted: in place, or not at all; never by force, never lazily."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from functools import partial
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountinfo
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mountapi import (
    RECONFIGURE,
    configure,
    enforced,
    look,
    open_at,
    options_of,
    own,
    set_flags,
    syscall,
    unmount,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mountplan import too_small
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mounts import MOUNT_KEYS, differing
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN

_FSPICK = 433
_ROOT_NODE = ("o:mode", "o:uid", "o:gid")  # of a tmpfs these are its root directory's


def put(held: ExitStack, target: str, at: int, name: bytes, before: dict[str, Any], after: Any) -> None:
    if after is None:
        _remove(target, at, name, before)
    else:
        _change(held, target, at, name, before, after)


def _met(fd: int, target: str, before: dict[str, Any]) -> dict[str, Any]:
    """The mount as it is, which must be the one that was planned for."""
    now = look(fd, target)
    known = {k: v for k, v in before.items() if k not in ("source", "fstype") or not before.get("bind")}
    known.pop("stale", None)  # only its server knows
    ids = any(before.get(k, now[k]) != now[k] for k in ("_id", "_dev"))
    if ids or differing(now, known) or (not before.get("bind") and now["source"] != before.get("source")):
        raise StorageError("moved", "%s is not mounted as it was planned for" % target, "run it again")
    return now


def _change(held: ExitStack, target: str, at: int, name: bytes, before: dict[str, Any], after: dict[str, Any]) -> None:
    root = own(held, open_at(at, name))
    now = _met(root, target, before)
    options = {k: v for k, v in after.items() if k[:2] == "o:" and v is not UNKNOWN and now.get(k, False) != v}
    node = {k: options.pop(k) for k in _ROOT_NODE if k in options and now["fstype"] == "tmpfs"}
    if options and now["fstype"] == "tmpfs":  # it wants to hear all its limits again
        options.update((k, after.get(k, now[k])) for k in ("o:size", "o:nr_inodes", "o:noswap") if k in now)
    steps: list[Any] = [(set_flags, (root, now, after), (root, None, {k: now[k] for k in MOUNT_KEYS}))]
    if node:  # while it can be written
        steps.insert(len(steps) if now["read_only"] else 0, (_dress, (held, root, {**now, **node}), (held, root, now)))
    if before.get("bind") and after.get("recursive", before.get("recursive")) is not before.get("recursive"):
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountbeneath

        steps.append((mountbeneath.bring, (root, target, before, after), (root, target, after, before)))
    try:
        with ExitStack() as undo:
            for step, forth, back in steps:
                undo.callback(step, *back)
                step(*forth)
            if now["read_only"] and after.get("read_only") is False and b"ro" in now["_row"].super_options.split(b","):
                options["o:rw"] = True
            if options:
                context = own(held, syscall(_FSPICK, root, b"", 0xD))  # close-on-exec, no automount, empty path
                configure(context, target, options_of(options), RECONFIGURE)
            enforced(look(root, target), target, after)
            undo.pop_all()
    except StorageError as error:
        raise too_small(target, look(root, target), after) or error from error


def _dress(held: ExitStack, root: int, now: dict[str, Any]) -> None:
    fd = own(held, os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root))
    os.fchown(fd, now["o:uid"], now["o:gid"])
    os.fchmod(fd, now["o:mode"])


def _remove(target: str, at: int, name: bytes, before: dict[str, Any]) -> None:
    with ExitStack() as looking:  # an open descriptor of the mount would keep it busy
        now = _met(own(looking, open_at(at, name)), target, before)
    let_go: Any = unmount
    if now["_row"].fstype in mountinfo.NETWORK:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import nfschange

        let_go = partial(nfschange.unmount, target)
    for place, (number, dev) in enumerate([(now["_id"], now["_dev"]), *before.get("_under", ())]):
        try:
            if before.get("bind") and not place:
                from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountbeneath

                with mountbeneath.without(now["_row"], at, name):
                    let_go(at, name, number)
            else:
                (unmount if place else let_go)(at, name, number)
        except OSError as exc:
            if exc.errno != errno.EBUSY:
                raise
            from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import holders

            error = holders.in_use(target, dev)
            error.message += ", and %d mounts over it are gone already" % place if place else ""
            raise error from exc
    if "_device" in now:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mounttree

        mounttree.released(now["_device"], now["_dev"])
