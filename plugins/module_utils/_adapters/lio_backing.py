# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port of images that a LUN stands on: made, and let grow. A device is a given, and is seen to by its target."""

from __future__ import annotations

import os
import stat
from typing import Any, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import programs
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import FORWARD, REVERSIBLE, UNKNOWN
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import encode, parent


class LioBacking:
    """Port ``lio_backing``: path -> ``{type, size}``: a ``file`` with its length.

    ``_known``: a target has served it already, so that one that is missing is lost, and no new one takes its place.
    """

    name, behind, slow = "lio_backing", True, False

    def __init__(self) -> None:
        self.homeless: set[str] = set()  # whose folder is missing too

    def scan(self, targets: Iterable[str] | None = None) -> dict[str, Any]:
        if targets is None:
            raise StorageError("unsupported", "images are looked at by name only")
        rows: dict[str, Any] = {}
        for target in targets:
            try:
                row = self._row(target)
            except StorageError as error:
                row = error
            if row is not None:
                rows[target] = row
        return rows

    def _row(self, target: str) -> Any:
        self.homeless.discard(target)
        try:
            programs.unasked(target)
            seen = os.stat(encode(target))
        except (FileNotFoundError, NotADirectoryError):
            if not os.path.isdir(parent(target)):
                self.homeless.add(target)
            return None
        except OSError as error:
            raise failure(error, "cannot look at " + target) from error
        if stat.S_ISREG(seen.st_mode):
            return {"type": "file", "size": seen.st_size, "_mode": stat.S_IMODE(seen.st_mode)}
        raise StorageError("invalid", "%s is no image file" % target)

    def same(self, target: str, now: Any, declared: Any) -> bool:
        return declared["size"] in (UNKNOWN, now["size"])

    def merge(self, target: str, now: Any, declared: Any) -> Any:
        if now is not None:
            return {**now, **declared}
        if declared["size"] is UNKNOWN or declared.get("_known"):
            return {**declared, "_missing": target}
        return {**declared, "_missing": parent(target)} if target in self.homeless else declared

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: str, before: Any, after: Any) -> str:
        return FORWARD if before is not None and after is not None else REVERSIBLE

    def refuse(self, target: str, before: Any, after: Any, gone: Any) -> StorageError | None:
        if after is None:
            return None
        if before is None:
            return self.unsafe(target)
        if after["size"] < before["size"]:
            text = "%s has %d bytes, more than %d" % (target, before["size"], after["size"])
            hint = "nobody can tell what initiators keep at its end: serve a new, smaller one"
            return StorageError("would_shrink", text, hint, option="size")
        return None

    def unsafe(self, target: str) -> StorageError | None:
        """May somebody else choose what its name means?"""
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import lio_backingchange

        return lio_backingchange.unsafe(target)

    def put(self, target: str, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import lio_backingchange

        lio_backingchange.put(self, target, before, after)
