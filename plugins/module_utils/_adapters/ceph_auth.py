# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Users of Ceph clusters, each asked for by its name: a list of all would bring everybody's key."""

from __future__ import annotations

import errno
from typing import Any, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.rados import Clusters, Session
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import caps
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import FORWARD, REVERSIBLE, Secret


class Auth:
    """Port ``ceph_auth``: ``<cluster>/client.<name>`` -> its capabilities by daemon, in one spelling."""

    name, behind, slow = "ceph_auth", False, True

    def __init__(self, clusters: Clusters) -> None:
        self.clusters = clusters

    def scan(self, targets: Iterable[Any] | None = None) -> dict[Any, Any]:
        if targets is None:
            raise StorageError("unsupported", "users are looked up by name only")
        return {target: {"caps": row["caps"]} for target, row in self.read(targets).items()}

    def read(self, targets: Iterable[Any]) -> dict[Any, Any]:
        """With their keys."""
        wanted: dict[str, list[Any]] = {}
        for target in targets:
            wanted.setdefault(target.partition("/")[0], []).append(target)
        rows: dict[Any, Any] = {}
        for mine in wanted.values():
            found = look(self.clusters.session(mine[0].access), [named(target) for target in mine])
            rows.update((target, found[named(target)]) for target in mine if named(target) in found)
        return rows

    def lowers(self, target: Any, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: Any, before: Any, after: Any) -> str:
        """Another one of that name would have another key."""
        return FORWARD if after is None else REVERSIBLE

    def put(self, target: Any, before: Any, after: Any) -> None:
        session, name = self.clusters.session(target.access), named(target)
        now = look(session, [name]).get(name)
        if (now and now["caps"]) != (before and before["caps"]):
            raise StorageError("moved", "%s is not as it was planned for" % name, "run it again")
        if after is None:
            session.ask({"prefix": "auth del", "entity": name})
            return
        verb = "auth get-or-create" if now is None else "auth caps"  # the former never makes a new key
        said = [word for pair in sorted(after["caps"].items()) for word in pair]
        session.ask({"prefix": verb, "entity": name, "caps": said})


def named(target: str) -> str:
    return target.partition("/")[2]


def look(session: Session, names: list[str]) -> dict[str, dict[str, Any]]:
    found = {}
    answers = session.each([{"prefix": "auth get", "entity": name} for name in names])
    for name, answer in zip(names, answers):
        if isinstance(answer, StorageError):
            if answer.details.get("errno") != errno.ENOENT:
                raise answer
            continue
        (row,) = answer.value
        said = {daemon: caps.canonical(text) for daemon, text in row["caps"].items()}
        found[name] = {"caps": said, "key": Secret(row["key"])}
    return found
