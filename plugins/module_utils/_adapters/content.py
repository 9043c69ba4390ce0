# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a volume holds, replaced as a whole by what a snapshot kept.

A mark on the volume itself says which restore it came from: content and mark come with one rename(2).
"""

from __future__ import annotations

import errno
import os
from typing import Any, Dict, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import Walk, refused
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import FORWARD

Value = Dict[str, Any]
MARK = "trusted.bulkhead.restored"
LOOK = os.O_RDONLY | os.O_NONBLOCK


class Content:
    """Port. Target: the path of a volume's subvolume or image. Declared: ``restored``, the mark of a restore; ``from``,
    the snapshot; ``kept``, where what was there before goes; ``type``. ``sealed``: what is kept cannot be changed."""

    name, behind = "content", True

    def __init__(self) -> None:
        self.said: dict[str, Value] = {}

    def resolve(self, target: str, declared: Value) -> Value:
        self.said[target] = declared
        return declared

    def same(self, target: str, now: Value, declared: Value) -> bool:
        return all(now[key] == declared[key] for key in ("restored", "sealed"))

    def merge(self, target: str, now: Value | None, declared: Value) -> Value:
        return dict(declared)

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: str, before: Any, after: Any) -> str:
        return FORWARD  # nothing is lost: what was there is kept

    def refuse(self, target: str, before: Any, after: Any, gone: Any) -> StorageError | None:
        if before is None:
            return StorageError("not_found", "%s is not there" % target, "make the volume first")
        return None

    def scan(self, targets: Iterable[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for target in targets:
            try:
                found[target] = self.look(target)
            except StorageError as error:
                if error.code != "not_found":
                    found[target] = error
        return found

    def look(self, target: str) -> Value:
        mark = marked(target)
        said = self.said.get(target)
        if said is None or mark != said["restored"]:
            return {"restored": mark, "sealed": False}
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.snapshots import Snapshots

        kept = Snapshots().scan([said["kept"]]).get(said["kept"], {"read_only": True})
        if isinstance(kept, StorageError):
            raise kept
        return {"restored": mark, "sealed": kept["read_only"]}

    def put(self, target: str, before: Value | None, after: Value | None) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import contentchange

        contentchange.put(self, target, before, after)


def marked(path: str) -> str:
    """The mark of a restore on a subvolume or an image, "" without one; ``not_found`` without such a path."""
    with Walk() as walk:
        fd = walk.open(path, LOOK)
    try:
        return os.getxattr(fd, MARK).decode("ascii", "replace")
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise refused(error, path) from error
        return ""
    finally:
        os.close(fd)
