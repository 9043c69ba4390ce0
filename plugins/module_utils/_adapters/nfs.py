# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mount table where mounts of NFS are declared: whether their servers answer is asked, with a deadline.

Making and removing such a mount: nfschange. What a dead server is asked hangs, so a process of its own asks it.
"""

from __future__ import annotations

import os
import shutil
from functools import partial
from typing import Any, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountinfo
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mounts import Mounts
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import encode

SIZES = ("rsize", "wsize")


class NetworkMounts(Mounts):
    """Port ``mount``, with ``stale``: the server does not know it any more. ``unreachable``: it does not answer."""

    def __init__(self) -> None:
        super().__init__()
        self.away: dict[str, StorageError] = {}  # servers that did not answer: a run waits for each of them once

    def scan(self, targets: Iterable[str] | None = None) -> dict[str, Any]:
        rows = super().scan(targets)
        asleep = [path for path, row in rows.items() if path in self.wanted and _type(row) == "autofs"]
        if asleep:  # systemd mounts it when somebody looks
            self._ask({path: rows[path]["_id"] for path in asleep}, os.listdir)
            rows.update(super().scan(asleep))
        served = {path: row["_id"] for path, row in rows.items() if _type(row) in mountinfo.NETWORK}
        if served:
            rows.update(self._ask(served, os.statvfs))
            from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import foreign

            for path in [path for path, number in served.items() if number in foreign.stale]:
                rows[path]["stale"] = True
        return rows

    def _ask(self, mounts: dict[str, int], question: Any) -> dict[str, StorageError]:
        """What went wrong when the server of each was asked, all of them at the same time."""
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import child, foreign

        asked = {}
        for path in mounts:
            seconds = self.wanted.get(path, {}).get("_timeout", foreign.PATIENCE)
            asked[path] = child.Child(partial(question, encode(path)), seconds)
        found = {path: foreign.told(each, mounts[path], path) for path, each in asked.items()}
        return {path: error for path, error in found.items() if error is not None}

    def resolve(self, target: str, declared: dict[str, Any]) -> dict[str, Any]:
        if declared.get("fstype") not in mountinfo.NETWORK:
            return super().resolve(target, declared)
        self.wanted[target] = declared = {**declared, "_away": self.away}
        return declared

    def same(self, target: str, now: Any, declared: Any) -> bool:
        return super().same(target, now, declared) and not _larger(now, declared)

    def merge(self, target: str, now: Any, declared: Any) -> Any:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountplan

        after = mountplan.merge(self, target, now, declared)
        return {**after, **{"o:" + key: str(declared["_" + key]) for key in _larger(now or {}, declared)}}

    def replaces(self, target: str, before: Any, after: Any) -> bool:
        """The kernel changes the flags of such a mount in place, and no option (NFS: remount.c of mount.nfs(8))."""
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountplan

        if mountplan.replaces(target, before, after):
            return True
        fixed = [key for key in after if key[:2] == "o:" or key == "stale"]
        return after.get("fstype") in mountinfo.NETWORK and any(before.get(k, False) != after[k] for k in fixed)

    def refuse(self, target: str, before: Any, after: Any, gone: set[Any]) -> StorageError | None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountplan

        if before is None and after.get("_boot") and not shutil.which("mount.nfs4", path="/sbin:/usr/sbin"):
            text = "mount.nfs4 is not there, so %s would not be mounted at boot" % target
            return StorageError("missing_tool", text, "install nfs-common (Debian) or nfs-utils (RHEL)")
        return mountplan.refuse(self, target, before, after, gone)


def _type(row: Any) -> str:
    return str({**row, **row.get("_fs", {})}.get("fstype", "")) if isinstance(row, dict) else ""


def _larger(now: Any, declared: Any) -> list[str]:
    """Sizes that are more than what is asked for; that the server made them less is no drift."""
    seen = {**now, **now.get("_fs", {})}
    return [key for key in SIZES if "_" + key in declared and int(seen.get("o:" + key, 0)) > declared["_" + key]]
