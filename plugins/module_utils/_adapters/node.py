# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories, subvolumes and files with owner, mode, ACLs and size; always by descriptor, never by path."""

from __future__ import annotations

import errno
import functools
import os
import stat
from collections.abc import Hashable
from typing import Any, Dict, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import (
    LINKLESS,
    TENANT,
    Walk,
    enter,
    openat2,
    refused,
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
_DECLARED = frozenset("type owner group uid gid mode acl default_acl size thick source copy _implied".split())
CREATION = frozenset(("thick", "source", "copy", "_implied"))  # matter while it is made, never compared
_BODIES = ("node", "data", "snapshot", "ceph_keyring")  # ports that files and directories are made by
_IDS = {"owner": ("u", "uid"), "group": ("g", "gid")}
_SHARED = ("uid", "gid", "mode")  # by a memory filesystem's root and its mount
RIGHTS = ("uid", "gid", "mode", "acl", "default_acl")
_KINDS = {
    stat.S_IFLNK: "symbolic link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFBLK: "block device",
    stat.S_IFCHR: "character device",
}
LOOK = os.O_RDONLY | os.O_NONBLOCK
_SUBVOLUME = 256
_ACCESS, _DEFAULT = "system.posix_acl_access", "system.posix_acl_default"  # read here, understood by ``acl``

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
    there = ""  # a folder that is

    def __init__(self) -> None:
        self.want_entries: set[Hashable] = set()
        self.swept: set[tuple[int, int]] = set()
        self.adopted: set[str] = set()
        self.put_at: dict[tuple[int, int], str] = {}
        self.again: dict[str, Any] = {}
        self.subvolumes: dict[str, bool] = {}  # declared as one: would it lie on Btrfs?

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
        if kind == "subvolume":
            self.subvolumes[target] = True
        found = dict(declared)
        rights = [key for key in ("owner", "group", "acl", "default_acl") if key in found]
        if rights:
            acl = _acls()
            for key in rights:
                if key not in _IDS:
                    found[key] = acl.parse(found[key], key, kind != "file")
                    continue
                named, (letter, ident) = found.pop(key), _IDS[key]
                if named is not None:
                    found[ident] = acl.number(letter, named)
        return found

    def same(self, target: str, now: Value, declared: Value) -> bool:
        if "_trash" in now:
            return False
        for key, value in declared.items():
            if key == "type" and value == "directory" and now["type"] == "subvolume":
                continue  # a subvolume is a directory
            if key not in CREATION and now.get(key) != value and value is not UNKNOWN:
                return False
        return True

    def merge(self, target: str, now: Value | None, declared: Value) -> Value:
        if now is not None:
            kind = "type" if declared.get("type") == "directory" and now["type"] == "subvolume" else ""
            return {**now, **{k: v for k, v in declared.items() if k not in CREATION and k != kind}}
        fresh: Value = {"type": "directory", "uid": 0, "gid": 0, "mode": 0o755, "acl": (), "default_acl": ()}
        if declared.get("type") == "file":
            fresh.update(mode=0o600, size=UNKNOWN if "source" in declared else 0)
        elif "source" in declared:  # a clone keeps what is not declared
            fresh.update(dict.fromkeys(RIGHTS, UNKNOWN))
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
        if self._shrinks(before, after):
            return SHRINKS
        return FORWARD if self._shrinks(after, before) else REVERSIBLE  # to take growth back is to cut what came since

    def consent(self, target: str, before: Any, after: Any) -> tuple[str, Any] | None:
        return ("absent", True) if after is None else ("allow_shrink", True)

    def replaces(self, target: str, before: Value, after: Value) -> bool:
        return "_trash" in before and after is not None

    def refuse(self, target: str, before: Value | None, after: Value | None, gone: set[Any]) -> StorageError | None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import nodechange

        return nodechange.refuse(self, target, before, after, gone)

    def implies(self, target: str, value: Value | None) -> Iterable[tuple[str, str, Value]]:
        up = names.parent(target)
        return () if up == "/" else (("node", up, {"type": "directory"}),)

    def opens(self, target: str, before: Any, after: Any) -> str | None:
        """What a copied file holds is known once it is copied."""
        copied = before is None and after is not None and after.get("type") == "file" and "source" in after
        return "unknown" if copied else None

    def vanishes(self, target: str, value: Value, gone: set[Any]) -> bool:
        """Only what was made for the sake of something beneath it, and is empty once ``gone`` is gone."""
        if value.get("_mounted") and ("mount", target) not in gone:
            return False  # what is mounted there stays, and with it the directory beneath
        ours = value.get("_implied") and "_entries" in value and "_link" not in value
        return bool(ours and value["type"] == "directory" and not self.left(target, value, gone))

    @staticmethod
    def left(target: str, value: Value, gone: set[Any]) -> list[str]:
        below = target.rstrip("/") + "/"
        return [n for n in value.get("_entries", ()) if not {(port, below + n) for port in _BODIES} & gone]

    @staticmethod
    def _shrinks(one: Any, two: Any) -> bool:
        old, new = (value.get("size") if isinstance(value, dict) else None for value in (one, two))
        return isinstance(old, int) and isinstance(new, int) and old > new

    # -- what is there ---------------------------------------------------------------------------------------------

    def scan(self, targets: Iterable[str] | None) -> dict[str, Any]:
        if targets is None:
            raise StorageError("unsupported", "the file system is not scanned as a whole", "name the paths")
        found: dict[str, Any] = {}
        self.there = missing = "\0"
        with Walk() as walk:
            for target in sorted(targets):  # neighbours share their parent's descriptor
                if target not in self.subvolumes and names.within(target, missing):
                    continue
                try:
                    fd, found[target] = self.look(walk, target)
                    os.close(fd)
                except StorageError as exc:
                    missing = target if exc.code == "not_found" else missing
                    if exc.code != "not_found":
                        found[target] = exc
                    elif target == _HOME:
                        found[target] = dict(_FRESH_HOME)
                    elif target in self.subvolumes:
                        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import nodechange

                        self.subvolumes[target] = nodechange.on_btrfs(walk, target)
        leaving = [row for target, row in found.items() if target in self.want_entries and isinstance(row, dict)]
        images = [row for row in leaving if row["type"] == "file"]
        if images:
            from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import loopusers

            loopusers.look(images)
        return found

    def look(self, walk: Walk, target: str) -> tuple[int, Value]:
        """A readable descriptor and the value; ``not_found`` is a proven ENOENT. Never follows what others control."""
        at, name, trusted = walk.parent(target)
        flags, resolve, fd, stale = LOOK | os.O_DIRECTORY, TENANT, -1, False
        while fd < 0:
            try:
                mounted = resolve == LINKLESS
                fd = enter(at, name, flags, target, trusted)[0] if mounted else openat2(at, name, flags)
            except OSError as exc:
                if exc.errno == errno.EXDEV and resolve == TENANT:
                    resolve = LINKLESS  # a mount root: seen, marked as such, and not walked past
                elif exc.errno == errno.ELOOP and trusted:
                    return self._look_through(walk, target)
                elif exc.errno == errno.ESTALE and resolve == LINKLESS and trusted:
                    fd = openat2(at, name, os.O_PATH, LINKLESS)
                    stale = True
                elif exc.errno == errno.ENOTDIR and flags != LOOK:
                    _must_be_file(_stat(at, name, target), target)
                    flags = LOOK
                elif trusted and exc.errno == errno.ENOENT and not self._there(at, target):
                    raise StorageError("denied", "%s: its directory was removed" % target) from exc
                else:
                    raise refused(exc, target, not trusted) from exc
        try:
            value = _stale() if stale else self.value(fd, mounted or name == b".", target)
            value["_trusted"] = trusted
            if value["type"] == "file" and not trusted:
                value["_linked"] = os.fstat(fd).st_nlink != 1 or value["uid"] not in (0, os.fstat(at).st_uid)
            if target in self.want_entries and value["type"] == "directory" and not self.empties:
                from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import nodechange

                nodechange.look_inside(value, at, name, fd, target)
        except OSError as exc:
            os.close(fd)
            raise refused(exc, target, not trusted) from exc
        except StorageError:
            os.close(fd)
            raise
        return fd, value

    def _there(self, at: int, target: str) -> bool:
        up = target.rpartition("/")[0]
        if up != self.there and os.fstat(at).st_nlink:
            self.there = up
        return up == self.there or target in self.want_entries

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

    def value(self, fd: int, mounted: bool, path: str) -> Value:
        seen = os.fstat(fd)
        kind, default = "directory", b""
        if stat.S_ISDIR(seen.st_mode):
            default = xattr(fd, _DEFAULT)
            if seen.st_ino == _SUBVOLUME and not mounted:
                from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.btrfs import is_subvolume

                kind = "subvolume" if is_subvolume(fd) else kind
        else:
            _must_be_file(seen, path)
            kind = "file"
        access, mode = xattr(fd, _ACCESS), seen.st_mode & 0o7777
        named: tuple[str, ...] = ()
        inherited: tuple[str, ...] = ()
        if access or default:
            acl = _acls()
            if access:
                group, named = acl.decode(access)
                mode = mode & ~0o070 | group << 3
            inherited = acl.decode(default)[1] if default else ()
        value = {
            "type": kind,
            "uid": seen.st_uid,
            "gid": seen.st_gid,
            "mode": mode,
            "acl": named,
            "default_acl": inherited,
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
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import nodechange

        nodechange.put(self, target, before, after)

    def finish(self, fd: int, after: Value) -> None:
        """The last touch to what is made, before it has its name."""


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
        if not leaving:
            return found
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountinfo

        for row in mountinfo.parse(mountinfo.read()):
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

    def fresh(self, target: str, place: str, mount: Value) -> Value | None:
        """What is seen in a memory filesystem that is mounted at ``place``."""
        rights = {name: mount["o:" + name] for name in _SHARED}
        root = {
            "type": "directory",
            **rights,
            "acl": (),
            "default_acl": (),
            "_mounted": True,
            "_trusted": "_theirs" not in mount,
        }
        return root if target == place else None

    def tells(self, target: str, value: Value) -> tuple[str, str, Value]:
        """What another port shows of the same inode."""
        return "mount", target, {"o:" + name: value[name] for name in _SHARED if name in value}

    def implies(self, target: str, value: Value | None) -> Iterable[tuple[str, str, Value]]:
        return ()


@functools.lru_cache(maxsize=None)
def _acls() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import acl

    return acl


def _stat(at: int, name: bytes, path: str) -> os.stat_result:
    try:
        return os.stat(name, dir_fd=at, follow_symlinks=False)
    except OSError as exc:
        raise refused(exc, path) from exc


def _stale() -> Value:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import foreign

    return dict(foreign.FORGOTTEN)


def _must_be_file(seen: os.stat_result, path: str) -> None:
    kind = _KINDS.get(stat.S_IFMT(seen.st_mode))
    if kind:
        raise StorageError("unsafe_path", "%s is a %s" % (path, kind), "look at it by hand")


def xattr(fd: int, name: str) -> bytes:
    try:
        return os.getxattr(fd, name)
    except OSError as exc:
        if exc.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            raise
        return b""
