# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster would refuse, or never finish, told before anything changes. Loaded only where a pool is to change."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import ceph_pool
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.rados import Session
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError

_TYPES = {"replicated": 1, "erasure": 3}
_OWN = ("mgr", "mgr_devicehealth")  # applications of the cluster itself


def refuse(session: Session, name: str, before: Any, after: Any) -> StorageError | None:
    if after is None:
        return _removal(session, name, before)
    error = _change(name, before, after) if before is not None else None
    return error or _shape(session, name, before, after)


def _removal(session: Session, name: str, before: dict[str, Any]) -> StorageError | None:
    if before["nodelete"]:
        text = "the pool %s is marked nodelete" % name
        return StorageError("protected", text, "set nodelete: false on it first, in a task of its own")
    if set(_OWN) & set(before["application"]):
        return StorageError("protected", "the pool %s is the cluster's own (%s)" % (name, before["application"][0]))
    if before["_tiers"]:
        return StorageError("in_use", "the pool %s is part of a cache tier" % name, "take the tier apart first")
    if "cephfs" in before["application"]:
        (said,) = session.ask({"prefix": "fs ls"})
        users = [fs["name"] for fs in said.value if name in (fs["metadata_pool"], *fs["data_pools"])]
        if users:
            text = "the pool %s is in use by the filesystem %s" % (name, ", ".join(users))
            return StorageError("in_use", text, "remove it, or its data pool, from there first", users=users)
    return None


def _change(name: str, before: dict[str, Any], after: dict[str, Any]) -> StorageError | None:
    for word in ("type", "ec_profile"):
        if after[word] != before[word]:
            text = "the pool %s has %s %s, which cannot be changed to %s" % (name, word, before[word], after[word])
            return StorageError("conflict", text, "make another pool, and copy what is in this one")
    if before["type"] == "erasure" and after["size"] != before["size"]:
        text = "the size of the pool %s is %d, as its profile %s says" % (name, before["size"], before["ec_profile"])
        return StorageError("unsupported", text, "leave out size")
    if before["ec_overwrites"] and not after["ec_overwrites"]:
        return StorageError("conflict", "ec_overwrites of the pool %s cannot be taken back" % name, "leave it out")
    if after["ec_overwrites"] and after["type"] != "erasure":
        return StorageError("invalid", "ec_overwrites is for pools of type erasure", "leave it out")
    if after["min_size"] > after["size"]:
        text = "min_size %d of the pool %s is more than its size %d" % (after["min_size"], name, after["size"])
        return StorageError("invalid", text, "declare both")
    used = [word for word in before["application"] if word not in after["application"] and word in before["_settings"]]
    if used:
        text = "the pool %s has settings of the application %s, which would be lost" % (name, used[0])
        return StorageError("in_use", text, "declare it too")
    return None


def _shape(session: Session, name: str, before: Any, after: dict[str, Any]) -> StorageError | None:
    """A rule and a profile that are there, and enough places for so many copies or parts.

    With too few of them the placement groups of a new pool might never become active.
    """
    if before is not None and (before["size"], before["crush_rule"]) == (after["size"], after["crush_rule"]):
        return None
    seen = ceph_pool.look(session)
    kind, chosen, size = after.get("type", "replicated"), after.get("crush_rule"), after.get("size")
    if chosen is not None and chosen not in seen.rules:
        hint = "one of %s" % ", ".join(sorted(seen.rules))
        return StorageError("not_found", "there is no CRUSH rule %s" % chosen, hint, option="crush_rule")
    rules = [rule for rule in seen.rules.values() if rule["type"] == _TYPES[kind]]
    rules = [rule for rule in rules if chosen in (None, rule["rule_name"])]
    if not rules and chosen is not None:
        return StorageError("invalid", "the CRUSH rule %s is not for pools of type %s" % (chosen, kind))
    ways = [rule["steps"] for rule in rules]  # the cluster chooses where nobody does
    if kind == "erasure" and before is None:
        profile = seen.profiles.get(after.get("ec_profile", "default"))
        if profile is None:
            text = "there is no profile %s of erasure coding" % after.get("ec_profile", "default")
            return StorageError("not_found", text, "one of %s" % ", ".join(sorted(seen.profiles)), option="ec_profile")
        least, size = int(profile["k"]), int(profile["k"]) + int(profile["m"])
        if not least <= after.get("min_size", least) <= size:
            text = "min_size %d is not within k=%d and k+m=%d of the profile" % (after["min_size"], least, size)
            return StorageError("invalid", text, "k+1 is what the cluster would choose", option="min_size")
        ways = ways if chosen is not None else [_steps(profile)]
    if size is None:
        return None
    (crush,) = session.ask({"prefix": "osd crush dump"})
    most = max([_places(crush.value, steps, size) for steps in ways], default=0)
    if most < size:
        where = "the CRUSH rule %s" % chosen if chosen is not None else "the cluster"
        text = "the pool %s would have %d copies or parts, and %s has places for %d" % (name, size, where, most)
        hint = "add OSDs or failure domains, take another rule, or fewer copies"
        return StorageError("limit_exceeded", text, hint, places=most)
    return None


def _steps(profile: dict[str, str]) -> list[dict[str, Any]]:
    """Of the rule that the cluster makes for a profile."""
    root, device_class = profile.get("crush-root", "default"), profile.get("crush-device-class")
    take = {"op": "take", "item_name": "%s~%s" % (root, device_class) if device_class else root}
    return [take, {"op": "chooseleaf_indep", "num": 0, "type": profile.get("crush-failure-domain", "host")}]


def _places(crush: dict[str, Any], steps: list[dict[str, Any]], size: int) -> int:
    """For how many copies or parts a rule finds a place at most."""
    buckets = {each["id"]: each for each in crush["buckets"]}
    ids = {each["name"]: each["id"] for each in crush["buckets"]}
    found, nodes = 0, []
    for at, step in enumerate(steps):
        if step["op"] == "take":
            nodes = [ids[step["item_name"]]] if step["item_name"] in ids else []
        elif step["op"].startswith("choose"):
            beneath = [_of_type(buckets, node, step["type"]) for node in nodes]
            if at + 1 < len(steps) and steps[at + 1]["op"].startswith("choose"):
                nodes = [node for group in beneath for node in group]
            else:
                each = step["num"] if step["num"] > 0 else size + step["num"]
                found += sum(min(each, len(group)) for group in beneath)
    return found


def _of_type(buckets: dict[int, Any], node: int, kind: str) -> list[int]:
    """What of that type lies beneath, and holds anything."""
    if node >= 0:
        return [node] if kind == "osd" else []
    if buckets[node]["type_name"] == kind:
        return [node] if buckets[node]["weight"] else []
    items = [item["id"] for item in buckets[node]["items"] if item["weight"]]
    return [found for item in items for found in _of_type(buckets, item, kind)]
