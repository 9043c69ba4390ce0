# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots as they lie in a pool: read-only subvolumes, copies of trees, copies of images.

Where they lie only root may come: an owner may make their subvolume writable again, and write to their files anyway.
"""

from __future__ import annotations

import os
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.node import DataDir, Value
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import Walk


class Snapshots(DataDir):
    """Port. Target: the path of a snapshot. Declared: ``type`` (subvolume, directory, file), ``read_only``, and the
    ``source`` that it is made from."""

    name = "snapshot"
    stands_for = ""

    def resolve(self, target: str, declared: Value | None) -> Value | None:
        return declared

    def same(self, target: str, now: Value, declared: Value) -> bool:
        return "_trash" not in now and all(now[key] == declared[key] for key in ("type", "read_only"))

    def merge(self, target: str, now: Value | None, declared: Value) -> Value:
        return {**declared} if now is None else {**now, "read_only": declared["read_only"]}

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        return after is None

    def opens(self, target: str, before: Any, after: Any) -> str | None:
        return None

    def vanishes(self, target: str, value: Value, gone: set[Any]) -> bool:
        return False

    def look(self, walk: Walk, target: str) -> tuple[int, Value]:
        fd, seen = super().look(walk, target)
        value = {key: row for key, row in seen.items() if key == "type" or key[0] == "_"}
        value["read_only"] = True
        if seen["type"] == "subvolume":
            from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import btrfs

            try:
                value["read_only"] = btrfs.read_only(fd)
            except BaseException:
                os.close(fd)
                raise
        return fd, value

    def put(self, target: str, before: Value | None, after: Value | None) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import snapshotchange

        snapshotchange.put(self, target, before, after)
