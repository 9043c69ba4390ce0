# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The double of EC2 is as strict as AWS documents: each rule asked over HTTP by boto3, as a user of it asks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any, Iterator

import botocore.exceptions
import pytest

from ansible_collections.bulkhead.storage.tests.support import ec2

ZONE = "us-east-1a"
AT_ONCE = {"creating": 0, "attaching": 0, "detaching": 0, "deleting": 0, "modifying": 0, "optimizing": 0}
IO2 = {"VolumeType": "io2", "Size": 10, "Iops": 1000}
SHARED = {**IO2, "MultiAttachEnabled": True}
NOWHERE = "vol-0123456789abcdef0"


@pytest.fixture(scope="module")
def running() -> Iterator[ec2.EC2]:
    with ec2.double() as cloud:
        yield cloud


@pytest.fixture
def cloud(running: ec2.EC2) -> ec2.EC2:
    """As freshly started."""
    running.reset()
    return running


@pytest.fixture
def api(cloud: ec2.EC2) -> Any:
    return cloud.client()


@pytest.fixture
def quick(cloud: ec2.EC2) -> ec2.EC2:
    """Nothing takes time: for the rules that are not about time."""
    cloud.settings(**AT_ONCE)
    return cloud


def code(call: Any, **arguments: Any) -> str:
    """The code with which a call is refused, or ``ok``."""
    try:
        call(**arguments)
    except botocore.exceptions.ClientError as error:
        return str(error.response["Error"]["Code"])
    return "ok"


def volume(api: Any, **more: Any) -> str:
    return str(api.create_volume(**{"AvailabilityZone": ZONE, "Size": 10, "VolumeType": "gp3", **more})["VolumeId"])


def attach(api: Any, volume_id: str, instance_id: str, device: str = "/dev/sdf") -> str:
    return code(api.attach_volume, VolumeId=volume_id, InstanceId=instance_id, Device=device)


def detach(api: Any, volume_id: str, **more: Any) -> str:
    return code(api.detach_volume, VolumeId=volume_id, **more)


def modify(api: Any, volume_id: str, **more: Any) -> str:
    return code(api.modify_volume, VolumeId=volume_id, **more)


def seen(api: Any, volume_id: str) -> Any:
    return api.describe_volumes(VolumeIds=[volume_id])["Volumes"][0]


def found(api: Any, **filters: Any) -> list[str]:
    asked = [{"Name": n.replace("_", "-"), "Values": v if isinstance(v, list) else [v]} for n, v in filters.items()]
    return [v["VolumeId"] for v in api.describe_volumes(Filters=asked)["Volumes"]]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"VolumeType": "gp3", "Size": 1}, "ok"),
        ({"VolumeType": "gp3", "Size": 65536, "Iops": 80000, "Throughput": 2000}, "ok"),
        ({"VolumeType": "gp3", "Size": 65537}, "InvalidParameterValue"),
        ({"VolumeType": "gp3", "Size": 0}, "InvalidParameterValue"),
        ({"VolumeType": "gp3", "Iops": 2999}, "InvalidParameterValue"),
        ({"VolumeType": "gp3", "Size": 1000, "Iops": 80001}, "InvalidParameterValue"),
        ({"VolumeType": "gp3", "Iops": 5000}, "ok"),
        ({"VolumeType": "gp3", "Iops": 5001}, "InvalidParameterValue"),
        ({"VolumeType": "gp3", "Size": 1, "Iops": 3000}, "ok"),
        ({"VolumeType": "gp3", "Throughput": 124}, "InvalidParameterValue"),
        ({"VolumeType": "gp3", "Throughput": 750}, "ok"),
        ({"VolumeType": "gp3", "Throughput": 751}, "InvalidParameterValue"),
        ({"VolumeType": "gp3", "Size": 200, "Iops": 80000, "Throughput": 2001}, "InvalidParameterValue"),
        ({"VolumeType": "gp2", "Size": 16384}, "ok"),
        ({"VolumeType": "gp2", "Size": 16385}, "InvalidParameterValue"),
        ({"VolumeType": "gp2", "Iops": 3000}, "InvalidParameterCombination"),
        ({"VolumeType": "gp2", "Throughput": 125}, "InvalidParameterCombination"),
        ({"VolumeType": "io1", "Size": 4, "Iops": 200}, "ok"),
        ({"VolumeType": "io1", "Size": 4, "Iops": 201}, "InvalidParameterValue"),
        ({"VolumeType": "io1", "Size": 16384, "Iops": 64000}, "ok"),
        ({"VolumeType": "io1", "Size": 16385, "Iops": 64000}, "InvalidParameterValue"),
        ({"VolumeType": "io1", "Size": 16384, "Iops": 64001}, "InvalidParameterValue"),
        ({"VolumeType": "io1"}, "MissingParameter"),
        ({"VolumeType": "io2"}, "MissingParameter"),
        ({"VolumeType": "io2", "Size": 3, "Iops": 100}, "InvalidParameterValue"),
        ({"VolumeType": "io2", "Size": 4, "Iops": 99}, "InvalidParameterValue"),
        ({"VolumeType": "io2", "Size": 4, "Iops": 4000}, "ok"),
        ({"VolumeType": "io2", "Size": 4, "Iops": 4001}, "InvalidParameterValue"),
        ({"VolumeType": "io2", "Size": 65536, "Iops": 256000}, "ok"),
        ({"VolumeType": "io2", "Size": 65536, "Iops": 256001}, "InvalidParameterValue"),
        ({"VolumeType": "io2", "Iops": 1000, "Throughput": 125}, "InvalidParameterCombination"),
        ({"VolumeType": "st1", "Size": 125}, "ok"),
        ({"VolumeType": "st1", "Size": 124}, "InvalidParameterValue"),
        ({"VolumeType": "sc1", "Size": 125, "Iops": 100}, "InvalidParameterCombination"),
        ({"VolumeType": "sc1", "Size": 16385}, "InvalidParameterValue"),
        ({"VolumeType": "standard", "Size": 1024}, "ok"),
        ({"VolumeType": "standard", "Size": 1025}, "InvalidParameterValue"),
        ({"VolumeType": "standard", "Iops": 100}, "InvalidParameterCombination"),
        ({"VolumeType": "gp9"}, "UnknownVolumeType"),
        ({"AvailabilityZone": "us-east-1z"}, "InvalidZone.NotFound"),
        ({"AvailabilityZone": "eu-west-1a"}, "InvalidZone.NotFound"),
        ({"AvailabilityZone": ""}, "MissingParameter"),
        ({"KmsKeyId": "alias/tenant"}, "InvalidParameterDependency"),
        ({"KmsKeyId": "alias/tenant", "Encrypted": True}, "ok"),
        ({"SnapshotId": "snap-0123456789abcdef0"}, "InvalidSnapshot.NotFound"),
        ({"MultiAttachEnabled": True}, "InvalidParameterCombination"),
        ({**SHARED, "VolumeType": "io1", "Iops": 500}, "ok"),
        (SHARED, "ok"),
        ({"DryRun": True}, "DryRunOperation"),
        ({"tag": ("aws:x", "y")}, "InvalidParameterValue"),
        ({"tag": ("x", "y" * 256)}, "InvalidParameterValue"),
    ],
    ids=str,
)
def test_what_a_volume_may_be(quick: ec2.EC2, api: Any, arguments: dict[str, Any], expected: str) -> None:
    asked = {"AvailabilityZone": ZONE, "Size": 10, "VolumeType": "gp3", **arguments}
    key, value = asked.pop("tag", ("Name", "x"))
    tags = [{"ResourceType": "volume", "Tags": [{"Key": key, "Value": value}]}]
    assert code(api.create_volume, TagSpecifications=tags, **asked) == expected
    assert len(quick.volumes()) == (expected == "ok")


def test_a_volume_needs_a_size_and_has_the_defaults_of_its_type(quick: ec2.EC2, api: Any) -> None:
    assert code(api.create_volume, AvailabilityZone=ZONE) == "MissingParameter"
    gp2 = seen(api, api.create_volume(AvailabilityZoneId="use1-az6", Size=500)["VolumeId"])
    assert (gp2["VolumeType"], gp2["Iops"], gp2["AvailabilityZone"]) == ("gp2", 1500, ZONE)
    assert "Throughput" not in gp2 and "KmsKeyId" not in gp2 and "Tags" not in gp2
    gp3 = seen(api, volume(api, Encrypted=True))
    assert (gp3["Iops"], gp3["Throughput"]) == (3000, 125)
    assert gp3["KmsKeyId"].startswith("arn:aws:kms:us-east-1:")
    arn = "arn:aws:kms:us-east-1:123456789012:key/1234"
    for told in (arn, "1234"):
        assert seen(api, volume(api, Encrypted=True, KmsKeyId=told))["KmsKeyId"] == arn
    assert "Iops" not in seen(api, volume(api, VolumeType="st1", Size=125))


def test_a_volume_is_not_smaller_than_its_snapshot(quick: ec2.EC2, api: Any) -> None:
    source = volume(api, Size=20)
    snapshot = api.create_snapshot(VolumeId=source)["SnapshotId"]
    modify(api, source, Size=30)
    asked = {"AvailabilityZone": ZONE, "SnapshotId": snapshot}
    assert api.create_volume(**asked)["Size"] == 20
    assert code(api.create_volume, Size=19, **asked) == "InvalidParameterValue"
    assert code(api.create_volume, Size=20, **asked) == "ok"


def test_one_client_token_is_one_volume(quick: ec2.EC2, api: Any) -> None:
    first = volume(api, ClientToken="t")
    assert volume(api, ClientToken="t") == first
    asked = {"AvailabilityZone": ZONE, "VolumeType": "gp3", "ClientToken": "t"}
    assert code(api.create_volume, Size=11, **asked) == "IdempotentParameterMismatch"
    assert list(quick.volumes()) == [first]
    elsewhere = quick.client(region="eu-west-1")
    assert volume(elsewhere, AvailabilityZone="eu-west-1a", ClientToken="t") != first


def test_states_last_so_many_looks(cloud: ec2.EC2, api: Any) -> None:
    cloud.settings(creating=3, attaching=2, detaching=1, deleting=2)
    (instance,) = cloud.instances()
    reply = api.create_volume(AvailabilityZone=ZONE, Size=1)
    new = reply["VolumeId"]
    assert reply["State"] == "creating"
    assert code(api.delete_volume, VolumeId=new) == modify(api, new, Size=2) == "IncorrectState"
    assert [seen(api, new)["State"] for _each in range(3)] == ["creating"] * 3
    assert attach(api, new, instance) == "IncorrectState"  # nobody has seen it available
    assert seen(api, new)["State"] == "available"

    def state() -> Any:
        row = seen(api, new)
        return row["State"], [a["State"] for a in row["Attachments"]]

    assert attach(api, new, instance) == "ok"
    assert detach(api, new, InstanceId=instance) == "IncorrectState"
    assert [state() for _each in range(3)] == [("in-use", ["attaching"])] * 2 + [("in-use", ["attached"])]
    assert detach(api, new, InstanceId=instance) == "ok"
    assert detach(api, new, InstanceId=instance) == "IncorrectState"
    assert code(api.delete_volume, VolumeId=new) == "VolumeInUse"
    assert [state() for _each in range(2)] == [("in-use", ["detaching"]), ("available", [])]
    assert code(api.delete_volume, VolumeId=new) == "ok"
    assert code(api.delete_volume, VolumeId=new) == attach(api, new, instance) == "IncorrectState"
    assert [state() for _each in range(2)] == [("deleting", [])] * 2
    assert code(api.describe_volumes, VolumeIds=[new]) == "InvalidVolume.NotFound"
    assert new not in cloud.volumes()


def test_by_default_nothing_is_done_at_the_first_look(cloud: ec2.EC2, api: Any) -> None:
    new = volume(api)
    assert seen(api, new)["State"] == "creating"
    cloud.settle()
    assert seen(api, new)["State"] == "available"
    (instance,) = cloud.instances()
    attach(api, new, instance)
    assert cloud.attached(new) == {instance: "attaching"}
    mapping = api.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]["BlockDeviceMappings"]
    assert {m["Ebs"]["VolumeId"]: m["Ebs"]["Status"] for m in mapping}[new] == "attaching"
    assert seen(api, new)["Attachments"][0]["State"] == "attaching"
    assert seen(api, new)["Attachments"][0]["State"] == "attached"
    modify(api, new, Size=11)
    assert seen(api, new)["Size"] == 10
    detach(api, new)
    assert seen(api, new)["State"] == "in-use"


def test_a_creation_may_fail(cloud: ec2.EC2, api: Any) -> None:
    cloud.settings(fail_creations=1, creating=1)
    bad, good = volume(api), volume(api)
    assert [seen(api, bad)["State"] for _each in range(2)] == ["creating", "error"]
    assert [seen(api, good)["State"] for _each in range(2)] == ["creating", "available"]
    assert attach(api, bad, cloud.instances()[0]) == "IncorrectState"
    assert code(api.delete_volume, VolumeId=bad) == "ok"


def test_several_attachments_are_all_told(quick: ec2.EC2, api: Any) -> None:
    three = quick.instances(3)
    shared = volume(api, **SHARED)
    assert [attach(api, shared, i) for i in three] == ["ok"] * 3
    assert [a["InstanceId"] for a in seen(api, shared)["Attachments"]] == three
    for instance in three:
        assert shared in found(api, **{"attachment.instance-id": instance})
        row = api.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
        assert row["BlockDeviceMappings"][1]["Ebs"]["VolumeId"] == shared
    assert attach(api, shared, three[1], "/dev/sdg") == "VolumeInUse"
    assert detach(api, shared) == "MissingParameter"
    assert detach(api, shared, InstanceId=three[1]) == "ok"
    assert quick.attached(shared) == {three[0]: "attached", three[2]: "attached"}
    assert detach(api, shared, InstanceId=three[1]) == "InvalidAttachment.NotFound"
    asked = [{"Name": "block-device-mapping.volume-id", "Values": [shared]}]
    rows = api.describe_instances(Filters=asked)["Reservations"]
    assert {i["InstanceId"] for r in rows for i in r["Instances"]} == {three[0], three[2]}


def test_a_volume_is_attached_to_16_at_most(quick: ec2.EC2, api: Any) -> None:
    shared = volume(api, **SHARED)
    assert [attach(api, shared, i) for i in quick.instances(17)] == ["ok"] * 16 + ["AttachmentLimitExceeded"]
    assert len(quick.attached(shared)) == 16


def test_an_instance_has_28_slots(quick: ec2.EC2, api: Any) -> None:
    (instance,) = quick.instances()
    devices = ["/dev/xvd" + a + b for a in "bc" for b in "abcdefghijklmn"][:27]
    said = [attach(api, volume(api), instance, device) for device in devices]
    assert said == ["ok"] * 26 + ["AttachmentLimitExceeded"]


@pytest.mark.parametrize(
    ("asked", "world", "device", "expected"),
    [
        (SHARED, {"kind": "m5.large"}, "/dev/sdf", "ok"),
        (SHARED, {"kind": "m5.metal"}, "/dev/sdf", "ok"),
        (SHARED, {"kind": "t2.micro"}, "/dev/sdf", "UnsupportedOperation"),
        ({}, {"kind": "t2.micro"}, "/dev/sdf", "ok"),
        ({}, {"zone": "us-east-1b"}, "/dev/sdf", "InvalidVolume.ZoneMismatch"),
        ({}, {"state": "stopped"}, "/dev/sdf", "ok"),
        ({}, {"state": "pending"}, "/dev/sdf", "IncorrectState"),
        ({}, {"state": "stopping"}, "/dev/sdf", "IncorrectState"),
        ({}, {"state": "shutting-down"}, "/dev/sdf", "IncorrectState"),
        ({}, {"state": "terminated"}, "/dev/sdf", "IncorrectState"),
        ({}, {}, "/dev/sda1", "InvalidParameterValue"),
        ({}, {}, "sdf", "InvalidParameterValue"),
        ({}, {}, "/dev/nvme1n1", "InvalidParameterValue"),
        ({}, {}, "/dev/xvdba", "ok"),
        ({}, {}, "/dev/sdf16", "InvalidParameterValue"),
    ],
    ids=str,
)
def test_what_may_be_attached(
    quick: ec2.EC2, api: Any, asked: dict[str, Any], world: dict[str, str], device: str, expected: str
) -> None:
    (instance,) = quick.instances(**world)
    new = volume(api, **asked)
    assert attach(api, new, instance, device) == expected
    assert quick.attached(new) == ({instance: "attached"} if expected == "ok" else {})


def test_a_volume_that_is_not_shared_is_attached_once(quick: ec2.EC2, api: Any) -> None:
    one, other = quick.instances(2)
    for asked in ({}, IO2):
        new = volume(api, **asked)
        device = "/dev/sdg" if asked else "/dev/sdf"
        assert [attach(api, new, i, device) for i in (one, other, one)] == ["ok", "VolumeInUse", "VolumeInUse"]
        assert quick.attached(new) == {one: "attached"}
    assert attach(api, volume(api), one, "/dev/sdg") == "InvalidParameterValue"


def test_the_root_volume(quick: ec2.EC2, api: Any) -> None:
    (instance,) = quick.instances()
    (root,) = quick.volumes()
    row = api.describe_instances()["Reservations"][0]["Instances"][0]
    assert (row["RootDeviceName"], row["Placement"]["AvailabilityZone"], row["InstanceType"]) == (
        "/dev/sda1",
        ZONE,
        "m5.large",
    )
    assert detach(api, root, InstanceId=instance, Force=True) == "OperationNotPermitted"
    api.stop_instances(InstanceIds=[instance])
    assert detach(api, root, InstanceId=instance) == "ok"
    assert attach(api, volume(api, **SHARED), instance, "/dev/sda1") == "InvalidParameterValue"
    assert attach(api, root, instance, "/dev/sda1") == "ok"


def test_what_may_be_detached(quick: ec2.EC2, api: Any) -> None:
    one, other = quick.instances(2)
    new = volume(api)
    assert detach(api, new) == detach(api, new, InstanceId=one) == "IncorrectState"
    attach(api, new, one)
    assert detach(api, new, InstanceId=other) == "InvalidAttachment.NotFound"
    assert detach(api, new, InstanceId=one, Device="/dev/sdg") == "InvalidAttachment.NotFound"
    assert quick.attached(new) == {one: "attached"}
    assert detach(api, new) == "ok"
    assert quick.attached(new) == {}


def test_a_stuck_detach_ends_with_force_and_only_there(cloud: ec2.EC2, api: Any) -> None:
    one, other = cloud.instances(2)
    shared = volume(api, **SHARED)
    cloud.settle()
    assert [attach(api, shared, i) for i in (one, other)] == ["ok", "ok"]
    cloud.settle()
    cloud.stick(one, shared)
    assert [detach(api, shared, InstanceId=i) for i in (one, other)] == ["ok", "ok"]
    for _each in range(10):
        seen(api, shared)
    cloud.settle()
    assert cloud.attached(shared) == {one: "detaching"}
    assert detach(api, shared, InstanceId=one, Force=True) == "ok"
    states = [[a["State"] for a in seen(api, shared)["Attachments"]] for _each in range(3)]
    assert states == [["detaching"], ["detaching"], []]


def test_termination_detaches(cloud: ec2.EC2, api: Any) -> None:
    one, other = cloud.instances(2)
    shared = volume(api, **SHARED)
    cloud.settle()
    for instance in (one, other):
        attach(api, shared, instance)
    cloud.settle()
    api.terminate_instances(InstanceIds=[one])
    assert cloud.attached(shared) == {one: "detaching", other: "attached"}
    assert len(cloud.volumes()) == 2  # its root volume went with it
    cloud.settle()
    assert cloud.attached(shared) == {other: "attached"}


def test_a_modification_passes_through_its_states(cloud: ec2.EC2, api: Any) -> None:
    cloud.settings(modifying=2, optimizing=1)
    (instance,) = cloud.instances()
    new = volume(api)
    cloud.settle()

    def state() -> Any:
        (row,) = api.describe_volumes_modifications(VolumeIds=[new])["VolumesModifications"]
        return row["ModificationState"], row["Progress"], cloud.volumes()[new]["Size"]

    assert code(api.describe_volumes_modifications, VolumeIds=[new]) == "InvalidVolumeModification.NotFound"
    assert api.describe_volumes_modifications()["VolumesModifications"] == []
    reply = api.modify_volume(VolumeId=new, Size=20, Iops=4000)["VolumeModification"]
    assert (reply["ModificationState"], reply["OriginalSize"], reply["TargetSize"]) == ("modifying", 10, 20)
    assert (reply["OriginalIops"], reply["TargetIops"], reply["TargetThroughput"]) == (3000, 4000, 125)
    assert modify(api, new, Size=30) == "IncorrectModificationState"
    assert attach(api, new, instance) == "IncorrectState"
    assert [state() for _each in range(3)] == [("modifying", 0, 10)] * 2 + [("optimizing", 50, 20)]
    assert modify(api, new, Size=30) == "IncorrectModificationState"
    assert attach(api, new, instance) == "ok"
    assert state() == ("completed", 100, 20)
    done = api.describe_volumes_modifications(Filters=[{"Name": "modification-state", "Values": ["completed"]}])
    assert [m["VolumeId"] for m in done["VolumesModifications"]] == [new]
    assert done["VolumesModifications"][0]["EndTime"]
    assert modify(api, new, Size=30) == "ok"
    for _each in range(3):
        seen(api, new)
    assert cloud.volumes()[new]["Size"] == 30  # a look at the volume moves time on as well


def test_a_modification_may_fail(cloud: ec2.EC2, api: Any) -> None:
    new = volume(api)
    cloud.settle()
    cloud.settings(fail_modifications=1)
    modify(api, new, Size=20)
    cloud.settle()
    (row,) = api.describe_volumes_modifications(VolumeIds=[new])["VolumesModifications"]
    assert (row["ModificationState"], seen(api, new)["Size"]) == ("failed", 10)
    assert modify(api, new, Size=20) == "ok"


def test_the_budget_of_modifications(quick: ec2.EC2, api: Any) -> None:
    new, other = volume(api), volume(api)
    assert [modify(api, new, Size=size) for size in (11, 12, 13, 14)] == ["ok"] * 4
    assert modify(api, new, Size=15) == "VolumeModificationRateExceeded"
    assert modify(api, other, Size=15) == "ok"
    quick.pass_time(23 * 3600)
    assert modify(api, new, Size=15) == "VolumeModificationRateExceeded"
    quick.pass_time(3601)
    assert modify(api, new, Size=15) == "ok"
    assert quick.volumes()[new]["Size"] == 15


@pytest.mark.parametrize(
    ("before", "asked", "expected"),
    [
        ({}, {"Size": 9}, "InvalidParameterValue"),
        ({}, {"Size": 0}, "InvalidParameterValue"),
        ({}, {}, "InvalidParameterCombination"),
        ({}, {"Size": 65537}, "InvalidParameterValue"),
        ({}, {"Throughput": 800}, "InvalidParameterValue"),
        ({}, {"Throughput": 800, "Iops": 3200}, "ok"),
        ({}, {"VolumeType": "gp9"}, "UnknownVolumeType"),
        ({}, {"VolumeType": "st1"}, "InvalidParameterValue"),
        ({}, {"VolumeType": "st1", "Size": 125}, "ok"),
        ({}, {"VolumeType": "io2"}, "ok"),
        ({}, {"VolumeType": "io2", "MultiAttachEnabled": True}, "ok"),
        ({}, {"VolumeType": "gp2", "Iops": 3000}, "InvalidParameterCombination"),
        ({}, {"MultiAttachEnabled": True}, "InvalidParameterCombination"),
        ({"VolumeType": "gp2"}, {"VolumeType": "gp3"}, "ok"),
        (IO2, {"Iops": 10001}, "InvalidParameterValue"),
        (IO2, {"MultiAttachEnabled": True}, "ok"),
        (IO2, {"VolumeType": "gp3"}, "ok"),
        (SHARED, {"MultiAttachEnabled": False}, "ok"),
        (SHARED, {"VolumeType": "gp3"}, "InvalidParameterCombination"),
        (SHARED, {"VolumeType": "gp3", "MultiAttachEnabled": False}, "InvalidParameterCombination"),
        (SHARED, {"Size": 20, "Iops": 2000}, "ok"),
        ({**SHARED, "VolumeType": "io1", "Iops": 500}, {"MultiAttachEnabled": False}, "InvalidParameterCombination"),
        ({**SHARED, "VolumeType": "io1", "Iops": 500}, {"Size": 20}, "InvalidParameterCombination"),
        ({**SHARED, "VolumeType": "io1", "Iops": 500}, {"Iops": 400}, "InvalidParameterCombination"),
        ({"VolumeType": "io1", "Iops": 500}, {"MultiAttachEnabled": True}, "InvalidParameterCombination"),
        ({"VolumeType": "io1", "Iops": 500}, {"VolumeType": "io2"}, "ok"),
        ({}, {"Size": 11, "DryRun": True}, "DryRunOperation"),
    ],
    ids=str,
)
def test_what_a_volume_may_become(
    quick: ec2.EC2, api: Any, before: dict[str, Any], asked: dict[str, Any], expected: str
) -> None:
    new = volume(api, **before)
    was = quick.volumes()[new]
    assert modify(api, new, **asked) == expected
    now = quick.volumes()[new]
    if expected == "ok":
        assert {name: now[name] for name in asked} == asked
    else:
        assert now == was


def test_what_a_type_keeps_and_gets_when_it_changes(quick: ec2.EC2, api: Any) -> None:
    new = volume(api, Size=100, Iops=5000, Throughput=500)
    assert modify(api, new, Size=101) == "ok"
    assert (seen(api, new)["Iops"], seen(api, new)["Throughput"]) == (5000, 500)
    assert modify(api, new, VolumeType="gp2") == "ok"
    assert seen(api, new)["Iops"] == 303 and "Throughput" not in seen(api, new)
    assert modify(api, new, VolumeType="gp3") == "ok"
    assert (seen(api, new)["Iops"], seen(api, new)["Throughput"]) == (3000, 125)


def test_multi_attach_changes_only_when_few_are_attached(quick: ec2.EC2, api: Any) -> None:
    one, other = quick.instances(2)
    new = volume(api, **IO2)
    attach(api, new, one)
    assert modify(api, new, MultiAttachEnabled=True) == "IncorrectState"
    detach(api, new)
    assert modify(api, new, MultiAttachEnabled=True) == "ok"
    assert [attach(api, new, i) for i in (one, other)] == ["ok", "ok"]
    assert modify(api, new, MultiAttachEnabled=False) == "IncorrectState"
    detach(api, new, InstanceId=one)
    assert modify(api, new, MultiAttachEnabled=False) == "ok"
    assert attach(api, new, one) == "VolumeInUse"


def test_what_does_not_exist(quick: ec2.EC2, api: Any) -> None:
    (instance,) = quick.instances()
    new = volume(api)
    assert code(api.describe_volumes, VolumeIds=[new, NOWHERE]) == "InvalidVolume.NotFound"
    assert code(api.describe_volumes, VolumeIds=["vol-x"]) == "InvalidVolumeID.Malformed"
    assert code(api.describe_volumes_modifications, VolumeIds=[NOWHERE]) == "InvalidVolume.NotFound"
    assert code(api.describe_instances, InstanceIds=["i-0123456789abcdef0"]) == "InvalidInstanceID.NotFound"
    assert code(api.describe_instances, InstanceIds=["i-x"]) == "InvalidInstanceID.Malformed"
    assert code(api.delete_volume, VolumeId=NOWHERE) == "InvalidVolume.NotFound"
    assert attach(api, NOWHERE, instance) == detach(api, NOWHERE) == "InvalidVolume.NotFound"
    assert modify(api, NOWHERE, Size=1) == "InvalidVolume.NotFound"
    assert attach(api, new, "i-0123456789abcdef0") == "InvalidInstanceID.NotFound"
    assert detach(api, new, InstanceId="i-x") == "InvalidInstanceID.Malformed"
    tags = [{"Key": "a", "Value": "b"}]
    assert code(api.create_tags, Resources=[new, NOWHERE], Tags=tags) == "InvalidVolume.NotFound"
    assert code(api.create_tags, Resources=[new], Tags=[{"Key": "aws:a", "Value": "b"}]) == "InvalidParameterValue"
    many = [{"Key": "k%d" % n, "Value": ""} for n in range(51)]
    assert code(api.create_tags, Resources=[new], Tags=many) == "TagLimitExceeded"
    assert quick.volumes()[new]["Tags"] == []
    for call in (api.delete_volume, api.detach_volume):
        assert code(call, VolumeId=new, DryRun=True) == "DryRunOperation"
    dry = {"VolumeId": new, "InstanceId": instance, "Device": "/dev/sdf", "DryRun": True}
    assert code(api.attach_volume, **dry) == "DryRunOperation"
    assert code(api.describe_volumes, DryRun=True) == "DryRunOperation"
    assert quick.volumes()[new]["State"] == "available"


def test_filters(quick: ec2.EC2, api: Any) -> None:
    (instance,) = quick.instances()
    (root,) = quick.volumes()
    tags = [{"Key": "Name", "Value": "t7/data*"}, {"Key": "Tenant", "Value": "t7"}]
    a = volume(api, TagSpecifications=[{"ResourceType": "volume", "Tags": tags}], Encrypted=True)
    b = volume(api, **SHARED, AvailabilityZone="us-east-1b")
    attach(api, a, instance, "/dev/sdf")
    for asked, expected in [
        ({"tag:Name": "t7/data*"}, [a]),
        ({"tag:Name": r"t7/data\*"}, [a]),
        ({"tag:Name": r"t7/da\*"}, []),
        ({"tag:Name": "t?/*"}, [a]),
        ({"tag:Name": "T7/data*"}, []),
        ({"tag:name": "*"}, []),
        ({"tag:Tenant": ["t8", "t7"]}, [a]),
        ({"tag-key": "Ten*"}, [a]),
        ({"tag:Name": "*", "status": "available"}, []),
        ({"availability_zone": "us-east-1b"}, [b]),
        ({"availability-zone-id": "use1-az1"}, [b]),
        ({"status": "available"}, [b]),
        ({"status": "in-use"}, [root, a]),
        ({"attachment.instance-id": instance, "attachment.device": "/dev/sdf"}, [a]),
        ({"attachment.delete-on-termination": "true"}, [root]),
        ({"attachment.status": "attached"}, [root, a]),
        ({"encrypted": "true"}, [a]),
        ({"multi-attach-enabled": "true"}, [b]),
        ({"volume-type": "io2"}, [b]),
        ({"volume-id": [a, b]}, [a, b]),
        ({"size": "8"}, [root]),
        ({"create-time": "20*Z"}, [root, a, b]),
    ]:
        assert sorted(found(api, **asked)) == sorted(expected), asked
    asked = [{"Name": "nonsense", "Values": ["x"]}]
    assert code(api.describe_volumes, Filters=asked) == "InvalidParameterValue"
    assert len(found(api, volume_id=[NOWHERE] * 199 + [a])) == 1
    for call in (api.describe_volumes, api.describe_instances, api.describe_volumes_modifications):
        assert code(call, Filters=[{"Name": "tag:a", "Values": ["x"] * 201}]) == "FilterLimitExceeded"
    assert code(api.describe_volumes, Filters=[{"Name": "size", "Values": ["1"]}] * 51) == "FilterLimitExceeded"


def test_pages(quick: ec2.EC2, api: Any) -> None:
    ids = sorted(volume(api) for _each in range(12))
    assert code(api.describe_volumes, MaxResults=4) == "InvalidParameterValue"
    assert code(api.describe_instances, MaxResults=4) == "InvalidParameterValue"
    assert code(api.describe_volumes, MaxResults=5, VolumeIds=ids) == "InvalidParameterCombination"
    assert code(api.describe_volumes, NextToken="x") == "InvalidPaginationToken"
    pages = list(api.get_paginator("describe_volumes").paginate(PaginationConfig={"PageSize": 5}))
    assert [len(page["Volumes"]) for page in pages] == [5, 5, 2]
    assert sorted(v["VolumeId"] for page in pages for v in page["Volumes"]) == ids
    quick.settings(page=7)
    whole = api.describe_volumes()
    assert len(whole["Volumes"]) == 7
    assert len(api.describe_volumes(NextToken=whole["NextToken"])["Volumes"]) == 5


def test_a_new_volume_is_not_seen_at_once(quick: ec2.EC2, api: Any) -> None:
    quick.settings(volume_lag=2)
    new = volume(api)
    assert code(api.describe_volumes, VolumeIds=[new]) == "InvalidVolume.NotFound"
    assert found(api, status="available") == []
    assert found(api, status="available") == [new]
    assert list(quick.volumes()) == [new]


def test_attachments_and_tags_lag(quick: ec2.EC2, api: Any) -> None:
    (instance,) = quick.instances()
    new = volume(api)
    quick.settings(attachment_lag=2, tag_lag=1)
    attach(api, new, instance)
    api.create_tags(Resources=[new], Tags=[{"Key": "a", "Value": "b"}])
    assert quick.attached(new) == {instance: "attached"}
    first, second, third = (seen(api, new) for _each in range(3))
    assert [row["State"] for row in (first, second, third)] == ["available", "available", "in-use"]
    assert [len(row["Attachments"]) for row in (first, second, third)] == [0, 0, 1]
    assert ["Tags" in row for row in (first, second, third)] == [False, True, True]
    detach(api, new)
    api.delete_tags(Resources=[new], Tags=[{"Key": "a"}])
    row = api.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
    assert new in [m["Ebs"]["VolumeId"] for m in row["BlockDeviceMappings"]]
    assert [seen(api, new)["State"] for _each in range(2)] == ["in-use", "available"]
    assert "Tags" not in seen(api, new)


def test_throttled_and_denied(quick: ec2.EC2, api: Any) -> None:
    quick.fault("DescribeVolumes", "throttle", times=2)
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        api.describe_volumes()
    said = caught.value.response
    assert (said["Error"]["Code"], said["ResponseMetadata"]["HTTPStatusCode"]) == ("RequestLimitExceeded", 503)
    assert code(api.describe_volumes) == "RequestLimitExceeded"
    assert code(api.describe_volumes) == "ok"
    quick.fault("DescribeVolumes", "throttle", times=1)
    assert code(quick.client(retries=1).describe_volumes) == "ok"
    quick.fault("*", "unauthorized", times=None)
    assert {code(api.describe_volumes), code(api.describe_instances)} == {"UnauthorizedOperation"}
    assert len(quick.instances()) == 1  # what makes the world is not hit
    quick.no_faults()
    assert code(api.describe_volumes) == "ok"
    assert [call["outcome"] for call in quick.calls("DescribeVolumes")] == [
        "RequestLimitExceeded",
        "RequestLimitExceeded",
        "ok",
        "RequestLimitExceeded",
        "ok",
        "UnauthorizedOperation",
        "ok",
    ]


def test_an_error_for_some_calls_only(quick: ec2.EC2, api: Any) -> None:
    a, b = volume(api), volume(api)
    more = {"code": "VolumeLimitExceeded", "status": 400}
    quick.fault("DeleteVolume", "error", matching={"VolumeId": b}, **more)
    quick.fault("DescribeVolumes", "error", skip=1, **more)
    assert [code(api.delete_volume, VolumeId=v) for v in (a, b, b)] == ["ok", "VolumeLimitExceeded", "ok"]
    assert [code(api.describe_volumes) for _each in range(3)] == ["ok", "VolumeLimitExceeded", "ok"]
    assert quick.faults() == []
    for wrong in ({"kind": "nonsense"}, {"kind": "lost", "nonsense": 1}):
        with pytest.raises(ValueError, match="nonsense"):
            quick.fault("DeleteVolume", **wrong)


def test_an_answer_gets_lost(quick: ec2.EC2, api: Any) -> None:
    quick.fault("CreateVolume", "lost")
    with pytest.raises(botocore.exceptions.HTTPClientError):
        volume(api)
    assert len(quick.volumes()) == 1
    quick.fault("CreateVolume", "lost")
    again = volume(quick.client(retries=2))  # boto3 says the same client token again
    assert again in quick.volumes() and len(quick.volumes()) == 2
    quick.fault("CreateVolume", "dropped")
    with pytest.raises(botocore.exceptions.HTTPClientError):
        volume(api)
    assert len(quick.volumes()) == 2
    told = [(call["outcome"], call["answered"]) for call in quick.calls()]
    assert told == [("ok", False), ("ok", False), ("ok", True), ("dropped", False)]


def test_a_slow_answer_holds_up_nobody_else(quick: ec2.EC2, api: Any) -> None:
    quick.fault("CreateVolume", "slow", seconds=3)
    waits: list[BaseException] = []
    impatient = quick.client(timeout=0.5)

    def ask() -> None:
        try:
            volume(impatient)
        except botocore.exceptions.ReadTimeoutError as error:
            waits.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    began = time.monotonic()
    while not quick.volumes():  # it took effect before the answer
        time.sleep(0.01)
    assert code(api.describe_volumes) == "ok"
    assert time.monotonic() - began < 2
    thread.join()
    assert len(waits) == 1


def test_the_record(quick: ec2.EC2, api: Any) -> None:
    began = time.time()
    new = volume(api, TagSpecifications=[{"ResourceType": "volume", "Tags": [{"Key": "a", "Value": "se&cret"}]}])
    detach(api, new)
    quick.client("sts").get_caller_identity()
    create, refused, sts = quick.calls()
    assert (create["action"], create["service"], create["region"]) == ("CreateVolume", "ec2", "us-east-1")
    assert create["parameters"]["TagSpecification.1.Tag.1.Value"] == "se&cret"
    assert create["parameters"]["Size"] == "10" and create["parameters"]["ClientToken"]
    assert began <= create["time"] <= time.time()
    assert (refused["action"], refused["outcome"]) == ("DetachVolume", "IncorrectState")
    assert (sts["action"], sts["service"]) == ("GetCallerIdentity", "sts")
    quick.clear()
    quick.instances()
    assert quick.count() == 0


def test_a_guessed_code_can_be_made_another(quick: ec2.EC2, api: Any) -> None:
    quick.settings(guessed_code="SomethingElse")
    shared = volume(api, **SHARED)
    assert detach(api, shared) == "SomethingElse"  # guessed
    assert detach(api, shared, InstanceId=quick.instances()[0]) == "IncorrectState"
    refusals = quick.ask("GET", "refusals")
    assert refusals["which_instance"] == {"code": "MissingParameter", "sure": "guessed"}
    assert refusals["zone"]["sure"] == "documented"


def test_settings_are_checked_and_reset(cloud: ec2.EC2) -> None:
    fresh = cloud.settings()
    for wrong in ({"nonsense": 1}, {"creating": "x"}):
        with pytest.raises(ValueError, match="setting"):
            cloud.settings(**wrong)
    cloud.settings(creating=7, stuck=[["i", "v"]], clock=5.5)
    volume(cloud.client(), ClientToken="t")
    cloud.fault("*", "lost", times=None)
    cloud.reset()
    assert (cloud.settings(), cloud.volumes(), cloud.calls(), cloud.faults()) == (fresh, {}, [], [])
    volume(cloud.client(), ClientToken="t", Size=2)


def test_regions_are_apart(quick: ec2.EC2, api: Any) -> None:
    other = quick.client(region="eu-west-1")
    there = volume(other, AvailabilityZone="eu-west-1b")
    assert [v["VolumeId"] for v in other.describe_volumes()["Volumes"]] == [there]
    assert api.describe_volumes()["Volumes"] == []
    assert quick.volumes()[there]["Region"] == "eu-west-1"
    (instance,) = quick.instances(zone="eu-west-1b")
    assert attach(other, there, instance) == "ok"


def test_50_clients_at_once(quick: ec2.EC2, api: Any) -> None:
    (instance,) = quick.instances()
    setup = quick.client(setup=True)
    shared = volume(setup)
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "Name", "Value": "v"}]}]
    for _each in range(98):
        volume(setup, TagSpecifications=tags)
    said: list[str] = []
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            said.append(attach(api, shared, instance))
            assert len(api.describe_volumes()["Volumes"]) == 100
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=ask) for _each in range(50)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert sorted(said) == ["VolumeInUse"] * 49 + ["ok"]
    assert quick.count("DescribeVolumes") == 50
    assert time.monotonic() - began < 10


def test_a_program_is_led_here_by_its_environment(quick: ec2.EC2) -> None:
    program = (
        "import boto3; print(boto3.client('ec2').create_volume(AvailabilityZone='us-east-1a', Size=1)['VolumeId'])"
    )
    env = {**os.environ, **quick.environment()}
    done = subprocess.run([sys.executable, "-c", program], env=env, stdout=subprocess.PIPE, check=True)
    assert done.stdout.decode().strip() in quick.volumes()


def test_it_is_gone_after_its_block(running: ec2.EC2) -> None:
    with ec2.double() as own:
        assert own.port != running.port
        with pytest.raises(ValueError, match="i-nowhere"):
            own.instance_state("i-nowhere", "stopped")
    with pytest.raises(ConnectionRefusedError):
        own.settings()
    assert os.waitpid(-1, os.WNOHANG) == (0, 0)  # the other one runs, and no dead one is left


def test_it_ends_with_who_started_it() -> None:
    program = (
        "import os, signal\n"
        "from ansible_collections.bulkhead.storage.tests.support import ec2\n"
        "with ec2.double() as cloud:\n"
        "    print(cloud.port, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=env, stdout=subprocess.PIPE, check=False)
    assert done.returncode == -signal.SIGKILL
    orphan = ec2.EC2(int(done.stdout))
    deadline = time.monotonic() + 10
    with pytest.raises(ConnectionRefusedError):
        while time.monotonic() < deadline:
            try:
                orphan.settings()
            except ConnectionResetError:
                continue
            time.sleep(0.05)
