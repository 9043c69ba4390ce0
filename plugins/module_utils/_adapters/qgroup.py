# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits on what a directory may hold. ``Quota`` and ``QuotaEnabled`` choose by type of filesystem; here is Btrfs.

The limit of a subvolume is on the group ``1/<its id>``, of which it and all subvolumes nested in it are members. Simple
quota (Linux 6.7) makes what is nested later a member by itself, full quota does not. In both, whoever may create a
subvolume may name other groups for it, or none, without any capability (``btrfs subvolume create -i``). So ``nested``
is part of the state: False when something nested is charged elsewhere, and put brings it back.
"""

from __future__ import annotations

import errno
import os
from typing import Any, Hashable, Iterable, Iterator, Tuple

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import btrfs, fsinfo
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import Walk
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import FORWARD, REVERSIBLE, UNKNOWN

Target = Tuple[str, str]  # kind (project, user, group) and the directory that is charged
FIELDS = ("hard", "soft", "inodes_hard", "inodes_soft", "parent")
MARK = 0x424B  # tells our level-1 groups from those made by hand
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK


class BtrfsLimits:
    """What a type of filesystem brings to ``Quota``; a sibling for XFS and ext4 has the same methods and its magics."""

    magics = (btrfs.MAGIC,)

    def __init__(self, rescan_timeout: float = 600.0) -> None:
        self.rescan_timeout = rescan_timeout
        self._swept: set[str] = set()

    def place(self, fd: int, target: Target) -> tuple[Hashable, int]:
        """(its filesystem, its own number there), or a StorageError that says why it cannot be limited."""
        if target[0] != "project":
            text = "%s: btrfs has no %s quota" % (target[1], target[0])
            raise StorageError("unsupported", text, "limit a subvolume with kind: project")
        if not btrfs.is_subvolume(fd):
            text = "%s is on btrfs, but not a subvolume" % target[1]
            raise StorageError("unsupported", text, "only a subvolume can be limited: make it one (type: subvolume)")
        return btrfs.filesystem_id(fd), btrfs.subvolume_id(fd)

    def refusal(self, target: Target, after: Any) -> StorageError | None:
        if not any(after.get(field) for field in ("soft", "inodes_hard", "inodes_soft")):
            return None
        text = "%s: btrfs knows neither soft limits nor limits on inodes" % target[1]
        return StorageError("unsupported", text, "set the hard limit only")

    def read(self, fd: int, wanted: dict[Target, int]) -> dict[Target, Any]:
        """Every target on one filesystem in one pass of its quota tree and one of its root tree."""
        if btrfs.quota_status(fd) is None:
            return {}
        paths = {subvolume: target[1] for target, subvolume in wanted.items()}
        look = _Look(fd, btrfs.qgroups(fd), btrfs.nested(fd), paths)
        found = {target: look.value(subvolume) for target, subvolume in wanted.items()}
        return {target: value for target, value in found.items() if value is not None}

    def write(self, fd: int, target: Target, before: Any, after: Any) -> None:
        _fs, me = self.place(fd, target)
        error = self.refusal(target, after) if after else None
        if error is not None:
            raise error
        paths = _parent(fd, after)
        now = _point(fd, me, paths).value(me)
        if not _agree(now, before):
            if _agree(now, after):
                return
            raise StorageError("moved", "the limit of %s changed since it was read" % target[1], "run it again")
        if after and btrfs.quota_status(fd) is None:
            raise StorageError("not_enforced", "quota is off on the filesystem of %s" % target[1], "enable it first")
        with btrfs.top(fd) as top:
            self._sweep(top)
            if after is None or after.get("_by_hand"):
                self._lift(top, me, now, after)
            else:
                self._limit(top, me, now, after, paths)
            self._settle(top)
        now = _point(fd, me, paths).value(me)
        if not _agree(now, after) or (now and not now["nested"] and not now["_by_hand"]):
            text = "%s: the kernel did not keep the limit, or a subvolume nested in it escapes it" % target[1]
            raise StorageError("not_enforced", text, "does something else change its quota groups?", found=now)

    def _limit(self, fd: int, me: int, now: Any, after: Any, paths: dict[int, str]) -> None:
        own = btrfs.LEVEL | me
        btrfs.qgroup_create(fd, own)
        btrfs.qgroup_limit(fd, own, after["hard"], mark=MARK)
        for parent in paths:
            btrfs.qgroup_create(fd, btrfs.LEVEL | parent)
            if not btrfs.qgroups(fd, [btrfs.LEVEL | parent])[btrfs.LEVEL | parent].mark:
                btrfs.qgroup_limit(fd, btrfs.LEVEL | parent, None, mark=MARK)
            btrfs.qgroup_assign(fd, me, btrfs.LEVEL | parent)
        btrfs.qgroup_assign(fd, me, own)
        drop = self._left(fd, me, now, after)
        for group in drop:
            btrfs.qgroup_assign(fd, me, group, remove=True)
        for _again in range(4):  # whoever owns it may nest on while we look
            if not _regroup(fd, me, drop):
                break
        btrfs.qgroup_limit(fd, me, None)  # one set by hand would still count

    def _lift(self, fd: int, me: int, now: Any, after: Any) -> None:
        """What is nested first: as long as ``me`` is in its group, a killed run is seen and goes on."""
        own = btrfs.LEVEL | me
        drop = self._left(fd, me, now, after) | {own}
        _regroup(fd, me, drop)
        btrfs.qgroup_limit(fd, me, after["hard"] if after else None)
        for group in drop:
            btrfs.qgroup_assign(fd, me, group, remove=True)
        if own in btrfs.qgroups(fd, [own]):
            btrfs.qgroup_limit(fd, own, None, mark=MARK)
            _destroy(fd, own)  # or it stays, without a limit, for those that are charged to it as their parent

    def _left(self, fd: int, me: int, now: Any, after: Any) -> set[int]:
        """The group of a parent that is one no more; unless it is around us, then it stays."""
        if now is None or now["parent"] is None or (after and after.get("parent") in now["_parents"].values()):
            return set()
        parent = next(number for number, path in now["_parents"].items() if path == now["parent"])
        return set() if me in btrfs.nested(fd, parent) else {btrfs.LEVEL | parent}

    def _settle(self, fd: int) -> None:
        status = btrfs.quota_status(fd)
        if status is not None and (status.inconsistent or status.rescanning):
            btrfs.rescan(fd, self.rescan_timeout)

    def forget(self, fd: int) -> None:
        """A limited directory is gone: so may be what was kept for it."""
        with btrfs.top(fd) as top:
            self._sweep(top)

    def _sweep(self, fd: int) -> None:
        """Once per filesystem: remove groups of ours whose subvolume is gone and that charge nobody any more."""
        fs = btrfs.filesystem_id(fd)
        if fs in self._swept:
            return
        self._swept.add(fs)
        groups, alive = btrfs.qgroups(fd), {child for inside in btrfs.nested(fd).values() for child in inside}
        for number, group in groups.items():
            if number >> 48 == 1 and group.mark == MARK and number % btrfs.LEVEL not in alive:
                for member in group.members:
                    if member not in alive:
                        _destroy(fd, member)
                _destroy(fd, number)

    def enabled(self, fd: int) -> dict[str, Any] | None:
        status = btrfs.quota_status(fd)
        return {"on": True, "mode": status.mode, "_inconsistent": status.inconsistent} if status else None

    def enable(self, fd: int, mode: Any) -> None:
        try:
            btrfs.quota_enable(fd, simple=mode != "full")
        except StorageError as error:
            if mode != UNKNOWN or error.details.get("errno") != errno.EINVAL:
                raise
            btrfs.quota_enable(fd, simple=False)  # Linux before 6.7
        self._settle(fd)


class _Look:
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
        by_hand = own not in mine.parents
        if by_hand and mine.max_rfer is None:
            return None
        charged = me if by_hand else own
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
            "nested": not by_hand and next(self.strays(me), None) is None,
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
            self.paths[subvolume] = fsinfo.visible(self.fd, "/" + btrfs.subvolume_path(self.fd, subvolume))
        return self.paths[subvolume]


class Quota:
    """Port: what may be stored in a directory. ``types`` are the filesystems it knows (default: Btrfs)."""

    name = "quota"
    behind = True

    def __init__(self, *types: Any) -> None:
        self._types = {magic: each for each in types or (BtrfsLimits(),) for magic in each.magics}
        self._seen: dict[Target, Any] = {}

    def scan(self, targets: Iterable[Target] | None) -> dict[Target, Any]:
        """One pass per filesystem. With None nothing: a limit is known by the directory that it is asked for."""
        found: dict[Target, Any] = {}
        together: dict[Hashable, tuple[Any, int, dict[Target, Any]]] = {}
        with Walk() as walk:
            for target in targets or ():
                try:
                    fd = walk.open(target[1], _DIRECTORY)
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
        for limits, fd, wanted in together.values():
            try:
                found.update(limits.read(fd, wanted))
            except StorageError as error:
                found.update(dict.fromkeys(wanted, error))
            finally:
                os.close(fd)
        return found

    def put(self, target: Target, before: Any, after: Any) -> None:
        with Walk() as walk:
            fd, there = fsinfo.nearest(walk, target[1])
            try:
                limits = type_of(self._types, fd, target[1])
                if there:
                    limits.write(fd, target, before, after)
                elif after is None:
                    limits.forget(fd)  # the limit went with its directory
                else:
                    raise StorageError("moved", "%s is not there any more" % target[1], "run it again")
            finally:
                os.close(fd)

    def same(self, target: Target, now: Any, declared: Any) -> bool:
        return bool(now["nested"]) and _agree(now, declared)

    def merge(self, target: Target, now: Any, declared: Any) -> Any:
        kept = {field: now[field] for field in FIELDS} if now else dict.fromkeys(FIELDS)
        return {**kept, **declared, "nested": True}

    def refuse(self, target: Target, before: Any, after: Any, gone: Any) -> StorageError | None:
        limits = self._seen.get(target)
        return limits.refusal(target, after) if limits is not None and after else None

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
        self._types = {magic: each for each in types or (BtrfsLimits(),) for magic in each.magics}

    def scan(self, targets: Iterable[str] | None) -> dict[str, Any]:
        found: dict[str, Any] = {}
        with Walk() as walk:
            for path in targets or ():
                try:
                    fd, _there = fsinfo.nearest(walk, path)
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
        if after is None:
            raise StorageError("unsupported", "quota at %s stays enabled: others may count on it" % target)
        with Walk() as walk:
            fd, _there = fsinfo.nearest(walk, target)
            try:
                limits = type_of(self._types, fd, target)
                if limits.enabled(fd) is None:
                    limits.enable(fd, after.get("mode", UNKNOWN))
                now = limits.enabled(fd)
            finally:
                os.close(fd)
        if now is None or now["_inconsistent"] or after.get("mode", UNKNOWN) not in (UNKNOWN, now["mode"]):
            text = "%s: the filesystem did not come to the wanted kind of quota" % target
            raise StorageError(
                "not_enforced", text, "quota that is on in another mode must be disabled first", found=now
            )

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
        text = "%s is on a filesystem that cannot hold anybody to a limit here" % path
        raise StorageError("not_enforced", text, "use a btrfs subvolume", supported=sorted(types))
    return limits


def _point(fd: int, me: int, paths: dict[int, str]) -> _Look:
    """Only what concerns one subvolume and those nested in it."""
    below = btrfs.nested(fd, me)
    groups = btrfs.qgroups(fd, [number for each in below for number in (each, btrfs.LEVEL | each)])
    groups.update(btrfs.qgroups(fd, {p for group in groups.values() for p in group.parents} - set(groups)))
    return _Look(fd, groups, below, dict(paths))


def _regroup(fd: int, me: int, drop: Iterable[int]) -> bool:
    """Charge what is nested where ``me`` is charged, ``drop`` left out. True when something was to do."""
    look = _point(fd, me, {})
    strays = list(look.strays(me, drop))
    for subvolume, missing, extra in strays:
        if subvolume not in look.groups:  # recent kernels make it with the subvolume and refuse to do so again
            btrfs.qgroup_create(fd, subvolume)
        for group in missing:
            btrfs.qgroup_assign(fd, subvolume, group)
        for group in extra:
            btrfs.qgroup_assign(fd, subvolume, group, remove=True)
    return bool(strays)


def _parent(fd: int, after: Any) -> dict[int, str]:
    """{its id: path} of the declared parent, if any."""
    path = after.get("parent") if after else None
    if path is None:
        return {}
    with Walk() as walk:
        other = walk.open(names.path(path, "parent"), _DIRECTORY)
        try:
            if not btrfs.is_subvolume(other) or btrfs.filesystem_id(other) != btrfs.filesystem_id(fd):
                text = "parent %s is not a subvolume of the same filesystem" % path
                raise StorageError("invalid", text, "name a subvolume that lies beside or around it")
            return {btrfs.subvolume_id(other): path}
        finally:
            os.close(other)


def _agree(now: Any, said: Any) -> bool:
    """Are the said fields so? ``nested`` is not asked: its owner may change it at any moment."""
    if now is None or said is None:
        return now is said
    parent = "parent" not in said or said["parent"] in (now["parent"], *now["_parents"].values())
    return parent and all(now[field] == said[field] for field in FIELDS if field in said and field != "parent")


def _destroy(fd: int, group: int) -> None:
    try:
        btrfs.qgroup_destroy(fd, group)
    except StorageError as error:
        if error.code != "in_use":
            raise
