# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mount table as a port: what is mounted, what a declaration means. The effects: mountapi and mountchange."""

from __future__ import annotations

import os
import stat
from functools import partial
from typing import Any, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountinfo
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mountinfo import Mount, Table
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.names import encode

# The flags of a mount: attribute bits of linux/mount.h and words of mountinfo.
FLAGS = {"read_only": (1, b"ro"), "nosuid": (2, b"nosuid"), "nodev": (4, b"nodev"), "noexec": (8, b"noexec")}
FLAGS["nodiratime"] = (0x80, b"nodiratime")
ATIME = {"relatime": 0, "noatime": 0x10, "strictatime": 0x20}
MOUNT_KEYS = frozenset((*FLAGS, "atime", "propagation"))
_PAGE = os.sysconf("SC_PAGE_SIZE")
_LEVELS = ("o:compress", "o:compress-force")
_JUDGED = frozenset("merge replaces lowers risk consent refuse opens".split())
_ALIASES = {"o:noload": "o:norecovery"}  # as a scan shows them


class Mounts:
    """Port ``mount``: absolute path -> how it is mounted. See ``as_shown`` for the fields of a declaration."""

    name = "mount"
    behind = False
    slow = False
    proves = "node"  # what is mounted has a mount point
    covers = ("node", "mounted")  # what others declare of that directory they mean of what is mounted

    def __init__(self) -> None:
        self.wanted: Any = {}
        self.theirs: set[str] = set()

    # -- what is there ---------------------------------------------------------------------------------------------

    def scan(self, targets: Iterable[str] | None = None) -> dict[str, Any]:
        table = Table(mountinfo.parse(mountinfo.read()))
        found = {path: table.at(path) for path in ({r.path for r in table.rows} if targets is None else targets)}
        absent = [path for path, row in found.items() if row is None]
        rows: dict[str, Any] = {}
        if targets is not None and absent:
            from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountplan

            rows = mountplan.behind_links(table, absent, self.theirs)
        for target, row in found.items():
            try:
                row = rows.pop(target, row)
                if row is not None:
                    rows[target] = _value(table, row) if isinstance(row, Mount) else row
            except OSError as exc:
                rows[target] = StorageError("unreadable", "cannot look at %s: %s" % (target, exc.strerror))
        return rows

    def resolve(self, target: str, declared: dict[str, Any]) -> dict[str, Any]:
        """A declaration as plan and kernel will see it: owners by number, sources by path and identity, whole pages."""
        self.wanted[target] = declared = as_shown(declared)
        for key in ("o:uid", "o:gid"):
            if isinstance(declared.get(key), str):
                from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import acl

                declared[key] = acl.number(key[2], declared[key])
        if declared.get("fstype") != "tmpfs" and declared.get("source"):
            from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountsource

            return mountsource.resolve(declared)
        return declared

    # -- what it means ---------------------------------------------------------------------------------------------

    def same(self, target: str, now: Any, declared: Any) -> bool:
        declared = as_shown(declared)
        seen = now if declared.get("bind") else {**now, **now.get("_fs", {})}
        whole = not declared.get("recursive") or declared["source"] not in now.get("_lacks", ())
        return whole and same_source(target, seen, declared) and not differing(seen, declared)

    def implies(self, target: str, value: Any) -> Iterable[tuple[str, str, Any]]:
        if target == "/" or (value or {}).get("_kind") == "file":
            return ()
        return (("node", target, {"type": "directory"}),)

    # -- what a difference means, and making it so: loaded only where there is one ---------------------------------

    def __getattr__(self, hook: str) -> Any:
        if hook not in _JUDGED:
            raise AttributeError(hook)
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountplan

        found = getattr(mountplan, hook)
        return partial(found, self) if hook in ("merge", "refuse") else found

    def put(self, target: str, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountapi

        mountapi.put(target, before, after)


def as_shown(value: dict[str, Any]) -> dict[str, Any]:
    """Sizes of tmpfs are whole pages; ``auto`` says nothing, nor does a bind that takes nothing along."""
    out = {_ALIASES.get(k, k): v for k, v in value.items()}
    if out.get("fstype") == "auto":
        del out["fstype"]
    if out.get("recursive") is False:
        del out["recursive"]
    if isinstance(out.get("o:size"), int) and out.get("fstype", "tmpfs") == "tmpfs":
        out["o:size"] = -(-out["o:size"] // _PAGE) * _PAGE
    return out


def differing(now: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Declared fields that are not met. A slave of nobody is shown as private."""
    skip = ("source", "bind", "recursive", "over") + ("fstype",) * bool(wanted.get("bind"))
    wrong = []
    silent = now.get("_silent", {})
    for key, value in wanted.items():
        if key[0] == "_" or key in skip or value is UNKNOWN:
            continue
        seen = now[key] if key in now else silent.get(key, False)
        if seen == value:
            continue
        if key in _LEVELS and value == str(seen or "no").partition(":")[0]:
            continue  # a level that was not asked for may be any
        if (key, value, seen) != ("propagation", "slave", "private"):
            wrong.append(key)
    return wrong


def same_source(target: str, now: dict[str, Any], declared: dict[str, Any]) -> bool:
    source = declared.get("source")
    if declared.get("bind"):
        return bool(now["_again"] if source == target else source in now["_sources"])
    if declared.get("fstype") == "tmpfs" or (source is None and "fstype" not in declared):
        return source is None or now.get("fstype") == "tmpfs"  # its source is a mere label
    known = [(now.get(k), declared[k]) for k in ("_rdev", "_file") if k in declared]
    return source in (None, now["source"]) or any(a == b for a, b in known)


def _value(table: Table, row: Mount) -> dict[str, Any]:
    """The value of a scan. A bind shows its source path and no filesystem; ``_fs`` is the other reading of its row."""
    options = mountinfo.options(row.super_options)
    value = flags(row, options)
    paths = table.sources(row)
    value["_sources"] = {path for path, (_count, seen) in paths.items() if seen}
    value["_again"] = paths.get(row.path, (0, False))[0] > 1
    value["_below"] = [c.path for c in table.children.get(row.id, ()) if not table.mirrored(row, c)]
    lower = table.by_id.get(row.parent)
    if lower is not None and lower.path == row.path != "/":
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountover

        stack = mountover.stack(table, row)
        value.update(stack, _below=value["_below"] + stack["_below"])
    whole = row.root == options.get("subvol", "/") or row.fstype in mountinfo.NETWORK
    fs = superblock(row, options, encode(row.path)) if whole else {}
    if whole and table.first(row):
        return {**value, **fs}
    if any(table.beneath(path) for path in value["_sources"] - {row.path}):
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountover

        value["_lacks"] = mountover.lacking(table, row, value["_sources"] - {row.path})
    value["recursive"] = not value.get("_lacks")
    others = [path for path in paths if path in value["_sources"] and (path != row.path) != value["_again"]]
    return {**value, "bind": True, "source": others[0] if others else row.root, "_fs": {**fs, "bind": False}}


def flags(row: Mount, options: dict[str, Any]) -> dict[str, Any]:
    value: dict[str, Any] = {name: word in row.options for name, (_bit, word) in FLAGS.items()}
    value["read_only"] = value["read_only"] or "ro" in options
    atime = [word for word in ATIME if word.encode() in row.options]
    value.update(atime=atime[0] if atime else "strictatime", propagation=row.propagation, bind=False)
    return {**value, "_id": row.id, "_parent": row.parent, "_dev": row.dev}


def superblock(row: Mount, options: dict[str, Any], path: Any) -> dict[str, Any]:
    """``path``: for statvfs(2), which is asked of memory and images only. What a server shows is up to its owner."""
    value = {"o:" + k: v for k, v in options.items() if k not in ("rw", "ro")}
    value.update(source=row.source, fstype=row.fstype)
    if mountinfo.served(row.fstype):
        return value
    if row.fstype == "tmpfs" or row.source.startswith("/dev/loop"):
        space = os.statvfs(path)
        value["_used_bytes"] = (space.f_blocks - space.f_bfree) * space.f_frsize
        value["_used_inodes"] = space.f_files - space.f_ffree
    if row.fstype == "tmpfs":
        root = os.stat(path)
        value.pop("o:inode64", None)
        value.update({"o:size": space.f_blocks * space.f_frsize, "o:nr_inodes": space.f_files})
        value.update({"o:mode": stat.S_IMODE(root.st_mode), "o:uid": root.st_uid, "o:gid": root.st_gid})
    elif row.source.startswith("/dev/"):
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountsource

        value.update(mountsource.identity(row))
    return value
