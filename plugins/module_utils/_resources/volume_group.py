# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A volume group as a whole: its devices, thin pools and logical volumes."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names, size
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN, Cell, Unit

KIND, LIST = "volume_group", "volume_groups"
EXTENT = 4 << 20  # bytes, of a group that is made
STATE: dict[str, Any] = {"type": "str", "choices": ["present", "absent"], "default": "present"}
OPTIONS: dict[str, Any] = {
    "vg": {"type": "str", "required": True},
    "pvs": {"type": "list", "elements": "raw"},
    "remove_pvs": {"type": "list", "elements": "raw"},
    "thin_pools": {
        "type": "list",
        "elements": "dict",
        "options": {
            "name": {"type": "str", "required": True},
            "size": {"type": "str"},
            "metadata_size": {"type": "str"},
            "autoextend_threshold": {"type": "int"},
            "overcommit": {"type": "float"},
            "state": STATE,
        },
    },
    "lvs": {
        "type": "list",
        "elements": "dict",
        "options": {
            "name": {"type": "str", "required": True},
            "size": {"type": "str"},
            "thin_pool": {"type": "str"},
            "tags": {"type": "list", "elements": "str"},
            "active": {"type": "bool", "default": True},
            "grow_fs": {"type": "bool", "default": False},
            "state": STATE,
        },
    },
    "allow_shrink": {"type": "bool", "default": False},
    "wipe_token": {"type": "list", "elements": "str", "no_log": False},
    "state": STATE,
}
RULES: dict[str, Any] = {"required_if": [("state", "present", ["pvs"])]}
_NAME = re.compile(r"[A-Za-z0-9_+.][A-Za-z0-9_+.-]{0,62}", re.ASCII)  # lvm(8), VALID NAMES; two fit into one of dm
_TAG = re.compile(r"[A-Za-z0-9_+.][A-Za-z0-9_+./=!:&#-]{0,127}", re.ASCII)
_SHARE = re.compile(r"([1-9][0-9]{0,2})%(VG|FREE|PVS)")
_TAKEN = "block bus bsg char cpu disk dri fd hugepages input mapper md mqueue net pts rbd shm snd vfio".split()


def label(p: dict[str, Any]) -> str:
    return str(p["vg"])


def facts(p: dict[str, Any], look: Any) -> list[tuple[str, Any]]:
    return [("vg", name_of(p["vg"], "vg"))]


def unit(p: dict[str, Any], look: Any) -> Unit:
    vg = name_of(p["vg"], "vg")
    group = group_of(vg, look)
    if p["state"] == "absent":
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import volume_group_words

        return volume_group_words.absent(p, vg, group, look)
    devices = [names.path(device, "pvs") for device in p["pvs"]]
    pools, lvs = p["thin_pools"] or [], p["lvs"] or []
    _unique(vg, devices, [*pools, *lvs])
    cells = [Cell("pv", (vg, device), {"vg": vg}) for device in devices]
    if p["remove_pvs"]:
        from ansible_collections.bulkhead.storage.plugins.module_utils._resources import volume_group_words

        cells += volume_group_words.leaving(p, vg, devices)
    cells += [Cell("thin_pool", (vg, name_of(pool["name"])), _pool(pool, group)) for pool in pools]
    for lv in lvs:
        path = "/dev/%s/%s" % (vg, name_of(lv["name"]))
        cells.append(Cell("lv", path, _volume(lv, group)))
        if lv["grow_fs"] and lv["state"] == "present" and ("filesystem", path) not in look.declared:
            from ansible_collections.bulkhead.storage.plugins.module_utils._resources import volume_group_words

            cells += volume_group_words.grown(lv, path, group, look)
    _promised(vg, pools, lvs, group)
    needs = tuple((kind, device) for device in devices for kind in ("device", "path"))
    return Unit((KIND, vg), tuple(cells), needs, _provides(vg, lvs), consents=consents(p))


def consents(p: dict[str, Any]) -> dict[str, Any]:
    unstable = bool(p.get("allow_unstable_device"))
    return {"wipe_token": p["wipe_token"], "allow_shrink": p["allow_shrink"], "allow_unstable_device": unstable}


def _provides(vg: str, lvs: list[dict[str, Any]]) -> tuple[Any, ...]:
    return (("vg", vg), *(("path", "/dev/%s/%s" % (vg, lv["name"])) for lv in lvs))


def group_of(vg: str, look: Any) -> Any:
    """What the report says of a group, None where there is none; one that is not ours to change is refused."""
    row = look.look("vg", [vg]).get(vg)
    group = row["_group"] if row else None
    if group is not None and group["problem"]:
        code, text = group["problem"]
        raise StorageError(code, text, "nothing of it is changed until that is settled: see vgs")
    return group


def name_of(value: Any, what: str = "name") -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value) or value in (".", "..") or value in _TAKEN:
        hint = "1 to 63 of a-z A-Z 0-9 _ + . -, not starting with -, and no folder of /dev"
        raise StorageError("invalid", "%s %.200r is not a name for LVM" % (what, value), hint, option=what)
    if what == "name" and (
        value.startswith(("snapshot", "pvmove")) or re.search(r"_([cmrvt](data|meta|image|log|orig)|pmspare)", value)
    ):
        raise StorageError("invalid", "name %r is LVM's own" % value, "choose another", option=what)
    return value


def _unique(vg: str, devices: list[str], named: list[dict[str, Any]]) -> None:
    for what, given in (("pvs", devices), ("name", [each["name"] for each in named])):
        twice = sorted({each for each in given if given.count(each) > 1})
        if twice:
            raise StorageError("conflict", "%s: %s is given twice" % (vg, ", ".join(twice)), "once", option=what)
    if not devices:
        raise StorageError("invalid", "a volume group without devices cannot be", "name at least one", option="pvs")


def _extents(text: str, what: str, group: Any) -> int:
    return size.parse(text, what, minimum=4096, unit=group["extent"] if group else EXTENT)


def _sized(p: dict[str, Any], now: Any, group: Any) -> dict[str, Any]:
    """``size`` in bytes, or the ``share`` that was declared: worked out once, when it is new or another one."""
    text = p["size"]
    if text is None:
        if now is None:
            raise StorageError("invalid", "size of %s is required to make it" % p["name"], "10GiB", option="size")
        return {}
    if "%" not in text:
        return {"size": _extents(text, "size", group), "share": None}
    match = _SHARE.fullmatch(text)
    if not match or int(match.group(1)) > 100:
        text = "size %.40r is no share" % text
        raise StorageError("invalid", text, "1 to 100, as in 40%VG, 100%FREE, 50%PVS", option="size")
    if now is not None and now["share"] == text:
        return {"share": text}
    if group is None or match.group(2) == "FREE":
        return {"share": text, "size": UNKNOWN}
    extents = group["size"] // group["extent"] * int(match.group(1)) // 100
    return {"share": text, "size": extents * group["extent"]}


def _now(p: dict[str, Any], group: Any) -> Any:
    return group["lvs"].get(p["name"]) if group else None


def _pool(p: dict[str, Any], group: Any) -> Any:
    if p["state"] == "absent":
        return None
    value = _sized(p, _now(p, group), group)
    if p["metadata_size"] is not None:
        value["metadata_size"] = _extents(p["metadata_size"], "metadata_size", group)
        if not 2 << 20 <= value["metadata_size"] <= 16 << 30:
            raise StorageError("invalid", "metadata_size is not in 2MiB..16GiB", "", option="metadata_size")
    threshold = p["autoextend_threshold"]
    if threshold is not None:
        if not 50 <= threshold <= 100:
            text = "autoextend_threshold %d is not in 50..100" % threshold
            raise StorageError("invalid", text, "percent; 100 turns it off", option="autoextend_threshold")
        value["autoextend_threshold"] = None if threshold == 100 else threshold
    return value


def _volume(p: dict[str, Any], group: Any) -> Any:
    if p["state"] == "absent":
        return None
    now = _now(p, group)
    if p["thin_pool"] is not None and p["size"] is not None and "%" in p["size"]:
        text = "size %s of the thin volume %s is a share of what it does not take" % (p["size"], p["name"])
        raise StorageError("invalid", text, "give it in bytes, such as 10GiB", option="size")
    value: dict[str, Any] = {"active": p["active"], **_sized(p, now, group)}
    if p["thin_pool"] is not None:
        value["thin_pool"] = name_of(p["thin_pool"])
    elif now is None:
        value["thin_pool"] = None
    if p["tags"] is not None:
        for tag in p["tags"]:
            if not _TAG.fullmatch(tag) or tag.startswith("bulkhead."):
                hint = "up to 128 of a-z A-Z 0-9 _ + . - / = ! : & #, not starting with bulkhead."
                raise StorageError("invalid", "tag %.140r is none" % tag, hint, option="tags")
        value["tags"] = tuple(sorted(set(p["tags"])))
    return value


def _promised(vg: str, pools: list[dict[str, Any]], lvs: list[dict[str, Any]], group: Any) -> None:
    """What thin volumes may come to take, against what their pool has."""
    found = group["lvs"] if group else {}
    for pool in pools:
        ratio = pool["overcommit"]
        if ratio is None or pool["state"] == "absent":
            continue
        if not 0 < ratio <= 1000:
            raise StorageError("invalid", "overcommit %r is not in 0..1000" % ratio, "such as 2.0", option="overcommit")
        has = max(_pool(pool, group).get("size", 0), found.get(pool["name"], {}).get("size", 0), key=_number)
        if has is UNKNOWN:
            text = "how large %s/%s will be is not known yet" % (vg, pool["name"])
            raise StorageError("unsupported", text, "give its size in bytes to have overcommit", option="overcommit")
        takes = {name: lv["size"] for name, lv in found.items() if lv["thin_pool"] == pool["name"]}
        for lv in lvs:
            if lv["state"] == "absent":
                takes.pop(lv["name"], None)
            elif lv["thin_pool"] == pool["name"] and lv["size"] is not None:
                takes[lv["name"]] = _extents(lv["size"], "size", group)
        if sum(takes.values()) > has * ratio:
            text = "the volumes of %s/%s may take %d bytes, it has %d, and overcommit is %s"
            text %= (vg, pool["name"], sum(takes.values()), has, ratio)
            raise StorageError("limit_exceeded", text, "make the pool larger, or raise overcommit")


def _number(value: Any) -> float:
    return float("inf") if value is UNKNOWN else value


def show(p: dict[str, Any], rows: Any) -> dict[str, Any]:
    vg = p["vg"]
    found = rows["vg"].get(vg)
    group = found["_group"] if found else {"pvs": [], "lvs": {}, "size": None, "free": None}
    lvs: dict[str, Any] = {}
    for name, lv in group["lvs"].items():
        row = rows["lv"].get("/dev/%s/%s" % (vg, name), lv)
        if not lv["pool"] and isinstance(row, dict):
            lvs[name] = {"uuid": lv["uuid"], "size_bytes": row["size"]}
    for lv in p["lvs"] or ():
        row = rows["lv"].get("/dev/%s/%s" % (vg, lv["name"]))
        if isinstance(row, dict):
            lvs.setdefault(lv["name"], {"uuid": UNKNOWN, "size_bytes": row["size"]})
        else:
            lvs.pop(lv["name"], None)
    pools = [
        {
            "name": name, "size_bytes": lv["size"], "metadata_bytes": lv["metadata_size"],
            "data_percent": lv["data_percent"], "metadata_percent": lv["metadata_percent"],
        }
        for name, lv in sorted(group["lvs"].items()) if lv["pool"]
    ]  # fmt: skip
    return {
        "vg": vg,
        "size_bytes": group["size"],
        "free_bytes": group["free"],
        "pvs": [{"name": pv["name"], "size_bytes": pv["size"], "free_bytes": pv["free"]} for pv in group["pvs"]],
        "thin_pools": pools,
        "lvs": [{"name": n, "path": "/dev/%s/%s" % (vg, n), **row} for n, row in sorted(lvs.items())],
    }
