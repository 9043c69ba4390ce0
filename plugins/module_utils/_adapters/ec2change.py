# Copyright (c) 2026 bulkhead.storage contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changing volumes of EBS: one call each, and waiting until its effect is seen. What a lost answer did is looked for.

The states: Amazon EBS user guide, "EBS volume lifecycle" and "Request EBS volume modifications".
"""

from __future__ import annotations

import time
import uuid
from typing import Any, Callable

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.ec2 import GIB, ask, escaped, row_of
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN, met, state_of

DEVICES = ["/dev/sd" + letter for letter in "fghijklmnopqrstuvwxyz"]  # those before are for the instance's own
_SOON, _LATE = 0.3, 5.0  # seconds between two looks, first and in the end
_LASTING = ("denied", "missing_tool", "invalid")  # no later look would tell more


class Change:
    """One volume, until its deadline."""

    def __init__(self, port: Any, target: Any) -> None:
        self.port, self.target, self.link = port, target, port.link(target)
        self.wait = target.access["wait"]
        self.deadline = time.monotonic() + self.wait

    def until(self, what: str, done: Callable[[], Any]) -> Any:
        """What ``done`` returns once that is true. A look that fails for a while is made again."""
        pause, trouble = _SOON, None
        while True:
            try:
                trouble, found = None, done()
            except StorageError as error:
                if error.code in _LASTING or error.details.get("final"):
                    raise
                trouble, found = error, None
            if found:
                return found
            if time.monotonic() + pause > self.deadline:
                text = "%s: after %d s still not %s" % (self.target, self.wait, what)
                text += " (%s)" % trouble.message if trouble is not None else ""
                more = trouble.details if trouble is not None else {}
                raise StorageError("timeout", text, "run it again to go on waiting, or raise wait_timeout", **more)
            time.sleep(pause)
            pause = min(pause * 1.5, _LATE)

    def row(self) -> Any:
        """The volume as it is now; None: there is none."""
        row = self.port.scan([self.target]).get(self.target)
        self.port.unread.discard(self.target)
        if isinstance(row, StorageError):
            raise row
        return row

    def unmoved(self, before: Any) -> Any:
        row = self.row()
        if state_of(row) != state_of(before):
            text = "%s is not as it was when this was planned" % self.target
            raise StorageError("moved", text, "somebody else changes it: run it again")
        return row

    # -- the volume ------------------------------------------------------------------------------------------------

    def volume(self, before: Any, after: Any) -> None:
        row = self.unmoved(before)
        if after is None:
            self.delete(row)
        elif before is None:
            self.create(after)
        else:
            plain = {name: value for name, value in state_of(after).items() if name != "tags"}
            if not met(state_of(row), plain):
                self.modify(row, plain)
            if row["tags"] != after["tags"]:
                self.tag(row, after["tags"])

    def create(self, after: dict[str, Any]) -> None:
        """Under its name from the first moment on: who is killed here finds it by that."""
        said = {
            "AvailabilityZone": after["zone"],
            "VolumeType": after["type"],
            "Encrypted": after["encrypted"],
            "MultiAttachEnabled": after["multi_attach"] or None,
            "Size": None if after["size"] is UNKNOWN else after["size"] // GIB,
            "Iops": after["iops"],
            "Throughput": after["throughput"],
            "KmsKeyId": after["kms_key_id"],
            "SnapshotId": after["snapshot_id"],
        }
        said = {name: value for name, value in said.items() if value not in (None, UNKNOWN)}
        tags = [{"Key": key, "Value": value} for key, value in sorted(after["tags"].items())]
        self.port.tried.add(self.target)
        token = uuid.uuid4().hex  # the same however often botocore sends it, and never again
        marks = [{"ResourceType": "volume", "Tags": tags}]
        made = self.link("create_volume", ClientToken=token, TagSpecifications=marks, **said)
        mine = self.port.made[self.target] = made["VolumeId"]

        def usable() -> Any:
            row = self.row()
            if row and row["_state"] == "error":
                text = "EC2 made %s, and could not provide it" % mine
                raise StorageError(
                    "failed", text, "delete it; a KMS key that may not be used is the usual reason", final=1
                )
            return row and row["_state"] in ("available", "in-use")

        self.until("available", usable)
        self.alone(mine)

    def alone(self, mine: str) -> None:
        """Two runs that found no volume have made two of one name. The younger goes: it is empty, and nobody's yet."""
        name, zone = self.target.access.get("name"), self.target.access.get("zone")
        rows = [row for row in ask(self.link, "tag:Name", [name]) if zone in (None, row["zone"])]
        first = min(rows, key=lambda row: (row["_born"], row["_id"]), default=None)
        if first is None or first["_id"] == mine:
            return
        self.link("delete_volume", VolumeId=mine)  # it stays in ``made``: the other one is not ours to undo
        text = "another run made %s (%s) at the same moment" % (self.target, first["_id"])
        raise StorageError("moved", text, "run it again: it finds that one", final=1)

    def modify(self, row: dict[str, Any], after: dict[str, Any]) -> None:
        """In one call, as each takes hours of a budget. One that is under way already is not asked for again."""
        names = {"size": "Size", "type": "VolumeType", "iops": "Iops", "throughput": "Throughput"}
        names["multi_attach"] = "MultiAttachEnabled"
        said = {api: after[name] for name, api in names.items() if after[name] not in (row[name], UNKNOWN, None)}
        if "Size" in said:
            said["Size"] //= GIB
        volume = row["_id"]

        def asked() -> bool:
            now = self.modification(volume)
            going = now["state"] in ("modifying", "optimizing", "completed")
            return going and all(now["target"].get(name) == value for name, value in said.items())

        if not (self.modification(volume)["state"] == "modifying" and asked()):
            self.until("done with its last modification", lambda: not self.busy(volume))
            try:
                self.link("modify_volume", VolumeId=volume, **said)
            except StorageError:
                if not asked():  # else its answer was lost
                    raise

        def effective() -> Any:
            now = self.modification(volume)
            if now["state"] == "failed":
                text = "EC2 could not modify %s: %s" % (volume, now["message"])
                raise StorageError("failed", text, "it is as it was", final=1)
            there = self.row()
            return now["state"] != "modifying" and there and met(state_of(there), {**after, "tags": there["tags"]})

        self.until("modified", effective)

    def busy(self, volume: str) -> bool:
        return self.modification(volume)["state"] in ("modifying", "optimizing")

    def modification(self, volume: str) -> dict[str, Any]:
        last = modifications(self.link, [volume]).get(volume)
        if last is None:
            return {"state": "none", "target": {}}
        self.port.modified[volume] = told(last)
        return last

    def tag(self, row: dict[str, Any], tags: dict[str, str]) -> None:
        """New ones first: it has its name all the time."""
        fresh = [{"Key": key, "Value": v} for key, v in sorted(tags.items()) if row["tags"].get(key) != v]
        stale = [{"Key": key} for key in sorted(row["tags"]) if key not in tags]
        if fresh:
            self.link("create_tags", Resources=[row["_id"]], Tags=fresh)
        if "Name" in tags and row["tags"].get("Name") != tags["Name"]:
            self.port.made[self.target] = row["_id"]
        if stale:
            self.link("delete_tags", Resources=[row["_id"]], Tags=stale)
        self.until("tagged", lambda: (self.row() or {}).get("tags") == tags)

    def delete(self, row: dict[str, Any]) -> None:
        volume = row["_id"]
        if self.target in self.port.tried and self.port.made.get(self.target) != volume:
            text = "nothing tells whether %s was made by this run: the answer was lost" % volume
            raise StorageError("moved", text, "the next run takes it as it is")
        self.until("free of its instances", lambda: not (self.row() or {"_attachments": ()})["_attachments"])
        try:
            self.link("delete_volume", VolumeId=volume)
        except StorageError:
            if self.row() is not None:  # else its answer was lost
                raise
        self.port.made.pop(self.target, None)
        self.until("deleted", lambda: self.row() is None)

    # -- an attachment ---------------------------------------------------------------------------------------------

    def attachment(self, port: Any, instance: str, before: Any, after: Any) -> None:
        if after is None:
            self.detach(instance)
            return
        row = self.usable(instance)
        there = row["_attachments"].get(instance)
        if there is None:
            device = after["device"]
            if device is UNKNOWN:
                device = self.free(port, instance)
            try:
                self.link("attach_volume", VolumeId=row["_id"], InstanceId=instance, Device=device)
            except StorageError:
                there = (self.row() or row)["_attachments"].get(instance)
                if there is None or there["device"] != device:  # else its answer was lost
                    raise

        def attached() -> Any:
            now = (self.row() or row)["_attachments"].get(instance)
            return now and now["_state"] == "attached"

        self.until("attached to %s" % instance, attached)

    def usable(self, instance: str) -> Any:
        """The volume, once it can be attached and nothing of an earlier attachment to the instance is left."""

        def ready() -> Any:
            row = self.row()
            if row is None or row["_state"] not in ("available", "in-use"):
                return None
            old = row["_attachments"].get(instance)
            return row if old is None or old["_state"] in ("attaching", "attached") else None

        return self.until("ready to be attached to %s" % instance, ready)

    def free(self, port: Any, instance: str) -> str:
        """A device that the instance does not have, and that no other volume of this run was given."""
        from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import ec2preflight

        known = ec2preflight.instances(self.link, [instance]).get(instance, {"devices": {}})
        with self.port.guard:
            said = {value["device"] for (_spot, i), value in port.wanted.items() if i == instance}
            for device in DEVICES:
                if device not in known["devices"] and device not in said and (instance, device) not in port.given:
                    port.given.add((instance, device))
                    return device
        text = "%s has no device left of %s to %s" % (instance, DEVICES[0], DEVICES[-1])
        raise StorageError("limit_exceeded", text, "declare another device")

    def detach(self, instance: str) -> None:
        row = self.row()
        there = row["_attachments"].get(instance) if row else None
        if there is None:
            return
        force = self.target.access["force"]
        if there["_state"] in ("attached", "attaching") or force:
            said = {"VolumeId": row["_id"], "InstanceId": instance, **({"Force": True} if force else {})}
            try:
                self.link("detach_volume", **said)
            except StorageError:
                left = (self.row() or {"_attachments": {}})["_attachments"].get(instance)
                if left is not None and left["_state"] in ("attached", "attaching"):  # else its answer was lost
                    raise

        def gone() -> bool:
            now = self.row()
            return now is None or instance not in now["_attachments"]

        try:
            self.until("detached from %s" % instance, gone)
        except StorageError as error:
            if error.code == "timeout" and not force:
                error.hint = "unmount it there and run it again; force_detach is for an instance that has failed"
            raise


def modifications(link: Any, volumes: list[str]) -> dict[str, dict[str, Any]]:
    """The last modification of each that has any."""
    found: dict[str, dict[str, Any]] = {}
    for start in range(0, len(volumes), 200):
        filters = [{"Name": "volume-id", "Values": volumes[start : start + 200]}]
        for each in link.pages("describe_volumes_modifications", "VolumesModifications", Filters=filters):
            target = {name[6:]: value for name, value in each.items() if name.startswith("Target")}
            row = {"state": each["ModificationState"], "progress": each.get("Progress"), "target": target}
            row.update(message=each.get("StatusMessage", ""), started=str(each.get("StartTime", "")))
            last = found.get(each["VolumeId"])
            if last is None or last["started"] <= row["started"]:
                found[each["VolumeId"]] = row
    return found


def told(modification: dict[str, Any]) -> dict[str, Any]:
    return {name: modification[name] for name in ("state", "progress", "started")}


def listed(link: Any, p: dict[str, Any]) -> list[Any]:
    """All volumes that match what is given, by id."""
    filters = [{"Name": "status", "Values": ["creating", "available", "in-use", "error"]}]
    for option, name in (("name", "tag:Name"), ("volume_id", "volume-id"), ("availability_zone", "availability-zone")):
        if p[option] is not None:
            filters.append({"Name": name, "Values": [escaped(p[option])]})
    if p["instance_id"] is not None:
        filters.append({"Name": "attachment.instance-id", "Values": [p["instance_id"]]})
    for key, value in sorted((p["tags"] or {}).items()):
        filters.append({"Name": "tag:" + key, "Values": [escaped(str(value))]})
    rows = [row_of(volume, link) for volume in link.pages("describe_volumes", "Volumes", Filters=filters)]
    last = modifications(link, [row["_id"] for row in rows])
    for row in rows:
        known = last.get(row["_id"])
        row["_modification"] = known and told(known)
    return sorted(rows, key=lambda row: str(row["_id"]))
