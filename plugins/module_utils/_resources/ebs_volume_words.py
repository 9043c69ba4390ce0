# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be declared of an EBS volume. The figures are of the EBS user guide, "Amazon EBS volume types"."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import size
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN

GIB = 1 << 30
MOST_ATTACHED = 16  # instances of one Multi-Attach volume
LONGEST_WAIT = 86400


class Type(NamedTuple):
    """Sizes in GiB; ``iops`` that may be declared, and how many a GiB; ``throughput`` in MiB/s."""

    least: int
    most: int
    iops: tuple[int, int] = (0, 0)
    ratio: int = 0
    throughput: tuple[int, int] = (0, 0)


TYPES = {
    "gp3": Type(1, 65536, (3000, 80000), 500, (125, 2000)),
    "gp2": Type(1, 16384),
    "io2": Type(4, 65536, (100, 256000), 1000),
    "io1": Type(4, 16384, (100, 64000), 50),
    "st1": Type(125, 16384),
    "sc1": Type(125, 16384),
    "standard": Type(1, 1024),
}
PROVISIONED = ("io1", "io2")  # IOPS are declared, and several instances may have one
_VOLUME = re.compile(r"vol-[0-9a-f]{8,17}", re.ASCII)
_INSTANCE = re.compile(r"i-[0-9a-f]{8,17}", re.ASCII)
_SNAPSHOT = re.compile(r"snap-[0-9a-f]{8,17}", re.ASCII)
_ZONE = re.compile(r"[a-z0-9][a-z0-9-]{1,62}", re.ASCII)
_DEVICE = re.compile(r"/dev/(?:sd|xvd)[a-z]{1,2}[0-9]{0,2}", re.ASCII)
_KMS = re.compile(r"[A-Za-z0-9:/_-]{1,2048}", re.ASCII)


def _invalid(option: str, value: Any, why: str, hint: str) -> StorageError:
    return StorageError("invalid", "%s %.300r %s" % (option, value, why), hint, option=option)


def _fits(form: Any, option: str, value: Any, hint: str) -> None:
    if value is not None and not form.fullmatch(value):
        raise _invalid(option, value, "is none", hint)


def names(p: dict[str, Any]) -> None:
    """What says which volume is meant."""
    name = p["name"]
    if name is not None:
        _tag("Name", name, "name")
        if not name:
            raise _invalid("name", name, "is empty", "the tag Name of the volume")
    _fits(_VOLUME, "volume_id", p["volume_id"], "such as vol-0123456789abcdef0")
    _fits(_ZONE, "availability_zone", p["availability_zone"], "such as eu-central-1a")
    for option, value in (p["tags"] or {}).items():
        if not isinstance(value, (str, int, float)) or isinstance(value, bool):
            raise _invalid("tags", option, "has a value that is no text", "quote it")
        _tag(option, str(value), "tags")


def _tag(key: str, value: str, option: str) -> None:
    if not 0 < len(key) <= 128 or len(value) > 256 or not (key + value).isprintable():
        raise _invalid(option, "%s=%s" % (key, value), "is no tag", "keys of 1 to 128 characters, values of up to 256")
    if key.lower().startswith("aws:"):
        raise _invalid(option, key, "begins with aws:", "these are Amazon's own")


def instance(value: str, option: str) -> None:
    _fits(_INSTANCE, option, value, "such as i-0123456789abcdef0")


def attachments(p: dict[str, Any]) -> dict[str, Any] | None:
    """The device by instance; UNKNOWN where any will do."""
    if p["attachments"] is None:
        return None
    found: dict[str, Any] = {}
    for each in p["attachments"]:
        instance(each["instance_id"], "attachments[].instance_id")
        _fits(_DEVICE, "attachments[].device", each["device"], "such as /dev/sdf")
        if each["instance_id"] in found:
            raise _invalid("attachments", each["instance_id"], "is there twice", "once is enough")
        found[each["instance_id"]] = each["device"] or UNKNOWN
    return found


def several(p: dict[str, Any], row: Any, count: int) -> None:
    """More than one instance takes Multi-Attach, and no more than sixteen have it."""
    many = p["multi_attach"] if p["multi_attach"] is not None else bool(row and row["multi_attach"])
    if count > 1 and not many:
        text = "%d instances would have a volume without Multi-Attach" % count
        raise StorageError("conflict", text, "declare multi_attach: true, or one instance", option="attachments")
    if count > MOST_ATTACHED:
        text = "%d instances would have the volume, and EC2 attaches it to %d" % (count, MOST_ATTACHED)
        raise StorageError("limit_exceeded", text, "declare fewer", option="attachments")


def declared(p: dict[str, Any], row: Any) -> dict[str, Any]:
    """What must hold of the volume; of one that is to be made, all that it is made with."""
    if not 1 <= p["wait_timeout"] <= LONGEST_WAIT:
        raise _invalid("wait_timeout", p["wait_timeout"], "is not in 1..%d" % LONGEST_WAIT, "whole seconds")
    _fits(_SNAPSHOT, "snapshot_id", p["snapshot_id"], "such as snap-0123456789abcdef0")
    _fits(_KMS, "kms_key_id", p["kms_key_id"], "an id, an alias or an ARN of a KMS key")
    value: dict[str, Any] = {}
    if p["size"] is not None:
        value["size"] = size.parse(p["size"], minimum=GIB, unit=GIB)
    pairs = {"type": "volume_type", "zone": "availability_zone"}
    for name in ("type", "iops", "throughput", "multi_attach", "encrypted", "zone", "snapshot_id", "kms_key_id"):
        option = pairs.get(name, name)
        if p[option] is not None:
            value[name] = p[option]
    if row is None:
        _new(p, value)
    else:
        _fixed(value, row)
        _retyped(value, row)
    if p["tags"] is not None or (row and p["name"] is not None and row["tags"].get("Name") != p["name"]):
        value["tags"] = _tags(p, row)
    _limits({**(row or {}), **value}, row)
    return value


def _new(p: dict[str, Any], value: dict[str, Any]) -> None:
    """One that is not there is made with what is documented as the default of each."""
    if p["volume_id"]:
        text = "there is no volume %s" % p["volume_id"]
        raise StorageError("not_found", text, "EC2 chooses ids: name the volume to make one", option="volume_id")
    if "zone" not in value:
        raise StorageError(
            "invalid", "there is no such volume, and no zone to make it in", "declare availability_zone", option="zone"
        )
    if "size" not in value and not p["snapshot_id"]:
        raise StorageError("invalid", "there is no such volume, and no size to make it with", "declare size")
    value.setdefault("size", UNKNOWN)  # that of the snapshot
    value.setdefault("multi_attach", False)
    value.setdefault("type", "io2" if value["multi_attach"] else "gp3")
    value.setdefault("encrypted", True)
    value.setdefault("kms_key_id", UNKNOWN if value["encrypted"] else None)
    value.setdefault("snapshot_id", None)
    value.setdefault("iops", UNKNOWN)  # what EC2 tells of a type that has none to declare is its own affair
    value.setdefault("throughput", UNKNOWN)
    value["tags"] = _tags(p, None)
    value["_id"] = UNKNOWN
    if not value["encrypted"] and p["kms_key_id"]:
        raise StorageError("invalid", "kms_key_id without encryption", "leave one of the two out", option="kms_key_id")
    if value["type"] in PROVISIONED and value["iops"] is UNKNOWN:
        text = "a volume of type %s takes iops" % value["type"]
        raise StorageError("invalid", text, "declare iops, or volume_type: gp3", option="iops")


def _fixed(value: dict[str, Any], row: dict[str, Any]) -> None:
    """What stays as it was made. A key may be called by its alias, which nobody here can look up."""
    key = value.get("kms_key_id")
    if key and row["kms_key_id"] and ("alias/" in key or row["kms_key_id"].rpartition("/")[2] == key):
        del value["kms_key_id"]
    for name in ("zone", "encrypted", "snapshot_id", "kms_key_id"):
        if name in value and value[name] != row[name]:
            text = "%s of %s is %s, and no volume changes it" % (name, row["_id"], row[name] or "not set")
            raise StorageError("conflict", text, "declare what it is, or make another volume", option=name)


def _retyped(value: dict[str, Any], row: dict[str, Any]) -> None:
    """Another type has its own figures: those of the old one are no declaration."""
    kind = value.get("type", row["type"])
    if kind == row["type"]:
        return
    if kind in PROVISIONED and "iops" not in value and row["type"] not in PROVISIONED:
        raise StorageError("invalid", "type %s takes iops" % kind, "declare iops", option="iops")
    if kind not in PROVISIONED:
        value.setdefault("iops", UNKNOWN)
    value.setdefault("throughput", UNKNOWN)


def _tags(p: dict[str, Any], row: Any) -> dict[str, str]:
    """All that will be there. The name is one, and is never purged."""
    said = {key: str(value) for key, value in (p["tags"] or {}).items()}
    there = dict(row["tags"]) if row else {}
    if p["tags"] is not None and p["purge_tags"]:
        there = {key: value for key, value in there.items() if key == "Name"}
    if p["name"] is not None:
        if said.get("Name", p["name"]) != p["name"]:
            raise StorageError("conflict", "name and the tag Name differ", "declare one of them", option="tags")
        said["Name"] = p["name"]
    return {**there, **said}


def _limits(value: dict[str, Any], row: Any) -> None:
    """Each type has its bounds. What is there already and stays is nobody's to judge."""
    kind = TYPES[value["type"]]
    if value["multi_attach"] and value["type"] not in PROVISIONED:
        text = "volumes of type %s have no Multi-Attach" % value["type"]
        raise StorageError("invalid", text, "declare volume_type: io2, or io1", option="multi_attach")
    gib = 0 if value["size"] is UNKNOWN else value["size"] // GIB
    if gib and not kind.least <= gib <= kind.most:
        text = "%d GiB are not in %d..%d GiB of type %s" % (gib, kind.least, kind.most, value["type"])
        raise StorageError("invalid", text, "see volume_type", option="size")
    for name, bounds in (("iops", kind.iops), ("throughput", kind.throughput)):
        said = value[name]
        if said in (None, UNKNOWN) or (row and row[name] == said and row["type"] == value["type"]):
            continue
        if not bounds[1] and row and row[name] == said:
            continue
        if not bounds[0] <= said <= bounds[1]:
            text = "%s of type %s" % (name, value["type"])
            hint = "in %d..%d" % bounds if bounds[1] else "leave it out"
            raise _invalid(name, said, "is no %s" % text, hint)
        if name == "iops" and gib and said > max(gib * kind.ratio, bounds[0]):
            text = "%d IOPS are more than %d for each of %d GiB" % (said, kind.ratio, gib)
            raise StorageError("invalid", text, "declare fewer, or a larger size", option="iops")
