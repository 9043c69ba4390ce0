# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Namespaces of RBD: parts of a pool that a capability can be bound to."""

from __future__ import annotations

import errno
from typing import Any, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.rados import Clusters
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import REVERSIBLE


class Namespaces:
    """Port ``ceph_namespace``: ``<cluster>/<pool>/<namespace>`` -> {}. Those of a pool that is not there are not."""

    name, behind, slow = "ceph_namespace", False, True

    def __init__(self, clusters: Clusters) -> None:
        self.clusters = clusters

    def scan(self, targets: Iterable[Any] | None = None) -> dict[Any, Any]:
        if targets is None:
            raise StorageError("unsupported", "namespaces are looked up by name only")
        wanted: dict[tuple[str, str], list[Any]] = {}
        for target in targets:
            cluster, pool, _name = target.split("/")
            wanted.setdefault((cluster, pool), []).append(target)
        rows: dict[Any, Any] = {}
        for (_cluster, pool), mine in wanted.items():
            there = self._names(mine[0].access, pool)
            rows.update((target, {}) for target in mine if target.split("/")[2] in there)
        return rows

    def _names(self, access: Any, pool: str) -> list[str]:
        try:
            (found,) = self.clusters.session(access).ask({"verb": "list", "pool": pool}, to="rbd")
        except StorageError as error:
            if error.details.get("errno") == errno.ENOENT:
                return []
            raise
        return list(found.value)

    def lowers(self, target: Any, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: Any, before: Any, after: Any) -> str:
        """One with images in it cannot be removed."""
        return REVERSIBLE

    def put(self, target: Any, before: Any, after: Any) -> None:
        _cluster, pool, name = target.split("/")
        verb = "remove" if after is None else "create"
        moved = StorageError("moved", "the namespace %s of the pool %s is gone" % (name, pool), "run it again")
        if before is not None and after is not None:  # nothing of it can be changed
            raise moved
        try:
            self.clusters.session(target.access).ask({"verb": verb, "pool": pool, "namespace": name}, to="rbd")
        except StorageError as error:
            if error.details.get("errno") == errno.ENOENT:
                raise moved from error
            raise
