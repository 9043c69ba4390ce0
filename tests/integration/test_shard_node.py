# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role shard_node and its playbooks against the double of EC2, as far as they go without a disk (the lab has one).

``node-1`` and ``node-2`` have the volume. Who plays is a host of the same group, or node-1 where it is refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Iterator, NamedTuple

import pytest

from ansible_collections.bulkhead.storage.tests.support import ec2
from ansible_collections.bulkhead.storage.tests.support import host as hosts
from ansible_collections.bulkhead.storage.tests.support.playing import run

ZONE = ec2.REGION + "a"
VOLUME: dict[str, Any] = {
    "name": "shards-1",
    "ebs": {"availability_zone": ZONE, "size": "4GiB", "iops": "400", "kms_key_id": ""},
    "primary": "node-1",
    "backups": ["node-2"],
    "path": "/shards-1",
}


class Done(NamedTuple):
    code: int
    output: str
    result: dict[str, Any]  # of the first task


class Site:
    """The inventory, and plays of it."""

    def __init__(self, folder: Path, cloud: ec2.EC2) -> None:
        self.folder, self.cloud = folder, cloud
        self.ids = cloud.instances(2, zone=ZONE)
        self.given: dict[str, Any] = {"shard_node_volumes": [VOLUME]}
        self.variable = "instance_id"

    def inventory(self) -> None:
        nodes = {"node-%d" % (n + 1): {self.variable: each} for n, each in enumerate(self.ids)}
        groups = {
            "shard_nodes": {"hosts": {**nodes, "spare-1": None, "spare-2": None}},
            "storage_hosts": {"hosts": {"other": None}},
        }
        every = {"ansible_connection": "local", **self.given}
        controller = {"ansible_become_user": "nobody", "ansible_become_exe": "/nonexistent"}  # no privileges there
        text = {"all": {"hosts": {"localhost": controller}, "children": groups, "vars": every}}
        (self.folder / "inventory.json").write_text(json.dumps(text))

    def role(self, *arguments: str, limit: str = "spare-1") -> Done:
        kept = self.folder / "result.json"
        kept.unlink(missing_ok=True)
        copy = {"content": "{{ shard_node_result | to_json }}", "dest": str(kept), "mode": "0600"}
        tasks = [
            {"ansible.builtin.include_role": {"name": "bulkhead.storage.shard_node"}},
            {"ansible.builtin.copy": copy, "check_mode": False, "diff": False, "changed_when": False},
        ]
        play = {"hosts": "shard_nodes", "gather_facts": False, "tasks": tasks}
        (self.folder / "play.json").write_text(json.dumps([play]))
        done = self(str(self.folder / "play.json"), "--limit", limit, *arguments)
        return Done(*done[:2], json.loads(kept.read_text()) if kept.exists() else {})

    def __call__(self, playbook: str, *arguments: str) -> tuple[int, str]:
        self.inventory()
        self.cloud.clear()
        argv = ("-i", str(self.folder / "inventory.json"), *arguments)
        done = run(playbook, *argv, cwd=str(self.folder))
        return done.returncode, done.stdout.decode()

    def asked(self) -> set[str]:
        return {call["action"] for call in self.cloud.calls()}

    def volumes(self) -> list[dict[str, Any]]:
        """Those that are no root device, as they truly are."""
        return [row for row in self.cloud.volumes().values() if row["Size"] == 4]


@pytest.fixture(scope="module")
def running() -> Iterator[ec2.EC2]:
    with ec2.double() as cloud:
        yield cloud


@pytest.fixture
def site(private_mounts: None, running: ec2.EC2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    running.reset()
    for name, value in running.environment().items():
        monkeypatch.setenv(name, value)
    with hosts.host():
        yield Site(tmp_path, running)


def test_check_run_rerun(site: Site) -> None:
    before = site.cloud.volumes()
    picture = hosts.picture()
    foreseen = site.role("--check", "--diff")
    assert foreseen.code == 0 and foreseen.result["changed"], foreseen.output
    assert {name[:8] for name in site.asked()} == {"Describe"} and site.cloud.volumes() == before

    made = site.role()
    assert made.code == 0, made.output
    assert made.result["plan_digest"] == foreseen.result["plan_digest"]
    (row,) = site.volumes()
    assert (row["VolumeType"], row["Iops"], row["MultiAttachEnabled"]) == ("io2", 400, True)
    assert row["Tags"] == [{"Key": "Name", "Value": "shards-1"}]
    assert {each["InstanceId"]: each["State"] for each in row["Attachments"]} == dict.fromkeys(site.ids, "attached")
    (told,) = made.result["resources"]["ebs_volumes"]
    assert told["by_id"].endswith(row["VolumeId"].replace("-", ""))

    again = site.role()
    assert again.code == 0 and "changed=0" in again.output and site.asked() == {"DescribeVolumes"}, again.output
    site.given["shard_node_volumes"] = [{**VOLUME, "backups": ""}]
    fewer = site.role()
    assert fewer.code == 0, fewer.output
    assert [each["InstanceId"] for each in site.volumes()[0]["Attachments"]] == site.ids[:1]
    left = [line for line in hosts.changed(picture, hosts.picture()) if not line.startswith("/run/bulkhead/")]
    assert left == [], "a host that has no disk of it keeps nothing, and the controller its lock"


def test_the_instance_is_a_variable_of_any_name(site: Site) -> None:
    site.variable = "ec2_id"
    refused = site.role()
    assert refused.code != 0 and "no instance is known of the host node-1 (set the variable" in refused.output
    assert site.asked() == set() and site.volumes() == []
    site.given["shard_node_instance_variable"] = "ec2_id"
    done = site.role()
    assert done.code == 0 and len(site.volumes()[0]["Attachments"]) == 2, done.output
    site.given["shard_node_volumes"] = [{**VOLUME, "backups": ["node-3"]}]
    refused = site.role()
    assert refused.code != 0 and "no instance is known of the host node-3" in refused.output
    assert len(site.volumes()[0]["Attachments"]) == 2


def test_a_primary_by_itself_is_refused(site: Site) -> None:
    """Its backup is not in the play, so nothing shows that it cannot write; a disk is not even looked for."""
    done = site.role(limit="node-1")
    assert done.code != 0 and "shards-1: nothing shows that the backup node-2 has the disk read-only" in done.output
    assert "FAILED - RETRYING" not in done.output


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"shard_node_volumes": [{"name": "shards-1"}]}, "missing required arguments: primary"),
    ({"shard_node_volumes": [{**VOLUME, "backup": "node-2"}]}, "Supported parameters include"),
    ({"shard_node_volumes": [{**VOLUME, "ebs": {"volume_type": "gp4"}}]}, "value of volume_type must be one of"),
    ({"shard_node_volumes": [{**VOLUME, "backups": ["node-1"]}]}, "node-1 is the primary and a backup too"),
    ({"shard_node_volumes": [VOLUME, VOLUME]}, "several of shard_node_volumes have the name"),
    ({"shard_node_store": {"type": "consul"}}, "value of type must be one of"),
]


def test_wrong_volumes_change_nothing(site: Site) -> None:
    for change, text in WRONG:
        site.given.update({"shard_node_volumes": [VOLUME], "shard_node_store": {}, **change})
        done = site.role()
        assert done.code != 0 and text in done.output, done.output
        assert site.asked() == set()
    assert site.volumes() == []


def test_the_site_and_the_report(site: Site) -> None:
    """What EC2 has is asked without privileges and counted for one of the nodes; a refusal hides nothing of others."""
    limit = ("--limit", "spare-1:spare-2:other")
    report = site("bulkhead.storage.drift_report", *limit)
    assert report[0] == 0 and site.volumes() == [], report[1]
    assert {name[:8] for name in site.asked()} == {"Describe"}
    assert report[1].count('"3 differences"') == 1 and report[1].count('"0 differences"') == 2, report[1]
    assert "create ebs_volumes[0] (%s/shards-1)" % ZONE in report[1]
    done = site("bulkhead.storage.site", *limit)
    assert done[0] == 0 and len(site.volumes()) == 1, done[1]
    report = site("bulkhead.storage.drift_report", *limit)
    assert report[0] == 0 and report[1].count('"0 differences"') == 3, report[1]
    assert [call["action"] for call in site.cloud.calls()] == ["DescribeVolumes"], "once for all nodes"
    site.given["shard_node_volumes"] = [{**VOLUME, "ebs": {**VOLUME["ebs"], "size": "1GiB"}}]
    report = site("bulkhead.storage.drift_report", *limit)
    assert report[0] != 0 and report[1].count('"refused: 1 GiB') == 2 and report[1].count('"0 differences"') == 3, (
        report[1]
    )
