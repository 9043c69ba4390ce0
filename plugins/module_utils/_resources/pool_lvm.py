# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pool in a volume group: where its volumes come from, and how much there is of it."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import size
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError


def place(p: dict[str, Any], look: Any, record: Any) -> dict[str, Any]:
    """``vg``, ``thin_pool`` ("" for none) and ``extent`` (bytes) of a pool: of what is there or declared beside.

    Raises ``invalid`` without a group, ``not_found`` where nothing has or makes it, ``conflict`` for another one.
    """
    from ansible_collections.bulkhead.storage.plugins.module_utils._resources import volume_group

    config = p.get("config") or {}
    if not config.get("vg"):
        text = "config.vg is required for backend %s" % p["backend"]
        raise StorageError("invalid", text, "the volume group", option="config")
    vg = volume_group.name_of(config["vg"], "config.vg")
    thin = volume_group.name_of(config["thin_pool"], "config.thin_pool") if config.get("thin_pool") else ""
    for field, now in (("vg", vg), ("thin_pool", thin)):
        if record and record.get(field, now) != now:
            text = "the pool has %s %s already" % (field, record[field] or "none")
            raise StorageError("conflict", text, "make a new pool and move volumes", option="config")
    group, beside = volume_group.group_of(vg, look), look.declared.get((volume_group.KIND, vg)) or {}
    if beside.get("state") == "absent":
        raise StorageError("conflict", "volume group %s is declared absent beside it" % vg, "declare one of them")
    if group is None and not beside:
        text = "there is no volume group %s" % vg
        raise StorageError("not_found", text, "make it with volume_group, or declare it beside", option="config")
    if p["backend"] == "iscsi":
        _on_luns(vg, group, beside, look.declared)
    if thin:
        _thin(vg, thin, group, [each for each in beside.get("thin_pools") or () if each["state"] != "absent"])
    extent = group["extent"] if group else volume_group.EXTENT
    return {"vg": vg, "thin_pool": thin, "extent": (record or {}).get("extent", extent)}


def _on_luns(vg: str, group: Any, beside: dict[str, Any], declared: Any) -> None:
    """``conflict`` where a group has a disk of this host: with it, not all of the pool is where its name says.

    Of a group that is yet to be made, only what is named as a LUN, or unlocked from one beside, is known to be one.
    """
    if group:
        local = [pv["name"] for pv in group["pvs"] if not pv["remote"]]
    else:
        opened = {
            "/dev/mapper/" + key: said["device"] for (kind, key), said in declared.items() if kind == "luks_device"
        }
        local = [pv for pv in beside["pvs"] if isinstance(pv, str) and isinstance(opened.get(pv, pv), str)]
    if local:
        text = "%s of volume group %s is no LUN of an iSCSI target" % (", ".join(local), vg)
        hint = "make the group of {iscsi: <iqn>, lun: <n>}, or use backend: lvm"
        raise StorageError("conflict", text, hint, option="config", devices=local)


def _thin(vg: str, name: str, group: Any, beside: list[dict[str, Any]]) -> None:
    lv = group["lvs"].get(name) if group else None
    if lv is not None and not lv["pool"]:
        raise StorageError("conflict", "%s/%s is no thin pool" % (vg, name), "name a thin pool", option="config")
    if lv is None and name not in [each["name"] for each in beside]:
        text = "volume group %s has no thin pool %s" % (vg, name)
        raise StorageError("not_found", text, "make it with volume_group, or declare it beside", option="config")


def room(row: dict[str, Any], groups: Any) -> tuple[Any, Any]:
    """Bytes that a pool has and that are taken, by whomever; None for what nobody can tell."""
    found = groups.get(row.get("vg"))
    group = found["_group"] if isinstance(found, dict) else None
    lv = group["lvs"].get(row["thin_pool"]) if group and row["thin_pool"] else None
    if group is None or (row["thin_pool"] and lv is None):
        return None, None
    if lv is not None:
        return lv["size"], int(lv["size"] * lv["data_percent"] / 100)
    return group["size"], group["size"] - group["free"]


def promised(row: dict[str, Any], bytes_: int, ratio: float, look: Any) -> None:
    """``limit_exceeded`` where all volumes together would be more than ``ratio`` times what the pool has."""
    total, _used = room(row, look.look("vg", [row["vg"]]))
    if total is not None and bytes_ > total * ratio:
        text = "the pool would promise %s of %s" % (size.human(bytes_), size.human(total))
        raise StorageError("limit_exceeded", text, "the pool's overcommit is %s" % ratio, overcommit=ratio)
