# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits on what a directory may hold. ``Quota`` and ``QuotaEnabled`` choose by type of filesystem; here is Btrfs.
XFS and ext4 are in ``quotactl``, which is loaded when a path lies on one of them.

The limit of a subvolume is on the group ``1/<its id>``, of which it and all subvolumes nested in it are members. Simple
quota (Linux 6.7) makes what is nested later a member by itself, full quota does not. In both, whoever may create a
subvolume may name other groups for it, or none, without any capability (``btrfs subvolume create -i``). So ``nested``
is part of the state: False when something nested is charged elsewhere, and put brings it back.
"""

from __future__ import annotations

import os
from collections.abc import Hashable
from typing import Any, Iterable, Iterator, Tuple

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import btrfs
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import Walk
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import FORWARD, REVERSIBLE, UNKNOWN

Target = Tuple[str, str]  # kind (project, user, group) and the directory that is charged
FIELDS = ("hard", "soft", "inodes_hard", "inodes_soft", "parent")
MARK = 0x424B  # tells our level-1 groups from those made by hand
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK


class BtrfsLimits:
    """What a type of filesystem brings to ``Quota``; a sibling for XFS and ext4 has the same methods and its magics."""

    magics = (btrfs.MAGIC,)

    def __init__(self, rescan_timeout: float = 600.0) -> None:
        self.rescan_timeout = rescan_timeout
        self.swept: set[str] = set()  # filesystems that were tidied up in this run

    def place(self, fd: int, target: Target) -> tuple[Hashable, int]:
        """(its filesystem, its own number there), or a StorageError that says why it cannot be limited."""
        if target[0] != "project":
            text = "%s: btrfs has no %s quota" % (target[1], target[0].partition(":")[0])
            raise StorageError("unsupported", text, "limit a subvolume with kind: project")
        if not btrfs.is_subvolume(fd):
            text = "%s is on btrfs, but not a subvolume" % target[1]
            raise StorageError("unsupported", text, "only a subvolume can be limited: make it one (type: subvolume)")
        return btrfs.filesystem_id(fd), btrfs.subvolume_id(fd)

    def filesystem(self, fd: int) -> Hashable:
        return btrfs.filesystem_id(fd)

    def refusal(self, target: Target, before: Any, after: Any) -> StorageError | None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import qgroupchange

        return qgroupchange.refusal(target, after)

    def read(self, fd: int, wanted: dict[Target, int]) -> dict[Target, Any]:
        """Every target on one filesystem in one pass of its quota tree and one of its root tree."""
        if btrfs.quota_status(fd) is None:
            return {}
        paths = {subvolume: target[1] for target, subvolume in wanted.items()}
        look = Look(fd, btrfs.qgroups(fd), btrfs.nested(fd), paths)
        found = {target: look.value(subvolume) for target, subvolume in wanted.items()}
        return {target: value for target, value in found.items() if value is not None}

    def enabled(self, fd: int) -> dict[str, Any] | None:
        status = btrfs.quota_status(fd)
        return {"on": True, "mode": status.mode, "_inconsistent": status.inconsistent} if status else None

    def changes(self) -> Any:
        """What writes, loaded only when there is something to write: ``write``, ``forget`` and ``enable``."""
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.qgroupchange import BtrfsChanges

        return BtrfsChanges(self)


class Look:
    """Groups and nesting as read once; ``paths`` are those of subvolumes that are known anyway."""

    def __init__(
        self, fd: int, groups: dict[int, btrfs.Group], below: dict[int, list[int]], paths: dict[int, str]
    ) -> None:
        self.fd, self.groups, self.below, self.paths = fd, groups, below, paths
        self.fs, self.status = btrfs.filesystem_id(fd), btrfs.quota_status(fd)

    def value(self, me: int) -> dict[str, Any] | None:
        mine, own = self.groups.get(me), btrfs.LEVEL | me
        if mine is None or self.status is None:
            return None
        alone = own not in mine.parents
        left = alone and own in self.groups and (self.groups[own].mark, self.groups[own].members) == (MARK, ())
        by_hand = alone and not left  # what a killed run left charges nobody, and is neither a limit nor nothing
        if by_hand and mine.max_rfer is None:
            return None
        charged = me if alone else own
        hard = [limit for limit in (mine.max_rfer, self.groups[charged].max_rfer) if limit is not None]
        around = [g % btrfs.LEVEL for g in mine.parents if g != own and self.groups[g].mark == MARK]
        parents = {number: self._path(number) for number in sorted(around, reverse=True)}
        now = btrfs.used(self.fs, charged)
        return {
            "hard": min(hard) if hard else None,
            "soft": None,
            "inodes_hard": None,
            "inodes_soft": None,
            "parent": next(iter(parents.values()), None),
            "nested": not alone and next(self.strays(me), None) is None,
            "_used_bytes": self.groups[charged].rfer if now is None else now,
            "_id": me,
            "_enforced_by": "simple_quota" if self.status.mode == "simple" else "qgroup",
            "_fs": "btrfs",
            "_parents": parents,
            "_by_hand": by_hand,
            "_nested_escape": self.status.mode != "simple",
            "_inconsistent": self.status.inconsistent,
        }

    def strays(self, top: int, drop: Iterable[int] = ()) -> Iterator[tuple[int, set[int], set[int]]]:
        """(nested subvolume, groups it is missing from, groups of ours that it has no business in)."""
        mine = self.groups.get(top, btrfs.Group())
        todo = [(child, set(mine.parents) - set(drop)) for child in self.below.get(top, ())]
        while todo:
            at, want = todo.pop()
            have = set(self.groups.get(at, btrfs.Group()).parents)
            if btrfs.LEVEL | at in have:  # it has a limit of its own, and maybe a parent of its own
                want = want | (have - set(drop))
            extra = {group for group in have - want if self.groups[group].mark == MARK}
            if want - have or extra:
                yield at, want - have, extra
            todo.extend((child, want) for child in self.below.get(at, ()))

    def _path(self, subvolume: int) -> str:
        if subvolume not in self.paths:
            from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import fsinfo

            self.paths[subvolume] = fsinfo.visible(self.fd, "/" + btrfs.subvolume_path(self.fd, subvolume))
        return self.paths[subvolume]


class _Quotactl:
    """``QuotactlLimits``, loaded when it is asked for anything."""

    magics = (0x58465342, 0xEF53)  # XFS, ext4

    def __getattr__(self, name: str) -> Any:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.quotactl import QuotactlLimits

        vars(self).setdefault("loaded", QuotactlLimits())
        return getattr(vars(self)["loaded"], name)


class Quota:
    """Port: what may be stored in a directory, or by somebody. ``types``: the filesystems it knows (default: all)."""

    name = "quota"
    behind = True
    proves = "quota_enabled"  # where there is a group, accounting is on

    def __init__(self, *types: Any) -> None:
        self._types = {magic: each for each in types or (BtrfsLimits(), _Quotactl()) for magic in each.magics}
        self._seen: dict[Target, Any] = {}
        self._said: dict[Target, Any] = {}
        self.nowhere: dict[Target, StorageError | None] = {}  # no such directory, and why it could not be limited

    def scan(self, targets: Iterable[Target] | None) -> dict[Target, Any]:
        """One pass per filesystem. With None nothing: a limit is known by the directory that it is asked for."""
        found: dict[Target, Any] = {}
        together: dict[Hashable, tuple[Any, int, dict[Target, Any]]] = {}
        with Walk() as walk:
            for target in targets or ():
                self.nowhere.pop(target, None)
                try:
                    fd = walk.open(target[1], DIRECTORY)
                    try:
                        limits = self._seen[target] = type_of(self._types, fd, target[1])
                        fs, place = limits.place(fd, target)
                        if fs not in together:
                            together[fs] = limits, os.dup(fd), {}
                        together[fs][2][target] = place
                    finally:
                        os.close(fd)
                except StorageError as error:
                    if error.code != "not_found":
                        found[target] = error
                    else:
                        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import qgroupchange

                        self._seen[target], self.nowhere[target] = qgroupchange.above(self._types, walk, target)
        for limits, fd, wanted in together.values():
            try:
                found.update(limits.read(fd, wanted))
            except StorageError as error:
                found.update(dict.fromkeys(wanted, error))
            finally:
                os.close(fd)
        return found

    def put(self, target: Target, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import qgroupchange

        qgroupchange.put(self._types, target, before, after)

    def resolve(self, target: Target, value: Any) -> Any:
        self._said[target] = value
        return value

    def same(self, target: Target, now: Any, declared: Any) -> bool:
        own = getattr(self._seen.get(target), "same", None)
        return bool(own(now, declared) if own else now["nested"] and agree(now, declared))

    def merge(self, target: Target, now: Any, declared: Any) -> Any:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import qgroupchange

        after = qgroupchange.merge(self._seen.get(target), target, now, declared)
        if target in self.nowhere:
            after["_missing"] = target[1]  # the plan says whether something else brings it
        return after

    def refuse(self, target: Target, before: Any, after: Any, gone: Any) -> StorageError | None:
        if after and self.nowhere.get(target):
            return self.nowhere[target]
        limits = self._seen.get(target)
        if limits is None:
            return None
        if hasattr(limits, "beside"):
            limits.beside(self._said)  # which may contradict it
        error: StorageError | None = limits.refusal(target, before, after)
        return error

    def fresh(self, target: Target, place: str, mount: Any) -> StorageError | None:
        """What is seen in a memory filesystem that is mounted at ``place``."""
        self.nowhere[target] = nowhere_held(self._types, target[1])
        return self.nowhere[target] if target[1] == place else None

    def lowers(self, target: Target, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: Target, before: Any, after: Any) -> str:
        return REVERSIBLE

    def implies(self, target: Target, value: Any) -> Iterable[tuple[str, str, Any]]:
        return [("quota_enabled", target[1], {"on": True})]


class QuotaEnabled:
    """Port: accounting is on where a path lies. Never turned off again: limits of others may count on it."""

    name = "quota_enabled"
    behind = True

    def __init__(self, *types: Any) -> None:
        self._types = {magic: each for each in types or (BtrfsLimits(), _Quotactl()) for magic in each.magics}

    def canon(self, target: str) -> str:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import qgroupchange

        return qgroupchange.switch(self._types, target)

    def scan(self, targets: Iterable[str] | None) -> dict[str, Any]:
        found: dict[str, Any] = {}
        with Walk() as walk:
            for path in targets or ():
                try:
                    fd, _there = walk.nearest(path)
                    try:
                        limits = self._types.get(btrfs.magic(fd))
                        value = limits.enabled(fd) if limits else None
                    finally:
                        os.close(fd)
                    if value is not None:
                        found[path] = value
                except StorageError as error:
                    found[path] = error
        return found

    def put(self, target: str, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import qgroupchange

        qgroupchange.enable(self._types, target, after)

    def merge(self, target: str, now: Any, declared: Any) -> Any:
        return {"on": True, "mode": UNKNOWN, **(now or {}), **declared}

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: str, before: Any, after: Any) -> str:
        return FORWARD

    def vanishes(self, target: str, value: Any, gone: Any) -> bool:
        return False


def type_of(types: dict[int, Any], fd: int, path: str) -> Any:
    limits = types.get(btrfs.magic(fd))
    if limits is None:
        raise nowhere_held(types, path)
    return limits


def nowhere_held(types: dict[int, Any], path: str) -> StorageError:
    text = "%s is on a filesystem that cannot hold anybody to a limit here" % path
    return StorageError("not_enforced", text, "use btrfs, XFS or ext4", supported=sorted(types))


def agree(now: Any, said: Any) -> bool:
    """Are the said fields so? ``nested`` is not asked: its owner may change it at any moment."""
    if now is None or said is None:
        return now is said
    parent = "parent" not in said or said["parent"] in (now["parent"], *now["_parents"].values())
    return parent and all(now[field] == said[field] for field in FIELDS if field in said and field != "parent")
