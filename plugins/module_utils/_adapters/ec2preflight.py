# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What EC2 would refuse only after something was changed: asked before, by calls that only describe."""

from __future__ import annotations

from typing import Any, Iterable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.ec2 import GIB
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN

_ALIVE = ("running", "stopped")


def volume(port: Any, target: Any, before: Any, after: Any, gone: Any) -> StorageError | None:
    if after is None:
        staying = [i for i in before["_attachments"] if ("ec2_attachment", (target, i)) not in gone]
        if staying:
            text = "%s is attached to %s" % (before["_id"], ", ".join(sorted(staying)))
            return StorageError("in_use", text, "declare attachments: [] too, to detach it first", instances=staying)
        return None
    if before is None:
        return _creation(port.link(target), after)
    if before["_state"] == "error":
        text = "EC2 could not provide %s" % before["_id"]
        return StorageError("failed", text, "delete it: a KMS key that may not be used is the usual reason")
    if after["size"] is not UNKNOWN and after["size"] < before["size"]:
        text = "%s has %d GiB, and no volume of EBS gets smaller" % (before["_id"], before["size"] // GIB)
        return StorageError("would_shrink", text, "copy what it holds to a new one")
    return _sharing(target, before, after, gone)


def _sharing(target: Any, before: Any, after: Any, gone: Any) -> StorageError | None:
    """When Multi-Attach can be switched: EBS user guide, "Attach an EBS volume to multiple EC2 instances"."""
    staying = [i for i in before["_attachments"] if ("ec2_attachment", (target, i)) not in gone]
    if before["multi_attach"] and after["type"] != before["type"]:
        text = "the type of a volume with Multi-Attach stays %s" % before["type"]
        return StorageError("conflict", text, "switch multi_attach off first")
    if after["multi_attach"] == before["multi_attach"]:
        return None
    if "io1" in (before["type"], after["type"]):
        text = "Multi-Attach of a volume of type io1 stays as it was made"
        return StorageError("conflict", text, "volumes of type io2 can be switched")
    if after["multi_attach"] and staying:
        text = "Multi-Attach is switched on while nobody has the volume, and %s has it" % ", ".join(staying)
        return StorageError("in_use", text, "detach it first", instances=staying)
    if len(staying) > 1:
        text = "Multi-Attach is switched off while at most one instance has the volume"
        return StorageError("in_use", text, "declare fewer attachments", instances=staying)
    return None


def _creation(link: Any, after: dict[str, Any]) -> StorageError | None:
    known = link("describe_availability_zones", AllAvailabilityZones=False)["AvailabilityZones"]
    zones = sorted(each["ZoneName"] for each in known)
    if after["zone"] not in zones:
        text = "there is no zone %s here" % after["zone"]
        return StorageError("not_found", text, "one of %s" % ", ".join(zones), option="availability_zone")
    if after["snapshot_id"]:
        try:
            (found,) = link("describe_snapshots", SnapshotIds=[after["snapshot_id"]])["Snapshots"]
        except StorageError as error:
            if error.code != "not_found":
                return error
            text = "there is no snapshot %s here" % after["snapshot_id"]
            return StorageError("not_found", text, "see region", option="snapshot_id")
        least = found["VolumeSize"] * GIB
        if after["size"] is not UNKNOWN and after["size"] < least:
            text = "%s holds a volume of %d GiB, which fits into none smaller" % (found["SnapshotId"], least // GIB)
            return StorageError("invalid", text, "declare that size or more", option="size")
        if found["State"] != "completed":
            text = "%s is %s" % (found["SnapshotId"], found["State"])
            return StorageError("in_use", text, "wait until it is completed", option="snapshot_id")
    return None


def attachment(port: Any, target: Any, before: Any, after: Any, gone: Any) -> StorageError | None:
    spot, name = target
    link, volumes = port.volumes.link(spot), port.volumes
    _learn(port, link)
    known = port.instances.get(name)
    if after is None:
        if known is not None and before["device"] == known["root"]:
            text = "%s is the root device of %s" % (spot, name)
            return StorageError("protected", text, "leave it to the instance")
        return None
    if known is None:
        return StorageError("not_found", "there is no instance %s here" % name, "see region", option="attachments")
    row, declared = volumes.rows.get(spot), volumes.declared.get(spot) or {}
    if before is not None and before["device"] != after["device"] and after["device"] is not UNKNOWN:
        text = "%s has it as %s, not %s" % (name, before["device"], after["device"])
        return StorageError("conflict", text, "leave device out, or detach it first", option="attachments")
    return (
        _alive(name, known)
        or _near(name, known, row or declared)
        or _shared(port, link, name, {**(row or {}), **declared})
        or _single(port, target, row, declared, gone)
        or _device(port, target, before, after, known)
    )


def _alive(name: str, known: dict[str, Any]) -> StorageError | None:
    if known["state"] in _ALIVE:
        return None
    text = "instance %s is %s" % (name, known["state"])
    return StorageError("conflict", text, "it must be running or stopped", option="attachments")


def _near(name: str, known: dict[str, Any], volume: dict[str, Any]) -> StorageError | None:
    if known["zone"] == volume["zone"]:
        return None
    text = "instance %s is in %s, and the volume in %s" % (name, known["zone"], volume["zone"])
    return StorageError("conflict", text, "both have to be in one zone", option="attachments")


def _shared(port: Any, link: Any, name: str, volume: dict[str, Any]) -> StorageError | None:
    known = port.instances[name]
    if not volume.get("multi_attach"):
        return None
    if "nitro" not in known:
        _systems(link, port.instances.values())
    if known["nitro"]:
        return None
    text = "instance %s is a %s, which is not built on the Nitro System" % (name, known["type"])
    return StorageError("unsupported", text, "Multi-Attach takes such instances", option="attachments")


def _single(port: Any, target: Any, row: Any, declared: dict[str, Any], gone: Any) -> StorageError | None:
    """Somebody else has it, and keeps it: declared ``add``."""
    if row is None or declared.get("multi_attach", row["multi_attach"]):
        return None
    others = [i for i in row["_attachments"] if i != target[1] and ("ec2_attachment", (target[0], i)) not in gone]
    if not others:
        return None
    text = "%s is attached to %s" % (row["_id"], ", ".join(sorted(others)))
    return StorageError("in_use", text, "detach it there, or make it one with multi_attach", instances=others)


def _device(port: Any, target: Any, before: Any, after: Any, known: dict[str, Any]) -> StorageError | None:
    device = after["device"]
    if before is not None or device is UNKNOWN:
        return None
    other = known["devices"].get(device)
    if device == known["root"]:
        text = "%s is the root device of %s" % (device, target[1])
        return StorageError("protected", text, "declare another device, or none", option="attachments")
    if other is not None:
        text = "%s of %s is %s" % (device, target[1], other)
        return StorageError("conflict", text, "declare another device, or none", option="attachments")
    twice = [spot for (spot, i), value in port.wanted.items() if i == target[1] and value["device"] == device]
    if len(twice) > 1:
        text = "%s of %s is declared for %s" % (device, target[1], " and ".join(map(str, twice)))
        return StorageError("conflict", text, "declare one of them, or none", option="attachments")
    return None


def _learn(port: Any, link: Any) -> None:
    """Of all instances that are named, at once."""
    new = sorted(port.named - port.asked)
    if new:
        port.asked.update(new)
        port.instances.update(instances(link, new))


def instances(link: Any, names: list[str]) -> dict[str, Any]:
    """What is known of instances: state, zone, type, root device, devices with their volumes."""
    found: dict[str, Any] = {}
    for start in range(0, len(names), 200):
        filters = [{"Name": "instance-id", "Values": names[start : start + 200]}]
        for each in link.pages("describe_instances", "Reservations", Filters=filters):
            for one in each["Instances"]:
                held = {m["DeviceName"]: m["Ebs"]["VolumeId"] for m in one.get("BlockDeviceMappings", ()) if "Ebs" in m}
                found[one["InstanceId"]] = {
                    "state": one["State"]["Name"],
                    "zone": one["Placement"]["AvailabilityZone"],
                    "type": one["InstanceType"],
                    "root": one.get("RootDeviceName"),
                    "devices": held,
                }
    return found


def _systems(link: Any, known: Iterable[dict[str, Any]]) -> None:
    """Which of them are built on the Nitro System."""
    types = sorted({each["type"] for each in known})
    nitro: dict[str, bool] = {}
    for start in range(0, len(types), 100):
        for each in link("describe_instance_types", InstanceTypes=types[start : start + 100])["InstanceTypes"]:
            nitro[each["InstanceType"]] = each.get("Hypervisor") == "nitro" or bool(each.get("BareMetal"))
    for each in known:
        each["nitro"] = nitro.get(each["type"], False)
