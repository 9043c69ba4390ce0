# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filesystems made, grown, labelled, shrunk and wiped, each step from our own proof; never over something.

Imported by the port ``mkfs`` only when no filesystem is as declared: a run that changes nothing does not pay for it.
"""

from __future__ import annotations

import os
import stat
import struct
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import blank, blkprobe
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mkfs import TOOLS, Superblock, known, value
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.sysfs_block import Sysfs
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import SHRINKS, UNKNOWN

PACKAGES = {"ext4": "e2fsprogs", "xfs": "xfsprogs", "btrfs": "btrfs-progs", "vfat": "dosfstools", "swap": "util-linux"}
QUOTA_TYPES = {"user": "usrquota", "group": "grpquota", "project": "prjquota"}
LEAST = {"xfs": 300 << 20, "btrfs": 109 << 20}  # what their programs refuse to go below
SLOW = 600.0  # seconds that making, checking or resizing a filesystem may take


def refuse(port: Superblock, target: str, before: Any, after: Any, gone: set[Any]) -> StorageError | None:
    seen = port.seen.get(target)
    formats = after is None or before is None or before["fstype"] != after["fstype"]
    shrinks = not formats and port.risk(target, before, after) == SHRINKS
    if seen is None and shrinks:  # it was as declared: what becomes smaller is beneath it
        fd = blkprobe.opened(target)
        try:
            examine(port, port.new_look(), target, fd, False)
        except StorageError as failed:
            return failed
        finally:
            os.close(fd)
        seen = port.seen[target]
    if seen is None:
        return None  # nothing is there yet: what makes it is beneath us in this plan
    loops = ("loop", target) in gone
    users = blank.staying([u for u in seen["_in_use"] if not (loops and "/loop" in u)], gone)
    fstype = (after or before)["fstype"]
    error = blank.vital(target, seen, before is None or "unfinished" in before)
    if error is None and (formats or shrinks and fstype == "ext4"):
        error = blank.in_use(target, users)
    if error is not None:
        return error
    able = ("ext4", "btrfs") if shrinks else ("ext4", "btrfs", "xfs")
    if not formats and not port.sized(before, after) and fstype not in able:
        verb = "be made smaller" if shrinks else "grow"
        return StorageError("unsupported", "%s on %s cannot %s" % (fstype, target, verb), "make a new one and copy")
    if formats and after is not None and seen["_no_tool"]:
        return _missing(fstype)
    if formats and after is not None and seen["_device_size"] < LEAST.get(fstype, 0):
        text = "%s is too small for %s" % (target, fstype)
        return StorageError("no_space", text, "it takes %d MiB" % (LEAST[fstype] >> 20))
    if fstype not in ("ext4", "xfs", "btrfs") and after is not None and after["quota"]:
        text = "%s on %s cannot account quota" % (fstype, target)
        return StorageError("not_enforced", text, "use xfs, ext4 or btrfs")
    if not formats and fstype == "ext4" and after["quota"] != before["quota"]:
        error = _quota_refusal(port, target, seen, users, set(after["quota"]) - set(before["quota"]))
        if error is not None:
            return error
        before = {**before, "quota": after["quota"]}
    for field in () if formats else ("uuid", "features", "quota"):
        if after[field] != before[field]:
            text = "%s of the %s on %s is given when it is made" % (field, fstype, target)
            return StorageError("unsupported", text, "declare what is there, or make a new filesystem")
    return None


def _quota_refusal(
    port: Superblock, target: str, seen: dict[str, Any], users: list[str], lacks: set[str]
) -> StorageError | None:
    """Why an ext4 that is there cannot be given the quota it lacks."""
    if "project" in lacks and seen["_facts"]["inode"] < 256:
        text = "the inodes of the ext4 on %s have no room for a project" % target
        return StorageError("unsupported", text, "make a new filesystem and copy", option="quota")
    if users:
        text = "%s is in use, and its ext4 does not account %s" % (target, ", ".join(sorted(lacks)))
        return StorageError("in_use", text, "unmount it first: tune2fs adds it", users=users, option="quota")
    return None if _which(port, "tune2fs") else _missing("ext4", "tune2fs")


def _quota_features(quota: Any) -> set[str]:
    """Of ext4."""
    return {"quota", "project"} if "project" in quota else {"quota"} if quota else set()


def _quota(call: Any, device: str, now: set[str], want: set[str]) -> None:
    """tune2fs(8) counts what is there, and keeps all files both ways; each way in one go."""
    if now - want:  # undone
        call("ext4", "tune2fs", ["-O", ",".join("^" + word for word in sorted(_quota_features(now))), device], "")
        now = set()
    if want - now:
        kinds = ",".join(QUOTA_TYPES[kind] for kind in sorted(want))
        call("ext4", "tune2fs", ["-O", ",".join(sorted(_quota_features(want))), "-Q", kinds, device], "")


def examine(port: Superblock, look: Sysfs, target: str, fd: int, ours: bool) -> Any:
    """The value of a scan, None for blank; what else was seen goes to ``port.seen``."""
    content, seen = blank.seen(look, target, fd)
    ours = ours and port.intents.is_ours(target, device=look.identity(look.resolve(target)))
    at = _at(look, target, look.resolve(target))[1] if seen["_live"] else ""
    fstype = port.wanted.get(target, {}).get("fstype")
    seen.update(_no_tool=bool(fstype and not _which(port, TOOLS[fstype])), _mounted_at=at)
    port.seen[target] = seen
    if content.kind == "blank" and not ours:
        return None
    row: dict[str, Any] = {"fstype": None, "_content": content._asdict()}
    if content.kind == "known" and content.fstype in TOOLS:
        row = value(_live(content.detail["found"], at), seen["_device_size"])
        seen["_facts"] = content.detail["found"].facts
    elif content.kind == "known":
        row["fstype"] = content.fstype
    # blank too: an intent that stays when a wipe is over would be a consent to whatever comes there later
    if ours and (content.kind == "blank" or content.detail["begun"] or row["fstype"] in TOOLS):
        row["unfinished"] = True
    return {**row, **seen}


def _which(port: Superblock, program: str) -> str:
    return next((p for p in ("%s/%s" % (d, program) for d in port.search) if os.access(p, os.X_OK)), "")


def put(port: Superblock, target: str, before: Any, after: Any) -> None:
    if before and after and before["fstype"] == after["fstype"]:
        _change(port, target, before, after)
    else:
        _remake(port, target, before, after)


def _remake(port: Superblock, target: str, before: Any, after: Any) -> None:
    """Wipe, then make when something is declared. Each step starts from our own proof under an exclusive open."""
    after = after and port.merge(target, None, after)
    if after is not None and not _which(port, TOOLS[after["fstype"]]):
        raise _missing(after["fstype"])
    with blank.Taken(port.new_look(), target, before) as taken:
        size = taken.size
        if after is not None and after.get("size", size) not in (size, UNKNOWN):
            raise StorageError("moved", "%s has %d bytes, declared are %d" % (target, size, after["size"]))
        port.intents.begin(target, device=taken.look.identity(taken.dev))
        taken.wipe()
        path = taken.let()
        if after is not None:
            _make(port, path, target, taken.look, taken.dev, after)
        if after is None and taken.again().kind != "blank":
            raise StorageError("not_enforced", "%s is not blank after it was wiped" % target)
        taken.steady()
        found = after and blkprobe.quick(taken.hold)  # its ends were blank: nothing but this can be there
        if after and not (found and port.same(target, value(found, size), after) and _rooted(taken.hold, found)):
            raise StorageError("not_enforced", "%s does not hold the %s that was made" % (target, after["fstype"]))
    port.intents.end(target)


def _make(port: Superblock, path: str, target: str, look: Sysfs, dev: str, after: dict[str, Any]) -> None:
    """No option here overrides a check of the program: what it meets is blank."""
    fstype, label = after["fstype"], after.get("label")
    uuid = after.get("uuid", UNKNOWN)
    features = sorted(known(after, "features"))
    argv = {
        "ext4": ["-q", "-E", "nodiscard,lazy_itable_init=1"],
        "xfs": ["-q", "-K"], "btrfs": ["-q", "-K"], "swap": [],
        # -I: a whole disk, not a partition
        "vfat": ["-I"] if dev and not look.read(dev, "partition") else [],
    }[fstype]  # fmt: skip
    if fstype == "ext4" and after["quota"]:
        argv[2] += ",quotatype=" + ":".join(QUOTA_TYPES[kind] for kind in after["quota"])
        features = sorted({*features, *_quota_features(after["quota"])})
    if fstype == "xfs":
        bits = ["%s=1" % f for f in features] + ([] if uuid is UNKNOWN else ["uuid=" + uuid])
        argv += ["-m", ",".join(bits)] if bits else []
    elif features:
        argv += ["-O", ",".join(features)]
    if uuid is not UNKNOWN and fstype != "xfs":
        argv += ["-i", uuid.replace("-", "")] if fstype == "vfat" else ["-U", uuid]
    if label:
        argv += ["-n" if fstype == "vfat" else "-L", label]
    _call(port, fstype, TOOLS[fstype], [*argv, path], target)


def _change(port: Superblock, target: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import resize

    def call(fstype: str, program: str, argv: list[str], _path: str) -> bytes:
        return _call(port, fstype, program, argv, target)

    look, fd = port.new_look(), blkprobe.opened(target)
    try:
        here = "/proc/%d/fd/%d" % (os.getpid(), fd)  # an image: its name may lead elsewhere a moment later
        dev = look.resolve(here)
        work, at = _at(look, target if dev else here, dev)
        blank.claim(fd, target)
        found, size = blkprobe.quick(fd), os.lseek(fd, 0, os.SEEK_END)
        now = value(_live(found, at), size) if found else {}
        seen = ("fstype", "uuid", "label", "_bytes")
        if not found or any(field in before and before[field] != now[field] for field in seen):
            raise StorageError("moved", "the filesystem on %s changed since it was looked at" % target)
        quota = set(after["quota"])  # undone, it is less than there is
        after = port.merge(target, now, after)
        if before.get("unfinished") and not _rooted(fd, found):
            text = "the %s that was begun on %s is not complete" % (found.fstype, target)
            raise StorageError("failed", text, "wipe it")
        if after["label"] != now["label"]:
            resize.label(call, work, at, found.fstype, after["label"])
        if not port.sized(now, after):
            if after["size"] > size:
                raise StorageError("failed", "%s has only %d of %d bytes" % (target, size, after["size"]))
            resize.resize(call, look, work, at, found, after["size"])
        if found.fstype == "ext4" and quota != set(now["quota"]):
            resize.free(look, work, found)
            _quota(call, work, set(now["quota"]), quota)
        resize.flush(work, at)
        again = blkprobe.quick(fd)
        row = again and value(_live(again, at), size)
        if not row or row["label"] != after["label"] or not port.sized(row, after) or not quota == set(row["quota"]):
            raise StorageError("not_enforced", "%s keeps %r" % (target, row))
    finally:
        os.close(fd)
    if before.get("unfinished"):
        port.intents.end(target)


def _call(port: Superblock, fstype: str, program: str, argv: list[str], target: str) -> bytes:
    path = _which(port, program)
    if not path:
        raise _missing(fstype, program)
    rc, out, err = port.run([path, *argv], b"", SLOW)
    if rc:
        said = (err.strip() or out.strip()).decode("utf-8", "backslashreplace")
        raise StorageError("failed", "%s on %s: rc %d: %s" % (program, target, rc, said[-600:]), rc=rc)
    return bytes(out)


def _missing(fstype: str, program: str = "") -> StorageError:
    text = "%s is not installed" % (program or TOOLS[fstype])
    return StorageError("missing_tool", text, "install %s (same name on Debian and RHEL)" % PACKAGES[fstype])


def _at(look: Sysfs, target: str, dev: str) -> tuple[str, str]:
    """The device to work on (the loop device of an attached image) and where it is mounted, "" for nowhere."""
    loops = [] if dev else look.loops(target)
    work = loops[0] if loops else target
    return work, (look.mounts().get(look.resolve(work)) or [""])[0]


def _live(found: blkprobe.Found, at: str) -> blkprobe.Found:
    if found.fstype != "xfs" or not at:
        return found
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import resize

    return resize.live(found, at)


def _rooted(fd: int, found: blkprobe.Found) -> bool:
    """Is the root inode of a new ext4 a directory? Of the others the superblock itself says that all is there."""
    if found.fstype != "ext4":
        return True
    block, first = found.facts["block"], found.facts["first"]
    group = os.pread(fd, 64, (first + 1) * block)
    low, high = struct.unpack_from("<I28xI", group, 8)
    table = low | (high << 32 if found.facts["wide"] else 0)
    return stat.S_ISDIR(int.from_bytes(os.pread(fd, 2, table * block + found.facts["inode"]), "little"))
