# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk: its partition table and partitions, made once on proved blank, grown, never moved; never over something."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import names, partition, size
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Cell, Unit

KIND, LIST = "block_device", "block_devices"
OPTIONS: dict[str, Any] = {
    "device": {"type": "raw", "required": True},
    "label": {"type": "str", "choices": ["gpt"]},
    "partitions": {
        "type": "list",
        "elements": "dict",
        "options": {
            "number": {"type": "int", "required": True},
            "start": {"type": "str"},
            "size": {"type": "str"},
            "type": {"type": "str"},
            "name": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
    },
    "scheduler": {"type": "str"},
    "read_ahead": {"type": "str"},
    "read_only": {"type": "bool"},
    "persist": {"type": "bool", "default": True},
    "wipe_token": {"type": "list", "elements": "str", "no_log": False},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}
RULES: dict[str, Any] = {}
MIB = 1 << 20
# the Discoverable Partitions Specification, UEFI 2.10 section 5.3.3, and sfdisk -l -T
TYPES = {
    "linux": "0fc63daf-8483-4772-8e79-3d69d8477de4", "lvm": "e6d6d379-f507-44c2-a23c-238f2a3df928",
    "swap": "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "luks": "ca7d7ccb-63ed-4c53-861c-1742536059cc",
    "raid": "a19d880f-05fc-4d3b-a006-743f0f84911e", "esp": "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
    "bios": "21686148-6449-6e6f-744e-656564454649", "home": "933ac7e1-2eb4-4f13-b844-0e14e2aef915",
    "srv": "3b8f8425-20e0-4f3b-907f-1a25a76f98e8", "var": "4d21b016-b534-45c2-a9fb-5c16e091fd2d",
}  # fmt: skip
_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_WORD = re.compile(r"[a-z0-9-]{1,15}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_.:@+-]([A-Za-z0-9_.:@+ -]{0,34}[A-Za-z0-9_.:@+-])?", re.ASCII)


def label(p: dict[str, Any]) -> str:
    return str(p["device"])


def unit(p: dict[str, Any], look: Any) -> Unit:
    device = names.path(p["device"], "device")
    if not device.startswith("/dev/") or device.startswith("/dev/mapper/"):
        raise StorageError("invalid", "device %s is not a disk" % device, "name it by id", option="device")
    present = p["state"] == "present"
    found = [declared(each, index) for index, each in enumerate(p["partitions"] or ())]
    _distinct(found)
    among = tuple((v["number"], v.get("start"), v.get("size"), v["absent"]) for v in found)
    kept = settings(p)
    cells: list[Cell] = []
    provides = []
    if found or p["label"] or not (kept or present):
        cells.append(Cell("gpt", device, {"label": "gpt"} if present else None))
    elif not kept:
        text = "nothing is declared of %s" % device
        raise StorageError("invalid", text, "say partitions, label, scheduler, read_ahead or read_only")
    for value in found:
        target = partition.path(device, value.pop("number"))
        gone = value.pop("absent") or not present
        cells.append(Cell("partition", target, None if gone else {**value, "_among": among}))
        provides.append(("path", target))
    if kept and present:
        cells.append(Cell("block", device, kept))
    if kept or not present:
        rule = {**kept, "intact": True} if present and p["persist"] else None
        cells.append(Cell("udev_rule", device, rule))
    consents = {"wipe_token": p["wipe_token"], "allow_unstable_device": bool(p.get("allow_unstable_device"))}
    return Unit(
        (KIND, device), tuple(cells), (("device", device), ("path", device)), tuple(provides), consents=consents
    )


def settings(p: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    if p["scheduler"] is not None:
        kept["scheduler"] = p["scheduler"]
        if not _WORD.fullmatch(p["scheduler"]):
            text = "scheduler %.80r is not valid" % p["scheduler"]
            raise StorageError("invalid", text, "none, mq-deadline, kyber or bfq", option="scheduler")
    if p["read_ahead"] is not None:
        kept["read_ahead"] = 0 if p["read_ahead"] == "0" else size.parse(p["read_ahead"], "read_ahead", maximum=1 << 30)
        if kept["read_ahead"] % 4096:
            text = "read_ahead %s is not a multiple of 4 KiB" % p["read_ahead"]
            raise StorageError("invalid", text, "for example 128KiB", option="read_ahead")
    if p["read_only"] is not None:
        kept["read_only"] = p["read_only"]
    return kept


def declared(each: dict[str, Any], index: int) -> dict[str, Any]:
    where = "partitions[%d]" % index
    number = each["number"]
    if not 1 <= number <= 128:
        raise StorageError("invalid", "%s.number %d is not one of 1 to 128" % (where, number), option="partitions")
    value: dict[str, Any] = {"number": number, "absent": each["state"] == "absent"}
    if each["start"] is not None:
        value["start"] = size.parse(each["start"], where + ".start", MIB)
        if value["start"] % MIB:
            text = "%s.start %s is not a multiple of 1 MiB" % (where, each["start"])
            raise StorageError("invalid", text, "partitions are aligned to 1 MiB", option="partitions")
    if each["size"] is not None:
        value["size"] = size.parse(each["size"], where + ".size", MIB, unit=MIB)
    if each["type"] is not None:
        kind = each["type"].lower()
        value["type"] = TYPES.get(kind, kind)
        if not _GUID.fullmatch(value["type"]):
            text = "%s.type %.80r is neither a GUID nor one of %s" % (where, each["type"], ", ".join(TYPES))
            raise StorageError("invalid", text, "see the documentation of partitions", option="partitions")
    if each["name"] is not None:
        value["name"] = each["name"]
        if each["name"] and not _NAME.fullmatch(each["name"]):
            text = "%s.name %.80r is not valid" % (where, each["name"])
            raise StorageError("invalid", text, "36 letters, digits, blanks or any of _.:@+-", option="partitions")
    return value


def _distinct(found: list[dict[str, Any]]) -> None:
    numbers = [value["number"] for value in found]
    twice = sorted({n for n in numbers if numbers.count(n) > 1})
    if twice:
        raise StorageError("conflict", "partition %d is declared twice" % twice[0], "declare it once")
    open_ended = [str(v["number"]) for v in found if "size" not in v and not v["absent"]]
    if len(open_ended) > 1:
        text = "partitions %s have no size" % ", ".join(open_ended)
        raise StorageError("invalid", text, "one at most can have the rest of the disk", option="partitions")


def show(p: dict[str, Any], rows: Any) -> dict[str, Any]:
    device = names.path(p["device"])
    table = rows.get("gpt", {}).get(device) or {}
    block = rows.get("block", {}).get(device) or {}
    listed = []
    for each in sorted(p["partitions"] or (), key=lambda one: int(one["number"])):
        target = partition.path(device, each["number"])
        found = rows.get("partition", {}).get(target)
        if found:
            row = {key: found.get(key) for key in ("start", "size", "type", "name")}
            listed.append({"number": each["number"], "path": target, **row})
    return {
        "device": p["device"],
        "label": table.get("label"),
        "partitions": listed,
        "scheduler": block.get("scheduler"),
        "read_ahead_bytes": block.get("read_ahead"),
        "read_only": block.get("read_only"),
        "size_bytes": block.get("_size"),
        "serial": block.get("_serial"),
        "by_id": [link for link in block.get("_by_id", ()) if "/by-id/" in link],
    }
