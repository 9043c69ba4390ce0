# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volume groups made, grown, evacuated and removed by lvm(8), each device and volume proved by the guard ``blank``.

Imported only when something differs. No option here answers a question of LVM in advance: what it meets is blank.
"""

from __future__ import annotations

import json
import os
import re
import time
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import blank, blkprobe
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lvm2 import (
    EXTENT,
    FIELDS,
    NEW,
    PROFILE,
    PROFILES,
    SHARE,
    VOLUME,
    Lvm2,
    Pair,
    lv_row,
    pool_row,
    restoring,
    smaller,
)
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.sysfs_block import Sysfs
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN

ONE = ["lvm", "lvs", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", FIELDS["lv"]]
MOVING = 6 * 3600.0  # seconds that one evacuation may take
_SAID = (
    (rb"really want to reduce", "unsupported", "LVM before 2.03.17 asks: lvreduce it by hand"),
    (rb"already exists", "moved", "something else made it; run it again"),
    (rb"[Ii]nsufficient (free|suitable) |not enough free|insufficient free", "no_space", "see vgs and pvs"),
    (rb"in use|contains a filesystem", "in_use", "release it first"),
    (rb"[Ff]ailed to find|not found", "moved", "run it again"),
)


def call(lvm: Lvm2, argv: list[str], timeout: float = 120.0) -> None:
    lvm.forget()
    rc, _out, err = lvm.run(argv, b"", timeout)
    if rc:
        said = err.decode("utf-8", "backslashreplace").strip()[-600:]
        code, hint = next(((code, hint) for text, code, hint in _SAID if re.search(text, err)), ("failed", ""))
        raise StorageError(code, "%s: rc %d: %s" % (" ".join(argv[:2]), rc, said), hint, rc=rc)


# -- physical volumes ----------------------------------------------------------------------------------------------


def intent(device: str) -> str:
    return "pv " + device


def _identity(device: str) -> str:
    """What is begun on a device is not begun on another one of that name."""
    look = Sysfs()
    return look.identity(look.resolve(device))


def examine(port: Any, target: Pair, row: dict[str, Any] | None) -> Any:
    """A device that is no physical volume of the group: None for blank, or when it is to be none and is not ours."""
    vg, device = target
    if row is not None and row["vg"]:
        return None if target in port.want_entries else {"vg": row["vg"], "_pv": row}
    look = Sysfs()
    fd = blkprobe.opened(device)
    try:
        if not look.resolve(device):
            raise StorageError("invalid", "%s is a file, not a block device" % device, "attach it to a loop device")
        content, seen = blank.seen(look, device, fd)
        ours = port.intents.is_ours(intent(device), device=_identity(device))
    except StorageError as error:
        return error
    finally:
        os.close(fd)
    port.seen[target] = seen
    if row is not None:  # LVM knows it, and that nothing is on it
        return None if target in port.want_entries and not ours else {"vg": "", "_pv": row, **_untaken(seen)}
    if ours and (content.kind == "blank" or content.detail["begun"]):
        return {"vg": None, "unfinished": True, **_untaken(seen)}
    if content.kind == "blank" or target in port.want_entries:
        return None
    return {"vg": None, "_content": content._asdict(), **seen}


def _untaken(seen: dict[str, Any]) -> dict[str, Any]:
    """Without the token: nothing on it takes a consent."""
    return {k: v for k, v in seen.items() if k != "_token"}


def refuse_pv(port: Any, target: Pair, before: Any, after: Any, gone: set[Any]) -> StorageError | None:
    vg, device = target
    group = before and before["vg"]
    if after is not None and group and group != vg:
        return StorageError("in_use", "%s belongs to the volume group %s" % (device, group), "choose another device")
    if before is not None and before.get("_pv", {}).get("twice"):
        return StorageError("conflict", "%s is there twice" % device, "a copy or a path of it is seen too: see pvs")
    seen = port.seen.get(target)
    if seen is not None:
        return blank.vital(device, seen) or blank.in_use(device, blank.staying(seen["_in_use"], gone))
    return _room(port, vg) if port.name == "pv_leaving" and group else None


def _room(port: Any, vg: str) -> StorageError | None:
    """Is there room elsewhere for what is to be moved? What comes in the same call has not told its size yet."""
    going = {os.stat(device).st_rdev for _vg, device in port.want_entries if os.path.exists(device)}
    pvs = port.lvm.last()["groups"][vg]["pvs"]
    used = sum(pv["used"] for pv in pvs if pv["rdev"] in going)
    free = sum(pv["free"] for pv in pvs if pv["rdev"] not in going)
    if used > free and not port.lvm.coming:
        text = "what %s gives up holds %d bytes, the others have %d free" % (vg, used, free)
        return StorageError("no_space", text, "add a device to pvs")
    return None


def put_pv(port: Any, target: Pair, before: Any, after: Any) -> None:
    vg, device = target
    if after is None:
        _leave(port, target, before)
        return
    groups = port.lvm.last()["groups"]
    argv = ["vgextend", vg, device] if vg in groups else ["vgcreate", "-s", "%db" % EXTENT, vg, device]
    if before is not None and before["vg"] == "":  # a physical volume already
        call(port.lvm, argv)
        return
    unfinished = before is not None and before.get("unfinished")
    with blank.Taken(Sysfs(), device, _token(device) if unfinished else before) as taken:
        if unfinished or taken.content.kind != "blank":  # only a wipe can be left half done: LVM writes its label first
            port.intents.begin(intent(device), device=_identity(device))
            taken.wipe()
            port.intents.end(intent(device))
        taken.let()
        call(port.lvm, argv)
        taken.again()


def _token(device: str) -> dict[str, Any]:
    """What is on a device of ours right now."""
    fd = blkprobe.opened(device)
    try:
        return blank.seen(Sysfs(), device, fd)[1]
    finally:
        os.close(fd)


def _leave(port: Any, target: Pair, before: Any) -> None:
    """Move what is on it elsewhere, take it out of its group, wipe it. pvmove(8) goes on where a killed one was."""
    vg, device = target
    group = port.lvm.last()["groups"].get(vg)
    rdev = os.stat(device).st_rdev
    mine = next((pv for pv in group["pvs"] if pv["rdev"] == rdev), None) if group else None
    port.intents.begin(intent(device), device=_identity(device))
    if group and mine:
        if len(group["pvs"]) == 1:
            call(port.lvm, ["vgremove", vg])
        else:
            if mine["used"]:
                call(port.lvm, ["pvmove", "-i", "1", mine["name"]], MOVING)
            call(port.lvm, ["vgreduce", vg, mine["name"]])
    if rdev in port.lvm.last()["pvs"]:
        call(port.lvm, ["pvremove", device])
    _settled(device)
    with blank.Taken(Sysfs(), device, _token(device)) as taken:
        taken.wipe()
    port.intents.end(intent(device))


def _settled(path: str) -> None:
    """udev looks at what was just closed after writing, and has it open for that moment."""
    end = time.monotonic() + 5.0
    while Sysfs().in_use(path, Sysfs().resolve(path)) and time.monotonic() < end:
        time.sleep(0.05)


# -- thin pools ----------------------------------------------------------------------------------------------------


def refuse_thin_pool(port: Any, target: Pair, before: Any, after: Any, gone: set[Any]) -> StorageError | None:
    vg, name = target
    if after is None:
        lvs = port.lvm.last()["groups"][vg]["lvs"]
        held = [other for other, lv in lvs.items() if lv["thin_pool"] == name]
        stay = sorted(other for other in held if ("lv", "/dev/%s/%s" % (vg, other)) not in gone)
        if stay:
            text = "the thin pool %s/%s holds %s" % (vg, name, ", ".join(stay))
            return StorageError("in_use", text, "remove them first", volumes=stay)
    return None


def put_thin_pool(port: Any, target: Pair, before: Any, after: Any) -> None:
    vg, name = target
    lvm, full = port.lvm, "%s/%s" % target
    lvs = lvm.last()["groups"].get(vg, {}).get("lvs", {})
    now = lvs.get(name)
    if after is None:
        if any(lv["thin_pool"] == name for lv in lvs.values()):
            raise StorageError("moved", "%s is not empty any more" % full, "run it again")
        _drop(lvm, full)
        return
    if before is None:
        argv = ["lvcreate", "--type", "thin-pool", "-n", name, *_size(after)]
        if after["metadata_size"] not in (None, UNKNOWN):
            argv += ["--poolmetadatasize", "%db" % after["metadata_size"]]
        call(lvm, [*argv, *_tags(after), vg])
    else:
        if now is None or not now["pool"]:
            raise StorageError("moved", "%s is not there any more" % full, "run it again")
        if after["size"] is UNKNOWN or after["size"] > now["size"]:
            call(lvm, ["lvextend", *_size(after, True), full])
        if after["metadata_size"] is not UNKNOWN and after["metadata_size"] > now["metadata_size"]:
            call(lvm, ["lvextend", "--poolmetadatasize", "%db" % after["metadata_size"], full])
        _retag(lvm, full, now, after)
    row = pool_row(now) if now else {"autoextend_threshold": None}
    if after["autoextend_threshold"] != row["autoextend_threshold"]:
        _autoextend(lvm, full, after["autoextend_threshold"])


def _autoextend(lvm: Lvm2, full: str, threshold: int | None) -> None:
    """A metadata profile (lvm.conf(5)): dmeventd(8) reads it when the pool passes the threshold."""
    if threshold is None:
        call(lvm, ["lvchange", "--detachprofile", full])
        return
    from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import atomic

    name = PROFILE % threshold
    text = (
        "# Written by bulkhead.storage.\nactivation {\n"
        "\tthin_pool_autoextend_threshold=%d\n\tthin_pool_autoextend_percent=20\n}\n" % threshold
    )
    os.makedirs(PROFILES, mode=0o755, exist_ok=True)
    atomic.replace("%s/%s.profile" % (PROFILES, name), text.encode(), 0o644)
    call(lvm, ["lvchange", "--metadataprofile", name, full])


# -- logical volumes -----------------------------------------------------------------------------------------------


def content(port: Any, target: str, lv: dict[str, Any], lvs: dict[str, Any]) -> dict[str, Any]:
    """What is on a volume that is to go or to shrink, and who uses it."""
    name = target.rpartition("/")[2]
    snapshots = sorted(other for other, row in lvs.items() if row["origin"] == name)
    if not lv["active"] or not os.path.exists(target):
        ours = port.intents.is_ours(_going(lv))  # it was wiped, and then deactivated
        return {"_snapshots": snapshots, **({"_blank": True} if ours else {}), "_closed": not ours}
    fd = blkprobe.opened(target)
    try:
        found, seen = blank.seen(Sysfs(), target, fd)
    finally:
        os.close(fd)
    held = found.detail["found"].size or None  # two blank ends do not prove the middle, nor does LUKS
    return {**seen, "_snapshots": snapshots, "_blank": found.kind == "blank", "_held": held}


def refuse_lv(port: Any, target: str, before: Any, after: Any, gone: set[Any]) -> StorageError | None:
    vg, name = target.split("/")[2:]
    if before is None:
        return None
    ours = VOLUME in before["tags"]
    if after is None:
        error = _recorded(target, gone) if ours else None
        if error is not None:
            return error
        if before.get("_closed") and not before.get("unfinished") and not (ours and before["thin_pool"]):
            return StorageError(
                "unreadable", "what is on %s cannot be seen: it is not active" % target, "activate it first"
            )
        stay = [s for s in before["_snapshots"] if ("lv", "/dev/%s/%s" % (vg, s)) not in gone]
        if stay and not ours:
            return StorageError("in_use", "%s has snapshots: %s" % (target, ", ".join(stay)), "remove them first")
        users = blank.staying(before.get("_in_use", []), gone)
        return blank.vital(target, before) if before.get("_protected") else blank.in_use(target, users)
    if ours != (VOLUME in after["tags"]):
        return StorageError("conflict", "%s is not what this declaration made" % target, "look at it, see lvs")
    if after["thin_pool"] != before["thin_pool"]:
        return StorageError("unsupported", "%s cannot move to another pool" % target, "make a new one and copy")
    if smaller(before, after) and ("smaller superblock", target) not in gone:
        error = _held(target, before, after["size"])
        if error is not None:
            return error
    if before["active"] and not after["active"]:
        look = Sysfs()
        return blank.in_use(target, blank.staying(look.in_use(target, look.resolve(target)), gone))
    return None


def _recorded(target: str, gone: set[Any]) -> StorageError | None:
    """A volume of a pool goes with its row in the catalogue, and not without."""
    kind, _plus, key = target.split("/")[3].partition("+")
    key = key.replace("+", "/").replace("U", "_")
    if ("record", ({"v": "volume", "s": "snapshot"}.get(kind), key)) in gone:
        return None
    return StorageError("in_use", "%s is the volume %s" % (target, key), "remove that volume first", volumes=[key])


def _held(target: str, found: dict[str, Any], size: int) -> StorageError | None:
    """Would less than ``size`` bytes cut off something of what is ``found`` on it?"""
    held = found.get("_held")
    if held is not None and held <= size:
        return None
    text = "%s holds a filesystem of %d bytes, more than %d" % (target, held or 0, size)
    hint = "make the filesystem on it smaller too: declare it with allow_shrink: true"
    if held is None:
        text = "nothing proves that %d bytes hold all that is on %s" % (size, target)
        hint = "remove it and make it anew" if found.get("_blank") else hint
    return StorageError("would_shrink", text, hint, size=found.get("_device_size"))


def volume(lvm: Lvm2, full: str) -> dict[str, Any] | None:
    """One volume as it is right now, None where it is not: a whole report asks about every other one too."""
    rc, out, err = lvm.run([*ONE, full], b"", 120.0)
    said = err + out  # a report in JSON has its errors in itself
    if rc and re.search(rb"[Ff]ailed to find|not found", said):
        return None
    try:
        (row,) = json.loads(out.decode("utf-8", "surrogateescape"))["report"][0]["lv"] if rc == 0 else []
    except ValueError as error:
        text = said.decode("utf-8", "backslashreplace").strip()[-600:]
        raise StorageError("unreadable", "lvs %s: rc %d: %s" % (full, rc, text), "see lvs") from error
    return lv_row(row)


def put_lv(port: Any, target: str, before: Any, after: Any) -> None:
    lvm = port.lvm
    vg, name = target.split("/")[2:]
    full = "%s/%s" % (vg, name)
    if before is None:
        _create(port, target, full, after)
        return
    if before.get("_restoring"):
        call(lvm, ["lvrename", vg, restoring(name), name])
    now = volume(lvm, full)
    fields = ["size", "thin_pool", "tags"]
    if after is None or now is None or now["active"] != after["active"]:  # udev may be faster, once a door is open
        fields.append("active")
    if now is None or any(now[field] != before[field] for field in fields):
        raise StorageError("moved", "%s changed since it was looked at" % target, "run it again")
    if after is None:
        _remove(port, target, full, before)
        return
    if now["new"]:
        _finish(port, target, full, now["active"])
    if after["size"] is UNKNOWN or after["size"] > now["size"]:
        call(lvm, ["lvextend", *_size(after, True), full])
    elif after["size"] < now["size"]:
        error = _held(target, content(port, target, now, {}), after["size"])  # the filesystem is smaller by now
        if error is not None:
            raise error
        call(lvm, ["lvreduce", "-L", "%db" % after["size"], full])  # looks at the filesystem too, since 2.03.17
    _retag(lvm, full, now, after)
    if after["active"] != (now["active"] or now["new"]):
        call(lvm, ["lvchange", *(["-ay", "-K"] if after["active"] else ["-an"]), full])


def _create(port: Any, target: str, full: str, after: dict[str, Any]) -> None:
    """A thick volume shows what was on the disk: it bears a mark until its two ends are zero. A thin one is born so."""
    vg, name = full.split("/")
    if after.get("source"):
        _clone(port, full, after)
    elif after["thin_pool"]:
        argv = ["lvcreate", "-n", name, "-V", "%db" % after["size"], "--thinpool", after["thin_pool"]]
        call(port.lvm, [*argv, *_tags(after), vg])
    else:
        port.intents.begin("lv " + target)
        argv = ["lvcreate", "-Wn", "-Zn", "-n", name, *_size(after), *_tags(after), "--addtag", NEW]
        call(port.lvm, [*argv, vg])
        _finish(port, target, full, True)
    if not after["active"]:
        call(port.lvm, ["lvchange", "-an", full])


def _clone(port: Any, full: str, after: dict[str, Any]) -> None:
    """LVM freezes what is mounted of the origin for that moment. A killed run leaves at most the size of the origin."""
    vg, name = full.split("/")
    origin = volume(port.lvm, "%s/%s" % (vg, after["source"]))
    if origin is None or origin["thin_pool"] != after["thin_pool"]:
        raise StorageError("moved", "%s/%s is not there any more" % (vg, after["source"]), "run it again")
    kept = after["active"] is UNKNOWN  # a snapshot: whether somebody activates it is not declared
    how = ["-ky", "-pr"] if kept else ["-kn", "-prw"]
    call(port.lvm, ["lvcreate", "-s", "-n", name, *how, *_tags(after), "%s/%s" % (vg, after["source"])])
    if not kept and after["size"] > origin["size"]:
        call(port.lvm, ["lvextend", *_size(after, True), full])


def _finish(port: Any, target: str, full: str, active: bool) -> None:
    """Only what our own books know is zeroed: another host may have left the mark."""
    if not port.intents.is_ours("lv " + target):
        text = "%s was begun by another host, and was never finished" % target
        raise StorageError("not_blank", text, "look at it; lvremove it, or lvchange --deltag %s" % NEW)
    if not active:
        call(port.lvm, ["lvchange", "-ay", full])
    _settled(target)
    with blank.Taken(Sysfs(), target, _token(target)) as taken:
        taken.wipe()
    call(port.lvm, ["lvchange", "--deltag", NEW, full])
    port.intents.end("lv " + target)


def _remove(port: Any, target: str, full: str, before: dict[str, Any]) -> None:
    """What was consented to is wiped first: the extents would show it to whoever gets them next."""
    going = _going(before["_lv"])
    if "_half" in before:  # of a killed restore: whoever makes a volume of that name later gets nothing of it
        vg, name = full.split("/")
        _drop(port.lvm, "%s/%s" % (vg, restoring(name)))
    if not before.get("unfinished") and not (VOLUME in before["tags"] and before["_lv"]["read_only"]):
        if not os.path.exists(target):  # of a run that was killed: somebody may have had it open since
            call(port.lvm, ["lvchange", "-ay", "-K", full])
        _settled(target)
        if VOLUME in before["tags"]:  # no token was asked for: what its last unmount wrote may be another
            before = {**before, **_token(target)}
        try:
            with _leaving(target, before) as taken:
                if not before["thin_pool"]:
                    taken.wipe()
        except StorageError as error:
            if error.code == "moved":
                port.intents.end(going)  # the next run sees what is there, and asks
            raise
    port.intents.begin(going)
    _drop(port.lvm, full)
    port.intents.end(going)
    port.intents.end("lv " + target)


def _leaving(target: str, before: dict[str, Any]) -> blank.Taken:
    """As it was seen, or blank by now: what stood on it is gone by the same plan."""
    try:
        return blank.Taken(Sysfs(), target, before)
    except StorageError as error:
        if error.code != "moved":
            raise
    return blank.Taken(Sysfs(), target, None)


def _going(lv: dict[str, Any]) -> str:
    """By UUID: another volume of that name is none of ours."""
    return "lv going " + str(lv["uuid"])


def _drop(lvm: Lvm2, full: str) -> None:
    """Of what is active lvremove(8) asks; to deactivate what is open fails."""
    call(lvm, ["lvchange", "-an", full])
    call(lvm, ["lvremove", full])


def _size(after: dict[str, Any], grow: bool = False) -> list[str]:
    if after["size"] is not UNKNOWN:
        return ["-L", "%db" % after["size"]]
    share = after["share"]
    return ["-l", "+" + share if grow and share.endswith("FREE") else share]


def _tags(after: dict[str, Any]) -> list[str]:
    tags = list(after.get("tags", ())) + ([_share(after["share"])] if after["share"] else [])
    return [word for tag in tags for word in ("--addtag", tag)]


def _share(share: str) -> str:
    return SHARE + share.replace("%", "_")


def _retag(lvm: Lvm2, full: str, now: dict[str, Any], after: dict[str, Any]) -> None:
    had = {*now["tags"], *([_share(now["share"])] if now["share"] else [])}
    want = {*after.get("tags", now["tags"]), *([_share(after["share"])] if after["share"] else [])}
    words = [w for tag in sorted(want - had) for w in ("--addtag", tag)]
    words += [w for tag in sorted(had - want) for w in ("--deltag", tag)]
    if words:
        call(lvm, ["lvchange", *words, full])
