# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mount table as a port, through the mount API of Linux 5.2 and mount_setattr(2) of 5.12; no program is run.

A mount is made detached, with its flags from the first instant, and moved onto a descriptor of its mount point: there is
no moment without ``nosuid``, and a name swapped for a link in between changes nothing.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from contextlib import ExitStack
from typing import Any, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountinfo
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mountinfo import Mount, Table, encode
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import LINKLESS, Walk, check, libc, openat2
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import DESTROYS, REVERSIBLE, UNKNOWN
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import parent

# System calls: the same numbers on x86_64 and aarch64. Constants: linux/mount.h, linux/fcntl.h, sys/mount.h.
_MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT, _FSPICK, _MOUNT_SETATTR = 429, 430, 431, 432, 433, 442
_SET_FLAG, _SET_STRING, _CREATE, _RECONFIGURE = 0, 1, 6, 7
_EMPTY_PATH, _RECURSIVE, _UMOUNT_NOFOLLOW = 0x1000, 0x8000, 8
_FLAGS = {"read_only": (1, b"ro"), "nosuid": (2, b"nosuid"), "nodev": (4, b"nodev"), "noexec": (8, b"noexec")}
_FLAGS["nodiratime"] = (0x80, b"nodiratime")
_ATIME = {"relatime": 0, "noatime": 0x10, "strictatime": 0x20}
_PROPAGATION = {"private": 1 << 18, "slave": 1 << 19, "shared": 1 << 20}
_MOUNT_KEYS = frozenset((*_FLAGS, "atime", "propagation"))
_NETWORK = frozenset(("nfs", "nfs4", "ceph", "cifs", "smb3", "9p", "afs"))
_PAGE = os.sysconf("SC_PAGE_SIZE")
_FRESH = {**dict.fromkeys(_FLAGS, False), "atime": "relatime", "propagation": UNKNOWN, "bind": False}
_TMPFS = {"source": "tmpfs", "o:mode": 0o1777, "o:uid": 0, "o:gid": 0}
_ROOT_NODE = ("o:mode", "o:uid", "o:gid")  # of a tmpfs these are its root directory's


_syscall = libc["syscall"]
_syscall.argtypes, _syscall.restype = [ctypes.c_long, *[ctypes.c_void_p] * 5], ctypes.c_long  # numbers, text or NULL


def syscall(number: int, *args: Any) -> int:
    return check(_syscall(number, *args, *[0] * (5 - len(args))))


class Mounts:
    """Port ``mount``: absolute path -> how it is mounted. See ``_declared`` for the fields of a declaration."""

    name = "mount"
    behind = False
    slow = False

    # -- what is there ---------------------------------------------------------------------------------------------

    def scan(self, targets: Iterable[str] | None = None) -> dict[str, Any]:
        table = Table(mountinfo.parse(mountinfo.read()))
        rows: dict[str, Any] = {}
        with Walk() as walk:
            for target in {row.path: 0 for row in table.rows} if targets is None else targets:
                try:
                    row = table.at(target) or (None if targets is None else _behind_links(walk, table, target))
                    if row is not None:
                        rows[target] = _value(table, row)
                except StorageError as error:
                    rows[target] = error
                except OSError as exc:
                    rows[target] = StorageError("unreadable", "cannot look at %s: %s" % (target, exc.strerror))
        return rows

    def resolve(self, target: str, declared: dict[str, Any]) -> dict[str, Any]:
        """A declaration as plan and kernel will see it: sources by UUID= or LABEL=, identities, whole pages."""
        declared = _declared(declared)
        if declared.get("fstype") != "tmpfs" and declared.get("source"):
            from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountsource

            return mountsource.resolve(declared)
        return declared

    # -- what it means ---------------------------------------------------------------------------------------------

    def same(self, target: str, now: Any, declared: Any) -> bool:
        declared = _declared(declared)
        seen = now if declared.get("bind") else {**now, **now.get("_fs", {})}
        return _same_source(target, seen, declared) and not _differing(seen, declared)

    def merge(self, target: str, now: Any, declared: Any) -> Any:
        declared = _declared(declared)
        if now is not None:
            seen = now if declared.get("bind") else {**now, **now.get("_fs", {})}
            kind = None if declared.get("bind") else declared.get("fstype")
            if _same_source(target, seen, declared) and kind in (None, seen.get("fstype")):
                shown = ("source", "fstype", "bind")
                after = {**now, **{k: v for k, v in declared.items() if k not in shown}}
                # A journal left unread must be replayed before anybody writes: that takes a fresh mount.
                if now["read_only"] and not after["read_only"]:
                    after = {k: v for k, v in after.items() if k not in ("o:noload", "o:norecovery") or k in declared}
                return after
        if declared.get("bind"):
            return {**dict.fromkeys(_FRESH, UNKNOWN), **declared}  # what is not declared, a bind takes from its source
        return {**_FRESH, **(_TMPFS if declared.get("fstype") == "tmpfs" else {}), **declared}

    def replaces(self, target: str, before: Any, after: Any) -> bool:
        if before["read_only"] and after.get("read_only") is False:
            # Fresh from a journal that was never replayed, and from a loop device that refuses writes.
            if before.get("_frozen") or {"o:noload", "o:norecovery"} & before.keys():
                return True
        return any(before.get(k) != after.get(k) for k in ("source", "fstype", "bind"))

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        if before is None or after is None:
            return after is None
        pairs = [(before.get(k) or 1 << 64, after.get(k) or 1 << 64) for k in ("o:size", "o:nr_inodes")]  # 0: no limit
        return before.get("fstype") == "tmpfs" and any(new < old for old, new in pairs)

    def risk(self, target: str, before: Any, after: Any) -> str:
        return DESTROYS if before is not None and after is None and before.get("fstype") == "tmpfs" else REVERSIBLE

    def consent(self, target: str, before: Any, after: Any) -> tuple[str, Any] | None:
        return ("absent", True) if self.risk(target, before, after) == DESTROYS else None

    def refuse(self, target: str, before: Any, after: Any, gone: set[Any]) -> StorageError | None:
        if before is not None and after is None:
            over = [path for path in before.get("_below", ()) if (self.name, path) not in gone]
            if over:
                hint = "unmount them first, or declare them unmounted too"
                return StorageError("in_use", "%s has mounts beneath it: %s" % (target, ", ".join(over[:10])), hint, mounts=over)
        elif before is not None:
            return _too_small(target, before, after)
        return None

    def opens(self, target: str, before: Any, after: Any) -> str | None:
        if before is not None or after is None:
            return None
        return "empty" if after.get("fstype") == "tmpfs" else "unknown"

    def implies(self, target: str, value: Any) -> Iterable[tuple[str, str, Any]]:
        if target == "/" or (value or {}).get("_kind") == "file":
            return ()
        return (("node", target, {"type": "directory"}),)

    # -- making it so ----------------------------------------------------------------------------------------------

    def put(self, target: str, before: Any, after: Any) -> None:
        verb = "mount" if before is None else "unmount" if after is None else "change"
        try:
            with ExitStack() as held, Walk() as walk:
                at, name, _trusted = walk.parent(target)
                if before is None:
                    _create(held, target, at, name, after)
                elif after is None:
                    _remove(target, at, name, before)
                else:
                    _change(held, target, at, name, before, after)
        except OSError as exc:
            raise failure(exc, "cannot %s %s" % (verb, target)) from exc


def _declared(value: dict[str, Any]) -> dict[str, Any]:
    """``recursive`` is how a bind is made and cannot be seen later; tmpfs sizes are whole pages; ``auto`` says nothing."""
    out = {("_recursive" if k == "recursive" else k): v for k, v in value.items() if (k, v) != ("fstype", "auto")}
    if isinstance(out.get("o:size"), int) and out.get("fstype", "tmpfs") == "tmpfs":
        out["o:size"] = -(-out["o:size"] // _PAGE) * _PAGE
    return out


def _differing(now: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Declared fields that are not met. A bind shows no filesystem; a slave of nobody is shown as private."""
    skip = ("source", "bind", "fstype") if wanted.get("bind") else ("source", "bind")
    wrong = []
    for key, value in wanted.items():
        if key[0] == "_" or key in skip or value is UNKNOWN or now.get(key, False) == value:
            continue
        if (key, value, now.get(key)) != ("propagation", "slave", "private"):
            wrong.append(key)
    return wrong


def _same_source(target: str, now: dict[str, Any], declared: dict[str, Any]) -> bool:
    source = declared.get("source")
    if declared.get("bind"):
        return bool(now["_again"] if source == target else source in now["_sources"])
    if declared.get("fstype") == "tmpfs" or (source is None and "fstype" not in declared):
        return source is None or now.get("fstype") == "tmpfs"  # its source is a mere label
    known = [(now.get(k), declared[k]) for k in ("_rdev", "_file") if k in declared]
    return source in (None, now["source"]) or any(a == b for a, b in known)


def _behind_links(walk: Walk, table: Table, target: str) -> Mount | None:
    """A target that is no mount point as it is written: links of root above it are followed, a link itself is refused."""
    try:
        at, name, _trusted = walk.parent(target)
        link = stat.S_ISLNK(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return None
    except StorageError as error:
        if error.code == "not_found":
            return None
        raise
    if link:
        raise StorageError("unsafe_path", "mount point %s is a symbolic link" % target, "name the directory itself")
    return table.at(walk.real(target))


def _value(table: Table, row: Mount) -> dict[str, Any]:
    """The value of a scan. A bind shows its source path and no filesystem; ``_fs`` is the other reading of the same row."""
    options = mountinfo.options(row.super_options)
    value = _flags(row, options)
    paths = table.sources(row)
    value["_sources"] = {path for path, (_count, seen) in paths.items() if seen}
    value["_again"] = paths.get(row.path, (0, False))[0] > 1
    value["_below"] = [c.path for c in table.children.get(row.id, ()) if not table.mirrored(row, c)]
    whole = row.root == options.get("subvol", "/") or row.fstype in _NETWORK
    fs = _filesystem(row, options, encode(row.path)) if whole else {}
    if whole and table.first(row):
        return {**value, **fs}
    others = [path for path in paths if path in value["_sources"] and path != row.path]
    return {**value, "bind": True, "source": others[0] if others else row.root, "_fs": {**fs, "bind": False}}


def _flags(row: Mount, options: dict[str, Any]) -> dict[str, Any]:
    value: dict[str, Any] = {name: word in row.options for name, (_bit, word) in _FLAGS.items()}
    value["read_only"] = value["read_only"] or "ro" in options
    value["atime"] = "noatime" if b"noatime" in row.options else "relatime" if b"relatime" in row.options else "strictatime"
    return {**value, "propagation": row.propagation, "bind": False, "_id": row.id, "_parent": row.parent, "_dev": row.dev}


def _filesystem(row: Mount, options: dict[str, Any], path: Any) -> dict[str, Any]:
    """``path``: something that statvfs(2) takes. It is asked of tmpfs only: elsewhere it could hang."""
    value = {"o:" + k: v for k, v in options.items() if k not in ("rw", "ro")}
    value.update(source=row.source, fstype=row.fstype)
    if row.fstype == "tmpfs":
        space, root = os.statvfs(path), os.stat(path)
        value.pop("o:inode64", None)
        value.update({"o:size": space.f_blocks * space.f_frsize, "o:nr_inodes": space.f_files})
        value.update({"o:mode": stat.S_IMODE(root.st_mode), "o:uid": root.st_uid, "o:gid": root.st_gid})
        value["_used_bytes"] = (space.f_blocks - space.f_bfree) * space.f_frsize
        value["_used_inodes"] = space.f_files - space.f_ffree
    elif row.source.startswith("/dev/"):
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountsource

        value.update(mountsource.identity(row))
    return value


# -- by descriptor -----------------------------------------------------------------------------------------------------


def _own(held: ExitStack, fd: int) -> int:
    held.callback(os.close, fd)
    return fd


def _mount_id(fd: int) -> int:
    """Which mount a descriptor is in (proc(5), fdinfo)."""
    with open("/proc/self/fdinfo/%d" % fd, "rb") as f:
        return int(f.read().partition(b"mnt_id:")[2].split()[0])


def _row(mount_id: int) -> Mount | None:
    """One row of the table without parsing the others."""
    data = b"\n" + mountinfo.read()
    start = data.find(b"\n%d " % mount_id) + 1
    return mountinfo.parse(data[start : data.index(b"\n", start) + 1])[0] if start else None


def _open(at: int, name: bytes) -> int:
    """The root of what is mounted at a name, or the mount point itself: never through a link."""
    return openat2(at, name, os.O_PATH, LINKLESS)


def _look(fd: int, target: str) -> dict[str, Any]:
    row = _row(_mount_id(fd))
    if row is None:
        raise StorageError("moved", "%s was unmounted in between" % target, "run it again")
    options = mountinfo.options(row.super_options)
    return {**_flags(row, options), **_filesystem(row, options, fd), "_row": row}


def _set(fd: int, now: dict[str, Any] | None, after: dict[str, Any], recursive: bool = False) -> None:
    """mount_setattr(2): the flags and the propagation that are known and differ, in one step."""
    put = take = spread = 0
    for key in _MOUNT_KEYS & after.keys():
        value = after[key]
        if value is UNKNOWN or (now is not None and now[key] == value):
            continue
        if key == "propagation":
            spread = _PROPAGATION[value]
        elif key == "atime":
            put, take = put | _ATIME[value], take | 0x70
        elif value:
            put |= _FLAGS[key][0]
        else:
            take |= _FLAGS[key][0]
    if put or take or spread:
        attributes = struct.pack("=QQQQ", put, take, spread, 0)
        syscall(_MOUNT_SETATTR, fd, b"", _EMPTY_PATH | (_RECURSIVE if recursive else 0), attributes, 32)


def _configure(context: int, target: str, options: dict[str, Any], command: int) -> None:
    """One fsconfig(2) for each key, so that no value can smuggle in another option. Numbers are plain digits."""
    try:
        for key, value in options.items():
            if value is True:
                syscall(_FSCONFIG, context, _SET_FLAG, encode(key), None, 0)
            elif value is not False and value is not UNKNOWN:
                text = "%o" % value if key == "mode" and isinstance(value, int) else str(value)
                syscall(_FSCONFIG, context, _SET_STRING, encode(key), encode(text), 0)
        syscall(_FSCONFIG, context, command, None, None, 0)
    except OSError as exc:
        said = _kernel_says(context)
        error = failure(exc, "cannot mount %s" % target if command == _CREATE else "cannot change %s" % target)
        if "nknown parameter" in said:
            error.code = "unsupported"
        error.message += " (%s)" % said if said else ""
        raise error from exc


def _kernel_says(context: int) -> str:
    """What the kernel wrote about it into the context, one message a read, without its severity letter."""
    said = []
    try:
        for _message in range(16):
            said.append(os.read(context, 4096)[2:].strip().decode("utf-8", "replace"))
    except OSError as exc:
        if exc.errno != errno.ENODATA:
            raise
    return "; ".join(said)


def _options(value: dict[str, Any]) -> dict[str, Any]:
    return {k[2:]: v for k, v in value.items() if k[:2] == "o:"}


def _create(held: ExitStack, target: str, at: int, name: bytes, after: dict[str, Any]) -> None:
    point = _own(held, _open(at, name))
    if _mount_id(point) != _mount_id(at):
        raise StorageError("moved", "something is mounted at %s already" % target, "run it again")
    if after.get("fstype") == "tmpfs" and not after.get("bind"):
        tree = _own(held, filesystem(held, target, "tmpfs", {"source": after.get("source", "tmpfs")}, after))
    else:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountsource

        tree = _own(held, mountsource.tree(held, target, after))
    syscall(_MOVE_MOUNT, tree, b"", point, b"", 0x44)  # both paths empty: from this descriptor onto that one
    try:
        # A shared mount around the mount point makes what is put there shared: said again after the move.
        _set(tree, None, {"propagation": after.get("propagation", UNKNOWN)}, bool(after.get("_recursive")))
        _enforced(tree, target, after)
    except BaseException:
        mount_id = _mount_id(tree)
        held.close()
        unmount(at, name, mount_id)
        raise


def filesystem(held: ExitStack, target: str, fstype: str, source: dict[str, Any], after: dict[str, Any]) -> int:
    """A detached mount of a new filesystem context; its flags are there from the first instant."""
    try:
        context = _own(held, syscall(_FSOPEN, encode(fstype), 1))
    except OSError as exc:
        if exc.errno == errno.ENODEV:
            raise StorageError("unsupported", "this kernel knows no filesystem %r" % fstype) from exc
        raise
    _configure(context, target, {**source, **_options(after)}, _CREATE)
    bits = _ATIME.get(after.get("atime", ""), 0)
    for key, (bit, _word) in _FLAGS.items():
        bits |= bit if after.get(key) is True else 0
    return syscall(_FSMOUNT, context, 1, bits)


def _enforced(fd: int, target: str, after: dict[str, Any]) -> None:
    """What the kernel drops silently is a failure, not a detail."""
    now = _look(fd, target)
    wrong = _differing(now, after)
    if wrong:
        text = ", ".join("%s is %r instead of %r" % (k, now.get(k, False), after[k]) for k in wrong)
        hint = "the kernel took the options and did not keep them; some need a fresh mount"
        raise StorageError("not_enforced", "%s: %s" % (target, text), hint, fields=wrong)


def _met(fd: int, target: str, before: dict[str, Any]) -> dict[str, Any]:
    """The mount as it is, which must be the one that was planned for."""
    now = _look(fd, target)
    known = {k: v for k, v in before.items() if k not in ("source", "fstype") or not before.get("bind")}
    ids = any(before.get(k, now[k]) != now[k] for k in ("_id", "_dev"))
    if ids or _differing(now, known) or (not before.get("bind") and now["source"] != before.get("source")):
        raise StorageError("moved", "%s is not mounted as it was planned for" % target, "run it again")
    return now


def _change(held: ExitStack, target: str, at: int, name: bytes, before: dict[str, Any], after: dict[str, Any]) -> None:
    root = _own(held, _open(at, name))
    now = _met(root, target, before)
    options = {k: v for k, v in after.items() if k[:2] == "o:" and v is not UNKNOWN and now.get(k, False) != v}
    node = {k: options.pop(k) for k in _ROOT_NODE if k in options and now["fstype"] == "tmpfs"}
    if options and now["fstype"] == "tmpfs":  # it wants to hear all its limits again
        options.update((k, after.get(k, now[k])) for k in ("o:size", "o:nr_inodes", "o:noswap") if k in now)
    steps = [(_set, (root, now, after), (root, None, {k: now[k] for k in _MOUNT_KEYS}))]
    if node:  # while it can be written
        steps.insert(len(steps) if now["read_only"] else 0, (_dress, (held, root, {**now, **node}), (held, root, now)))
    try:
        with ExitStack() as undo:
            for step, forth, back in steps:
                undo.callback(step, *back)
                step(*forth)
            if now["read_only"] and after.get("read_only") is False and b"ro" in now["_row"].super_options.split(b","):
                options["o:rw"] = True
            if options:
                context = _own(held, syscall(_FSPICK, root, b"", 0xD))  # close-on-exec, no automount, empty path
                _configure(context, target, _options(options), _RECONFIGURE)
            _enforced(root, target, after)
            undo.pop_all()
    except StorageError as error:
        raise _too_small(target, _look(root, target), after) or error from error


def _dress(held: ExitStack, root: int, now: dict[str, Any]) -> None:
    fd = _own(held, os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root))
    os.fchown(fd, now["o:uid"], now["o:gid"])
    os.fchmod(fd, now["o:mode"])


def _too_small(target: str, now: dict[str, Any], after: dict[str, Any]) -> StorageError | None:
    for key, used in (("o:size", "_used_bytes"), ("o:nr_inodes", "_used_inodes")):
        if isinstance(after.get(key), int) and now.get(used, 0) > after[key] > 0:
            text = "%s cannot shrink to %s %d: %d are in use" % (target, key[2:], after[key], now[used])
            return StorageError("in_use", text, "remove files first", used=now[used], wanted=after[key])
    return None


def _remove(target: str, at: int, name: bytes, before: dict[str, Any]) -> None:
    with ExitStack() as looking:  # an open descriptor of the mount would keep it busy
        now = _met(_own(looking, _open(at, name)), target, before)
    try:
        if before.get("bind"):
            from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountsource

            mountsource.unmirror(now["_row"])
        unmount(at, name, now["_id"])
    except OSError as exc:
        if exc.errno != errno.EBUSY:
            raise
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import holders

        raise holders.in_use(target, now["_dev"]) from exc
    if "_device" in now:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountsource

        mountsource.released(now["_device"], now["_dev"])


def unmount(at: int, name: bytes, mount_id: int) -> None:
    """umount2(2) by the directory that holds the name: this very mount, never through a link, lazily or by force."""
    fd = _open(at, name)
    try:
        if _mount_id(fd) != mount_id:
            raise StorageError("moved", "something else was mounted over %r" % name, "run it again")
    finally:
        os.close(fd)  # an open descriptor of the mount would keep it busy
    check(libc.umount2(b"/proc/self/fd/%d/%s" % (at, name), _UMOUNT_NOFOLLOW))
