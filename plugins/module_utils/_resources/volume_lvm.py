# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A volume that is a logical volume: one with a filesystem, mounted while attached, or the bare device."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import size
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Cell

TAG = "bulkhead.volume"  # of the logical volumes that are volumes; no user can set a tag that begins so
_LONGEST = 127 - 6  # characters of a device mapper name, less what LVM puts to it for its own (dmsetup(8), lvm(8))


def name_of(vg: str, kind: str, key: str) -> str:
    """``v+<namespace>+<name>``: no name of ours holds ``+`` or a capital, so it tells what it was made from.

    ``_`` becomes ``U``, because LVM keeps names such as ``x_tdata`` for itself.
    """
    name = "%s+%s" % (kind, key.replace("/", "+").replace("_", "U"))
    if len(vg.replace("-", "--")) + 1 + len(name.replace("-", "--")) > _LONGEST:
        text = "the name %s is too long for a logical volume of %s" % (key, vg)
        hint = "%d characters with the group's, where - counts twice" % (_LONGEST - 4)
        raise StorageError("invalid", text, hint, option="name")
    return name


def recorded(
    p: dict[str, Any], old: dict[str, Any], place: dict[str, Any], asked: dict[str, Any], look: Any
) -> dict[str, Any]:
    """What the catalogue holds of it beyond what every volume has, which is ``asked``."""
    key = "%s/%s" % (p["namespace"], p["name"])
    thin = old.get("provisioning", "thin" if place.get("thin_pool") else "thick") == "thin"
    if p["provisioning"] is not None and not old:
        thin = p["provisioning"] == "thin"
    block = asked["type"] == "block"
    if thin and not place.get("thin_pool"):
        text = "pool %s has no thin pool" % (p["pool"] or "default")
        raise StorageError("unsupported", text, "leave provisioning out, or use a pool with one", option="provisioning")
    if block:
        _bare(p, thin)
        if asked["size"] > old.get("size", 0):
            _zeroed(place, look)
        if asked["size"] < old.get("size", 0):  # two blank ends say nothing of what lies between
            text = "nothing tells whether what is on a volume of type block fits into %s" % size.human(asked["size"])
            raise StorageError("would_shrink", text, "make a smaller one, and copy")
    vg = place["vg"]
    row: dict[str, Any] = {
        "device": old.get("device") or "/dev/%s/%s" % (vg, name_of(vg, "v", key)),
        "thin_pool": old.get("thin_pool", place["thin_pool"]) if thin else None,
        "provisioning": "thin" if thin else "thick",
    }
    if old.get("nouuid"):
        row["nouuid"] = True
    if not old:
        free(row["device"], look)
    return row


def _bare(p: dict[str, Any], thin: bool) -> None:
    """What a device without a filesystem cannot have."""
    if not thin:
        text = "a thick volume of type block would show whoever gets it what was on the disk before"
        raise StorageError("unsupported", text, "use a pool with a thin pool", option="type")
    for option in ("fstype", "owner", "group", "mode", "target"):
        if p[option] is not None:
            text = "%s has no meaning for a volume of type block" % option
            raise StorageError("invalid", text, "leave it out: jobs open its device", option=option)
    if p["read_only"]:
        text = "nothing keeps a job from writing to the device of a volume of type block"
        raise StorageError("not_enforced", text, "leave read_only out", option="read_only")


def _zeroed(place: dict[str, Any], look: Any) -> None:
    """Else a bare device shows what others left: lvmthin(7)."""
    found = look.look("vg", [place["vg"]]).get(place["vg"])
    pool = found["_group"]["lvs"].get(place["thin_pool"]) if found else None
    if pool is not None and not pool.get("zeroes", True):
        text = "thin pool %(vg)s/%(thin_pool)s does not zero what it hands out" % place
        raise StorageError("unsupported", text, "lvchange -Zy", option="type")


def free(device: str, look: Any) -> None:
    """Nobody recorded it, so what has its name is somebody else's, or of a restore of a volume that is gone."""
    vg, name = device.split("/")[2:]
    found = look.look("vg", [vg]).get(vg)
    there = {name, "r" + name[1:]}.intersection(found["_group"]["lvs"]) if found else ()
    if there:
        device = "/dev/%s/%s" % (vg, min(there))
        text = "something else stands at %s" % device
        raise StorageError("conflict", text, "look at it; lvrename or lvremove it", device=device)


def clonable(p: dict[str, Any], row: dict[str, Any], kind: str, key: str, found: dict[str, Any]) -> None:
    """A thin snapshot is of the same kind as its origin, and has the same filesystem with the same UUID."""
    if found["type"] != row["type"]:
        text = "%s %s is of type %s, its clone would be of type %s" % (kind, key, found["type"], row["type"])
        raise StorageError("unsupported", text, "declare the same type")
    if "thin" not in (found["provisioning"], row["provisioning"]) or found["thin_pool"] != row["thin_pool"]:
        raise StorageError(
            "unsupported", "%s %s is thick" % (kind, key), "copy its files: only thin volumes are cloned"
        )
    if row["type"] == "block":
        return
    if found["fstype"] != row["fstype"]:
        text = "%s %s holds %s, its clone would hold %s" % (kind, key, found["fstype"], row["fstype"])
        raise StorageError("unsupported", text, "declare fstype: %s" % found["fstype"], option="fstype")
    if row["fstype"] == "btrfs":
        text = "a clone of %s would have its UUID, and two such btrfs cannot be mounted" % key
        raise StorageError("unsupported", text, "clone ext4 or xfs, or copy the files")
    if row["fstype"] == "xfs" and found["size"] != row["size"]:  # its source may be mounted, and has its UUID
        text = "a clone of %s begins with %s" % (key, size.human(found["size"]))
        raise StorageError("unsupported", text, "declare that size, and let it grow while it is attached")
    if row["fstype"] == "xfs":
        row["nouuid"] = True  # xfs(5): two of one UUID are mounted only so


def source(row: dict[str, Any], kind: str, key: str) -> dict[str, Any]:
    vg = row["device"].split("/")[2]
    return {"source": name_of(vg, "s" if kind == "snapshot" else "v", key)}


def body(row: dict[str, Any], source: dict[str, Any], gone: bool) -> list[Cell]:
    """What holds the bytes, bottom first."""
    device = row["device"]
    if gone:  # what a killed run had begun to do with it is no consent for whatever bears its name later
        return [Cell("lv", device, None), Cell("record", ("intent", device), None)]
    value = {"size": row["size"], "thin_pool": row["thin_pool"], "tags": (TAG,), "active": True, **source}
    cells = [Cell("lv", device, value)]
    if row["type"] != "block":
        cells.append(Cell("superblock", device, {"fstype": row["fstype"], "size": row["size"]}))
    return cells


def usage(row: dict[str, Any], lvs: Any) -> dict[str, Any]:
    """What a thin volume takes of its pool; a thick one takes all it has at once, whatever it holds."""
    lv = (lvs.get(row["device"]) or {}).get("_lv")
    return {"_used_bytes": int(lv["size"] * lv["data_percent"] / 100)} if lv and row["thin_pool"] else {}


def roomy(row: dict[str, Any], more: int, look: Any) -> None:
    """``no_space`` for a thick volume that its group has no room for, unless the group may grow beside it."""
    vg = row["device"].split("/")[2]
    found = look.look("vg", [vg]).get(vg)
    if row["thin_pool"] or not found or ("volume_group", vg) in look.declared:
        return
    free = found["_group"]["free"]
    if more > free:
        text = "volume group %s has %s free, %s are asked for" % (vg, size.human(free), size.human(more))
        raise StorageError("no_space", text, "ask for less, or add a device to the group")
