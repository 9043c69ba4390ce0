# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories, subvolumes and files with owner, mode, ACLs and size; always by descriptor, never by path."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from itertools import islice
from typing import Any, Dict, Hashable, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import acl, mountinfo
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import (
    LINKLESS,
    TENANT,
    Walk,
    openat2,
    refused,
    syscall,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import (
    DESTROYS,
    FORWARD,
    REVERSIBLE,
    SHRINKS,
    UNKNOWN,
)

Value = Dict[str, Any]
_DECLARED = frozenset(["type", "owner", "group", "uid", "gid", "mode", "acl", "default_acl", "size", "thick", "source"])
_CREATION = frozenset(("thick", "source"))  # matter while it is made, never compared
_RIGHTS = ("uid", "gid", "mode", "acl", "default_acl")
_KINDS = {
    stat.S_IFLNK: "symbolic link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFBLK: "block device",
    stat.S_IFCHR: "character device",
}
OURS = re.compile(rb"\.bulkhead-(trash-)?[0-9a-f]{16}")  # being made, or being removed
IMPLIED = "trusted.bulkhead.implied"  # on directories made only because something beneath them was declared
LOOK = os.O_RDONLY | os.O_NONBLOCK
_MOST, _SUBVOLUME = 65536, 256
_SYS_OPEN_TREE, _AT_EMPTY_PATH, _OPEN_TREE_CLONE = 428, 0x1000, 1

# The journal makes it before the first put of a run, so that no plan has to: it counts as there from the beginning.
_HOME = "/var/lib/bulkhead"
_FRESH_HOME = {"type": "directory", "uid": 0, "gid": 0, "mode": 0o700, "acl": (), "default_acl": ()}
_FRESH_HOME.update(_mounted=False, _trusted=True)


class Node:
    """Target: an absolute path. See ``resolve`` for what is declared and ``_value`` for what is seen.

    ``want_entries``: the targets that may go; only their ``_entries`` and ``_implied`` are looked at.
    """

    name, behind, slow = "node", True, False
    empties = False  # removal of a directory takes its content along

    def __init__(self) -> None:
        self.want_entries: set[Hashable] = set()
        self.swept: set[tuple[int, int]] = set()
        self._adopted: set[str] = set()

    # -- what is declared, pure ------------------------------------------------------------------------------------

    def canon(self, target: str) -> str:
        return names.path(target)

    def resolve(self, target: str, declared: Value | None) -> Value | None:
        """``owner``, ``group`` and the text entries of ACLs become ids; the only place that looks names up."""
        if declared is None:
            return None
        kind, mode, size = declared.get("type", "directory"), declared.get("mode", 0), declared.get("size", 0)
        wrong = sorted(declared.keys() - _DECLARED)
        if kind not in ("directory", "subvolume", "file"):
            wrong.append("type")
        if isinstance(mode, bool) or not isinstance(mode, int) or not 0 <= mode <= 0o7777:
            wrong.append("mode")
        if size is not UNKNOWN and (isinstance(size, bool) or not isinstance(size, int) or size < 0):
            wrong.append("size")
        if kind != "file":
            wrong += sorted({"size", "thick"} & declared.keys())
        elif declared.get("default_acl"):
            wrong.append("default_acl")
        if wrong:
            bad = ", ".join("%s=%.80r" % (key, declared.get(key)) for key in wrong)
            raise StorageError("invalid", "%s: not valid for a %s: %s" % (target, kind, bad), option=wrong[0])
        found = {key: value for key, value in declared.items() if key not in ("owner", "group")}
        for key, letter, ident in (("owner", "u", "uid"), ("group", "g", "gid")):
            if declared.get(key) is not None:
                found[ident] = acl.number(letter, declared[key])
        for key in ("acl", "default_acl"):
            if key in found:
                found[key] = acl.parse(found[key], key, kind != "file")
        return found

    def same(self, target: str, now: Value, declared: Value) -> bool:
        if "_trash" in now:
            return False
        for key, value in declared.items():
            if key == "type" and value == "directory" and now["type"] == "subvolume":
                continue  # a subvolume is a directory
            if key not in _CREATION and now.get(key) != value and value is not UNKNOWN:
                return False
        return True

    def merge(self, target: str, now: Value | None, declared: Value) -> Value:
        if now is not None:
            kind = "type" if declared.get("type") == "directory" and now["type"] == "subvolume" else ""
            return {**now, **{k: v for k, v in declared.items() if k not in _CREATION and k != kind}}
        fresh: Value = {"type": "directory", "uid": 0, "gid": 0, "mode": 0o755, "acl": (), "default_acl": ()}
        if declared.get("type") == "file":
            fresh.update(mode=0o600, size=UNKNOWN if "source" in declared else 0)
        elif "source" in declared:  # a clone keeps what is not declared
            fresh.update(dict.fromkeys(_RIGHTS, UNKNOWN))
        elif not declared.keys() - {"type"}:
            fresh["_implied"] = True
        return {**fresh, **declared}

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        return after is None or self._shrinks(before, after)

    def risk(self, target: str, before: Any, after: Any) -> str:
        if after is None:
            kind = (before or {}).get("type", "directory")
            return DESTROYS if self.empties or kind != "directory" else REVERSIBLE
        if before is None:  # what a copy brought here cannot be taken away by rmdir
            copied = "source" in after and after.get("type", "directory") == "directory"
            return FORWARD if copied and not self.empties else REVERSIBLE
        return SHRINKS if self._shrinks(before, after) else REVERSIBLE

    def consent(self, target: str, before: Any, after: Any) -> tuple[str, Any] | None:
        return ("absent", True) if after is None else ("allow_shrink", True)

    def replaces(self, target: str, before: Value, after: Value) -> bool:
        return "_trash" in before and after is not None

    def refuse(self, target: str, before: Value | None, after: Value | None, gone: set[Any]) -> StorageError | None:
        if before is None:
            return None
        if after is not None:
            return self._unchangeable(target, before, after)
        if before.get("_link"):
            return StorageError("unsafe_path", "%s is a symbolic link" % target, "remove it by hand")
        mounts = [target] if before["_mounted"] else before.get("_mounts", [])
        busy = sorted(set(mounts) - {spot for port, spot in gone if port != self.name}) if mounts else []
        if busy:
            where = ", ".join(map(repr, busy[:5]))
            return StorageError("in_use", "%s: mounted at %s" % (target, where), "unmount it first", mounts=busy[:32])
        left = self._left(target, before, gone)
        if left and before["type"] == "directory" and not self.empties:
            text = "%s is not empty: %s" % (target, ", ".join(map(repr, left[:5])))
            return StorageError("would_destroy", text, "empty it first", entries=left[:32])
        return None

    def implies(self, target: str, value: Value | None) -> Iterable[tuple[str, str, Value]]:
        up = names.parent(target)
        return () if up == "/" else (("node", up, {"type": "directory"}),)

    def vanishes(self, target: str, value: Value, gone: set[Any]) -> bool:
        """Only what was made for the sake of something beneath it, and is empty once ``gone`` is gone."""
        ours = value.get("_implied") and "_entries" in value and "_link" not in value
        return bool(ours and value["type"] == "directory" and not self._left(target, value, gone))

    @staticmethod
    def _left(target: str, value: Value, gone: set[Any]) -> list[str]:
        below = target.rstrip("/") + "/"
        return [n for n in value.get("_entries", ()) if not {("node", below + n), ("data", below + n)} & gone]

    @staticmethod
    def _shrinks(before: Any, after: Any) -> bool:
        old, new = (value.get("size") if isinstance(value, dict) else None for value in (before, after))
        return isinstance(old, int) and isinstance(new, int) and old > new

    @staticmethod
    def _unchangeable(target: str, now: Value, after: Value) -> StorageError | None:
        if "_trash" in now:
            return None
        if now["type"] != after["type"]:
            text = "%s is a %s, not a %s" % (target, now["type"], after["type"])
            return StorageError("conflict", text, "move it away, or declare what it is")
        if all(now[key] == after[key] for key in now if key in after) or now["_trusted"]:
            return None
        if now["_mounted"]:
            return StorageError("unsafe_path", "%s is a foreign mount" % target, "others could have mounted it there")
        if now.get("_linked"):
            return StorageError("unsafe_path", "%s is a hard link or a stranger's" % target, "whose file is it?")
        return None

    # -- what is there ---------------------------------------------------------------------------------------------

    def scan(self, targets: Iterable[str] | None) -> dict[str, Any]:
        if targets is None:
            raise StorageError("unsupported", "the file system is not scanned as a whole", "name the paths")
        found: dict[str, Any] = {}
        with Walk() as walk:
            for target in sorted(targets):  # neighbours share their parent's descriptor
                try:
                    fd, found[target] = self.look(walk, target)
                    os.close(fd)
                except StorageError as exc:
                    if exc.code != "not_found":
                        found[target] = exc
                    elif target == _HOME:
                        found[target] = dict(_FRESH_HOME)
        return found

    def look(self, walk: Walk, target: str) -> tuple[int, Value]:
        """A readable descriptor and the value; ``not_found`` is a proven ENOENT. Never follows what others control."""
        at, name, trusted = walk.parent(target)
        flags, resolve, fd = LOOK | os.O_DIRECTORY, TENANT, -1
        while fd < 0:
            try:
                fd = openat2(at, name, flags, resolve)
            except OSError as exc:
                if exc.errno == errno.EXDEV and resolve == TENANT:
                    resolve = LINKLESS  # a mount root: seen, marked as such, and not walked past
                elif exc.errno == errno.ELOOP and trusted:
                    return self._look_through(walk, target)
                elif exc.errno == errno.ENOTDIR and flags != LOOK:
                    _must_be_file(_stat(at, name, target), target)
                    flags = LOOK
                else:
                    raise refused(exc, target, not trusted) from exc
        try:
            value = self.value(fd, resolve == LINKLESS or name == b".", target)
            value["_trusted"] = trusted
            if value["type"] == "file" and not trusted:
                value["_linked"] = os.fstat(fd).st_nlink != 1 or value["uid"] not in (0, os.fstat(at).st_uid)
            if target in self.want_entries and value["type"] == "directory" and not self.empties:
                self._look_inside(value, at, name, fd)
        except OSError as exc:
            os.close(fd)
            raise refused(exc, target, not trusted) from exc
        except StorageError:
            os.close(fd)
            raise
        return fd, value

    def _look_through(self, walk: Walk, target: str) -> tuple[int, Value]:
        """Root's own link in root's own directory (/var/run) stands for the directory it leads to."""
        try:
            goal = walk.follow(target)
            fd, value = self.look(walk, goal)
        except StorageError as exc:
            if exc.code == "not_found":
                raise StorageError("unsafe_path", "%s is a link to what is not there" % target, exc.message) from exc
            raise
        return fd, {**value, "_link": goal}

    def _look_inside(self, value: Value, at: int, name: bytes, fd: int) -> None:
        """``_entries``, without our own leftovers, and ``_implied``; beneath a mount those of the hidden directory."""
        tree = -1
        if value["_mounted"]:  # a private copy of the mount above it, without the mounts on it: open_tree(2)
            tree = syscall(_SYS_OPEN_TREE, at, b"", _AT_EMPTY_PATH | _OPEN_TREE_CLONE | os.O_CLOEXEC, 0)
            if tree < 0 or name == b".":
                return  # not known, so it stays
            fd = openat2(tree, name, LOOK | os.O_DIRECTORY)
        try:
            value["_implied"] = bool(_xattr(fd, IMPLIED))
            with os.scandir(fd) as entries:
                found = [os.fsencode(entry.name) for entry in islice(entries, _MOST)]
                others = ("/",) if next(entries, None) else ()  # no name, so it is never gone
            value["_entries"] = (
                tuple(n.decode("utf-8", "surrogateescape") for n in found if not OURS.fullmatch(n)) + others
            )
        finally:
            if tree >= 0:
                os.close(fd)
                os.close(tree)

    def value(self, fd: int, mounted: bool, path: str) -> Value:
        seen = os.fstat(fd)
        kind, default = "directory", b""
        if stat.S_ISDIR(seen.st_mode):
            default = _xattr(fd, acl.DEFAULT)
            if seen.st_ino == _SUBVOLUME and not mounted:
                from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.btrfs import is_subvolume

                kind = "subvolume" if is_subvolume(fd) else kind
        else:
            _must_be_file(seen, path)
            kind = "file"
        access, mode = _xattr(fd, acl.ACCESS), seen.st_mode & 0o7777
        named: tuple[str, ...] = ()
        if access:
            group, named = acl.decode(access)
            mode = mode & ~0o070 | group << 3
        value = {
            "type": kind,
            "uid": seen.st_uid,
            "gid": seen.st_gid,
            "mode": mode,
            "acl": named,
            "default_acl": acl.decode(default).named if default else (),
            "_mounted": mounted,
            "_dev": seen.st_dev,
            "_ino": seen.st_ino,
            "_raw": (access, default),
        }
        if kind == "file":
            value["size"] = seen.st_size
        return value

    # -- effects ---------------------------------------------------------------------------------------------------

    def put(self, target: str, before: Value | None, after: Value | None) -> None:
        """Raises ``moved`` when the target is not as ``before`` says; every change is read back."""
        with Walk() as walk:
            fd, now, tenant = -1, None, True
            try:
                try:
                    fd, now = self.look(walk, target)
                except StorageError as exc:
                    if exc.code != "not_found":
                        raise
                tenant = not walk.parent(target)[2]
                if before is None and after and now and now["_mounted"] and now["type"] == after["type"]:
                    self._adopted.add(target)  # the root of a mount that was made a moment ago came with it
                    before = now
                if not self._as_expected(now, before, after):
                    raise StorageError(
                        "moved", "%s is no longer as it was when the plan was made" % target, "run again"
                    )
                if now is not None and after is not None:
                    self._change(walk, target, fd, now, after)
                elif now is not None and now["_mounted"] and target in self._adopted:
                    self._adopted.discard(target)  # it goes with its mount
                else:
                    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import dirent

                    if now is not None:
                        dirent.remove(self, walk, target, now)
                    elif after is not None:
                        dirent.make(self, walk, target, after)
            except OSError as exc:
                raise refused(exc, target, tenant) from exc
            finally:
                if fd >= 0:
                    os.close(fd)

    def _as_expected(self, now: Value | None, before: Value | None, after: Value | None) -> bool:
        if now is None or before is None:
            return now is before
        if after is None and before.get("_mounted"):
            return bool(now["type"] == before["type"])  # what the mount hid has rights of its own
        wanted = {key: value for key, value in before.items() if key[0] != "_" and key not in _CREATION}
        return all(value is UNKNOWN or now.get(key) == value for key, value in wanted.items())

    def _change(self, walk: Walk, target: str, fd: int, now: Value, after: Value) -> None:
        problem = self._unchangeable(target, now, after)
        if problem is not None:
            raise problem
        size = after.get("size", UNKNOWN)
        if size is not UNKNOWN and size != now["size"]:
            writable = walk.open(target, os.O_RDWR | os.O_NONBLOCK)
            try:
                if not os.path.sameopenfile(fd, writable):
                    raise StorageError("moved", "%s was exchanged for another file" % target, "run again")
                os.ftruncate(writable, size)
                os.fsync(writable)
            finally:
                os.close(writable)
        self.apply(target, fd, now, after)
        with contextlib.suppress(OSError):  # somebody has declared what it shall be: it is no longer merely implied
            os.removexattr(fd, IMPLIED)

    def apply(self, path: str, fd: int, now: Value, after: Value) -> None:
        """Owner first (it clears setuid), the default ACL, then ACL and mode, so that a kill leaves a difference that
        the next scan sees. Then read back: some file systems take a mode and forget it."""
        want = {key: now[key] if after.get(key, UNKNOWN) is UNKNOWN else after[key] for key in _RIGHTS}
        moves = (want["uid"], want["gid"]) != (now["uid"], now["gid"])
        if moves:
            os.fchown(fd, want["uid"], want["gid"])
        rewrite = moves or want["mode"] != now["mode"] or want["acl"] != now["acl"]
        if want["default_acl"] != now["default_acl"] or (want["default_acl"] and rewrite):  # its base follows the mode
            raw = acl.encode(want["mode"], want["default_acl"]) if want["default_acl"] else b""
            os.setxattr(fd, acl.DEFAULT, raw)
        if rewrite:
            if want["acl"] or now["_raw"][0]:
                os.setxattr(fd, acl.ACCESS, acl.encode(want["mode"], want["acl"]))
            os.fchmod(fd, acl.masked(want["mode"], want["acl"]))  # with an ACL the group bits are its mask
        seen = self.value(fd, now["_mounted"], path)
        lost = [key for key, value in want.items() if seen[key] != value]
        if lost:
            text = "%s: the file system did not keep %s" % (path, ", ".join(lost))
            raise StorageError("not_enforced", text, "it may not support owners, modes or ACLs")


class DataDir(Node):
    """A directory with its content: removal renames it to a trash name beside it, then takes the tree away.

    The trash name is derived from the directory's, so that a scan finds what a killed removal left (``_trash``).
    """

    name, empties = "data", True
    stands_for = "node"  # the same directories, seen through another port

    def scan(self, targets: Iterable[str] | None) -> dict[str, Any]:
        """``_mounts``: what is mounted beneath a directory that may go."""
        found = super().scan(targets)
        leaving = {target for target in found.keys() & self.want_entries if isinstance(found[target], dict)}
        for row in mountinfo.parse(mountinfo.read()) if leaving else ():
            for up in leaving.intersection(names.ancestors(row.path)):
                found[up].setdefault("_mounts", []).append(row.path)
        return found

    def look(self, walk: Walk, target: str) -> tuple[int, Value]:
        try:
            return super().look(walk, target)
        except StorageError as exc:
            if exc.code != "not_found" or target not in self.want_entries:
                raise
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.dirent import trash

        fd, value = super().look(walk, trash(target))
        return fd, {**value, "_trash": True}


class MountedRoot(Node):
    """The root of what is mounted at a path: another inode than the directory beneath, so a port of its own."""

    name = "mounted"

    def scan(self, targets: Iterable[str] | None) -> dict[str, Any]:
        found = super().scan(targets)
        return {path: v for path, v in found.items() if isinstance(v, StorageError) or v["_mounted"]}

    def implies(self, target: str, value: Value | None) -> Iterable[tuple[str, str, Value]]:
        return ()


def _stat(at: int, name: bytes, path: str) -> os.stat_result:
    try:
        return os.stat(name, dir_fd=at, follow_symlinks=False)
    except OSError as exc:
        raise refused(exc, path) from exc


def _must_be_file(seen: os.stat_result, path: str) -> None:
    kind = _KINDS.get(stat.S_IFMT(seen.st_mode))
    if kind:
        raise StorageError("unsafe_path", "%s is a %s" % (path, kind), "look at it by hand")


def _xattr(fd: int, name: str) -> bytes:
    try:
        return os.getxattr(fd, name)
    except OSError as exc:
        if exc.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            raise
        return b""
