# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits of projects, users and groups on XFS and ext4, as the port ``quota`` reads them (quotactl(2)).

Both filesystems answer the commands of XFS (include/uapi/linux/dqblk_xfs.h), whose unit of 512 bytes loses nothing. One
walk per filesystem and kind, by the next number that has a record: no longer than the numbers that are asked for.
A project is known by the id of its directory and by the row of the catalogue that gave it (``_adapters.catalogue``).
"""

from __future__ import annotations

import bisect
import ctypes
import errno
import fcntl
import itertools
import os
import struct
from collections.abc import Hashable
from typing import Any, Iterable, NamedTuple, Tuple

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.catalogue import Record
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import check, syscall
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN

Target = Tuple[str, str]  # "project", "user:<name or number>" or "group:<...>", and a path on the filesystem
KINDS = ("user", "group", "project")  # in the order of USRQUOTA, GRPQUOTA, PRJQUOTA
XFS, EXT4 = 0x58465342, 0xEF53
GETINFO, SETINFO, XGETQUOTA, XSETQLIM, XGETQSTATV, XGETNEXTQUOTA = 0x800005, 0x800006, 0x5803, 0x5804, 0x5808, 0x5809
_QUOTACTL_FD = 443  # the same on x86_64 and aarch64
_GETXATTR, _INHERIT = 0x801C581F, 0x200  # FS_IOC_FSGETXATTR: xflags, extsize, nextents, projid, cowextsize
_OFF = {"on": False, "counts": False}
LIMITS = ("hard", "soft", "inodes_hard", "inodes_soft")
STATE = (*LIMITS, "id", "name", "paths", "enforced", "parent")


class Dquot(NamedTuple):
    id: int
    hard: int | None
    soft: int | None
    inodes_hard: int | None
    inodes_soft: int | None
    bytes: int
    inodes: int


class Spot(NamedTuple):
    """Where a limit belongs: its number among those of its kind, and whether new content gets that number too."""

    kind: str
    id: int
    inherit: bool = True


class QuotactlLimits:
    """For ``Quota``: what is different on XFS and ext4. ``record`` keeps the ids of projects."""

    magics = (XFS, EXT4)

    def __init__(self, record: Record | None = None) -> None:
        self.record = record or Record()
        self.seen: dict[Target, dict[str, Any]] = {}  # what its filesystem can: type, unit of a limit, enforcement
        self.spots: dict[tuple[Hashable, str, int], set[Target]] = {}
        self.said: dict[Target, dict[str, Any]] = {}
        self.shared: dict[tuple[str, Any], list[Target]] = {}  # paths, ids and names that projects are declared with
        self.projects: Projects | None = None  # as read by the last look, and kept up to date by what changes it
        self._states: dict[Hashable, dict[str, dict[str, Any]]] = {}

    def place(self, fd: int, target: Target) -> tuple[Hashable, Spot]:
        fs, spot = self.filesystem(fd), locate(fd, target)
        if fs not in self._states:
            self._states[fs] = states(fd)
        self.seen[target] = {"fs": fs, **self._states[fs][spot.kind]}
        if spot.kind != "project":
            self.spots.setdefault((fs, spot.kind, spot.id), set()).add(target)
        return fs, spot

    def above(self, fd: int, target: Target) -> Hashable:
        """What can be limited there, ``fd`` being the nearest directory above the target."""
        fs, kind = self.filesystem(fd), target[0].partition(":")[0]
        self.seen[target] = {"fs": fs, **states(fd)[kind]}
        return fs

    def filesystem(self, fd: int) -> Hashable:
        return os.fstat(fd).st_dev

    def enabled(self, fd: int) -> dict[str, Any] | None:
        """A mount option turns it on, or nothing does: ``refusal`` tells for each kind where it is off."""
        return {"on": True, "mode": "mount", "_inconsistent": False}

    def read(self, fd: int, wanted: dict[Target, Spot]) -> dict[Target, Any]:
        if any(spot.kind == "project" for spot in wanted.values()):
            self.projects = Projects(self.record)
        return self._read(fd, wanted)

    def known(self) -> Projects:
        if self.projects is None:
            self.projects = Projects(self.record)
        return self.projects

    def _read(self, fd: int, wanted: dict[Target, Spot]) -> dict[Target, Any]:
        asked: dict[str, dict[int, Dquot]] = {}
        state = self._states.pop(self.filesystem(fd))
        known = self.known() if any(spot.kind == "project" for spot in wanted.values()) else None
        where = {target: known.find(target[1], spot) if known else spot for target, spot in wanted.items()}
        for kind in {spot.kind for spot in wanted.values()}:
            if state[kind]["counts"]:
                asked[kind] = walk(fd, kind, {spot.id for spot in where.values() if spot.kind == kind})
        found = {t: self._value(fd, t, spot, known, asked.get(spot.kind, {})) for t, spot in where.items()}
        return {target: value for target, value in found.items() if value is not None}

    def point(self, fd: int, target: Target) -> Any:
        """The value of one target, read by its number alone."""
        _fs, spot = self.place(fd, target)
        return self._read(fd, {target: spot}).get(target)

    def _value(
        self, fd: int, target: Target, spot: Spot, known: Projects | None, dquots: dict[int, Dquot]
    ) -> dict[str, Any] | None:
        state, dquot = self.seen[target], dquots.get(spot.id, Dquot(spot.id, None, None, None, None, 0, 0))
        limits = {field: getattr(dquot, field) for field in LIMITS}
        name, paths, whole = (None, None, True) if spot.kind != "project" or not known else known.about(target[1], spot)
        if not any(limits.values()) if spot.kind != "project" else spot.id == 0:
            return None
        if paths and len(paths) > 1:
            whole = whole and charged(fd, paths, spot)
        return {
            **limits,
            "parent": None,
            "nested": whole,
            "id": spot.id,
            "name": name,
            "paths": paths,
            "enforced": state["on"],
            "grace": state["grace"],
            "_id": spot.id,
            "_used_bytes": dquot.bytes if state["counts"] else None,
            "_used_inodes": dquot.inodes if state["counts"] else None,
            "_enforced_by": "%s_quota" % spot.kind if state["on"] else None,
            "_fs": state["fstype"],
            "_unit": state["unit"],
            "_parents": {},
        }

    def same(self, now: dict[str, Any], declared: dict[str, Any]) -> bool:
        said = rounded(declared, now["_unit"])
        grace = said.get("grace") in (None, UNKNOWN, now["grace"])
        return bool(now["nested"] and now["enforced"] and grace and agree(now, said))

    def merge(self, target: Target, now: Any, declared: dict[str, Any]) -> dict[str, Any]:
        unit = self.seen.get(target, {}).get("unit", 1)
        kept = dict.fromkeys(STATE)
        if target[0] == "project":
            kept.update(id=UNKNOWN, name=target[1], paths=[target[1]])
        else:
            kept.update(id=UNKNOWN)
        if now:
            kept = {field: now[field] for field in STATE}
            kept["name"] = kept["name"] or (target[1] if target[0] == "project" else None)
            kept["paths"] = kept["paths"] or ([target[1]] if target[0] == "project" else None)
        grace = now["grace"] if now else UNKNOWN
        return {**kept, "grace": grace, **rounded(declared, unit), "enforced": True, "nested": True}

    def beside(self, said: dict[Target, dict[str, Any]]) -> None:
        """All that is declared together."""
        if self.said is not said:
            self.said, self.shared = said, {}

    def refusal(self, target: Target, before: Any, after: Any) -> StorageError | None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.quotactlplan import refusal

        return refusal(self, target, before, after)

    def changes(self) -> Any:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.quotactlchange import QuotactlChanges

        return QuotactlChanges(self)


class Projects:
    """The projects of the catalogue, by id and by the directories that they charge."""

    def __init__(self, record: Record) -> None:
        self.names: dict[str, dict[str, Any]] = record.ids("project")
        self.owners = {row["id"]: name for name, row in self.names.items()}
        self.paths = {path: name for name, row in self.names.items() for path in row.get("paths", ())}
        self._sorted = sorted(self.paths)

    def set(self, name: str, row: dict[str, Any] | None) -> None:
        """What was written meanwhile."""
        old = self.names.pop(name, {"id": 0, "paths": []})
        self.owners.pop(old["id"], None)
        for path in old["paths"]:
            del self.paths[path]
            self._sorted.remove(path)
        if row is not None:
            self.names[name] = row
            self.owners[row["id"]] = name
            for path in row["paths"]:
                self.paths[path] = name
                bisect.insort(self._sorted, path)

    def beneath(self, path: str) -> list[str]:
        """The directories of projects within one, itself left out."""
        start = bisect.bisect_left(self._sorted, path + "/")
        rest = itertools.islice(self._sorted, start, None)
        return list(itertools.takewhile(lambda other: other.startswith(path + "/"), rest))

    def find(self, path: str, spot: Spot) -> Spot:
        """A directory has the project that the catalogue gave it, whatever it carries; else the one that it carries.

        What it carries because it lies in another project is none of its own.
        """
        if spot.kind != "project":
            return spot
        mine = self.paths.get(path)
        if mine is not None:
            number = self.names[mine]["id"]
            return Spot("project", number, spot.inherit and spot.id == number)
        return Spot("project", 0) if self.around(path, spot.id) else spot

    def around(self, path: str, number: int) -> bool:
        owner = self.names.get(self.owners.get(number, ""), {})
        return any(names.within(path, other) for other in owner.get("paths", ()))

    def about(self, path: str, spot: Spot) -> tuple[str | None, list[str] | None, bool]:
        """(name, the directories that it charges, is all of that done); no name: the id was given by somebody else."""
        mine = self.paths.get(path)
        if mine is None:
            return None, None, False
        row = self.names[mine]
        return mine, list(row["paths"]), bool(row["whole"]) and spot.inherit


def locate(fd: int, target: Target) -> Spot:
    kind, _colon, who = target[0].partition(":")
    if kind == "project":
        flags, project = tag(fd, target[1])
        return Spot(kind, project, bool(flags & _INHERIT))
    return Spot(kind, number(kind, who))


def number(kind: str, who: str) -> int:
    if who.isascii() and who.isdigit():
        return int(who)
    import grp
    import pwd

    try:
        return pwd.getpwnam(who).pw_uid if kind == "user" else grp.getgrnam(who).gr_gid
    except KeyError as error:
        raise StorageError(
            "not_found", "there is no %s %.100r" % (kind, who), "make it first, or give its id"
        ) from error


def tag(fd: int, where: str) -> tuple[int, int]:
    """(flags, project id) of what ``fd`` is."""
    data = bytearray(28)
    try:
        fcntl.ioctl(fd, _GETXATTR, data)
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EOPNOTSUPP):
            return 0, 0
        raise failure(error, "cannot read the project of %s" % where) from error
    flags, _extsize, _extents, project = struct.unpack_from("=4I", data)
    return flags, project


def charged(fd: int, paths: list[str], spot: Spot) -> bool:
    """Do the directories of a project carry its id, beside the one that is looked at?"""
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import Walk

    with Walk() as walked:
        for path in paths:
            try:
                other = walked.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK)
            except StorageError as error:
                if error.code != "not_found":
                    raise
                return False
            try:
                flags, project = tag(other, path)
            finally:
                os.close(other)
            if project != spot.id or not flags & _INHERIT:
                return False
    return True


def rounded(value: dict[str, Any], unit: int) -> dict[str, Any]:
    """Bytes as the filesystem can hold somebody to them: never more than was asked for."""
    return {k: v - v % unit if v and k in ("hard", "soft") else v for k, v in value.items()}


def agree(now: Any, said: Any) -> bool:
    if now is None or said is None:
        return now is said
    return all(now.get(field) == said[field] for field in STATE if field in said and said[field] is not UNKNOWN)


def states(fd: int) -> dict[str, dict[str, Any]]:
    """Of each kind: is it counted, is it held to (``on``), the grace of soft limits (seconds), the unit of a limit."""
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.btrfs import magic

    xfs = magic(fd) == XFS
    about = {"fstype": "xfs" if xfs else "ext4", "unit": os.fstatvfs(fd).f_frsize if xfs else 1024}
    flags = 0
    try:
        flags = struct.unpack_from("=xxH", call(fd, XGETQSTATV, "user", 0, struct.pack("=b159x", 1)))[0]
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.ESRCH, errno.EOPNOTSUPP):  # none of them is on
            raise failure(error, "cannot see whether quota is on") from error
    found: dict[str, dict[str, Any]] = {}
    for index, kind in enumerate(KINDS):
        counts, on = bool(flags & 1 << 2 * index), bool(flags & 2 << 2 * index)
        found[kind] = {**about, "counts": counts, "on": counts and on, "grace": grace(fd, kind) if counts else None}
    return found


def grace(fd: int, kind: str) -> int:
    try:
        return int(struct.unpack_from("=Q", call(fd, GETINFO, kind, 0, bytes(24)))[0])
    except OSError as error:
        raise failure(error, "cannot read the grace of %s quota" % kind) from error


def walk(fd: int, kind: str, wanted: set[int]) -> dict[int, Dquot]:
    """Records of the wanted numbers. The kernel tells the next one at or above a number, so the gaps cost nothing."""
    found: dict[int, Dquot] = {}
    at = -1
    for each in sorted(wanted):
        if at < each:
            dquot = ask(fd, XGETNEXTQUOTA, kind, each)
            if dquot is None:
                break
            at = dquot.id
            if at in wanted:
                found[at] = dquot
    return found


def ask(fd: int, command: int, kind: str, number_: int) -> Dquot | None:
    try:
        data = call(fd, command, kind, number_, bytes(112))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise failure(error, "cannot read the %s quota" % kind) from error
    at, hard, soft, inodes_hard, inodes_soft, blocks, inodes = struct.unpack_from("=4xI6Q", data)
    limits = (hard * 512 or None, soft * 512 or None, inodes_hard or None, inodes_soft or None)
    return Dquot(at, *limits, blocks * 512, inodes)


def call(fd: int, command: int, kind: str, number_: int, data: Iterable[int]) -> bytes:
    """quotactl_fd(2), or where there is none quotactl(2) of the device. OSError."""
    buffer = ctypes.create_string_buffer(bytes(data), 176)
    code = command << 8 | KINDS.index(kind)
    try:
        check(syscall(_QUOTACTL_FD, fd, code, number_, ctypes.addressof(buffer)))
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import quotactldevice

        quotactldevice.call(fd, code, number_, buffer)
    return buffer.raw
