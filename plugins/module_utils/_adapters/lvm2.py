# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""LVM2 as one report of lvm(8) tells it, and the ports that are cut from it. What changes anything: lvm2change.

Sizes are bytes. ``lvm fullreport`` is the only program of a run that changes nothing, however many groups there are.
"""

from __future__ import annotations

import functools
import json
import os
import re
from typing import Any, Callable, Iterable, Tuple

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import (
    DESTROYS,
    FORWARD,
    REVERSIBLE,
    SHRINKS,
    UNKNOWN,
    merged,
    met,
)

Run = Callable[..., Any]
Pair = Tuple[str, str]
EXTENT = 4 << 20  # of groups that we make
NEW = "bulkhead.new"  # tag of a volume that is not blank yet
VOLUME = "bulkhead.volume"  # tag of a volume of a pool: it goes with its record, and by the consent that takes
RESTORED = "bulkhead.restored="  # tag of a volume of a pool: the mark of the restore that it came from
SHARE = "bulkhead.share="  # tag: which share it was made with, such as 40_VG; ``%`` cannot be in a tag
PROFILE = "bulkhead-thin-%d"
PROFILES = "/etc/lvm/profile"
FIELDS = {
    "vg": "vg_name,vg_uuid,vg_size,vg_free,vg_extent_size,vg_systemid,vg_exported,vg_lock_type,vg_missing_pv_count",
    "pv": "pv_name,pv_size,pv_free,pv_used,pv_missing,pv_duplicate",
    "lv": "lv_name,lv_uuid,lv_size,lv_metadata_size,pool_lv,origin,data_percent,metadata_percent,lv_tags,lv_active,"
    "lv_device_open,lv_profile,lv_layout,lv_health_status,lv_attr",
    "pvseg": "pvseg_start",
    "seg": "seg_start",
}
REPORT = ["lvm", "fullreport", "--foreign", "--shared", "--reportformat", "json", "--units", "b", "--nosuffix"]
REPORT += [word for kind, fields in FIELDS.items() for word in ("--configreport", kind, "-o", fields)]


class Lvm2:
    """The report, asked for once by all ports of a look: whoever comes a second time looks anew."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.asked: set[str] = set()
        self.found: dict[str, Any] | None = None
        self.coming = 0  # devices that a group does not have yet

    def report(self, port: str) -> dict[str, Any]:
        """``groups``: rows by name; ``pvs``: by device number. Raises ``unreadable`` rather than tell half of it."""
        if self.found is None or port in self.asked:
            rc, out, err = self.run(REPORT, b"", 120.0)
            try:
                text = json.loads(out.decode("utf-8", "surrogateescape")) if rc == 0 else None
            except ValueError:
                text = None
            if text is None:
                said = err.decode("utf-8", "backslashreplace").strip()[-600:]
                raise StorageError("unreadable", "lvm fullreport: rc %d: %s" % (rc, said), "see pvs and vgs")
            self.found, self.asked = parse(text), set()
            self.coming = 0
            self._foreign(self.found["groups"])
        self.asked.add(port)
        return self.found

    def last(self) -> dict[str, Any]:
        return self.found if self.found is not None else self.report("")

    def forget(self) -> None:
        self.found = None

    def _foreign(self, groups: dict[str, Any]) -> None:
        """A group with a system id belongs to the host that has the same (lvmsystemid(7)); most have none."""
        named = [group for group in groups.values() if group["system"]]
        if not named:
            return
        rc, out, _err = self.run(["lvm", "systemid"], b"", 60.0)
        own = out.decode("utf-8", "surrogateescape").partition(":")[2].strip() if rc == 0 else ""
        for group in named:
            if group["system"] != own:
                group["problem"] = ("protected", "%(name)s belongs to the host with the system id %(system)s" % group)


def parse(text: Any) -> dict[str, Any]:
    groups: dict[str, Any] = {}
    pvs: dict[int, dict[str, Any]] = {}
    for part in text["report"]:
        one = part.get("vg") or [None]
        group = _group(one[0]) if one[0] else None
        mine = [_pv(row, group["name"] if group else "") for row in part.get("pv", ())]
        pvs.update((row["rdev"], row) for row in mine if row["rdev"])
        if group is None:
            continue
        if group["name"] in groups:
            group["problem"] = ("conflict", "two volume groups have the name %s" % group["name"])
        group["pvs"] = mine
        group["lvs"] = {row["lv_name"]: lv_row(row) for row in part.get("lv", ())}
        groups[group["name"]] = group
    return {"groups": groups, "pvs": pvs}


def _group(row: dict[str, str]) -> dict[str, Any]:
    name, problem = row["vg_name"], None
    if int(row["vg_missing_pv_count"] or 0):
        problem = ("unreadable", "%s lacks %s of its physical volumes" % (name, row["vg_missing_pv_count"]))
    elif row["vg_exported"]:
        problem = ("protected", "%s is exported" % name)
    elif row["vg_lock_type"] not in ("", "none"):
        problem = ("in_use", "%s is shared with other hosts (lock type %s)" % (name, row["vg_lock_type"]))
    return {
        "name": name, "uuid": row["vg_uuid"], "size": int(row["vg_size"]), "free": int(row["vg_free"]),
        "extent": int(row["vg_extent_size"]), "system": row["vg_systemid"], "problem": problem,
    }  # fmt: skip


def _pv(row: dict[str, str], group: str) -> dict[str, Any]:
    try:
        rdev = os.stat(row["pv_name"]).st_rdev if row["pv_name"].startswith("/") else 0
    except FileNotFoundError:  # it went, and is told as missing
        rdev = 0
    sizes = {field: int(row["pv_" + field] or 0) for field in ("size", "free", "used")}
    told = {"rdev": rdev, "vg": group, "twice": bool(row["pv_duplicate"]), "remote": _remote(rdev)}
    return {"name": row["pv_name"], **told, **sizes}


def _remote(rdev: int) -> bool:
    """Is it, or all that it stands on, a disk of an iSCSI session?"""
    place = os.path.realpath("/sys/dev/block/%d:%d" % (os.major(rdev), os.minor(rdev)))
    if "/session" not in place and "/virtual/" not in place:
        return False
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import remote_disk

    return bool(remote_disk.disks(place))


def lv_row(row: dict[str, str]) -> dict[str, Any]:
    tags = [tag for tag in row["lv_tags"].split(",") if tag]
    share = next((tag[len(SHARE) :].replace("_", "%") for tag in tags if tag.startswith(SHARE)), None)
    return {
        "uuid": row["lv_uuid"], "size": int(row["lv_size"]), "metadata_size": int(row["lv_metadata_size"] or 0),
        "thin_pool": row["pool_lv"] or None, "origin": row["origin"], "new": NEW in tags, "share": share,
        "restored": next((tag[len(RESTORED) :] for tag in tags if tag.startswith(RESTORED)), ""),
        "tags": tuple(sorted(tag for tag in tags if tag != NEW and not tag.startswith((SHARE, RESTORED)))),
        "active": row["lv_active"] not in ("", "inactive"), "open": row["lv_device_open"] == "open",
        "pool": "pool" in row["lv_layout"].split(","), "profile": row["lv_profile"], "health": row["lv_health_status"],
        "data_percent": float(row["data_percent"] or 0), "metadata_percent": float(row["metadata_percent"] or 0),
        "zeroes": row.get("lv_attr", "")[7:8] != "-",  # of a thin pool: lvs(8)
        "read_only": row.get("lv_attr", "")[1:2] in ("r", "R"),
    }  # fmt: skip


class _Port:
    """What the ports of LVM have in common."""

    behind, kind = True, ""

    def __init__(self, lvm: Lvm2, books: Callable[[], Any]) -> None:
        self.lvm, self.books = lvm, books
        self.seen: dict[Any, dict[str, Any]] = {}
        self.wanted: dict[Any, Any] = {}
        self.want_entries: set[Any] = set()  # targets that are declared absent: what is on them is looked at

    @property
    def intents(self) -> Any:
        return self.books()  # loaded only where something is not as declared

    def refuse(self, target: Any, before: Any, after: Any, gone: set[Any]) -> StorageError | None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import lvm2change

        found: StorageError | None = getattr(lvm2change, "refuse_" + self.kind)(self, target, before, after, gone)
        return found

    def put(self, target: Any, before: Any, after: Any) -> None:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import lvm2change

        self.lvm.forget()
        try:
            getattr(lvm2change, "put_" + self.kind)(self, target, before, after)
        finally:
            self.lvm.forget()


class Group(_Port):
    """Port ``vg``: name -> what the report says of it; nothing of that is declared."""

    name = kind = "vg"
    behind = False

    def scan(self, targets: Iterable[str] | None) -> dict[str, Any]:
        groups = self.lvm.report(self.name)["groups"]
        return {name: {"_group": groups[name]} for name in (groups if targets is None else targets) if name in groups}

    def risk(self, target: str, before: Any, after: Any) -> str:
        return REVERSIBLE

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        return False


class PhysicalVolume(_Port):
    """Port ``pv``: (group, device) -> ``{"vg": group}``; ``{"vg": ""}`` belongs to none. What
    is something else than a physical volume of the group, or blank, is a row that takes a consent."""

    name = kind = "pv"

    def scan(self, targets: Iterable[Pair] | None) -> dict[Pair, Any]:
        if targets is None:
            raise StorageError("unsupported", "physical volumes are scanned by device only")
        pvs = self.lvm.report(self.name)["pvs"]
        rows: dict[Pair, Any] = {}
        for target in targets:
            self.seen.pop(target, None)
            try:
                rdev = os.stat(target[1]).st_rdev
            except FileNotFoundError:
                continue
            except OSError as error:
                rows[target] = StorageError("unreadable", "%s: %s" % (target[1], error.strerror))
                continue
            row = pvs.get(rdev)
            if row is not None and row["vg"] == target[0]:
                rows[target] = {"vg": row["vg"], "_pv": row}
            else:
                from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import lvm2change

                found = lvm2change.examine(self, target, row)
                self.lvm.coming += target not in self.want_entries
                if found is not None:
                    rows[target] = found
        return rows

    def merge(self, target: Pair, now: Any, declared: dict[str, Any]) -> dict[str, Any]:
        missing = {} if now is not None or target in self.seen else {"_missing": target[1]}
        return {**declared, **missing}

    def lowers(self, target: Pair, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: Pair, before: Any, after: Any) -> str:
        return DESTROYS if before is not None and "_token" in before else FORWARD

    def consent(self, target: Pair, before: Any, after: Any) -> tuple[str, Any]:
        return ("wipe_token", before["_token"])

    def unstable(self, target: Pair) -> StorageError | None:
        seen = self.seen.get(target)
        if seen is None or seen["_stable"]:
            return None
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import sysfs_block

        return sysfs_block.unstable(target[1], seen["_by_id"])


class LeavingVolume(PhysicalVolume):
    """Port ``pv_leaving``: as ``pv``, of a group that stays: what takes its place must be there before it goes."""

    name = "pv_leaving"

    def lowers(self, target: Pair, before: Any, after: Any) -> bool:
        return False


class ThinPool(_Port):
    """Port ``thin_pool``: (group, name) -> size, metadata_size, share, autoextend_threshold (percent, None for off).

    A pool may have grown beyond what is declared, which is what autoextend is for: its sizes are the least.
    """

    name = kind = "thin_pool"
    behind = False

    def scan(self, targets: Iterable[Pair] | None) -> dict[Pair, Any]:
        groups = self.lvm.report(self.name)["groups"]
        if targets is None:
            targets = [(vg, name) for vg, group in groups.items() for name, lv in group["lvs"].items() if lv["pool"]]
        rows = {}
        for vg, name in targets:
            lv = groups.get(vg, {}).get("lvs", {}).get(name)
            if lv is not None:
                rows[vg, name] = (
                    pool_row(lv) if lv["pool"] else StorageError("conflict", "%s/%s is no pool" % (vg, name))
                )
        return rows

    def same(self, target: Pair, now: dict[str, Any], declared: dict[str, Any]) -> bool:
        sizes = ("size", "metadata_size")
        enough = all(declared.get(field) in (None, UNKNOWN) or now[field] >= declared[field] for field in sizes)
        return enough and met(now, {k: v for k, v in declared.items() if k not in sizes})

    def merge(self, target: Pair, now: Any, declared: dict[str, Any]) -> dict[str, Any]:
        if now is None:
            fresh = {"size": UNKNOWN, "metadata_size": UNKNOWN, "share": None, "autoextend_threshold": None}
            return {**fresh, **declared}
        known = {k: max(v, now[k]) if k.endswith("size") and v is not UNKNOWN else v for k, v in declared.items()}
        return {**now, **known}

    def lowers(self, target: Pair, before: Any, after: Any) -> bool:
        return after is None

    def risk(self, target: Pair, before: Any, after: Any) -> str:
        if None in (before, after):
            return FORWARD
        return REVERSIBLE if all(before[k] == after[k] for k in ("size", "metadata_size")) else FORWARD


def pool_row(lv: dict[str, Any]) -> dict[str, Any]:
    match = re.fullmatch(r"bulkhead-thin-(\d+)", lv["profile"])
    held = match and os.path.exists("%s/%s.profile" % (PROFILES, lv["profile"]))
    return {
        "size": lv["size"], "metadata_size": lv["metadata_size"], "share": lv["share"],
        "autoextend_threshold": int(match.group(1)) if match and held else None, "_lv": lv,
    }  # fmt: skip


class LogicalVolume(_Port):
    """Port ``lv``: /dev/group/name -> size, share, thin_pool, tags, active; a door, open while it is active."""

    name = kind = "lv"

    def resolve(self, target: str, value: dict[str, Any]) -> dict[str, Any]:
        self.wanted[target] = value
        return value

    def scan(self, targets: Iterable[str] | None) -> dict[str, Any]:
        groups = self.lvm.report(self.name)["groups"]
        if targets is None:
            targets = ["/dev/%s/%s" % (vg, lv) for vg, group in groups.items() for lv in group["lvs"]]
        rows: dict[str, Any] = {}
        for target in targets:
            vg, name = target.split("/")[2:]
            lvs = groups.get(vg, {}).get("lvs", {})
            lv = lvs.get(name) or (lvs.get(restoring(name)) if name[:2] == "v+" else None)
            if lv is None:
                continue
            if lv["pool"]:
                rows[target] = StorageError("conflict", "%s/%s is a thin pool" % (vg, name), "choose another name")
                continue
            row = {field: lv[field] for field in ("size", "share", "thin_pool", "tags", "active")}
            row["_lv"] = lv
            if name not in lvs:  # a restore was killed between its two renames
                row["_restoring"] = True
                row["active"] = row["active"] and target in self.want_entries
            elif restoring(name) in lvs:
                row["_half"] = True
            if lv["new"]:
                row["unfinished"] = True
            less = self.wanted.get(target, {}).get("size", UNKNOWN)
            if target in self.want_entries or (less is not UNKNOWN and less < lv["size"]):
                from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import lvm2change

                try:
                    row.update(lvm2change.content(self, target, lv, lvs))
                except StorageError as error:
                    rows[target] = error
                    continue
            rows[target] = row
        return rows

    def same(self, target: str, now: dict[str, Any], declared: dict[str, Any]) -> bool:
        return "unfinished" not in now and met(now, {k: v for k, v in declared.items() if k != "source"})

    def merge(self, target: str, now: Any, declared: dict[str, Any]) -> dict[str, Any]:
        if now is None:
            fresh = {"size": UNKNOWN, "share": None, "thin_pool": None, "tags": (), "active": True}
            return {**fresh, **declared}
        after: dict[str, Any] = {**merged(now, declared), "size": declared.get("size", now["size"])}
        for begun in ("unfinished", "_restoring", "source"):  # the last: what it is a thin snapshot of, as it begins
            after.pop(begun, None)
        return after

    def lowers(self, target: str, before: Any, after: Any) -> bool:
        if after is None or before is None:
            return after is None
        return smaller(before, after) or (before["active"] and not after["active"])

    def risk(self, target: str, before: Any, after: Any) -> str:
        if before is None:
            return FORWARD
        if after is None:
            return FORWARD if before.get("_blank") or before.get("unfinished") else DESTROYS
        if smaller(before, after):
            return SHRINKS
        return REVERSIBLE if before["size"] == after["size"] and "unfinished" not in before else FORWARD

    def consent(self, target: str, before: Any, after: Any) -> tuple[str, Any]:
        if after is not None:
            return ("allow_shrink", True)
        return ("absent", True) if VOLUME in before["tags"] else ("wipe_token", before.get("_token"))

    def opens(self, target: str, before: Any, after: Any) -> str | None:
        if after is None or after["active"] is not True:
            return None
        if before is None or "unfinished" in before:
            return "unknown" if after.get("source") else "empty"
        return None if before["active"] else "unknown"

    def resizes(self, target: str, before: Any, after: Any) -> int | None:
        """What stands on it finds it so large, in bytes."""
        changes = None not in (before, after) and after["size"] not in (UNKNOWN, before["size"])
        return after["size"] if changes else None


def makers(run: Run, record: Any = None) -> dict[str, Callable[[], Any]]:
    """The ports by name; they share one report, and what was begun is in the catalogue ``record``."""

    def books() -> Any:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import catalogue

        return catalogue.Intents(catalogue.Record() if record is None else record)

    def superblock() -> Any:
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.mkfs import Superblock

        return Superblock(run, books())

    lvm = Lvm2(run)
    ports = (Group, PhysicalVolume, LeavingVolume, ThinPool, LogicalVolume)
    made: dict[str, Callable[[], Any]] = {port.name: functools.partial(port, lvm, books) for port in ports}
    return {**made, "superblock": superblock}


def restoring(name: str) -> str:
    """What a volume will be, from when its restore begins until the volume has been put aside."""
    return "r" + name[1:]


def smaller(before: dict[str, Any], after: dict[str, Any]) -> bool:
    return after["size"] is not UNKNOWN and bool(after["size"] < before["size"])
