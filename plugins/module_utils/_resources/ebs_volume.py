# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A volume of Amazon EBS, and the set of instances that it is attached to."""

from __future__ import annotations

from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import afar
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN, Cell, Unit
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import ebs_volume_words as words
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import ec2_access

KIND, LIST = "ebs_volume", "ebs_volumes"
OPTIONS: dict[str, Any] = {
    "name": {"type": "str"},
    "volume_id": {"type": "str", "aliases": ["id"]},
    "availability_zone": {"type": "str", "aliases": ["zone"]},
    "size": {"type": "str"},
    "volume_type": {"type": "str", "choices": list(words.TYPES)},
    "iops": {"type": "int"},
    "throughput": {"type": "int"},
    "multi_attach": {"type": "bool"},
    "encrypted": {"type": "bool"},
    "kms_key_id": {"type": "str"},
    "snapshot_id": {"type": "str", "aliases": ["snapshot"]},
    "tags": {"type": "dict", "aliases": ["resource_tags"]},
    "purge_tags": {"type": "bool", "default": True},
    "attachments": {
        "type": "list",
        "elements": "dict",
        "options": {"instance_id": {"type": "str", "required": True}, "device": {"type": "str"}},
    },
    "attachments_mode": {"type": "str", "choices": ["exact", "add", "remove"], "default": "exact"},
    "force_detach": {"type": "bool", "default": False},
    "wait_timeout": {"type": "int", "default": 300},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    **ec2_access.OPTIONS,
}
RULES: dict[str, Any] = {"required_one_of": [("name", "volume_id")], "mutually_exclusive": ec2_access.EITHER}
FILTERS: dict[str, Any] = {
    **{option: OPTIONS[option] for option in ("name", "volume_id", "availability_zone", "tags")},
    "instance_id": {"type": "str"},
    **ec2_access.OPTIONS,
}
BY_ID = "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_%s"  # as udev names it


def label(p: dict[str, Any]) -> str:
    return "/".join(str(p[part]) for part in ("region", "availability_zone", "name") if p[part]) or str(p["volume_id"])


def world(p: dict[str, Any]) -> str:
    """Zones of one region have volumes of one name: who means both waits for both."""
    return "ec2:%s/%s" % (p["region"] or "", p["name"] or p["volume_id"])


def target(p: dict[str, Any]) -> afar.Afar:
    """Which volume: by its id, or by its name, in one zone where that is declared."""
    words.names(p)
    which = {"volume_id": p["volume_id"]} if p["volume_id"] else {"name": p["name"], "zone": p["availability_zone"]}
    parts = [p["region"], *([p["volume_id"]] if p["volume_id"] else [p["availability_zone"], p["name"]])]
    access = {**which, "wait": p["wait_timeout"], "force": p["force_detach"]}
    access["to"] = afar.access(ec2_access.OPTIONS, p)
    return afar.Afar("/".join(part for part in parts if part), access)


def facts(p: dict[str, Any], look: Any) -> list[tuple[str, Any]]:
    return [("ec2_volume", target(p))]


def unit(p: dict[str, Any], look: Any) -> Unit:
    """The volume is beneath its attachments. What names it twice is found out by what it is called."""
    spot = target(p)
    row = look.look("ec2_volume", [spot]).get(spot)
    if isinstance(row, StorageError):
        raise row
    there = row["_attachments"] if row else {}
    wanted, leaving = members(p, there)
    if p["state"] == "absent":
        value, wanted = None, {}
    else:
        value = words.declared(p, row)
        words.several(p, row, len({*there, *wanted}.difference(leaving)))
    cells = [Cell("ec2_volume", spot, value)]
    cells += [Cell("ec2_attachment", (spot, i), None) for i in leaving]
    cells += [Cell("ec2_attachment", (spot, i), {"device": device}) for i, device in wanted.items()]
    return Unit((KIND, row["_id"] if row else str(spot)), tuple(cells), consents={"absent": str(spot)})


def members(p: dict[str, Any], there: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The instances that shall have it, with their devices, and those that shall not."""
    said = words.attachments(p)
    if said is None:
        return {}, []
    if p["attachments_mode"] == "remove":
        return {}, [i for i in there if i in said]
    return said, [i for i in there if i not in said] if p["attachments_mode"] == "exact" else []


def show(p: dict[str, Any], rows: Any) -> dict[str, Any]:
    spot = target(p)
    row = rows["ec2_volume"].get(spot)
    made = shown(row if isinstance(row, dict) else {})
    if isinstance(row, dict):
        there = row.get("_attachments", {})
        leaving = members(p, there)[1]
        found = {i: each for i, each in there.items() if i not in leaving}
        found.update((i, each) for (of, i), each in rows.get("ec2_attachment", {}).items() if of == spot)
        made["attachments"] = attached(found)
    return made


def attached(found: dict[str, Any]) -> list[dict[str, Any]]:
    """In check mode a device that EC2 or this module would choose is none yet."""
    device = {i: None if each["device"] is UNKNOWN else each["device"] for i, each in found.items()}
    return [
        {"instance_id": i, "device": device[i], "state": each.get("_state", "attached")}
        for i, each in sorted(found.items())
    ]


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A volume as results tell of it; of one that is not there, nothing but that."""
    volume = row.get("_id") if isinstance(row.get("_id"), str) else None
    told = {name: row.get(name) for name in ("iops", "throughput", "multi_attach", "encrypted", "kms_key_id")}
    told = {name: None if value is UNKNOWN else value for name, value in {**told, "size": row.get("size")}.items()}
    serial = volume.replace("-", "") if volume else None
    return {
        "volume_id": volume,
        "name": (row.get("tags") or {}).get("Name"),
        "state": row.get("_state", "absent" if not row else "creating"),
        "availability_zone": row.get("zone"),
        "size_bytes": told.pop("size"),
        "volume_type": row.get("type"),
        **told,
        "snapshot_id": row.get("snapshot_id") or None,
        "tags": row.get("tags") or {},
        "attachments": [],
        "nvme_serial": serial,
        "by_id": BY_ID % serial if serial else None,
        "modification": row.get("_modification"),
        **({"resource_actions": row["_calls"]} if "_calls" in row else {}),
    }


def gather(p: dict[str, Any], ports: Any) -> dict[str, Any]:
    """Of ``ebs_volume_info``: all that match, with what is known of their last modification."""
    words.names(p)
    if p["instance_id"] is not None:
        words.instance(p["instance_id"], "instance_id")
    found = ports["ec2_volume"].listed(p, afar.access(ec2_access.OPTIONS, p))
    volumes = []
    for row in found:
        told = shown(row)
        told["attachments"] = attached(row["_attachments"])
        volumes.append(told)
    return {"volumes": volumes}
