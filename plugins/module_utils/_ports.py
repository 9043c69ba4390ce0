# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ports that a volume of any pool may ask, for the modules that have volumes. Each is loaded when it is asked."""

from __future__ import annotations

from typing import Any, Callable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import lvm2late
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.catalogue import Record
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.node import DataDir, MountedRoot, Node


def volume() -> dict[str, Callable[[], Any]]:
    record = Record()

    def mount() -> Any:
        """Asked only of volumes that are mounted."""
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mounts import Mounts

        return Mounts()

    def fsinfo() -> Any:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.fsinfo import FsInfo

        return FsInfo()

    def limits(port: str) -> Any:
        """Asked only of directories and subvolumes."""
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import qgroup

        return getattr(qgroup, port)()

    def superblock() -> Any:
        """Asked only of volumes with a filesystem of their own."""
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.catalogue import Intents
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mkfs import Superblock
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.program import execute

        return Superblock(execute, Intents(record))

    def copied() -> Any:
        """Asked only of clones on NFS."""
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.copied import Copied

        return Copied(record)

    ports = {"node": Node, "data": DataDir, "mount": mount, "mounted": MountedRoot, "fsinfo": fsinfo}
    ports.update({"record": lambda: record, "superblock": superblock, "copied": copied, **lvm2late.makers(record)})
    ports.update({"quota": lambda: limits("Quota"), "quota_enabled": lambda: limits("QuotaEnabled")})
    return ports
