# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pool on an NFS server: its export, which is mounted where volumes are to lie."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Unit
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import nfs_mount, pool

FSTAB = "/etc/fstab"


def mounted(row: dict[str, Any], look: Any, gone: bool = False) -> Unit:
    """Its mount, unless an ``nfs_mount`` is declared beside, with options of its own, that is the same one."""
    path = row["path"]
    entry: dict[str, Any] = {name: spec.get("default") for name, spec in nfs_mount.OPTIONS.items()}
    entry.update(path=path, server=row["server"], export=row["export"], state="absent" if gone else "mounted")
    beside = None if gone else look.declared.get((nfs_mount.KIND, path))
    if beside is not None:
        if (beside["state"], beside["server"], beside["export"]) != ("mounted", row["server"], row["export"]):
            text = "nfs_mount %s is declared beside it, and is another one or to go" % path
            raise StorageError("conflict", text, "the same server and export, mounted", option="config")
        return Unit((pool.KIND, path), (), (("path", path),))
    line = look.look("fstab", [(FSTAB, path)]).get((FSTAB, path))
    words = line["options"].split(",") if isinstance(line, dict) else ()
    said = {word.partition("=")[2] for word in words if word.partition("=")[0] in ("vers", "nfsvers")}
    entry["version"] = next(iter(said.intersection(("4.1", "4.2"))), entry["version"])  # else it stays as it is
    return nfs_mount.unit(entry, look)
