# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only some volume groups need: to go, to leave a device, to have a filesystem grow with a volume."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Cell, Unit
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import volume_group


def absent(p: dict[str, Any], vg: str, group: Any, look: Any) -> Unit:
    """Everything that is in it goes, declared or not, each volume by its own consent; of what is a volume or a snapshot
    of a pool that is to be declared absent itself."""
    devices = [names.path(device, "pvs") for device in p["pvs"] or ()]
    lvs = group["lvs"] if group else {}
    if group and not devices:
        devices = [pv["name"] for pv in group["pvs"]]
    elif group and len(devices) != len(group["pvs"]):
        text = "%s has %d devices, %d are named" % (vg, len(group["pvs"]), len(devices))
        raise StorageError("conflict", text, "name all of pvs, or none", option="pvs")
    cells = [Cell("pv", (vg, device), None) for device in devices]
    cells += [Cell("thin_pool", (vg, name), None) for name, lv in lvs.items() if lv["pool"]]
    thick = {volume_group.name_of(lv["name"]) for lv in p["lvs"] or ()}
    thick |= {name for name, lv in lvs.items() if not lv["pool"]} - _elsewhere(lvs, look)
    cells += [Cell("lv", "/dev/%s/%s" % (vg, name), None) for name in sorted(thick)]
    provides = (("vg", vg), *(("path", "/dev/%s/%s" % (vg, name)) for name in sorted(thick)))
    needs = tuple((kind, device) for device in devices for kind in ("device", "path"))
    return Unit((volume_group.KIND, vg), tuple(cells), needs, provides, consents=volume_group.consents(p))


def _elsewhere(lvs: dict[str, Any], look: Any) -> set[str]:
    """The logical volumes that go because the volumes they are go, in the same declaration."""
    said = {key for (kind, key), entry in look.declared.items() if kind == "volume" and entry["state"] == "absent"}
    ours = [name for name, lv in lvs.items() if "bulkhead.volume" in lv["tags"]]  # see volume_lvm.name_of
    return {name for name in ours if name[2:].replace("+", "/").replace("U", "_") in said}


def leaving(p: dict[str, Any], vg: str, devices: list[str]) -> list[Cell]:
    """Devices that it gives up. One that it does not have any more is asked about too: it may be half wiped."""
    cells = []
    for device in p["remove_pvs"]:
        if names.path(device, "remove_pvs") in devices:
            text = "%s is in pvs and in remove_pvs" % device
            raise StorageError("conflict", text, "name it once", option="remove_pvs")
        cells.append(Cell("pv_leaving", (vg, device), None))
    return cells


def grown(lv: dict[str, Any], path: str, group: Any, look: Any) -> list[Cell]:
    """The filesystem that is on a volume fills it, also where an earlier run did not get that far."""
    now = group["lvs"].get(lv["name"]) if group else None
    if now is None or not now["active"]:
        return []
    found = look.look("superblock", [path]).get(path)
    if isinstance(found, StorageError):
        raise found
    if not found or found.get("fstype") not in ("ext4", "xfs", "btrfs"):
        return []
    value = {"fstype": found["fstype"], "fills": True, "quota": (), "features": ()}
    return [Cell("superblock", path, value, True)]
