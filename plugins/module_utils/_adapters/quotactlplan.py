# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``quotactl`` refuses before anything changes. Loaded only where something differs."""

from __future__ import annotations

import os
from typing import Any, Iterator

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.quotactl import (
    QuotactlLimits,
    Target,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN

_MOUNT = {"user": "usrquota", "group": "grpquota", "project": "prjquota"}
_MKFS = "mkfs.ext4 -O quota%s (or, while it is not mounted, tune2fs -O quota%s -Q %s)"


def refusal(limits: QuotactlLimits, target: Target, before: Any, after: Any) -> StorageError | None:
    return next(_refusals(limits, target, before, after), None)


def _refusals(limits: QuotactlLimits, target: Target, before: Any, after: Any) -> Iterator[StorageError]:
    kind = target[0].partition(":")[0]
    if after is None:
        if kind == "project" and before["name"] is None:
            yield _stranger(target[1], before["id"])
        return
    yield from _values(target, after)
    state = limits.seen.get(target)
    if state is not None and not state["on"]:
        yield not_enforced(target[1], kind, state)
    if kind == "project":
        yield from _project(limits, target, before, after)
    else:
        for other in next((same for same in limits.spots.values() if target in same), ()):
            if other in limits.said and other != target:
                yield StorageError("conflict", "%s and %s are the same %s" % (target[0], other[0], kind), "declare one")
    if after.get("grace", UNKNOWN) is not UNKNOWN and "grace" in limits.said.get(target, {}):
        for other, said in limits.said.items():
            mine = (
                limits.seen.get(other, {}).get("fs") == (state or {}).get("fs") and other[0].partition(":")[0] == kind
            )
            if mine and said.get("grace", after["grace"]) != after["grace"]:
                text = "grace of %s quota on the filesystem of %s is declared as %d and as %d seconds"
                text %= (kind, target[1], after["grace"], said["grace"])
                yield StorageError("conflict", text, "it is one for all of that kind: declare the same", other=other[1])


def _values(target: Target, after: dict[str, Any]) -> Iterator[StorageError]:
    if after.get("parent") is not None:
        yield StorageError("unsupported", "%s: only a quota of btrfs has a parent" % target[1], "leave parent out")
    for soft, hard in (("soft", "hard"), ("inodes_soft", "inodes_hard")):
        if after[soft] and after[hard] and after[soft] > after[hard]:
            text = "%s: %s %d is more than %s %d" % (target[1], soft, after[soft], hard, after[hard])
            yield StorageError("invalid", text, "a soft limit lies below the hard one", option=soft)
    for field in ("hard", "soft"):
        if after[field] == 0:
            text = "%s: %s is less than a block of the filesystem, and 0 would be no limit" % (target[1], field)
            yield StorageError("invalid", text, "ask for more", option=field)


def not_enforced(path: str, kind: str, state: dict[str, Any]) -> StorageError:
    option = _MOUNT[kind]
    if state["fstype"] == "xfs" and state["counts"]:
        hint = "mount it with %s instead of %sqnoenforce, or run xfs_quota -x -c 'enable -%s'" % (
            option,
            kind[0],
            kind[0],
        )
    elif state["fstype"] == "xfs":
        hint = "mount it afresh with the option %s: XFS does not turn it on by a remount" % option
    elif state["counts"]:
        hint = "mount it with the option %s, or run quotaon -%s" % (option, "P" if kind == "project" else kind[0])
    else:
        feature = ",project" if kind == "project" else ""
        hint = _MKFS % (feature, feature, option) + ", and mount it with the option %s" % option
    text = "%s: %s quota is %s on its filesystem (%s)"
    text %= (path, kind, "counted but not enforced" if state["counts"] else "off", state["fstype"])
    return StorageError("not_enforced", text, hint, fstype=state["fstype"], option=option)


def _stranger(path: str, number: int) -> StorageError:
    text = "%s has the project id %d, which was given by somebody else" % (path, number)
    return StorageError("conflict", text, "declare id: %d to take it over, or clear it (chattr -p 0 -P)" % number)


def _project(limits: QuotactlLimits, target: Target, before: Any, after: dict[str, Any]) -> Iterator[StorageError]:
    said, path = limits.said.get(target, {}), target[1]
    if before and before["name"] is None and said.get("id", after["id"]) != before["id"] or _unsaid(before, said):
        yield _stranger(path, before["id"])
        return
    for field in ("name", "id"):
        if before and before["name"] is not None and after[field] not in (UNKNOWN, before[field]):
            text = "%s is of the project %s (id %d) already" % (path, before["name"], before["id"])
            yield StorageError("conflict", text, "keep its %s, or remove it first (state: absent)" % field)
    known = limits.known()
    row = known.names.get(after["name"])
    if row is not None and path not in row["paths"] and any(os.path.lexists(names.encode(p)) for p in row["paths"]):
        text = "project %s is at %s already, and %s is not of it" % (after["name"], row["paths"][0], path)
        yield StorageError("conflict", text, "declare both as paths of one quota, or choose another name")
    owner = known.owners.get(after["id"]) if after["id"] is not UNKNOWN else None
    if owner not in (None, after["name"]):
        yield StorageError("conflict", "id %d is that of project %s" % (after["id"], owner), "leave id out")
    for each in after["paths"]:
        if known.paths.get(each, after["name"]) != after["name"]:
            text = "%s is of the project %s already" % (each, known.paths[each])
            yield StorageError("conflict", text, "remove that first (state: absent)")
    yield from _both(limits, target, after)


def _unsaid(before: Any, said: dict[str, Any]) -> bool:
    return bool(before and before["name"] is None and said.get("id") != before["id"])


def _both(limits: QuotactlLimits, target: Target, after: dict[str, Any]) -> Iterator[StorageError]:
    """What is declared twice, told for both."""
    if not limits.shared:
        for other, said in limits.said.items():
            for word in _words(other, said) if other[0] == "project" else ():
                limits.shared.setdefault(word, []).append(other)
    for what, value in _words(target, after):
        others = [other for other in limits.shared.get((what, value), ()) if other != target]
        if others and what == "path":
            yield StorageError("conflict", "%s is declared for two projects" % value, "one quota for each directory")
        elif others:
            text = "%s and %s are declared with the same %s %s" % (target[1], others[0][1], what, value)
            yield StorageError("conflict", text, "declare both as paths of one quota")


def _words(target: Target, said: dict[str, Any]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = [("path", path) for path in said.get("paths") or [target[1]]]
    return found + [(what, said[what]) for what in ("id", "name") if said.get(what, UNKNOWN) is not UNKNOWN]
