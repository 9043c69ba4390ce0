# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The composition root of ``layout``: which list holds which kind, and which ports a declaration needs.

Every import stands inside a function: all of it is shipped to the target, only what a declaration uses is executed.
"""

from __future__ import annotations

from typing import Any

LISTS = ("filesystems", "mounts", "tmpfs", "trees", "quotas", "pools", "volumes")


def resource(name: str) -> Any:
    """The resource behind a list of ``layout``."""
    if name == "trees":
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import tree as found
    elif name == "tmpfs":
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import tmpfs as found
    elif name == "mounts":
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import mount as found
    elif name == "quotas":
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import quota as found
    elif name == "filesystems":
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import filesystem as found
    elif name == "pools":
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import pool as found
    else:
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import volume as found
    return found


def ports(names: list[str], execute: Any) -> dict[str, Any]:
    """The adapters the named lists need."""
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.node import Node

    used = set(names)
    made: dict[str, Any] = {"node": Node()}
    if used & {"mounts", "tmpfs", "volumes"}:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mounts import Mount

        made["mount"] = Mount()
    if used & {"mounts", "tmpfs"}:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.fstab import Fstab

        made["fstab"] = Fstab()
    if used & {"quotas", "volumes"}:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.qgroup import Quota, QuotaEnabled

        made.update(quota=Quota(), quota_enabled=QuotaEnabled())
    if used & {"pools", "volumes", "filesystems"}:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.catalogue import Intents, Record

        made["record"] = Record()
        if used & {"filesystems", "volumes"}:
            from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mkfs import Superblock

            made["superblock"] = Superblock(execute, Intents(made["record"]))
    if used & {"pools", "volumes"}:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.fsinfo import FsInfo
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.node import DataDir

        made.update(fsinfo=FsInfo(), data=DataDir())
    return made
