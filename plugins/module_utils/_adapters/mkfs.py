# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port of filesystems on devices and image files: what is there and what is declared. The effects: mkfschange."""

from __future__ import annotations

import functools
import os
import re
from typing import Any, Callable, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import blkprobe, programs
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
TOOLS = {**{t: "mkfs." + t for t in LABEL_BYTES}, "swap": "mkswap"}
# what an ext4 superblock must hold; the others account without anything on disk (btrfs: by subvolume)
ACCOUNTS = {"xfs": ("group", "project", "user"), "btrfs": ("project",)}
_OF_QUOTA = {"quota", "project"}  # of ext4: ``quota`` asks for them
_LABEL = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_. -]*", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_SERIAL = re.compile(r"[0-9A-F]{4}-[0-9A-F]{4}", re.ASCII)
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class Superblock:
    """Target: path of a device or image file. Value: see ``value``; a declared ``size`` is that of the whole device."""

    name, behind, slow = "superblock", True, True

    def __init__(self, run: Run, intents: Any, look: Callable[[], Any] | None = None, search: str = PATH) -> None:
        self.run, self.intents, self.new_look, self.search = run, intents, look or _sysfs, search.split(":")
        self.wanted: dict[str, Any] = {}  # what is declared: lets a scan end after one small read
        self.seen: dict[str, dict[str, Any]] = {}  # observations of the last scan, of blank targets too

    # -- pure ------------------------------------------------------------------------------------------------------

    def resolve(self, target: str, value: dict[str, Any]) -> dict[str, Any]:
        """Validate and normalise a declared value; ``invalid`` for what must never reach an argv."""
        fstype, uuid = value.get("fstype"), value.get("uuid", UNKNOWN)
        label = value.get("label", "NONE")  # one that is valid everywhere, where none is declared
        if fstype not in TOOLS:
            raise StorageError(
                "invalid", "fstype %.100r is not one of %s" % (fstype, ", ".join(TOOLS)), option="fstype"
            )
        value = dict(value)
        if not isinstance(label, str) or not _LABEL.fullmatch(label) or len(label) > LABEL_BYTES[fstype]:
            text = "label %.80r is not valid for %s" % (label, fstype)
            hint = "at most %d letters, digits, _ . - or blanks" % LABEL_BYTES[fstype]
            raise StorageError("invalid", text, hint, option="label")
        if fstype == "vfat" and (label != label.upper() or label.endswith(" ")):
            raise StorageError(
                "invalid", "vfat label %r is not in upper case" % label, "write %r" % label.upper().rstrip()
            )
        if uuid is not UNKNOWN:
            value["uuid"] = str(uuid).upper() if fstype == "vfat" else str(uuid).lower()
            if not (_SERIAL if fstype == "vfat" else _UUID).fullmatch(value["uuid"]):
                raise StorageError("invalid", "uuid %.100r is not one for %s" % (uuid, fstype), option="uuid")
        able = sorted(blkprobe.FEATURES.get(fstype, {}).keys() - _OF_QUOTA)
        for field, words in (("features", able), ("quota", ("group", "project", "user"))):
            for wrong in sorted(set(value.get(field, ())) - set(words), key=str):
                text = "%s %.80r is not one of %s" % (field.rstrip("s"), wrong, fstype)
                raise StorageError("invalid", text, "one of %s" % (", ".join(words) or "(none)"), option=field)
            if field in value:
                value[field] = tuple(sorted(value[field]))
        self.wanted[target] = value
        return value

    def same(self, target: str, now: dict[str, Any], declared: dict[str, Any]) -> bool:
        if now.get("unfinished") or now["fstype"] != declared.get("fstype"):
            return False
        sets = all(known(declared, field) <= set(now[field]) for field in ("quota", "features"))
        texts = all(declared.get(field, UNKNOWN) in (UNKNOWN, now[field]) for field in ("label", "uuid"))
        return sets and texts and self.sized(now, declared) and bool(now["fills"] or not declared.get("fills"))

    def sized(self, now: dict[str, Any], declared: dict[str, Any]) -> bool:
        size = declared.get("size", UNKNOWN)
        return size in (UNKNOWN, None, now["size"]) or 0 <= size - now["_bytes"] <= now["_slack"]

    def merge(self, target: str, now: Any, declared: dict[str, Any]) -> dict[str, Any]:
        fstype = declared["fstype"]
        if now is None or now["fstype"] != fstype:
            size = self.seen.get(target, {}).get("_device_size", UNKNOWN)
            fresh = {"label": "", "uuid": UNKNOWN, "size": size, "fills": True, "features": UNKNOWN, **declared}
            if target not in self.seen:
                fresh["_missing"] = target  # the plan says whether something else brings it
            return {**fresh, "fills": True, "quota": ACCOUNTS.get(fstype, declared.get("quota", ()))}
        after = {**now, **{k: v for k, v in declared.items() if v is not UNKNOWN}}
        after.pop("unfinished", None)
        for field in ("quota", "features"):
            after[field] = tuple(sorted({*now[field], *known(declared, field)}))
        after["size"] = now["size"]
        if not self.sized(now, declared):
            after.update(size=declared["size"], fills=True)
        elif declared.get("fills") and not now["fills"]:
            after.update(size=now["_device_size"], fills=True)
        else:
            after["fills"] = now["fills"]
        return after

    def resized(self, target: str, row: dict[str, Any], size: int) -> dict[str, Any]:
        """A row once its device has ``size`` bytes: what is beneath grows first."""
        if "_bytes" not in row:
            return row
        fills = 0 <= size - row["_bytes"] <= row["_slack"]
        return {**row, "_device_size": size, "fills": fills, "size": size if fills else row["_bytes"]}

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        return after is None or self.risk(target, before, after) == SHRINKS

    def risk(self, target: str, before: Any, after: Any) -> str:
        if before is None:
            return FORWARD
        if after is None or before["fstype"] != after["fstype"]:
            return FORWARD if before.get("unfinished") and before["fstype"] is None else DESTROYS
        if not self.sized(before, after):
            return FORWARD if after["size"] > before["_bytes"] else SHRINKS
        return FORWARD if before.get("unfinished") else REVERSIBLE

    def consent(self, target: str, before: Any, after: Any) -> tuple[str, Any]:
        shrinks = self.risk(target, before, after) == SHRINKS
        return ("allow_shrink", True) if shrinks else ("wipe_token", before["_token"])

    def unstable(self, target: str) -> StorageError | None:
        """What takes ``allow_unstable_device``: a name that may mean another device after a reboot."""
        seen = self.seen.get(target)
        if seen is None or seen["_stable"]:
            return None
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import sysfs_block

        return sysfs_block.unstable(target, seen["_by_id"])

    def refuse(self, target: str, before: Any, after: Any, gone: set[Any]) -> StorageError | None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mkfschange

        return mkfschange.refuse(self, target, before, after, gone)

    # -- looking ---------------------------------------------------------------------------------------------------

    def scan(self, targets: Iterable[str] | None) -> dict[str, Any]:
        if targets is None:
            raise StorageError("unsupported", "filesystems are scanned by device only")
        rows, look = {}, functools.lru_cache(maxsize=None)(self.new_look)  # one look, if any
        begun = self.intents.begun(targets)
        for target in targets:
            try:
                row = self._look(look, target, target in begun)
            except StorageError as error:
                row = error
            if row is not None:
                rows[target] = row
        return rows

    def _look(self, look: Callable[[], Any], target: str, ours: bool) -> Any:
        self.seen.pop(target, None)
        programs.unasked(target)
        if not os.path.lexists(target):
            return None
        want = self.wanted.get(target)
        fd = blkprobe.glanced(target)
        try:
            found = blkprobe.quick(fd) if want and not ours else None
            if found:
                now = value(found, os.lseek(fd, 0, os.SEEK_END))
                if self.same(target, now, want or {}):
                    return now
            glanced, fd = fd, blkprobe.opened(target)
            os.close(glanced)
            from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mkfschange

            return mkfschange.examine(self, look(), target, fd, ours)
        finally:
            os.close(fd)

    # -- doing -----------------------------------------------------------------------------------------------------

    def put(self, target: str, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import mkfschange

        mkfschange.put(self, target, before, after)


def _sysfs() -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.sysfs_block import Sysfs

    return Sysfs()


def health(run: Run) -> Any:
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import fsck

    return fsck.Health(run)


def value(found: blkprobe.Found, device_size: int) -> dict[str, Any]:
    """``size`` is the device's where the filesystem fills it but for its own rounding, else the filesystem's own."""
    slack = found.facts["slack"]
    fills = 0 <= device_size - found.size <= slack
    quota = ACCOUNTS.get(found.fstype) or tuple(found.facts.get("quota", ()))
    return {
        "fstype": found.fstype, "label": found.label, "uuid": found.uuid, "size": device_size if fills else found.size,
        "fills": fills, "quota": quota, "features": tuple(sorted(set(found.facts.get("features", ())) - _OF_QUOTA)),
        "_bytes": found.size, "_slack": slack, "_device_size": device_size,
    }  # fmt: skip


def known(value: dict[str, Any], field: str) -> set[str]:
    found = value.get(field, UNKNOWN)
    return set() if found is UNKNOWN else set(found)
