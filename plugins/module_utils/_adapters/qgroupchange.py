# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Setting, moving and lifting the limits that ``qgroup`` reads, and turning accounting on."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from typing import Any, Iterable, Iterator

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import btrfs, btrfschange
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import (
    NO_MAGICLINKS,
    NO_SYMLINKS,
    NO_XDEV,
    Walk,
    check,
    libc,
    openat2,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.qgroup import (
    DIRECTORY,
    FIELDS,
    MARK,
    BtrfsLimits,
    Look,
    Target,
    agree,
    type_of,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN

_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432  # the same on x86_64 and aarch64


def put(types: dict[int, Any], target: Target, before: Any, after: Any) -> None:
    with Walk() as walk:
        fd, there = walk.nearest(target[1])
        try:
            limits = type_of(types, fd, target[1])
            if there:
                limits.changes().write(fd, target, before, after)
            elif after is None:
                limits.changes().forget(fd, target)  # the limit went with its directory
            else:
                raise StorageError("moved", "%s is not there any more" % target[1], "run it again")
        finally:
            os.close(fd)


def merge(limits: Any, target: Target, now: Any, declared: Any) -> dict[str, Any]:
    own = getattr(limits, "merge", None)
    if own is not None:
        return dict(own(target, now, declared))
    kept: dict[str, Any] = {field: now[field] for field in FIELDS} if now else dict.fromkeys(FIELDS)
    return {**kept, **declared, "nested": True}


def above(types: dict[int, Any], walk: Walk, target: Target) -> tuple[Any, StorageError | None]:
    """What could limit a directory that is not there yet, by the nearest one above it; or why nothing could."""
    limits = None
    try:
        fd, _there = walk.nearest(target[1])
        try:
            limits = type_of(types, fd, target[1])
            if hasattr(limits, "above"):
                limits.above(fd, target)
        finally:
            os.close(fd)
    except StorageError as error:
        return limits, error
    return limits, None


def refusal(target: Target, after: Any) -> StorageError | None:
    """What no limit of Btrfs can be."""
    for option in ("id", "name", "paths", "grace") if after else ():
        if after.get(option) is not None:
            text = "%s: a quota of btrfs has no %s, it is that of the subvolume" % (target[1], option)
            return StorageError("unsupported", text, "leave %s out" % option, option=option)
    if not after or not any(after.get(field) for field in ("soft", "inodes_hard", "inodes_soft")):
        return None
    text = "%s: btrfs knows neither soft limits nor limits on inodes" % target[1]
    return StorageError("unsupported", text, "set the hard limit only")


def switch(types: dict[int, Any], path: str) -> str:
    """The highest directory above a path that leads to the same filesystem: one switch for all that is limited on it.

    What is not yet there is looked for above; on a filesystem without limits, or out of sight, a path is its own.
    """
    found, mine = names.path(path), None
    with Walk() as walk:
        for here in (found, *names.ancestors(found)):
            try:
                fd = walk.open(here, DIRECTORY)
            except StorageError as error:
                if error.code == "not_found" and mine is None:
                    continue
                break
            try:
                limits = types.get(btrfs.magic(fd))
                fs = limits.filesystem(fd) if limits else None
            except StorageError:
                break
            finally:
                os.close(fd)
            if fs is None or mine not in (None, fs):
                break
            found, mine = here, fs
    return found


def enable(types: dict[int, Any], target: str, after: Any) -> None:
    if after is None:
        raise StorageError("unsupported", "quota at %s stays enabled: others may count on it" % target)
    with Walk() as walk:
        fd, _there = walk.nearest(target)
        try:
            limits = type_of(types, fd, target)
            if limits.enabled(fd) is None:
                limits.changes().enable(fd, after.get("mode", UNKNOWN))
            now = limits.enabled(fd)
        finally:
            os.close(fd)
    if now is None or now["_inconsistent"] or after.get("mode", UNKNOWN) not in (UNKNOWN, now["mode"]):
        text = "%s: the filesystem did not come to the wanted kind of quota" % target
        raise StorageError("not_enforced", text, "quota that is on in another mode must be disabled first", found=now)


class BtrfsChanges:
    """What changes the limits of a Btrfs. ``limits`` reads them."""

    def __init__(self, limits: BtrfsLimits) -> None:
        self.limits = limits

    def write(self, fd: int, target: Target, before: Any, after: Any) -> None:
        _fs, me = self.limits.place(fd, target)
        error = self.limits.refusal(target, before, after)
        if error is not None:
            raise error
        paths = _parent(fd, after)
        now = _point(fd, me, paths).value(me)
        if not agree(now, before):
            if agree(now, after):
                return
            raise StorageError("moved", "the limit of %s changed since it was read" % target[1], "run it again")
        if after and btrfs.quota_status(fd) is None:
            raise StorageError("not_enforced", "quota is off on the filesystem of %s" % target[1], "enable it first")
        with outside(fd) as out:
            self._sweep(out)
            if after is None or after.get("_by_hand"):
                self._lift(out, me, now, after)
            else:
                self._limit(out, me, now, after, paths)
            self._settle(out)
        now = _point(fd, me, paths).value(me)
        if not agree(now, after) or (now and not now["nested"] and not now["_by_hand"]):
            text = "%s: the kernel did not keep the limit, or a subvolume nested in it escapes it" % target[1]
            raise StorageError("not_enforced", text, "does something else change its quota groups?", found=now)

    def _limit(self, fd: int, me: int, now: Any, after: Any, paths: dict[int, str]) -> None:
        own = btrfs.LEVEL | me
        btrfschange.qgroup_create(fd, own)
        btrfschange.qgroup_limit(fd, own, after["hard"], mark=MARK)
        for parent in paths:
            btrfschange.qgroup_create(fd, btrfs.LEVEL | parent)
            if not btrfs.qgroups(fd, [btrfs.LEVEL | parent])[btrfs.LEVEL | parent].mark:
                btrfschange.qgroup_limit(fd, btrfs.LEVEL | parent, None, mark=MARK)
            btrfschange.qgroup_assign(fd, me, btrfs.LEVEL | parent)
        btrfschange.qgroup_assign(fd, me, own)
        drop = self._left(fd, me, now, after)
        for group in drop:
            btrfschange.qgroup_assign(fd, me, group, remove=True)
        for _again in range(4):  # whoever owns it may nest on while we look
            if not _regroup(fd, me, drop):
                break
        btrfschange.qgroup_limit(fd, me, None)  # one set by hand would still count

    def _lift(self, fd: int, me: int, now: Any, after: Any) -> None:
        """What is nested first: as long as ``me`` is in its group, a killed run is seen and goes on."""
        own = btrfs.LEVEL | me
        drop = self._left(fd, me, now, after) | {own}
        _regroup(fd, me, drop)
        btrfschange.qgroup_limit(fd, me, after["hard"] if after else None)
        for group in drop:
            btrfschange.qgroup_assign(fd, me, group, remove=True)
        if own in btrfs.qgroups(fd, [own]):
            btrfschange.qgroup_limit(fd, own, None, mark=MARK)
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
            btrfschange.rescan(fd, self.limits.rescan_timeout)

    def forget(self, fd: int, target: Target) -> None:
        """A limited directory is gone: so may be what was kept for it."""
        with outside(fd) as out:
            self._sweep(out)

    def _sweep(self, fd: int) -> None:
        """Once per filesystem: remove groups of ours whose subvolume is gone and that charge nobody any more."""
        fs = btrfs.filesystem_id(fd)
        if fs in self.limits.swept:
            return
        self.limits.swept.add(fs)
        groups, alive = btrfs.qgroups(fd), {child for inside in btrfs.nested(fd).values() for child in inside}
        for number, group in groups.items():
            if number >> 48 == 1 and group.mark == MARK and number % btrfs.LEVEL not in alive:
                for member in group.members:
                    if member not in alive:
                        _destroy(fd, member)
                _destroy(fd, number)

    def enable(self, fd: int, mode: Any) -> None:
        try:
            btrfschange.quota_enable(fd, simple=mode != "full")
        except StorageError as error:
            if mode != UNKNOWN or error.details.get("errno") != errno.EINVAL:
                raise
            btrfschange.quota_enable(fd, simple=False)  # Linux before 6.7
        self._settle(fd)


def _point(fd: int, me: int, paths: dict[int, str]) -> Look:
    """Only what concerns one subvolume and those nested in it."""
    below = btrfs.nested(fd, me)
    groups = btrfs.qgroups(fd, [number for each in below for number in (each, btrfs.LEVEL | each)])
    groups.update(btrfs.qgroups(fd, {p for group in groups.values() for p in group.parents} - set(groups)))
    return Look(fd, groups, below, dict(paths))


def _regroup(fd: int, me: int, drop: Iterable[int]) -> bool:
    """Charge what is nested where ``me`` is charged, ``drop`` left out. True when something was to do."""
    look = _point(fd, me, {})
    strays = list(look.strays(me, drop))
    for subvolume, missing, extra in strays:
        if subvolume not in look.groups:  # recent kernels make it with the subvolume and refuse to do so again
            btrfschange.qgroup_create(fd, subvolume)
        for group in missing:
            btrfschange.qgroup_assign(fd, subvolume, group)
        for group in extra:
            btrfschange.qgroup_assign(fd, subvolume, group, remove=True)
    return bool(strays)


def _parent(fd: int, after: Any) -> dict[int, str]:
    """{its id: path} of the declared parent, if any."""
    path = after.get("parent") if after else None
    if path is None:
        return {}
    with Walk() as walk:
        other = walk.open(names.path(path, "parent"), DIRECTORY)
        try:
            if not btrfs.is_subvolume(other) or btrfs.filesystem_id(other) != btrfs.filesystem_id(fd):
                text = "parent %s is not a subvolume of the same filesystem" % path
                raise StorageError("invalid", text, "name a subvolume that lies beside or around it")
            return {btrfs.subvolume_id(other): path}
        finally:
            os.close(other)


def _destroy(fd: int, group: int) -> None:
    try:
        btrfschange.qgroup_destroy(fd, group)
    except StorageError as error:
        if error.code != "in_use":
            raise


@contextlib.contextmanager
def outside(fd: int) -> Iterator[int]:
    """A descriptor of the filesystem of ``fd`` where no limit counts; ``denied`` when it is read-only.

    Newer kernels charge an ioctl on quota groups to the subvolume it comes through: from within a full one, its limit
    could neither be raised nor lifted (EDQUOT). Mostly one around it will do; else it takes a mount that nobody sees,
    which costs more than all the rest. Nothing is kept: it would hold a device that is to go.
    """
    with contextlib.ExitStack() as held:
        try:
            if os.fstatvfs(fd).f_flag & os.ST_RDONLY:  # our mount would turn a read-only filesystem writable
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            found = _around(fd)
            if found is None:
                found = _top(held, fd)
            held.callback(os.close, found)
        except OSError as error:
            raise failure(error, "cannot reach the btrfs filesystem from outside of its limits") from error
        yield found


def _around(fd: int) -> int | None:
    """The nearest subvolume around ``fd``, in the same mount, that nothing limits."""
    here, last = os.dup(fd), os.fstat(fd)
    try:
        while True:
            above = openat2(here, b"..", DIRECTORY, NO_XDEV | NO_SYMLINKS | NO_MAGICLINKS)
            os.close(here)
            here, seen = above, os.fstat(above)
            if os.path.samestat(seen, last):  # the root directory is its own parent
                return None
            if seen.st_ino == btrfs.FIRST_SUBVOLUME and not _limited(here, btrfs.subvolume_id(here)):
                return os.dup(here)
            last = seen
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return None
    finally:
        os.close(here)


def _limited(fd: int, subvolume: int) -> bool:
    """Does anything limit what a subvolume is charged for? The top counts as free: there is nothing further out."""
    todo = [subvolume] if subvolume != btrfs.TOP else []
    known: set[int] = set()
    while todo:
        known.update(todo)
        groups = btrfs.qgroups(fd, todo).values()
        if any((group.max_rfer, group.max_excl) != (None, None) for group in groups):
            return True
        todo = list({parent for group in groups for parent in group.parents} - known)
    return False


def _top(held: contextlib.ExitStack, fd: int) -> int:
    devices = os.listdir("/sys/fs/btrfs/%s/devices" % btrfs.filesystem_id(fd))
    context = _held(held, _FSOPEN, b"btrfs", 1)
    for key, value in ((b"source", b"/dev/" + os.fsencode(devices[0])), (b"subvolid", b"%d" % btrfs.TOP)):
        _syscall(_FSCONFIG, context, 1, key, value, 0)
    _syscall(_FSCONFIG, context, 6, None, None, 0)
    tree = _held(held, _FSMOUNT, context, 1, 0)
    return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=tree)


def _syscall(number: int, *args: object) -> int:
    return check(libc.syscall(ctypes.c_long(number), *args))


def _held(held: contextlib.ExitStack, number: int, *args: object) -> int:
    fd = _syscall(number, *args)
    held.callback(os.close, fd)
    return fd
