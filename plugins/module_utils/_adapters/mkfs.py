# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port of filesystems on devices and image files: made, grown, labelled, shrunk and wiped; never over something."""

from __future__ import annotations

import os
import re
import stat
import struct
from typing import Any, Callable, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import blkprobe
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.oserror import failure
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.sysfs_block import Sysfs, unstable
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import (
    DESTROYS,
    FORWARD,
    REVERSIBLE,
    SHRINKS,
    UNKNOWN,
)

Run = Callable[..., Any]
LABEL_BYTES = {"ext4": 16, "xfs": 12, "btrfs": 255, "vfat": 11, "swap": 15}
PACKAGES = {"ext4": "e2fsprogs", "xfs": "xfsprogs", "btrfs": "btrfs-progs", "vfat": "dosfstools", "swap": "util-linux"}
TOOLS = {**{t: "mkfs." + t for t in LABEL_BYTES}, "swap": "mkswap"}
# what an ext4 superblock must hold; the others account without anything on disk (btrfs: by subvolume)
ACCOUNTS = {"xfs": ("group", "project", "user"), "btrfs": ("project",)}
QUOTA_TYPES = {"user": "usrquota", "group": "grpquota", "project": "prjquota"}
_LABEL = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9 _.:+@/-]*|", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_SERIAL = re.compile(r"[0-9A-F]{4}-[0-9A-F]{4}", re.ASCII)
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
SLOW = 600.0  # seconds that making, checking or resizing a filesystem may take


class Superblock:
    """Target: path of a device or image file. Value: see ``_row``; a declared ``size`` is that of the whole device.

    ``intents`` remembers what we began and did not finish: ``begin(target, token=)``, ``is_ours(target)``, ``end``.
    """

    name, behind, slow = "superblock", True, True

    def __init__(self, run: Run, intents: Any, look: Callable[[], Sysfs] = Sysfs, search: str = PATH) -> None:
        self.run, self.intents, self.new_look, self.search = run, intents, look, search.split(":")
        self.wanted: dict[str, Any] = {}  # what is declared: lets a scan end after one small read
        self.seen: dict[str, dict[str, Any]] = {}  # observations of the last scan, of blank targets too
        self.allow_unstable: set[str] = set()

    # -- pure ------------------------------------------------------------------------------------------------------

    def resolve(self, target: str, value: dict[str, Any]) -> dict[str, Any]:
        """Validate and normalise a declared value; ``invalid`` for what must never reach an argv."""
        fstype, label, uuid = value.get("fstype"), value.get("label", ""), value.get("uuid", UNKNOWN)
        if fstype not in TOOLS:
            raise StorageError(
                "invalid", "fstype %.100r is not one of %s" % (fstype, ", ".join(TOOLS)), option="fstype"
            )
        value = dict(value)
        if not isinstance(label, str) or not _LABEL.fullmatch(label) or len(label) > LABEL_BYTES[fstype]:
            text = "label %.300r is not one for %s" % (label, fstype)
            raise StorageError(
                "invalid", text, "at most %d of A-Z a-z 0-9 space _.:+@/-" % LABEL_BYTES[fstype], option="label"
            )
        if fstype == "vfat" and (label != label.upper() or label.endswith(" ")):
            raise StorageError(
                "invalid", "vfat label %r is not in upper case" % label, "write %r" % label.upper().rstrip()
            )
        if uuid is not UNKNOWN:
            value["uuid"] = str(uuid).upper() if fstype == "vfat" else str(uuid).lower()
            if not (_SERIAL if fstype == "vfat" else _UUID).fullmatch(value["uuid"]):
                raise StorageError("invalid", "uuid %.100r is not one for %s" % (uuid, fstype), option="uuid")
        for field, known in (("features", blkprobe.FEATURES.get(fstype, {})), ("quota", ("group", "project", "user"))):
            wrong = sorted(set(value.get(field, ())) - set(known), key=str)
            if wrong:
                raise StorageError(
                    "invalid", "%s of %s cannot be %s" % (field, fstype, ", ".join(map(str, wrong))), option=field
                )
            if field in value:
                value[field] = tuple(sorted(value[field]))
        self.wanted[target] = value
        if value.get("_allow_unstable"):
            self.allow_unstable.add(target)
        return value

    def same(self, target: str, now: dict[str, Any], declared: dict[str, Any]) -> bool:
        if now.get("unfinished") or now["fstype"] != declared.get("fstype"):
            return False
        sets = all(_known(declared, field) <= set(now[field]) for field in ("quota", "features"))
        texts = all(declared.get(field, UNKNOWN) in (UNKNOWN, now[field]) for field in ("label", "uuid"))
        return sets and texts and self._sized(now, declared) and bool(now["fills"] or not declared.get("fills"))

    def _sized(self, now: dict[str, Any], declared: dict[str, Any]) -> bool:
        size = declared.get("size", UNKNOWN)
        return size in (UNKNOWN, None, now["size"]) or 0 <= size - now["_bytes"] <= now["_slack"]

    def merge(self, target: str, now: Any, declared: dict[str, Any]) -> dict[str, Any]:
        fstype = declared["fstype"]
        if now is None or now["fstype"] != fstype:
            size = self.seen.get(target, {}).get("_device_size", UNKNOWN)
            fresh = {"label": "", "uuid": UNKNOWN, "size": size, "fills": True, "features": UNKNOWN, **declared}
            return {**fresh, "fills": True, "quota": ACCOUNTS.get(fstype, declared.get("quota", ()))}
        after = {**now, **{k: v for k, v in declared.items() if v is not UNKNOWN}}
        after.pop("unfinished", None)
        for field in ("quota", "features"):
            after[field] = tuple(sorted({*now[field], *_known(declared, field)}))
        after["size"] = now["size"]
        if not self._sized(now, declared):
            after.update(size=declared["size"], fills=True)
        elif declared.get("fills") and not now["fills"]:
            after.update(size=now["_device_size"], fills=True)
        else:
            after["fills"] = now["fills"]
        return after

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        return after is None or self.risk(target, before, after) == SHRINKS

    def risk(self, target: str, before: Any, after: Any) -> str:
        if before is None:
            return FORWARD
        if after is None or before["fstype"] != after["fstype"]:
            return FORWARD if before.get("unfinished") and before["fstype"] is None else DESTROYS
        if not self._sized(before, after):
            return FORWARD if after["size"] > before["_bytes"] else SHRINKS
        return FORWARD if before.get("unfinished") else REVERSIBLE

    def consent(self, target: str, before: Any, after: Any) -> tuple[str, Any]:
        shrinks = self.risk(target, before, after) == SHRINKS
        return ("allow_shrink", True) if shrinks else ("wipe_token", before["_token"])

    def refuse(self, target: str, before: Any, after: Any, gone: set[Any]) -> StorageError | None:
        seen = self.seen.get(target)
        if seen is None:
            return None  # nothing is there yet: what makes it is beneath us in this plan
        formats = after is None or before is None or before["fstype"] != after["fstype"]
        shrinks = not formats and self.risk(target, before, after) == SHRINKS
        leaving = {t for _port, t in gone} | (
            {u for u in seen["_in_use"] if "/loop" in u} if ("loop", target) in gone else set()
        )
        users = [u for u in seen["_in_use"] if u not in leaving]
        fstype = (after or before)["fstype"]
        if seen["_protected"]:
            text = "%s holds %s of this host" % (target, seen["_protected"])
            return StorageError("protected", text, "choose another device")
        if not seen["_stable"] and target not in self.allow_unstable:
            return unstable(target, seen["_by_id"])
        if users and (formats or shrinks and fstype == "ext4"):
            text = "%s is in use: %s" % (target, ", ".join(users))
            return StorageError("in_use", text, "release it first, or declare its users absent too", users=users)
        able = ("ext4", "btrfs") if shrinks else ("ext4", "btrfs", "xfs")
        if not formats and not self._sized(before, after) and fstype not in able:
            verb = "be made smaller" if shrinks else "grow"
            return StorageError("unsupported", "%s on %s cannot %s" % (fstype, target, verb), "make a new one and copy")
        if formats and after is not None and seen["_missing"]:
            return _missing(fstype)
        if fstype not in ("ext4", "xfs", "btrfs") and after is not None and after["quota"]:
            text = "%s on %s cannot account quota" % (fstype, target)
            return StorageError("not_enforced", text, "use xfs, ext4 or btrfs")
        for field in () if formats else ("uuid", "features", "quota"):
            if after[field] != before[field]:
                text = "%s of the %s on %s is given when it is made" % (field, fstype, target)
                return StorageError("unsupported", text, "declare what is there, or make a new filesystem")
        return None

    # -- looking ---------------------------------------------------------------------------------------------------

    def scan(self, targets: Iterable[str] | None) -> dict[str, Any]:
        if targets is None:
            raise StorageError("unsupported", "filesystems are scanned by device only")
        look, rows = self.new_look(), {}
        for target in targets:
            try:
                row = self._look(look, target)
            except StorageError as error:
                row = error
            if row is not None:
                rows[target] = row
        return rows

    def _look(self, look: Sysfs, target: str) -> Any:
        self.seen.pop(target, None)
        if not os.path.lexists(target):
            return None
        want, ours = self.wanted.get(target), self.intents.is_ours(target)
        fd = blkprobe.opened(target)
        try:
            found = blkprobe.quick(fd) if want and not ours else None
            if found:
                row = _row(found, os.lseek(fd, 0, os.SEEK_END))
                if self.same(target, row, want or {}):
                    return row
            dev = look.resolve(target)
            users = look.in_use(target, dev)
            content = blkprobe.examine(fd, _identity(look, target, dev), bool(users))
        finally:
            os.close(fd)
        at = _at(look, target, dev)[1] if users else ""
        fstype = (want or {}).get("fstype")
        seen = {
            "_device_size": content.detail["device_size"], "_token": content.token,
            "_live": bool(users), "_in_use": users,
            "_protected": look.protected(dev), "_stable": look.stable(target, dev),
            "_missing": bool(fstype and not self._which(TOOLS[fstype])),
            "_mounted_at": at,
        }  # fmt: skip
        seen["_by_id"] = [] if seen["_stable"] else look.links(dev)
        self.seen[target] = seen
        if content.kind == "blank":
            return None
        row = {"fstype": None, "_content": content._asdict()}
        if content.kind == "known" and content.fstype in TOOLS:
            row = _row(_live(content.detail["found"], at), seen["_device_size"])
        elif content.kind == "known":
            row["fstype"] = content.fstype
        if ours and (content.detail["begun"] or row["fstype"] in TOOLS):
            row["unfinished"] = True
        return {**row, **seen}

    def _which(self, program: str) -> str:
        return next((p for p in ("%s/%s" % (d, program) for d in self.search) if os.access(p, os.X_OK)), "")

    # -- doing -----------------------------------------------------------------------------------------------------

    def put(self, target: str, before: Any, after: Any) -> None:
        if before and after and before["fstype"] == after["fstype"]:
            self._change(target, before, after)
        else:
            self._remake(target, before, after)

    def _remake(self, target: str, before: Any, after: Any) -> None:
        """Wipe, then make when something is declared. Each step starts from our own proof under an exclusive open."""
        after = after and self.merge(target, None, after)
        if after is not None and not self._which(TOOLS[after["fstype"]]):
            raise _missing(after["fstype"])
        look = self.new_look()
        dev = look.resolve(target)
        users, vital = look.in_use(target, dev), look.protected(dev)
        if users or vital:
            raise StorageError("in_use" if users else "protected", "%s holds %s" % (target, vital or ", ".join(users)))
        hold = -1
        fd = blkprobe.opened(target, os.O_RDWR | (os.O_EXCL if dev else 0))
        try:
            stamp = _stamp(look, os.fstat(fd))
            content = blkprobe.examine(fd, _identity(look, target, dev), bool(before and before.get("_live")))
            if content.kind != "blank" if before is None else content.token != before.get("_token"):
                raise StorageError("moved", "the content of %s changed since it was looked at" % target)
            size = content.detail["device_size"]
            if after is not None and after.get("size", size) not in (size, UNKNOWN):
                raise StorageError("moved", "%s has %d bytes, declared are %d" % (target, size, after["size"]))
            self.intents.begin(target, token=content.token)
            if content.kind != "blank":
                _zero(fd, size, target)
            # programs want the exclusive open for themselves; by our descriptor they cannot meet another file
            hold = os.open("/proc/self/fd/%d" % fd, os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(fd)
        try:
            if after is not None:
                self._make("/proc/%d/fd/%d" % (os.getpid(), hold), target, look, dev, after)
            if not os.path.exists(target) or _stamp(look, os.stat(target)) != stamp:
                raise StorageError("moved", "%s became another device meanwhile" % target, "look at both")
            content = blkprobe.examine(hold, target)
            found = content.detail["found"]
            if after is None and content.kind != "blank":
                raise StorageError("not_enforced", "%s is not blank after it was wiped" % target)
            if after is not None and not (
                content.kind == "known" and self.same(target, _row(found, size), after) and _rooted(hold, found)
            ):
                raise StorageError("not_enforced", "%s does not hold the %s that was made" % (target, after["fstype"]))
        finally:
            os.close(hold)
        self.intents.end(target)

    def _make(self, path: str, target: str, look: Sysfs, dev: str, after: dict[str, Any]) -> None:
        """No option here overrides a check of the program: what it meets is blank."""
        fstype, label = after["fstype"], after.get("label")
        uuid = after.get("uuid", UNKNOWN)
        features = sorted(_known(after, "features"))
        argv = {
            "ext4": ["-q", "-E", "nodiscard,lazy_itable_init=1"],
            "xfs": ["-q", "-K"], "btrfs": ["-q", "-K"], "swap": [],
            # -I: a whole disk, not a partition
            "vfat": ["-I"] if dev and not look.read(dev, "partition") else [],
        }[fstype]  # fmt: skip
        if fstype == "ext4" and after["quota"]:
            argv[2] += ",quotatype=" + ":".join(QUOTA_TYPES[kind] for kind in after["quota"])
            features = sorted({*features, "quota", *(("project",) if "project" in after["quota"] else ())})
        if fstype == "xfs":
            bits = ["%s=1" % f for f in features] + ([] if uuid is UNKNOWN else ["uuid=" + uuid])
            argv += ["-m", ",".join(bits)] if bits else []
        elif features:
            argv += ["-O", ",".join(features)]
        if uuid is not UNKNOWN and fstype != "xfs":
            argv += ["-i", uuid.replace("-", "")] if fstype == "vfat" else ["-U", uuid]
        if label:
            argv += ["-n" if fstype == "vfat" else "-L", label]
        self._call(fstype, TOOLS[fstype], [*argv, path], target)

    def _change(self, target: str, before: dict[str, Any], after: dict[str, Any]) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import resize

        look = self.new_look()
        work, at = _at(look, target, look.resolve(target))
        fd = blkprobe.opened(target)
        try:
            found, size = blkprobe.quick(fd), os.lseek(fd, 0, os.SEEK_END)
            now = _row(_live(found, at), size) if found else {}
            seen = ("fstype", "uuid", "label", "_bytes")
            if not found or any(field in before and before[field] != now[field] for field in seen):
                raise StorageError("moved", "the filesystem on %s changed since it was looked at" % target)
            after = self.merge(target, now, after)
            if before.get("unfinished") and not _rooted(fd, found):
                text = "the %s that was begun on %s is not complete" % (found.fstype, target)
                raise StorageError("failed", text, "wipe it")
            if after["label"] != now["label"]:
                resize.label(self._call, work, at, found.fstype, after["label"])
            if not self._sized(now, after):
                if after["size"] > size:
                    raise StorageError("failed", "%s has only %d of %d bytes" % (target, size, after["size"]))
                resize.resize(self._call, look, work, at, found, after["size"])
            resize.flush(work, at)
            again = blkprobe.quick(fd)
            row = again and _row(_live(again, at), size)
            if not row or row["label"] != after["label"] or not self._sized(row, after):
                raise StorageError("not_enforced", "%s keeps %r" % (target, row))
        finally:
            os.close(fd)
        if before.get("unfinished"):
            self.intents.end(target)

    def _call(self, fstype: str, program: str, argv: list[str], target: str) -> bytes:
        path = self._which(program)
        if not path:
            raise _missing(fstype, program)
        rc, out, err = self.run([path, *argv], b"", SLOW)
        if rc:
            said = (err.strip() or out.strip()).decode("utf-8", "backslashreplace")
            raise StorageError("failed", "%s on %s: rc %d: %s" % (program, target, rc, said[-600:]), rc=rc)
        return bytes(out)


def _row(found: blkprobe.Found, device_size: int) -> dict[str, Any]:
    """``size`` is the device's where the filesystem fills it but for its own rounding, else the filesystem's own."""
    slack = found.facts["slack"]
    fills = 0 <= device_size - found.size <= slack
    quota = ACCOUNTS.get(found.fstype) or tuple(found.facts.get("quota", ()))
    return {
        "fstype": found.fstype, "label": found.label, "uuid": found.uuid, "size": device_size if fills else found.size,
        "fills": fills, "quota": quota, "features": tuple(sorted(found.facts.get("features", ()))),
        "_bytes": found.size, "_slack": slack, "_device_size": device_size,
    }  # fmt: skip


def _known(value: dict[str, Any], field: str) -> set[str]:
    found = value.get(field, UNKNOWN)
    return set() if found is UNKNOWN else set(found)


def _missing(fstype: str, program: str = "") -> StorageError:
    text = "%s is not installed" % (program or TOOLS[fstype])
    return StorageError("missing_tool", text, "install %s (same name on Debian and RHEL)" % PACKAGES[fstype])


def _identity(look: Sysfs, target: str, dev: str) -> str:
    if dev:
        return look.identity(dev) or target
    seen = os.stat(target)
    return "file %d:%d" % (seen.st_dev, seen.st_ino)


def _stamp(look: Sysfs, seen: os.stat_result) -> tuple[Any, ...]:
    """What a path leads to, beyond its name: a device number alone may be given to another disk."""
    if stat.S_ISBLK(seen.st_mode):
        return seen.st_rdev, look.diskseq("%d:%d" % (os.major(seen.st_rdev), os.minor(seen.st_rdev)))
    return seen.st_dev, seen.st_ino


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


def _zero(fd: int, size: int, target: str) -> None:
    """The head first: from its first page on nothing old can be mounted."""
    chunk = bytes(1 << 20)
    try:
        for start, end in ((0, min(blkprobe.EDGE, size)), (max(blkprobe.EDGE, size - blkprobe.EDGE), size)):
            while start < end:
                start += os.pwrite(fd, chunk[: end - start], start)
        os.fsync(fd)
    except OSError as error:
        raise failure(error, "cannot wipe " + target) from error


def _rooted(fd: int, found: blkprobe.Found) -> bool:
    """Is the root inode of a new ext4 a directory? Of the others the superblock itself says that all is there."""
    if found.fstype != "ext4":
        return True
    block, first = found.facts["block"], found.facts["first"]
    group = os.pread(fd, 64, (first + 1) * block)
    low, high = struct.unpack_from("<I28xI", group, 8)
    table = low | (high << 32 if found.facts["wide"] else 0)
    return stat.S_ISDIR(int.from_bytes(os.pread(fd, 2, table * block + found.facts["inode"]), "little"))
