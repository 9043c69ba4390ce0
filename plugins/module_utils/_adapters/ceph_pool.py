# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools of Ceph clusters: all of a cluster are in one map, which is asked for once a look."""

from __future__ import annotations

from typing import Any, Iterable, NamedTuple

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.rados import Access, Clusters, Session
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import (
    DESTROYS,
    FORWARD,
    REVERSIBLE,
    merged,
    met,
)

DUMP, RULES = {"prefix": "osd dump"}, {"prefix": "osd crush rule dump"}
_TYPES = {1: "replicated", 3: "erasure"}
_FORWARD = ("size", "pg_num", "crush_rule", "ec_overwrites")


class Seen(NamedTuple):
    """What a cluster tells of its pools, its rules by name, and its profiles of erasure coding."""

    pools: dict[str, dict[str, Any]]
    rules: dict[str, dict[str, Any]]
    profiles: dict[str, dict[str, str]]


class Pools:
    """Port ``ceph_pool``: ``<cluster>/<pool>`` -> all that can be declared of it.

    ``pg_num`` is the number that it is on its way to, and while the autoscaler is on, the autoscaler's own. ``ready``:
    the monitors have heard of each placement group of a new pool that it was active.
    """

    name, behind, slow = "ceph_pool", False, True

    def __init__(self, clusters: Clusters) -> None:
        self.clusters = clusters

    def scan(self, targets: Iterable[Any] | None = None) -> dict[Any, Any]:
        if targets is None:
            raise StorageError("unsupported", "pools are looked up by name only")
        wanted: dict[str, list[Any]] = {}
        for target in targets:
            wanted.setdefault(target.partition("/")[0], []).append(target)
        rows: dict[Any, Any] = {}
        for mine in wanted.values():
            pools = look(self.clusters.session(mine[0].access)).pools
            for target in mine:
                row = pools.get(named(target))
                if row is not None:
                    rows[target] = row
        return rows

    def same(self, target: Any, row: dict[str, Any], value: dict[str, Any]) -> bool:
        return met(row, self._compared(row, value))

    def merge(self, target: Any, before: Any, value: dict[str, Any]) -> Any:
        return value if before is None else merged(before, self._compared(before, value))

    def _compared(self, row: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
        if "pg_num" in value and value.get("autoscale", row["autoscale"]) == "on":
            return {name: said for name, said in value.items() if name != "pg_num"}
        return value

    def lowers(self, target: Any, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: Any, before: Any, after: Any) -> str:
        if after is None:
            return DESTROYS
        return FORWARD if before is not None and forward(before, after) else REVERSIBLE

    def consent(self, target: Any, before: Any, after: Any) -> tuple[str, str]:
        return "confirm", named(target)

    def refuse(self, target: Any, before: Any, after: Any, gone: Any) -> StorageError | None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import ceph_poolcheck

        return ceph_poolcheck.refuse(self.clusters.session(target.access), named(target), before, after)

    def put(self, target: Any, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import ceph_poolchange

        ceph_poolchange.put(self.clusters.session(target.access), named(target), before, after)

    def used(self, access: Access) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
        """Every pool, with how much is in it."""
        session = self.clusters.session(access)
        pools, (stats,) = look(session).pools, session.ask({"prefix": "df"})
        held = {each["name"]: each["stats"] for each in stats.value["pools"]}
        used = {}
        for name, row in pools.items():
            said = held.get(name, {})
            told = {"objects": said.get("objects"), "stored_bytes": said.get("stored")}
            used[name] = row, {**told, "used_bytes": said.get("bytes_used"), "max_avail_bytes": said.get("max_avail")}
        return used


def forward(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Data would have to move again, or could not."""
    return any(before[name] != after.get(name, before[name]) for name in _FORWARD)


def named(target: str) -> str:
    return target.partition("/")[2]


def look(session: Session) -> Seen:
    dump, rules = session.ask(DUMP, RULES)
    numbered = {rule["rule_id"]: rule["rule_name"] for rule in rules.value}
    pools = {pool["pool_name"]: _row(pool, numbered) for pool in dump.value["pools"]}
    return Seen(pools, {rule["rule_name"]: rule for rule in rules.value}, dump.value["erasure_code_profiles"])


def _row(pool: dict[str, Any], rules: dict[int, str]) -> dict[str, Any]:
    flags, options = pool["flags_names"].split(","), pool["options"]
    return {
        "type": _TYPES.get(pool["type"], str(pool["type"])),
        "size": pool["size"],
        "min_size": pool["min_size"],
        "pg_num": pool["pg_num_target"],
        "autoscale": pool["pg_autoscale_mode"],
        "crush_rule": rules.get(pool["crush_rule"]),
        "ec_profile": pool["erasure_code_profile"] or None,
        "ec_overwrites": "ec_overwrites" in flags,
        "application": tuple(sorted(pool["application_metadata"])),
        "quota_bytes": pool["quota_max_bytes"] or None,
        "quota_objects": pool["quota_max_objects"] or None,
        "compression_mode": options.get("compression_mode"),
        "compression_algorithm": options.get("compression_algorithm"),
        "compression_required_ratio": options.get("compression_required_ratio"),
        "nodelete": "nodelete" in flags,
        "ready": "creating" not in flags,
        "_id": pool["pool"],
        "_settings": {name: said for name, said in pool["application_metadata"].items() if said},
        "_tiers": bool(pool["tiers"] or pool["tier_of"] >= 0),
    }
