# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``ebs_volume`` against a strict double of EC2, by HTTP as against the real one. What came of it, the double tells."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Iterator

import pytest
import yaml

from ansible_collections.bulkhead.storage.plugins.module_utils import _kinds, _shell
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import ec2 as ec2_adapter
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.world import Ports
from ansible_collections.bulkhead.storage.plugins.modules import ebs_volume as documented
from ansible_collections.bulkhead.storage.tests.support import ec2, module, playing

ZONE, OTHER = ec2.REGION + "a", ec2.REGION + "b"
GIB = 1 << 30
AT_ONCE = dict.fromkeys(("creating", "attaching", "detaching", "deleting", "modifying", "optimizing"), 0)
PLAIN: dict[str, Any] = {"name": "data", "availability_zone": ZONE, "size": "10GiB"}
SHARED: dict[str, Any] = {**PLAIN, "name": "shards", "iops": 1000, "multi_attach": True}
NOWHERE = "i-0123456789abcdef0"


@pytest.fixture(scope="module")
def running() -> Iterator[ec2.EC2]:
    with ec2.double() as cloud:
        yield cloud


@pytest.fixture
def cloud(running: ec2.EC2, monkeypatch: pytest.MonkeyPatch) -> ec2.EC2:
    """As freshly started; whoever asks finds it by what ``amazon.aws`` reads of the environment."""
    running.reset()
    for name, value in where(running).items():
        monkeypatch.setenv(name, value)
    return running


def where(cloud: ec2.EC2) -> dict[str, str]:
    found = {**cloud.environment(), "AWS_URL": cloud.url}
    del found["AWS_ENDPOINT_URL"]  # which botocore reads by itself
    return found


class Finished(Exception):
    pass


class Module:
    """What _shell wants of Ansible's module, for runs without the second that a process of its own takes."""

    _diff = False

    def __init__(self, params: dict[str, Any], check: bool) -> None:
        self.params, self.check_mode = params, check

    def warn(self, text: str) -> None:
        raise AssertionError(text)

    def exit_json(self, **result: Any) -> None:
        self.done = module.Done(0, json.loads(json.dumps(result)), "")
        raise Finished

    def fail_json(self, msg: str, **result: Any) -> None:
        self.done = module.Done(1, json.loads(json.dumps({**result, "msg": msg})), "")
        raise Finished


_links: dict[Any, ec2_adapter.Link] = {}


def connect(to: dict[str, Any], wait: int) -> ec2_adapter.Link:
    """The client of an earlier run, as it takes half a second to make one."""
    key = (os.environ["AWS_URL"], json.dumps(to, sort_keys=True), wait)
    if key not in _links:
        _links[key] = ec2_adapter.Link(to, wait)
    return _links[key]


def run(cloud: ec2.EC2, options: dict[str, Any], check: bool = False, **common: Any) -> module.Done:
    return run_all([options], check, **common)


def run_all(volumes: list[dict[str, Any]], check: bool = False, **common: Any) -> module.Done:
    """Entries of ``layout``, or one of a module."""
    params = {name: option["default"] for name, option in _shell.COMMON.items()}
    params.update(common)
    volumes = [{"wait_timeout": 20, **each} for each in volumes]
    entries, errors = _kinds.entries({"ebs_volumes": volumes}, params, set())
    port = ec2_adapter.Volumes(connect)
    makers = {"ec2_volume": lambda: port, "ec2_attachment": lambda: ec2_adapter.Attachments(port)}
    stand = Module(params, check)
    with contextlib.suppress(Finished):
        _shell.reconcile_entries(stand, entries, Ports(makers, _kinds.away), errors)  # type: ignore[arg-type]
    return stand.done


def outside(cloud: ec2.EC2, options: dict[str, Any], check: bool = False, name: str = "ebs_volume") -> module.Done:
    """In a process of its own, as Ansible runs it."""
    return module.run(name, options, check=check, environment=where(cloud))


def good(cloud: ec2.EC2, options: dict[str, Any], run: Any = run) -> dict[str, Any]:
    """Foreseen, done, and quiet when done again. What only looks asks for nothing but descriptions."""
    before = cloud.volumes()
    cloud.clear()
    foreseen = run(cloud, options, check=True)
    assert foreseen.rc == 0, foreseen.result
    assert {call["action"][:8] for call in cloud.calls()} == {"Describe"} and cloud.volumes() == before
    done = run(cloud, options)
    assert (done.rc, done.result.get("msg")) == (0, None), done.result
    assert done.stderr == "" and done.result["journal"] == ""
    for key in ("actions", "plan_digest", "changed"):
        assert foreseen.result[key] == done.result[key]
    cloud.clear()
    again = run(cloud, options)
    assert (again.rc, again.result["changed"], again.result["actions"]) == (0, False, [])
    assert [call["action"] for call in cloud.calls()] == ["DescribeVolumes"]
    assert again.result["resource"]["attachments"] == done.result["resource"]["attachments"]
    return dict(done.result)


def verbs(result: dict[str, Any]) -> list[tuple[str, str]]:
    return [(action["verb"], action["port"]) for action in result["actions"]]


def refused(cloud: ec2.EC2, options: dict[str, Any], code: str, words: str = "") -> dict[str, Any]:
    """Before anything is changed, in check mode alike."""
    before = cloud.volumes()
    cloud.clear()
    for check in (True, False):
        done = run(cloud, options, check=check)
        assert (done.rc, done.result.get("code")) == (1, code), done.result
        assert words in done.result["msg"], done.result["msg"]
    assert cloud.volumes() == before
    assert {call["action"][:8] for call in cloud.calls()} <= {"Describe"}
    return dict(done.result["errors"][0])


def test_the_life_of_a_volume_that_three_instances_have(cloud: ec2.EC2) -> None:
    one, two, three = cloud.instances(3)
    members = [{"instance_id": each} for each in (one, two, three)]
    made = good(cloud, {**SHARED, "attachments": members}, outside)
    assert verbs(made) == [("create", "ec2_volume")] + [("create", "ec2_attachment")] * 3
    ((volume, seen),) = ((name, row) for name, row in cloud.volumes().items() if row["Size"] == 10)
    assert (seen["VolumeType"], seen["Iops"], seen["MultiAttachEnabled"], seen["Encrypted"]) == (
        "io2",
        1000,
        True,
        True,
    )
    assert made["resource"]["volume_id"] == volume and made["resource"]["nvme_serial"] == volume.replace("-", "")
    assert made["resource"]["by_id"].endswith("Amazon_Elastic_Block_Store_" + volume.replace("-", ""))
    assert cloud.attached(volume) == dict.fromkeys((one, two, three), "attached")

    fewer = good(cloud, {**SHARED, "attachments": members[:2]}, outside)
    assert verbs(fewer) == [("remove", "ec2_attachment")] and cloud.attached(volume).keys() == {one, two}
    (detached,) = [call["parameters"] for call in cloud.calls("DetachVolume")] or [{"InstanceId": three}]
    assert detached["InstanceId"] == three and "Force" not in detached

    grown = good(cloud, {**SHARED, "attachments": members[:2], "size": "20GiB"}, outside)
    assert verbs(grown) == [("change", "ec2_volume")] and grown["actions"][0]["risk"] == "forward"
    assert cloud.volumes()[volume]["Size"] == 20 and cloud.attached(volume).keys() == {one, two}
    (info,) = outside(cloud, {"volume_id": volume}, name="ebs_volume_info").result["volumes"]
    heard = grown["resource"]["modification"]
    assert heard["state"] in ("optimizing", "completed") and heard["started"] == info["modification"]["started"]
    assert made["resource"]["modification"] is None
    cloud.settle()
    faster = good(cloud, {**SHARED, "attachments": members[:2], "size": "20GiB", "iops": 2000}, outside)
    assert verbs(faster) == [("change", "ec2_volume")] and cloud.volumes()[volume]["Iops"] == 2000

    alone = good(cloud, {"name": "shards", "attachments": []}, outside)
    assert verbs(alone) == [("remove", "ec2_attachment")] * 2 and cloud.attached(volume) == {}
    gone = outside(cloud, {"name": "shards", "state": "absent"}, check=True)
    done = outside(cloud, {"name": "shards", "state": "absent"})
    assert verbs(done.result) == [("remove", "ec2_volume")] and done.result["plan_digest"] == gone.result["plan_digest"]
    assert volume not in cloud.volumes() or cloud.volumes()[volume]["State"] == "deleting"
    assert outside(cloud, {"name": "shards", "state": "absent"}).result["changed"] is False
    assert cloud.count("CreateVolume") == 0  # since the record was cleared


def test_the_examples_of_the_documentation(cloud: ec2.EC2) -> None:
    names = cloud.instances(3, zone=ZONE)
    for task in yaml.safe_load(documented.EXAMPLES):
        text = json.dumps(task["bulkhead.storage.ebs_volume"])
        for number, name in enumerate(names):
            text = text.replace("i-0123456789abcdef%d" % number, name)
        good(cloud, json.loads(text), outside)
    (found,) = outside(cloud, {"name": "shards-1"}, name="ebs_volume_info").result["volumes"]
    assert [each["instance_id"] for each in found["attachments"]] == sorted(names[:2])
    assert found["size_bytes"] == 100 * GIB and found["modification"] is None


class TestMembers:
    """Of the set of instances, also what the peers' module does wrong."""

    def test_one_is_added_and_one_removed_and_others_stay(self, cloud: ec2.EC2) -> None:
        cloud.settings(**AT_ONCE)
        one, two, three = cloud.instances(3)
        volume = good(cloud, {**SHARED, "attachments": [{"instance_id": one}]})["resource"]["volume_id"]
        good(cloud, {"name": "shards", "attachments": [{"instance_id": two}], "attachments_mode": "add"})
        assert cloud.attached(volume).keys() == {one, two}
        good(cloud, {"name": "shards", "attachments": [{"instance_id": three}], "attachments_mode": "remove"})
        good(cloud, {"name": "shards", "attachments": [{"instance_id": one}], "attachments_mode": "remove"})
        assert cloud.attached(volume).keys() == {two}
        exchanged = good(cloud, {"name": "shards", "attachments": [{"instance_id": three}]})
        assert verbs(exchanged) == [("remove", "ec2_attachment"), ("create", "ec2_attachment")]
        assert cloud.attached(volume).keys() == {three}

    def test_who_has_it_is_not_attached_again(self, cloud: ec2.EC2) -> None:
        """Peers attach a Multi-Attach volume again on each run, and call it changed."""
        members = [{"instance_id": each} for each in cloud.instances(2)]
        good(cloud, {**SHARED, "attachments": members})
        cloud.clear()
        assert run(cloud, {**SHARED, "attachments": members}).result["changed"] is False
        assert cloud.count("AttachVolume") == 0

    def test_a_second_attachment_is_waited_for_by_itself(self, cloud: ec2.EC2) -> None:
        """Peers wait for ``in-use``, which the first one has brought about."""
        one, two = cloud.instances(2)
        good(cloud, {**SHARED, "attachments": [{"instance_id": one}]})
        cloud.settings(attaching=4)
        done = run(cloud, {**SHARED, "attachments": [{"instance_id": one}, {"instance_id": two}]})
        assert {each["state"] for each in done.result["resource"]["attachments"]} == {"attached"}

    def test_a_device_of_another_volume_is_told(self, cloud: ec2.EC2) -> None:
        """Peers return success, and the other volume's id."""
        (one,) = cloud.instances()
        members = [{"instance_id": one, "device": "/dev/sdf"}]
        first = good(cloud, {**PLAIN, "attachments": members})["resource"]["volume_id"]
        refused(
            cloud, {**PLAIN, "name": "other", "attachments": members}, "conflict", "/dev/sdf of %s is %s" % (one, first)
        )

    def test_devices_are_chosen_among_those_that_are_free(self, cloud: ec2.EC2) -> None:
        (one,) = cloud.instances()
        good(cloud, {**PLAIN, "attachments": [{"instance_id": one, "device": "/dev/sdf"}]})
        lists = [{**PLAIN, "name": "v%d" % n, "attachments": [{"instance_id": one}]} for n in range(3)]
        done = run_all(lists)
        assert done.rc == 0, done.result
        held = [a["Device"] for v in cloud.volumes().values() for a in v["Attachments"] if a["Device"] != "/dev/sda1"]
        assert sorted(held)[-4:] == ["/dev/sdf", "/dev/sdg", "/dev/sdh", "/dev/sdi"]

    def test_what_is_on_its_way_out_is_attached_again(self, cloud: ec2.EC2) -> None:
        (one,) = cloud.instances()
        volume = good(cloud, {**PLAIN, "attachments": [{"instance_id": one}]})["resource"]["volume_id"]
        cloud.settings(detaching=6)
        cloud.client(setup=True).detach_volume(VolumeId=volume, InstanceId=one)
        done = run(cloud, {**PLAIN, "attachments": [{"instance_id": one}]})
        assert (done.rc, verbs(done.result)) == (0, [("change", "ec2_attachment")])
        assert cloud.attached(volume) == {one: "attached"}


class TestRefusals:
    def test_before_a_volume_is_made(self, cloud: ec2.EC2) -> None:
        (near,), (far,) = cloud.instances(zone=ZONE), cloud.instances(zone=OTHER)
        (old,) = cloud.instances(zone=ZONE, kind="t2.micro")
        (dead,) = cloud.instances(zone=ZONE, state="terminated")
        source = cloud.client(setup=True)
        big = source.create_volume(AvailabilityZone=ZONE, Size=50, VolumeType="gp3")["VolumeId"]
        cloud.settle()
        shot = source.create_snapshot(VolumeId=big)["SnapshotId"]
        for options, code, words in (
            ({**PLAIN, "size": "100"}, "invalid", "did you mean 100GiB"),
            ({"name": "data", "size": "1GiB"}, "invalid", "no zone"),
            ({"name": "data", "availability_zone": ZONE}, "invalid", "no size"),
            ({**PLAIN, "availability_zone": ec2.REGION + "z"}, "not_found", "no zone"),
            ({"volume_id": "vol-0123456789abcdef0", "size": "1GiB"}, "not_found", "vol-0123456789abcdef0"),
            ({**PLAIN, "multi_attach": True}, "invalid", "takes iops"),
            ({**PLAIN, "multi_attach": True, "volume_type": "gp3"}, "invalid", "no Multi-Attach"),
            ({**PLAIN, "volume_type": "io2", "iops": 300000}, "invalid", "100..256000"),
            ({**PLAIN, "volume_type": "io2", "iops": 10001}, "invalid", "1000 for each of 10 GiB"),
            ({**PLAIN, "volume_type": "io2", "iops": 1000, "size": "3GiB"}, "invalid", "4..65536"),
            ({**PLAIN, "volume_type": "st1"}, "invalid", "125..16384"),
            ({**PLAIN, "volume_type": "gp2", "iops": 300}, "invalid", "leave it out"),
            ({**PLAIN, "throughput": 5000}, "invalid", "125..2000"),
            ({**PLAIN, "encrypted": False, "kms_key_id": "alias/mine"}, "invalid", "kms_key_id"),
            ({**PLAIN, "snapshot_id": "snap-0123456789abcdef0"}, "not_found", "snap-0123456789abcdef0"),
            ({**PLAIN, "snapshot_id": shot}, "invalid", "50 GiB"),
            ({**PLAIN, "wait_timeout": 0}, "invalid", "1..86400"),
            ({**PLAIN, "tags": {"aws:mine": "x"}}, "invalid", "Amazon"),
            ({**PLAIN, "tags": {"Name": "other"}}, "conflict", "differ"),
            ({**PLAIN, "attachments": [{"instance_id": "web-1"}]}, "invalid", "is none"),
            ({**PLAIN, "attachments": [{"instance_id": near}] * 2}, "invalid", "twice"),
            ({**PLAIN, "attachments": [{"instance_id": NOWHERE}]}, "not_found", NOWHERE),
            ({**PLAIN, "attachments": [{"instance_id": dead}]}, "conflict", "terminated"),
            ({**PLAIN, "attachments": [{"instance_id": far}]}, "conflict", "is in " + OTHER),
            ({**PLAIN, "attachments": [{"instance_id": near, "device": "/dev/sda1"}]}, "protected", "root device"),
            ({**PLAIN, "attachments": [{"instance_id": near, "device": "/dev/nvme1n1"}]}, "invalid", "is none"),
            (
                {**PLAIN, "attachments": [{"instance_id": near}, {"instance_id": old}]},
                "conflict",
                "without Multi-Attach",
            ),
            ({**SHARED, "attachments": [{"instance_id": near}, {"instance_id": old}]}, "unsupported", "Nitro"),
        ):
            refused(cloud, options, code, words)

    def test_no_more_than_sixteen(self, cloud: ec2.EC2) -> None:
        members = [{"instance_id": each} for each in cloud.instances(17)]
        refused(cloud, {**SHARED, "attachments": members}, "limit_exceeded", "16")

    def test_of_a_volume_that_is_there(self, cloud: ec2.EC2) -> None:
        cloud.settings(**AT_ONCE)
        one, two, three = cloud.instances(3)
        volume = good(cloud, {**SHARED, "attachments": [{"instance_id": one}, {"instance_id": two}]})["resource"][
            "volume_id"
        ]
        plain = good(cloud, {**PLAIN, "attachments": [{"instance_id": one, "device": "/dev/sdk"}]})["resource"][
            "volume_id"
        ]
        (root,) = (n for n, v in cloud.volumes().items() if three in [a["InstanceId"] for a in v["Attachments"]])
        for options, code, words in (
            ({"name": "shards", "size": "9GiB"}, "would_shrink", "10 GiB"),
            ({"name": "shards", "availability_zone": ZONE, "encrypted": False}, "conflict", "encrypted"),
            ({"name": "shards", "kms_key_id": "arn:aws:kms:us-east-1:1:key/none"}, "conflict", "kms_key_id"),
            ({"name": "shards", "snapshot_id": "snap-0123456789abcdef0"}, "conflict", "snapshot_id"),
            ({"volume_id": volume, "availability_zone": OTHER}, "conflict", "zone"),
            ({"name": "shards", "multi_attach": False}, "conflict", "without Multi-Attach"),
            ({"name": "shards", "volume_type": "gp3", "multi_attach": True}, "invalid", "no Multi-Attach"),
            ({"name": "shards", "volume_type": "gp3"}, "invalid", "no Multi-Attach"),
            ({"name": "shards", "state": "absent"}, "in_use", one),
            ({"name": "data", "volume_type": "io2", "iops": 1000, "multi_attach": True}, "in_use", one),
            ({"name": "data", "volume_type": "io2"}, "invalid", "takes iops"),
            (
                {"name": "data", "attachments": [{"instance_id": two}], "attachments_mode": "add"},
                "conflict",
                "Multi-Attach",
            ),
            ({"name": "data", "attachments": [{"instance_id": one, "device": "/dev/sdp"}]}, "conflict", "/dev/sdk"),
            ({"volume_id": root, "attachments": []}, "protected", "root device"),
            ({"volume_id": root, "state": "absent"}, "in_use", three),
        ):
            refused(cloud, options, code, words)
        assert cloud.attached(plain) == {one: "attached"}

    def test_multi_attach_of_io1_stays(self, cloud: ec2.EC2) -> None:
        cloud.settings(**AT_ONCE)
        good(cloud, {**PLAIN, "volume_type": "io1", "iops": 100})
        refused(cloud, {**PLAIN, "multi_attach": True}, "conflict", "io1")

    def test_two_volumes_of_one_name(self, cloud: ec2.EC2) -> None:
        """Peers cannot tell volumes of one name in two zones apart."""
        first = good(cloud, PLAIN)["resource"]["volume_id"]
        second = good(cloud, {**PLAIN, "availability_zone": OTHER})["resource"]["volume_id"]
        error = refused(cloud, {"name": "data", "size": "10GiB"}, "conflict", first)
        assert sorted(error["details"]["volume_ids"]) == sorted([first, second])
        good(cloud, {**PLAIN, "size": "12GiB"})
        assert [cloud.volumes()[each]["Size"] for each in (first, second)] == [12, 10]
        good(cloud, {"volume_id": second, "name": "renamed"})
        assert good(cloud, {"name": "data"})["resource"]["volume_id"] == first

    def test_one_entry_twice_is_found_by_what_it_is(self, cloud: ec2.EC2) -> None:
        volume = good(cloud, PLAIN)["resource"]["volume_id"]
        done = run_all([{"name": "data"}, {"volume_id": volume}])
        assert done.result["code"] == "conflict" and "declared twice" in done.result["msg"]


class TestWhatIsNotDeclared:
    def test_stays(self, cloud: ec2.EC2) -> None:
        """Peers turn a volume into ``standard`` when they may modify it and no type is given."""
        cloud.settings(**AT_ONCE)
        (one,) = cloud.instances()
        tags = {"team": "blue", "cost": "7"}
        whole = {**PLAIN, "volume_type": "io2", "iops": 1000, "tags": tags, "attachments": [{"instance_id": one}]}
        volume = good(cloud, whole)["resource"]["volume_id"]
        good(cloud, {"name": "data", "size": "11GiB"})
        seen = cloud.volumes()[volume]
        assert (seen["VolumeType"], seen["Iops"], seen["Size"]) == ("io2", 1000, 11) and cloud.attached(volume)
        assert {t["Key"]: t["Value"] for t in seen["Tags"]} == {**tags, "Name": "data"}

    def test_tags(self, cloud: ec2.EC2) -> None:
        cloud.settings(tag_lag=3)
        volume = good(cloud, {**PLAIN, "tags": {"team": "blue", "cost": "7"}})["resource"]["volume_id"]
        more = good(cloud, {"name": "data", "tags": {"team": "red", "new": 1}, "purge_tags": False})
        assert more["actions"][0]["risk"] == "reversible"
        assert more["resource"]["tags"] == {"Name": "data", "team": "red", "cost": "7", "new": "1"}
        assert good(cloud, {"name": "data", "tags": {"team": "red"}})["resource"]["tags"] == {
            "Name": "data",
            "team": "red",
        }
        assert {t["Key"] for t in cloud.volumes()[volume]["Tags"]} == {"Name", "team"}

    def test_types_bring_their_own_figures(self, cloud: ec2.EC2) -> None:
        good(cloud, {**PLAIN, "throughput": 250, "iops": 4000})
        cloud.settle()
        changed = good(cloud, {**PLAIN, "volume_type": "io2", "iops": 2000})
        assert changed["resource"]["throughput"] is None and changed["resource"]["iops"] == 2000
        cloud.settle()
        assert good(cloud, {**PLAIN, "volume_type": "gp2"})["resource"]["volume_type"] == "gp2"

    def test_multi_attach_is_switched_while_nobody_has_it(self, cloud: ec2.EC2) -> None:
        one, two = cloud.instances(2)
        good(cloud, {**PLAIN, "volume_type": "io2", "iops": 1000, "attachments": [{"instance_id": one}]})
        both = [{"instance_id": one}, {"instance_id": two}]
        good(cloud, {**PLAIN, "attachments": []})
        good(cloud, {**PLAIN, "multi_attach": True, "attachments": both})
        cloud.settle()
        good(cloud, {**PLAIN, "multi_attach": False, "attachments": both[:1]})

    def test_a_volume_of_a_snapshot(self, cloud: ec2.EC2) -> None:
        source = cloud.client(setup=True)
        big = source.create_volume(AvailabilityZone=ZONE, Size=50, VolumeType="gp3")["VolumeId"]
        cloud.settle()
        shot = source.create_snapshot(VolumeId=big)["SnapshotId"]
        made = good(cloud, {"name": "data", "availability_zone": ZONE, "snapshot_id": shot})
        assert made["resource"]["size_bytes"] == 50 * GIB and made["resource"]["snapshot_id"] == shot


class TestFaults:
    """Every run ends by its deadline, and the next one converges without a second volume."""

    def ours(self, cloud: ec2.EC2) -> list[str]:
        return [n for n, row in cloud.volumes().items() if {"Key": "Name", "Value": "data"} in row.get("Tags", [])]

    def failed(
        self, cloud: ec2.EC2, options: dict[str, Any], codes: tuple[str, ...], within: float, **common: Any
    ) -> dict[str, Any]:
        start = time.monotonic()
        done = run(cloud, options, **common)
        assert (done.rc, done.result.get("code") in codes) == (1, True), done.result
        assert time.monotonic() - start < within
        return dict(done.result)

    @pytest.mark.parametrize("action", ["CreateVolume", "AttachVolume", "ModifyVolume", "DetachVolume", "DeleteVolume"])
    @pytest.mark.parametrize("kind", ["lost", "dropped"])
    def test_an_answer_that_never_came(self, cloud: ec2.EC2, action: str, kind: str) -> None:
        """Once, which nobody notices; and for ever, which is told."""
        (one,) = cloud.instances()
        whole = {**PLAIN, "attachments": [{"instance_id": one}]}
        steps = {"CreateVolume": whole, "AttachVolume": whole, "ModifyVolume": {**whole, "size": "20GiB"}}
        steps.update(DetachVolume={**PLAIN, "attachments": []}, DeleteVolume={**PLAIN, "state": "absent"})
        if action in ("ModifyVolume", "DetachVolume"):
            good(cloud, whole)
        if action == "DeleteVolume":
            good(cloud, PLAIN)
        cloud.settle()
        cloud.fault(action, kind, times=None)
        short = {**steps[action], "wait_timeout": 12}
        done = run(cloud, short)
        if done.rc:  # what a lost answer has done is found by looking, but for an id that only the answer told
            assert done.result["code"] in ("unreachable", "timeout") and (kind == "dropped" or action == "CreateVolume")
        assert len(self.ours(cloud)) <= 1
        cloud.no_faults()
        cloud.settle()
        cloud.fault(action, kind)
        last = run(cloud, steps[action])
        assert last.rc == 0, last.result
        assert run(cloud, steps[action]).result["changed"] is False
        assert len(self.ours(cloud)) == (0 if action == "DeleteVolume" else 1)

    def test_killed_while_it_waits_for_an_answer(self, cloud: ec2.EC2) -> None:
        cloud.fault("CreateVolume", "slow", seconds=30)
        code = "import sys; sys.path[:0] = %r\nfrom %s import module\n" % (sys.path, module.__name__.rpartition(".")[0])
        code += "module.run('ebs_volume', %r, environment=%r)" % (PLAIN, where(cloud))
        with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as child:
            deadline = time.monotonic() + 30
            while not self.ours(cloud) and time.monotonic() < deadline:
                time.sleep(0.05)
            subprocess.run(["kill", "-KILL", "--", "-%d" % child.pid], check=True)
        assert child.returncode == -signal.SIGKILL and len(self.ours(cloud)) == 1
        cloud.no_faults()
        assert good(cloud, PLAIN)["changed"] is False
        assert len(self.ours(cloud)) == 1

    @pytest.mark.parametrize("action", ["CreateVolume", "AttachVolume", "DescribeVolumes"])
    def test_throttled(self, cloud: ec2.EC2, action: str) -> None:
        (one,) = cloud.instances()
        whole = {**PLAIN, "attachments": [{"instance_id": one}]}
        cloud.fault(action, "throttle", times=2)
        done = run(cloud, whole)
        assert done.rc == 0, done.result  # botocore's own tries are enough
        good(cloud, {**PLAIN, "attachments": []})
        run(cloud, {**PLAIN, "state": "absent"})
        cloud.settle()
        cloud.fault(action, "throttle", times=None)
        result = self.failed(cloud, {**whole, "wait_timeout": 10}, ("limit_exceeded", "timeout"), 60)
        assert result["errors"][0]["details"].get("api_code") == "RequestLimitExceeded"
        cloud.no_faults()
        good(cloud, whole)
        assert len(self.ours(cloud)) == 1

    def test_detaching_for_ever(self, cloud: ec2.EC2) -> None:
        one, two = cloud.instances(2)
        volume = good(cloud, {**SHARED, "attachments": [{"instance_id": i} for i in (one, two)]})["resource"][
            "volume_id"
        ]
        cloud.stick(one, volume)
        kept = {"name": "shards", "attachments": [{"instance_id": two}], "wait_timeout": 4}
        result = self.failed(cloud, kept, ("timeout",), 60)
        assert "force_detach" in result["hint"] and cloud.attached(volume) == {one: "detaching", two: "attached"}
        assert "Force" not in cloud.calls("DetachVolume")[-1]["parameters"]
        self.failed(cloud, kept, ("timeout",), 60)
        forced = good(cloud, {**kept, "force_detach": True, "wait_timeout": 30})
        assert forced["actions"][0]["risk"] == "forward" and cloud.attached(volume) == {two: "attached"}

    def test_what_was_made_is_seen_late(self, cloud: ec2.EC2) -> None:
        cloud.settings(volume_lag=4, attachment_lag=3, tag_lag=3)
        one, two = cloud.instances(2)
        good(cloud, {**SHARED, "attachments": [{"instance_id": one}, {"instance_id": two}]})
        assert len([v for v in cloud.volumes().values() if v.get("MultiAttachEnabled")]) == 1

    def test_two_runs_that_make_it_at_once_leave_one(self, cloud: ec2.EC2) -> None:
        """Elsewhere, so that no lock of a host holds them off each other."""
        cloud.fault("CreateVolume", "together", seconds=60, times=2)
        results: list[Any] = []

        def one(number: int) -> None:
            options = {**PLAIN, "wait_timeout": 60, **({"region": ec2.REGION} if number else {})}  # another lock
            results.append(module.run("ebs_volume", options, environment=where(cloud)))

        threads = [threading.Thread(target=one, args=(n,)) for n in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(done.rc for done in results) == [0, 1], [done.result for done in results]
        assert [done.result["code"] for done in results if done.rc] == ["moved"]
        cloud.settle()
        assert len(self.ours(cloud)) == 1
        assert good(cloud, PLAIN)["changed"] is False

    def test_a_modification_waits_for_the_last_one(self, cloud: ec2.EC2) -> None:
        cloud.settings(optimizing=1000000)
        good(cloud, PLAIN)
        good(cloud, {**PLAIN, "size": "11GiB"})
        self.failed(cloud, {**PLAIN, "size": "12GiB", "wait_timeout": 4}, ("timeout",), 60)
        cloud.settle()
        cloud.settings(optimizing=1)
        good(cloud, {**PLAIN, "size": "12GiB"})

    def test_a_modification_under_way_is_waited_for_and_not_asked_for_again(self, cloud: ec2.EC2) -> None:
        good(cloud, PLAIN)
        cloud.settings(modifying=30)
        self.failed(cloud, {**PLAIN, "size": "11GiB", "wait_timeout": 3}, ("timeout",), 60)
        cloud.clear()
        done = run(cloud, {**PLAIN, "size": "11GiB"})
        assert done.rc == 0 and cloud.count("ModifyVolume") == 0, done.result

    def test_the_budget_of_modifications(self, cloud: ec2.EC2) -> None:
        cloud.settings(**AT_ONCE, modification_budget=1)
        good(cloud, PLAIN)
        good(cloud, {**PLAIN, "size": "11GiB"})
        cloud.settle()
        self.failed(cloud, {**PLAIN, "size": "12GiB"}, ("limit_exceeded",), 60)
        cloud.pass_time(25 * 3600)
        good(cloud, {**PLAIN, "size": "12GiB"})

    def test_what_ec2_cannot_provide_is_told(self, cloud: ec2.EC2) -> None:
        cloud.settings(fail_creations=1)
        self.failed(cloud, PLAIN, ("failed",), 60)
        cloud.settings(fail_modifications=1)
        run(cloud, {**PLAIN, "state": "absent"})
        cloud.settle()
        good(cloud, PLAIN)
        self.failed(cloud, {**PLAIN, "size": "11GiB"}, ("failed",), 60)

    def test_a_failure_halfway_is_walked_back(self, cloud: ec2.EC2) -> None:
        (one,) = cloud.instances()
        cloud.fault("AttachVolume", "unauthorized", times=None)
        result = self.failed(cloud, {**PLAIN, "attachments": [{"instance_id": one}]}, ("denied",), 60)
        assert result["summary"]["undone"] == 1 and self.ours(cloud) == []
        cloud.no_faults()
        kept = {**PLAIN, "attachments": [{"instance_id": one}]}
        cloud.fault("AttachVolume", "unauthorized", times=None)
        self.failed(cloud, kept, ("denied",), 60, rollback=False)
        assert len(self.ours(cloud)) == 1

    def test_no_refusal_hangs_on_a_code_that_aws_does_not_document(self, cloud: ec2.EC2) -> None:
        cloud.settings(guessed_code="Unheard.Of")
        (one,) = cloud.instances()
        good(cloud, {**PLAIN, "attachments": [{"instance_id": one}]})
        good(cloud, {**PLAIN, "size": "11GiB", "attachments": []})

    def test_nobody_who_listens(self) -> None:
        options = {**PLAIN, "region": ec2.REGION, "endpoint_url": "http://127.0.0.1:9", "wait_timeout": 10}
        environment = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "testing-secret-xyz"}
        done = module.run("ebs_volume", options, environment=environment)
        assert (done.rc, done.result["code"]) == (1, "unreachable")

    def test_nobody_to_be(self, cloud: ec2.EC2) -> None:
        options = {**PLAIN, "region": ec2.REGION, "endpoint_url": cloud.url}
        nothing = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
        assert module.run("ebs_volume", options, environment=nothing).result["code"] == "denied"


class TestMany:
    def declared(self, count: int, **more: Any) -> dict[str, Any]:
        lists = {"ebs_volumes": [{**PLAIN, "name": "v%03d" % n, **more} for n in range(count)]}
        return {"_declaration": json.dumps(lists), "_secrets": [], "workers": 16}

    def test_a_hundred_are_looked_for_at_once(self, cloud: ec2.EC2) -> None:
        cloud.settings(**AT_ONCE)
        made = outside(cloud, self.declared(100), name="layout")
        assert made.rc == 0 and made.result["summary"]["applied"] == 100, made.result.get("msg")
        assert len(cloud.volumes()) == 100 and cloud.count("CreateVolume") == 100
        cloud.clear()
        again = outside(cloud, self.declared(100), name="layout")
        assert (again.rc, again.result["changed"]) == (0, False) and len(cloud.calls()) == 1
        cloud.settings(page=30)
        cloud.clear()
        assert outside(cloud, self.declared(100), name="layout").result["changed"] is False
        assert [call["action"] for call in cloud.calls()] == ["DescribeVolumes"] * 4
        assert len({call["parameters"].get("NextToken") for call in cloud.calls()}) == 4

    def test_fifty_hosts_that_delegate_do_not_wait_on_each_other(self, cloud: ec2.EC2) -> None:
        """All of them are held up by EC2 at once; one after the other they would take fifty times as long."""
        cloud.settings(**AT_ONCE)
        cloud.fault("CreateVolume", "slow", seconds=8, times=None)
        mine = [{**PLAIN, "name": "host%d" % n, "lock_timeout": 0} for n in range(50)]
        start = time.monotonic()
        with ThreadPoolExecutor(50) as pool:
            done = list(pool.map(lambda p: module.run("ebs_volume", p, environment=where(cloud), timeout=300), mine))
        assert [each.rc for each in done] == [0] * 50, [e.result.get("msg") for e in done if e.rc][:3]
        assert len(cloud.volumes()) == 50 and time.monotonic() - start < 50 * 8 / 2

    def test_without_privileges(self, cloud: ec2.EC2, tmp_path: Path) -> None:
        """As another user, who has a lock of its own and leaves nothing else."""
        program = tmp_path / "python"
        program.write_text('#!/bin/sh\nexec unshare --user --map-user=1000 --map-group=1000 %s "$@"\n' % sys.executable)
        program.chmod(0o755)
        (tmp_path / "run").mkdir(mode=0o700)
        environment = {**where(cloud), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
        done = module.run("ebs_volume", PLAIN, python=str(program), environment=environment)
        assert (done.rc, done.result.get("msg"), done.result["changed"]) == (0, None, True)
        left = sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "run").rglob("*"))
        assert left == ["run/bulkhead-1000", "run/bulkhead-1000/ec2:%2fdata.lock"]
        assert (tmp_path / "run" / left[1][4:]).read_bytes() == b""


class TestSecrets:
    """Keys of AWS are in no argument of a program, no file, no answer and no output, however much of it there is."""

    def test_what_is_run_written_and_answered(self, cloud: ec2.EC2, tmp_path: Path) -> None:
        words = ["canary-%s" % os.urandom(8).hex() for _each in range(3)]
        program, log = tmp_path / "python", tmp_path / "log"
        calls = "execve,openat,rename,renameat2,unlink,write,pwrite64,writev"
        argv = ["strace", "-f", "-qq", "-s", "65535", "-v", "-e", "trace=" + calls, "-o", str(log)]
        program.write_text('#!/bin/sh\nexec %s %s "$@"\n' % (" ".join(argv), sys.executable))
        program.chmod(0o755)
        planted = "import subprocess; subprocess.run(['true', %r])" % words[2]
        subprocess.run([*argv, sys.executable, "-c", planted], check=True, timeout=60)
        assert words[2] in log.read_text(errors="replace"), "what is on a command line would be seen"
        (one,) = cloud.instances()
        keys = {"access_key": "testing-access-key", "secret_key": words[0], "session_token": words[1]}
        whole = {**PLAIN, **keys, "attachments": [{"instance_id": one}]}
        for options in (whole, {**whole, "size": "20GiB"}, {**whole, "size": "1GiB"}, {**whole, "volume_id": "x"}):
            done = module.run("ebs_volume", options, diff=True, python=str(program), environment=where(cloud))
            text = json.dumps(done.result["resource"] if done.rc == 0 else done.result) + done.stderr
            text += json.dumps([done.result.get("actions"), done.result.get("diff")])
            traced = log.read_text(errors="replace")
            assert "openat" in traced and not any(word in text for word in words[:2])
            lines = [line for line in traced.splitlines() if any(word in line for word in words[:2])]
            assert lines == []
        assert len(cloud.volumes()) == 2 and cloud.calls("AttachVolume")[0]["outcome"] == "ok"

    def test_what_a_play_shows(self, cloud: ec2.EC2, tmp_path: Path) -> None:
        words = ["canary-%s" % os.urandom(8).hex() for _each in range(2)]
        keys = {"access_key": "testing-access-key", "secret_key": words[0], "session_token": words[1]}
        there = {"region": ec2.REGION, "endpoint_url": cloud.url, **keys}
        tasks: list[Any] = [
            {"bulkhead.storage.ebs_volume": {**PLAIN, **there}},
            {"bulkhead.storage.layout": {"ebs_volumes": [{**PLAIN, "name": "other", **there}]}},
            {"bulkhead.storage.ebs_volume_info": there},
            {"bulkhead.storage.ebs_volume": {**PLAIN, **there, "size": "1GiB"}, "ignore_errors": True},
        ]
        play = [{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]
        (tmp_path / "play.yml").write_text(json.dumps(play))
        done = playing.run(str(tmp_path / "play.yml"), "-vvvv", "--diff", cwd=str(tmp_path))
        text = done.stdout.decode()
        assert done.returncode == 0 and "changed=2" in text and "would_shrink" in text, text[-3000:]
        assert not any(word in text for word in words), [line for line in text.splitlines() if "canary" in line][:3]
        found = subprocess.run(["grep", "-rl", words[0], str(tmp_path)], check=False, capture_output=True, text=True)
        assert found.stdout.split() == [str(tmp_path / "play.yml")]
