# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mount that is not as declared: is it behind links, what it will be, can it change in place, what is at risk."""

from __future__ import annotations

import os
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountinfo
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mountinfo import Table
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mounts import (
    FLAGS,
    as_shown,
    differing,
    same_source,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.openat2 import Walk, is_link
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import (
    DESTROYS,
    FORWARD,
    REVERSIBLE,
    UNKNOWN,
)

_FRESH = {**dict.fromkeys(FLAGS, False), "atime": "relatime", "propagation": UNKNOWN, "bind": False}
_TMPFS = {"source": "tmpfs", "o:mode": 0o1777, "o:uid": 0, "o:gid": 0}


def merge(port: Any, target: str, now: Any, declared: Any) -> Any:
    declared = as_shown(declared)
    if now is not None:
        seen = now if declared.get("bind") else {**now, **now.get("_fs", {})}
        kind = None if declared.get("bind") else declared.get("fstype")
        if same_source(target, seen, declared) and kind in (None, seen.get("fstype")):
            after = {**now, **{k: declared[k] for k in differing(seen, declared)}}
            if declared.get("recursive") and declared["source"] in now.get("_lacks", ()):
                lacks = now["_lacks"][declared["source"]]
                after.update(recursive=True, _brings=(declared["source"], lacks), _lacks={})
            if declared.get("o:barrier"):
                after.pop("o:nobarrier", None)  # two words for one thing
            # A journal left unread must be replayed before anybody writes: that takes a fresh mount.
            if now["read_only"] and not after["read_only"]:
                after = {k: v for k, v in after.items() if k != "o:norecovery" or k in declared}
            return after
    if declared.get("bind"):
        return {**dict.fromkeys(_FRESH, UNKNOWN), **declared}  # what is not declared, a bind takes from its source
    fresh = {**_FRESH, **(_TMPFS if declared.get("fstype") == "tmpfs" else {}), **declared}
    return {**fresh, "_theirs": True} if target in port.theirs else fresh


def replaces(target: str, before: Any, after: Any) -> bool:
    # A journal that was never replayed, or a loop device that refuses writes, takes a fresh mount.
    locked = before.get("_frozen") or "o:norecovery" in before
    if locked and before["read_only"] and after.get("read_only") is False:
        return True
    return any(before.get(k) != after.get(k) for k in ("source", "fstype", "bind"))


def lowers(target: str, before: Any, after: Any) -> bool:
    if before is None or after is None:
        return after is None
    pairs = [(before.get(k) or 1 << 64, after.get(k) or 1 << 64) for k in ("o:size", "o:nr_inodes")]  # 0: no limit
    return before.get("fstype") == "tmpfs" and any(new < old for old, new in pairs)


def risk(target: str, before: Any, after: Any) -> str:
    if before is None or after is not None:
        return REVERSIBLE
    over = before.get("over", ())  # what lay beneath it goes too, and would not come back
    memory = before.get("fstype") == "tmpfs" or any(each.startswith("tmpfs ") for each in over)
    return DESTROYS if memory else FORWARD if over else REVERSIBLE


def consent(target: str, before: Any, after: Any) -> tuple[str, Any] | None:
    return ("absent", True) if risk(target, before, after) == DESTROYS else None


def refuse(port: Any, target: str, before: Any, after: Any, gone: set[Any]) -> StorageError | None:
    if before is not None and after is None:
        over = [path for path in before.get("_below", ()) if ("mount", path) not in gone]
        if over:
            text = "%s has mounts beneath it: %s" % (target, ", ".join(over[:10]))
            return StorageError("in_use", text, "declare them unmounted too", mounts=over)
    elif before is not None:
        return too_small(target, before, after)
    elif after is not None:
        hidden = _hidden(port.wanted, target) if after.get("_bare") else None
        if hidden is not None:
            return hidden
        if str(after.get("source"))[:1] == "/" and "_missing" not in after:
            return _unusable(port.wanted, target, after)
    return None


def _hidden(wanted: dict[str, Any], target: str) -> StorageError | None:
    """A mount point of our own choice must be empty, as far as it can be seen yet."""
    if any(up in wanted for up in names.ancestors(target)):
        return None
    try:
        with Walk() as walk:
            fd = walk.open(target, os.O_RDONLY | os.O_DIRECTORY)
    except StorageError as error:
        return error if error.code != "not_found" else None
    try:
        found = sorted(os.listdir(fd))
    finally:
        os.close(fd)
    if not found:
        return None
    text = "%s is not empty, and what is mounted there would hide %s" % (target, ", ".join(found[:10]))
    return StorageError("in_use", text, "move it away: that path is for nothing else", entries=found[:100])


def _unusable(wanted: Any, target: str, after: dict[str, Any]) -> StorageError | None:
    """Of a source that is there, unless this declaration mounts something over it first."""
    source, bind = after["source"], after.get("bind")
    if any(up in wanted and up != target for up in (source, *names.ancestors(source))):
        return None
    try:
        with Walk() as walk:
            fd = walk.open(source, os.O_PATH) if bind else walk.content(source, os.O_RDONLY)
    except StorageError as error:
        return error if error.code != "not_found" else None
    sealed = os.fstatvfs(fd).f_flag & os.ST_RDONLY and bind and after.get("read_only") is False
    os.close(fd)
    if not sealed:
        return None
    table = Table(mountinfo.parse(mountinfo.read()))
    row = table.over(source)  # a filesystem that nobody can write to stays so, unless this declaration opens it
    opened = [table.at(path) for path, said in wanted.items() if said.get("read_only") is False and path != target]
    if not row or b"ro" not in row.super_options.split(b",") or any(at and at.dev == row.dev for at in opened):
        return None
    return StorageError("not_enforced", "%s: read_only is True instead of False" % target, "%s is read-only" % row.path)


def opens(target: str, before: Any, after: Any) -> str | None:
    if before is not None or after is None:
        return None
    return "empty" if after.get("fstype") == "tmpfs" else "unknown"


def too_small(target: str, now: dict[str, Any], after: dict[str, Any]) -> StorageError | None:
    for key, used in (("o:size", "_used_bytes"), ("o:nr_inodes", "_used_inodes")):
        if isinstance(after.get(key), int) and now.get(used, 0) > after[key] > 0:
            text = "%s cannot shrink to %s %d: %d are in use" % (target, key[2:], after[key], now[used])
            return StorageError("in_use", text, "remove files first", used=now[used], wanted=after[key])
        if now.get(key) == 0 and after.get(key):
            text = "%s has no limit, and a tmpfs is given none later" % target
            return StorageError("unsupported", text, "unmount it first", option=key[2:])
    return None


def behind_links(table: Table, targets: list[str], theirs: set[str]) -> dict[str, Any]:
    """No mount points as they are written: links of root above them are followed, a link itself is refused."""
    found: dict[str, Any] = {}
    missing: set[str] = set()  # directories: nothing can be mounted beneath
    with Walk() as walk:
        for target in targets:
            if names.parent(target) in missing:
                continue
            try:
                at, name, _trusted = walk.parent(target)
                if is_link(at, name):
                    text = "mount point %s is a symbolic link" % target
                    raise StorageError("unsafe_path", text, "name the directory itself")
                found[target] = table.at(walk.real(target))
            except FileNotFoundError:
                pass
            except StorageError as error:
                if error.code == "not_found":
                    missing.add(names.parent(target))
                else:
                    found[target] = error
            except OSError as exc:
                found[target] = StorageError("unreadable", "cannot look at %s: %s" % (target, exc.strerror))
        theirs.update(target for target in targets if _theirs(walk, names.parent(target)))
    return found


def _theirs(walk: Walk, folder: str) -> bool:
    try:
        return not walk.parent(folder + "/x")[2]
    except StorageError as error:
        return error.code == "not_found" and _theirs(walk, names.parent(folder))


def linkless_so_far(source: str) -> None:
    """Of what is not there yet: it would be made elsewhere."""
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mountsource

    up = next(above for above in names.ancestors(source) if os.path.lexists(names.encode(above)))
    goal = mountsource.real(up)
    if goal not in (None, names.encode(up)) and not source.startswith("/dev/"):
        whole = goal.decode("utf-8", "surrogateescape").rstrip("/") + source[len(up.rstrip("/")) :]
        raise StorageError("unsafe_path", "source %s is reached through a symbolic link" % source, "name it %s" % whole)
