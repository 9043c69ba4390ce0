# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API of the EC2 double (ec2_server.py): what takes the place of moto's ways to answer about volumes."""

from __future__ import annotations

import base64
import copy
import re
import time
import uuid
from typing import Any, Callable, Iterable
from xml.sax import saxutils

from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import get_service_model
from moto.ec2 import utils as moto_utils
from moto.ec2.exceptions import DryRunClientError
from moto.ec2.models import EC2Backend, ec2_backends
from moto.ec2.models import elastic_block_store as moto_ebs
from moto.ec2.models import instances as moto_instances
from moto.ec2.models.block_device import BlockDeviceType
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.responses import EC2Response

from ansible_collections.bulkhead.storage.tests.support.ebs import (
    DAY,
    DEVICE,
    MULTI_ATTACH_LIMIT,
    NITRO_SLOTS,
    Attachment,
    Modification,
    Spec,
    Volume,
    behaviour,
    check_tags,
    modified,
    refuse,
    seen_attachments,
)

NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
pages: dict[str, list[Any]] = {}  # what is left of replies that were cut, by token
tokens: dict[tuple[str, str, str], tuple[Any, Any]] = {}  # client token -> parameters, reply


class Backend:
    """What replaces methods of moto's EC2Backend; RunInstances and TerminateInstances come through here too."""

    def get_volume(self: Any, volume_id: str) -> Volume:
        if not re.fullmatch(r"vol-[0-9a-f]{8}([0-9a-f]{9})?", volume_id):
            raise refuse("volume_malformed", volume_id)
        if volume_id not in self.volumes:
            raise refuse("volume_unknown", volume_id)
        volume: Volume = self.volumes[volume_id]
        return volume

    def forget_volume(self: Any, volume: Volume) -> None:
        self.volumes.pop(volume.id, None)
        self.tags.pop(volume.id, None)

    def create_volume(
        self: Any,
        size: int | None,
        zone_name: str,
        snapshot_id: str | None = None,
        encrypted: bool = False,
        kms_key_id: str | None = None,
        volume_type: str | None = None,
        iops: int | None = None,
        throughput: int | None = None,
        multi_attach_enabled: bool | None = None,
    ) -> Volume:
        zone = self.get_zone_by_name(zone_name)
        if zone is None:
            raise refuse("zone_unknown", zone_name)
        if kms_key_id and not encrypted:
            raise refuse("key_needs_encrypted")
        if snapshot_id:
            if snapshot_id not in self.snapshots:
                raise refuse("snapshot_unknown", snapshot_id)
            snapshot = self.snapshots[snapshot_id]
            size = snapshot.volume_size if size is None else size
            if size < snapshot.volume_size:
                raise refuse("size_of_snapshot", size, snapshot_id, snapshot.volume_size)
            encrypted = encrypted or snapshot.encrypted
        if size is None:
            raise refuse("missing", "size/snapshot")
        spec = Spec.checked(size, volume_type or "gp2", iops, throughput, bool(multi_attach_enabled))
        key = self.key_arn(kms_key_id) if encrypted else None
        volume = Volume(self, spec, zone, snapshot_id=snapshot_id, encrypted=encrypted, kms_key_id=key)
        self.volumes[volume.id] = volume
        return volume

    def key_arn(self: Any, key: str | None) -> str:
        """The form in which DescribeVolumes tells a key; without one, that of the account for EBS."""
        if key and key.startswith("arn:"):
            return key
        name = key or str(uuid.uuid5(uuid.NAMESPACE_DNS, "ebs.%s.%s" % (self.account_id, self.region_name)))
        kind = name if name.startswith("alias/") else "key/" + name
        return "arn:aws:kms:%s:%s:%s" % (self.region_name, self.account_id, kind)

    def attach_volume(
        self: Any, volume_id: str, instance_id: str, device_path: str, delete_on_termination: bool = False
    ) -> Attachment:
        volume, instance = self.get_volume(volume_id), self.get_instance(instance_id)
        attachment = Attachment(volume, instance, device_path, "attached", delete_on_termination)
        volume.attached.append(attachment)
        instance.block_device_mapping[device_path] = BlockDeviceType(
            volume_id=volume_id,
            status="in-use",
            size=volume.size,
            attach_time=attachment.attach_time,
            delete_on_termination=delete_on_termination,
        )
        return attachment

    def create_tags(self: Any, resource_ids: list[str], tags: dict[str, str]) -> bool:
        keep_tags(self, resource_ids)
        return bool(_create_tags(self, resource_ids, tags))

    def delete_tags(self: Any, resource_ids: list[str], tags: dict[str, Any]) -> bool:
        keep_tags(self, resource_ids)
        return bool(_delete_tags(self, resource_ids, tags))

    def create_snapshot(self: Any, volume_id: str, *more: Any, **named: Any) -> Any:
        snapshot = _create_snapshot(self, volume_id, *more, **named)
        snapshot.size_taken = self.get_volume(volume_id).size
        return snapshot


def keep_tags(backend: Any, resource_ids: Iterable[str]) -> None:
    for volume in (backend.volumes.get(i) for i in resource_ids):
        if volume:
            volume.keep("tags", behaviour.tag_lag, {"Tags": volume.tags()})


def terminate(self: Any) -> None:
    """What termination does to the volumes of an instance (moto calls it ``teardown_defaults``)."""
    for volume in list(self.ec2_backend.volumes.values()):
        for attachment in [a for a in volume.attached if a.instance is self]:
            if attachment.delete_on_termination and len(volume.attached) == 1:
                self.ec2_backend.forget_volume(volume)
            else:
                volume.keep("attachments", behaviour.attachment_lag, seen_attachments(volume))
                attachment.begin("detaching", behaviour.detaching)


def shown_mappings(self: Any) -> list[dict[str, Any]]:
    """BlockDeviceMappings of an instance, as the DescribeInstances that is being answered has seen its volumes."""
    return [
        {
            "DeviceName": row["Device"],
            "Ebs": {
                "VolumeId": row["VolumeId"],
                "Status": row["State"],
                "AttachTime": row["AttachTime"],
                "DeleteOnTermination": row["DeleteOnTermination"],
            },
        }
        for row in getattr(self.ec2_backend, "seen_rows", [])
        if row["InstanceId"] == self.id
    ]


def _matches(pattern: str, value: str) -> bool:
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    wild = {"*": ".*", "?": "."}
    text = "".join(wild.get(part, re.escape(part[-1])) for part in parts)
    return re.fullmatch(text, value, re.DOTALL) is not None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value.strftime("%Y-%m-%dT%H:%M:%S.000Z") if hasattr(value, "strftime") else str(value)


def _at_attachments(name: str) -> Callable[[dict[str, Any]], list[Any]]:
    return lambda row: [a[name] for a in row["Attachments"]]


def _of_row(name: str) -> Callable[[dict[str, Any]], list[Any]]:
    return lambda row: [row[name]] if name in row else []


VOLUME_FILTERS = {
    "attachment.attach-time": _at_attachments("AttachTime"),
    "attachment.delete-on-termination": _at_attachments("DeleteOnTermination"),
    "attachment.device": _at_attachments("Device"),
    "attachment.instance-id": _at_attachments("InstanceId"),
    "attachment.status": _at_attachments("State"),
    "availability-zone": _of_row("AvailabilityZone"),
    "availability-zone-id": _of_row("AvailabilityZoneId"),
    "create-time": _of_row("CreateTime"),
    "encrypted": _of_row("Encrypted"),
    "multi-attach-enabled": _of_row("MultiAttachEnabled"),
    "size": _of_row("Size"),
    "snapshot-id": _of_row("SnapshotId"),
    "status": _of_row("State"),
    "tag-key": lambda row: [tag["Key"] for tag in row["Tags"]],
    "volume-id": _of_row("VolumeId"),
    "volume-type": _of_row("VolumeType"),
}
MODIFICATION_FILTERS = {
    "modification-state": _of_row("ModificationState"),
    "original-iops": _of_row("OriginalIops"),
    "original-size": _of_row("OriginalSize"),
    "original-volume-type": _of_row("OriginalVolumeType"),
    "originalMultiAttachEnabled": _of_row("OriginalMultiAttachEnabled"),
    "start-time": _of_row("StartTime"),
    "target-iops": _of_row("TargetIops"),
    "target-size": _of_row("TargetSize"),
    "target-volume-type": _of_row("TargetVolumeType"),
    "targetMultiAttachEnabled": _of_row("TargetMultiAttachEnabled"),
    "volume-id": _of_row("VolumeId"),
}


def filtered(rows: list[Any], wanted: list[Any], known: dict[str, Any]) -> list[Any]:
    for each in wanted:
        name, patterns = each.get("Name", ""), each.get("Values", [])
        if name.startswith("tag:") and known is VOLUME_FILTERS:
            rows = [r for r in rows if _any(patterns, [t["Value"] for t in r["Tags"] if t["Key"] == name[4:]])]
        elif name in known:
            rows = [r for r in rows if _any(patterns, known[name](r))]
        else:
            raise refuse("filter_unknown", name)
    return rows


def _any(patterns: list[str], values: list[Any]) -> bool:
    return any(_matches(pattern, _text(value)) for pattern in patterns for value in values)


def xml(shape: Any, value: Any) -> Iterable[str]:
    """The words of the reply, by the model of the API; moto's own way takes some 5 times as long for 100 volumes."""
    if shape.type_name == "structure":
        for name, each in value.items():
            if name == "Tags" and not each:
                continue  # EC2 tells no empty set of tags
            member = shape.members[name]
            tag = member.serialization.get("name", name)
            yield from ("<", tag, ">", *xml(member, each), "</", tag, ">")
    elif shape.type_name == "list":
        for each in value:
            yield from ("<item>", *xml(shape.member, each), "</item>")
    else:
        yield saxutils.escape(_text(value), {"\r": "&#13;"})


class Responses:
    """What replaces methods of moto's EC2Response: one per API action, strict where moto's is lax."""

    def asked(self: Any, name: str, default: Any = None) -> Any:
        return self._get_param(name, default)

    def dry_run(self: Any) -> None:
        if self._get_param("DryRun", False):
            raise DryRunClientError()

    def instance(self: Any, instance_id: str) -> Any:
        if not re.fullmatch(r"i-[0-9a-f]{8}([0-9a-f]{9})?", instance_id):
            raise refuse("instance_malformed", instance_id)
        found = self.ec2_backend.get_instance_by_id(instance_id)
        if found is None:
            raise refuse("instance_unknown", instance_id)
        return found

    def limited_filters(self: Any) -> list[Any]:
        wanted = self.asked("Filters", [])
        if len(wanted) > 50:
            raise refuse("filters", "filters", 50)
        for each in wanted:
            if len(each.get("Values", [])) > 200:
                raise refuse("filters", "values of a filter", 200)
        return list(wanted)

    def page_size(self: Any, ids: str, smallest: int, largest: int) -> int:
        size = self.asked("MaxResults")
        if size is None:
            return behaviour.page
        if self.asked(ids):
            raise refuse("page_of_ids", ids)
        if int(size) < smallest:
            raise refuse("page", size, smallest)
        return min(int(size), largest, behaviour.page)

    def paged(self: Any, name: str, rows: Callable[[], list[Any]], size: int) -> str:
        """A page of rows; what is left is kept as it was when first asked for, under the token that is told."""
        token = self.asked("NextToken")
        if token and token not in pages:
            raise refuse("token_unknown", token)
        left = pages[token] if token else rows()
        reply: dict[str, Any] = {name: left[:size]}
        if left[size:]:
            reply["NextToken"] = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()
            pages[reply["NextToken"]] = left[size:]
        operation = get_service_model("ec2").operation_model(self._get_action())
        return "".join(
            (
                '<?xml version="1.0" encoding="UTF-8"?>\n<%sResponse xmlns="%s">' % (operation.name, NAMESPACE),
                "<requestId>%s</requestId>" % uuid.uuid4(),
                *xml(operation.output_shape, reply),
                "</%sResponse>" % operation.name,
            )
        )

    def describe_volumes(self: Any) -> str:
        self.dry_run()
        wanted, ids = self.limited_filters(), self.asked("VolumeIds", [])

        def rows() -> list[Any]:
            scope = [self.ec2_backend.get_volume(i) for i in dict.fromkeys(ids)]
            seen = [(v, v.looked_at()) for v in scope or list(self.ec2_backend.volumes.values())]
            missing = [v.id for v, row in seen if row is None]
            if ids and missing:
                raise refuse("volume_unknown", missing[0])
            return filtered([row for _id, row in seen if row is not None], wanted, VOLUME_FILTERS)

        return self.paged("Volumes", rows, self.page_size("VolumeIds", 5, 1000))

    def describe_volumes_modifications(self: Any) -> str:
        self.dry_run()
        wanted, ids = self.limited_filters(), self.asked("VolumeIds", [])

        def rows() -> list[Any]:
            scope = [self.ec2_backend.get_volume(i) for i in dict.fromkeys(ids)]
            for volume in scope:
                if not volume.modifications:
                    raise refuse("never_modified", volume.id)
            newest = [v.modifications[-1] for v in scope or self.ec2_backend.volumes.values() if v.modifications]
            for modification in newest:
                modification.step()
            return filtered([m.row() for m in newest], wanted, MODIFICATION_FILTERS)

        return self.paged("VolumesModifications", rows, self.page_size("VolumeIds", 1, 500))

    def describe_instances(self: Any) -> ActionResult:
        self.limited_filters()
        self.page_size("InstanceIds", 5, 1000)
        ids = self.asked("InstanceIds", [])
        for instance_id in ids:
            self.instance(instance_id)
        if not self.asked("NextToken"):
            seen: list[Any] = []
            for volume in list(self.ec2_backend.volumes.values()):
                known = volume.stale.get("attachments", [0, {}])[1].get("Attachments", [])
                where = {a.instance.id for a in volume.attached} | {row["InstanceId"] for row in known}
                if where and (not ids or where & set(ids)):
                    seen += (volume.looked_at() or {}).get("Attachments", [])
            self.ec2_backend.seen_rows = seen
        reply: ActionResult = _describe_instances(self)
        return reply

    def create_volume(self: Any) -> ActionResult:
        token = self.asked("ClientToken")
        told = {k: v for k, v in self.params.items() if k not in ("ClientToken", "Action", "Version", "DryRun")}
        key = (self.ec2_backend.account_id, self.ec2_backend.region_name, token)
        self.dry_run()
        if token and key in tokens:
            if tokens[key][0] != told:
                raise refuse("token", token)
            return ActionResult(copy.deepcopy(tokens[key][1]))
        zone = self.asked("AvailabilityZone")
        for each in self.ec2_backend.describe_availability_zones():
            if each.zone_id == self.asked("AvailabilityZoneId"):
                zone = each.name
        if not zone:
            raise refuse("missing", "availabilityZone")
        tags = self._parse_tag_specification("volume").get("volume", {})
        check_tags(tags)
        volume = self.ec2_backend.create_volume(
            size=self.asked("Size"),
            zone_name=zone,
            snapshot_id=self.asked("SnapshotId"),
            encrypted=bool(self.asked("Encrypted", False)),
            kms_key_id=self.asked("KmsKeyId"),
            volume_type=self.asked("VolumeType"),
            iops=self.asked("Iops"),
            throughput=self.asked("Throughput"),
            multi_attach_enabled=self.asked("MultiAttachEnabled"),
        )
        _create_tags(self.ec2_backend, [volume.id], tags)
        volume.hidden = behaviour.volume_lag
        volume.fails = behaviour.fail_creations > 0
        if volume.fails:
            behaviour.fail_creations -= 1
        reply = {**volume.row(), "State": "creating"}
        volume.begin("creating", behaviour.creating)
        if token:
            tokens[key] = (copy.deepcopy(told), copy.deepcopy(reply))
        return ActionResult(reply)

    def create_tags(self: Any) -> ActionResult:
        check_tags({tag["Key"]: tag.get("Value", "") for tag in self.asked("Tags", [])})
        for resource in self.asked("Resources", []):
            if resource.startswith("vol-"):
                self.ec2_backend.get_volume(resource)
            elif resource.startswith("i-"):
                self.instance(resource)
        reply: ActionResult = _answer_create_tags(self)
        return reply

    def delete_volume(self: Any) -> ActionResult:
        volume = self.ec2_backend.get_volume(self.asked("VolumeId"))
        self.dry_run()
        if volume.attached:
            raise refuse("delete_attached", volume.id, volume.attached[0].instance.id)
        if volume.phase in ("creating", "deleting"):
            raise refuse("not_available", volume.id, volume.phase)
        volume.begin("deleting", behaviour.deleting)
        return EmptyResult()

    def attach_volume(self: Any) -> ActionResult:
        volume = self.ec2_backend.get_volume(self.asked("VolumeId"))
        instance, device = self.instance(self.asked("InstanceId")), self.asked("Device")
        self.dry_run()
        if volume.phase:
            raise refuse("not_available", volume.id, volume.phase)
        if instance.state not in ("running", "stopped"):
            raise refuse("not_running", instance.id)
        if volume.zone.name != instance.availability_zone:
            raise refuse("zone", volume.id, instance.id)
        there = [a.instance.id for a in volume.attached]
        if instance.id in there or (there and not volume.spec.multi_attach):
            raise refuse("attached", volume.id)
        if volume.modifications and volume.modifications[-1].state == "modifying":
            raise refuse("attach_modifying", volume.id)
        nitro = INSTANCE_TYPES.get(instance.instance_type, {})
        is_nitro = nitro.get("Hypervisor") == "nitro" or bool(nitro.get("BareMetal"))
        if volume.spec.multi_attach and not is_nitro:
            raise refuse("not_nitro", instance.instance_type)
        if len(there) >= MULTI_ATTACH_LIMIT:
            raise refuse("multi_attach_full", volume.id, len(there))
        if not DEVICE.fullmatch(device):
            raise refuse("device_invalid", device)
        if device in instance.block_device_mapping:
            raise refuse("device_taken", device)
        if volume.spec.multi_attach and device == instance.root_device_name:
            raise refuse("multi_attach_root", volume.id)
        if is_nitro and len(instance.block_device_mapping) + len(instance.nics) >= NITRO_SLOTS:
            raise refuse("instance_full", instance.id)
        volume.keep("attachments", behaviour.attachment_lag, seen_attachments(volume))
        attachment = self.ec2_backend.attach_volume(volume.id, instance.id, device)
        attachment.begin("attaching", behaviour.attaching)
        return ActionResult({**attachment.row(), "State": "attaching"})

    def detach_volume(self: Any) -> ActionResult:
        volume = self.ec2_backend.get_volume(self.asked("VolumeId"))
        instance_id, device, force = self.asked("InstanceId"), self.asked("Device"), self.asked("Force", False)
        if instance_id:
            self.instance(instance_id)
        self.dry_run()
        if volume.spec.multi_attach and not instance_id:
            raise refuse("which_instance", volume.id)
        if not volume.attached:
            raise refuse("not_attached", volume.id)
        found = [a for a in volume.attached if instance_id in (None, a.instance.id) and device in (None, a.device)]
        if not found:
            raise refuse("not_there", volume.id, instance_id or device)
        attachment = found[0]
        instance = attachment.instance
        if attachment.device == instance.root_device_name and instance.state != "stopped":
            raise refuse("root", volume.id, instance.id)
        if attachment.state == "attaching" or (attachment.state == "detaching" and not force):
            raise refuse("attachment_moving", volume.id, attachment.state)
        if force:
            behaviour.stuck = [pair for pair in behaviour.stuck if pair != [instance.id, volume.id]]
        volume.keep("attachments", behaviour.attachment_lag, seen_attachments(volume))
        attachment.begin("detaching", behaviour.detaching)
        return ActionResult({**attachment.row(), "State": "detaching"})

    def modify_volume(self: Any) -> ActionResult:
        volume = self.ec2_backend.get_volume(self.asked("VolumeId"))
        asked = [self.asked(name) for name in ("Size", "VolumeType", "Iops", "Throughput", "MultiAttachEnabled")]
        self.dry_run()
        if volume.phase:
            raise refuse("not_available", volume.id, volume.phase)
        if all(value is None for value in asked):
            raise refuse("nothing_asked", volume.id)
        target = modified(volume, *asked)
        newest = volume.modifications[-1] if volume.modifications else None
        if newest and newest.state in ("modifying", "optimizing"):
            raise refuse("under_way", volume.id, newest.state.upper())
        now = time.time() + behaviour.clock
        volume.began = [when for when in volume.began if when > now - DAY]
        if len(volume.began) >= behaviour.modification_budget:
            raise refuse("budget", volume.id, len(volume.began))
        volume.began.append(now)
        modification = Modification(volume, target)
        volume.modifications.append(modification)
        reply = modification.row()
        if not modification.left:
            modification.step()
        return ActionResult({"VolumeModification": reply})


def every_volume() -> list[tuple[str, Volume]]:
    """Of all accounts and regions that were asked for: (region, volume)."""
    return [
        (region, volume)
        for account in ec2_backends.values()
        for region, backend in account.items()
        for volume in list(backend.volumes.values())
    ]


_create_tags, _delete_tags = EC2Backend.create_tags, EC2Backend.delete_tags
_create_snapshot, _describe_instances = EC2Backend.create_snapshot, EC2Response.describe_instances
_answer_create_tags = EC2Response.create_tags


def install() -> None:
    """Puts all this into moto, in this process."""
    for source, target in ((Backend, EC2Backend), (Responses, EC2Response)):
        for name, method in vars(source).items():
            if not name.startswith("__"):
                setattr(target, name, method)
    moto_instances.Instance.teardown_defaults = terminate
    moto_instances.Instance.block_device_mappings = property(shown_mappings)
    moto_ebs.Snapshot.volume_size = property(lambda self: getattr(self, "size_taken", self.volume.size))
    # filters of DescribeInstances that moto lacks
    moto_instances.Instance.mapped_volumes = property(lambda self: [m["Ebs"]["VolumeId"] for m in shown_mappings(self)])
    moto_utils.filter_dict_attribute_mapping["block-device-mapping.volume-id"] = "mapped_volumes"
    moto_utils.filter_dict_attribute_mapping["root-device-name"] = "root_device_name"
