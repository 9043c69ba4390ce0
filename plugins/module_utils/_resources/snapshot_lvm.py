# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of a volume that is a logical volume: thin ones, read-only, which nobody activates unasked."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN, Cell
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import volume_lvm


def recorded(key: str, volume: dict[str, Any], look: Any) -> dict[str, Any]:
    """What the catalogue holds of a new one beyond its pool, backend and size."""
    whose = key.rpartition("/")[0]
    if volume["provisioning"] != "thin":
        text = "volume %s is thick: it has no snapshots" % whose
        raise StorageError("unsupported", text, "copy its files, or use a thin volume")
    vg = volume["device"].split("/")[2]
    device = "/dev/%s/%s" % (vg, volume_lvm.name_of(vg, "s", key))
    volume_lvm.free(device, look)
    same = ("type", "provisioning", "thin_pool", "fstype")
    return {"path": device, **{field: value for field, value in volume.items() if field in same}}


def body(key: str, row: dict[str, Any]) -> list[Cell]:
    vg, whose = row["path"].split("/")[2], key.rpartition("/")[0]
    value = {"thin_pool": row["thin_pool"], "tags": (volume_lvm.TAG,), "active": UNKNOWN}
    value["source"] = volume_lvm.name_of(vg, "v", whose)
    return [Cell("record", ("snapshot", key), row), Cell("lv", row["path"], value)]


def restored(mark: str, row: dict[str, Any], before: dict[str, Any], volume: dict[str, Any]) -> Cell:
    """The volume's device becomes a thin snapshot of the snapshot, and what it was becomes the one ``before``."""
    value = {"restored": mark.replace(" ", "/"), "sealed": True, "from": row["path"], "kept": before["path"]}
    return Cell("lv_content", volume["device"], value)
