# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes with one primary and its backups as options of ``layout``."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.bulkhead.storage.plugins.filter.shard_node_layout import FilterModule
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import options
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import block_device, ebs_volume, mount
from ansible_collections.bulkhead.storage.plugins.plugin_utils._maps import shard_node

ROLE = Path(__file__).resolve().parents[4] / "roles" / "shard_node"
KINDS: dict[str, Any] = {"ebs_volumes": ebs_volume, "block_devices": block_device, "mounts": mount}
IDS = {"a": "i-0000000000000000a", "b": "i-0000000000000000b", "c": "i-0000000000000000c"}
BY_ID = "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0%d"
ONE: dict[str, Any] = {
    "name": "one",
    "ebs": {"availability_zone": "us-east-1a", "size": "10GiB", "iops": 1000},
    "primary": "a",
    "backups": ["b", "c"],
    "path": "/one",
    "fstype": "xfs",
}
TWO: dict[str, Any] = {"name": "two", "ebs": {}, "primary": "b", "backups": ["a"]}
ALONE: dict[str, Any] = {"name": "alone", "ebs": {"size": "1GiB"}, "primary": "c", "path": "/alone"}


def has(*hosts: str) -> list[dict[str, Any]]:
    return [{"instance_id": IDS[host], "device": "/dev/sdf", "state": "attached"} for host in hosts]


def answered(*those: str) -> list[dict[str, Any]]:
    """What EC2 tells of volumes, each named by the hosts that have it."""
    return [{"by_id": BY_ID % number, "attachments": has(*hosts)} for number, hosts in enumerate(those)]


FOUND = answered("abc", "ab", "c")


def layout(volumes: Any, node: str = "a", found: Any = None, **more: Any) -> dict[str, Any]:
    """Each list is one that the modules take."""
    given = copy.deepcopy(volumes)
    told = shard_node.layout(volumes, node=node, instances=IDS, found=found, **more)
    assert volumes == given, "what was given is the user's"
    assert list(told) == ["ebs_volumes", "demoted", "promoted"]
    lists = [("ebs_volumes", told["ebs_volumes"]), *told["demoted"].items(), *told["promoted"].items()]
    assert [name for name, _entries in lists] == ["ebs_volumes", "block_devices", "mounts", "block_devices"]
    for name, entries in lists:
        for entry in entries:
            options.check(KINDS[name].OPTIONS, KINDS[name].RULES, copy.deepcopy(entry), set())
    return told


def disks(*those: tuple[int, bool]) -> list[dict[str, Any]]:
    return [{"device": BY_ID % number, "read_only": read_only} for number, read_only in those]


def test_a_volume_is_attached_to_the_instances_of_its_nodes() -> None:
    told = layout([ONE, TWO, ALONE])["ebs_volumes"]
    members = [{"instance_id": IDS[host]} for host in "abc"]
    assert told[0] == {**ONE["ebs"], "name": "one", "attachments": members, "multi_attach": True}
    assert told[1] == {"name": "two", "attachments": [members[1], members[0]], "multi_attach": True}
    assert told[2] == {"name": "alone", "size": "1GiB", "attachments": [members[2]]}


def test_what_is_said_of_the_volume_counts() -> None:
    said = {"name": "other", "multi_attach": False, "attachments": [], "size": "", "iops": None}
    assert layout([{**ONE, "ebs": said}])["ebs_volumes"] == [
        {"name": "other", "multi_attach": False, "attachments": []}
    ]
    for option in ("volume_id", "id"):
        (told,) = layout([{**ALONE, "ebs": {option: "vol-00000001"}}])["ebs_volumes"]
        assert told == {option: "vol-00000001", "attachments": has_only("c")}, "its tag stays as it is"
    for empty in (None, ""):
        (told,) = layout([{**ALONE, "ebs": empty, "backups": empty, "path": empty, "fstype": empty}])["ebs_volumes"]
        assert told == {"name": "alone", "attachments": has_only("c")}


def has_only(*hosts: str) -> list[dict[str, Any]]:
    return [{"instance_id": IDS[host]} for host in hosts]


@pytest.mark.parametrize(
    "node, demoted, mounts, promoted",
    [
        ("a", [(1, True)], [], [(0, False)]),
        ("b", [(0, True)], ["/one"], [(1, False)]),
        ("c", [(0, True)], ["/one"], [(2, False)]),
        ("stranger", [], [], []),
    ],
)
def test_disks_are_read_only_on_backups_and_writable_on_the_primary(
    node: str, demoted: Any, mounts: Any, promoted: Any
) -> None:
    told = layout([ONE, TWO, ALONE], node, FOUND)
    assert told["demoted"]["block_devices"] == disks(*demoted)
    assert told["demoted"]["mounts"] == [{"path": path, "state": "absent"} for path in mounts]
    assert told["promoted"]["block_devices"] == disks(*promoted)


def test_nothing_is_said_of_a_disk_that_is_not_there() -> None:
    """Before EC2 was asked, before the volume is made, and before the node has it, as check mode foresees that."""
    foreseen = answered("ab")
    for each in foreseen[0]["attachments"]:
        each["device"] = None
    for found in (None, [{"by_id": None, "attachments": has("a", "b")}], answered("c"), foreseen):
        for node in "ab":
            told = layout([ONE], node, found)
            assert told["demoted"]["block_devices"] == told["promoted"]["block_devices"] == []
            assert len(told["demoted"]["mounts"]) == (node == "b"), "a backup has nothing mounted all the same"


def test_a_path_is_written_plainly() -> None:
    (told,) = layout([{**ONE, "path": "/one/"}], "b")["demoted"]["mounts"]
    assert told["path"] == "/one"


def shown(read_only: bool = True, number: int = 0) -> dict[str, Any]:
    return {"resources": {"block_devices": [{"device": BY_ID % 7, "read_only": True}, *disks((number, read_only))]}}


@pytest.mark.parametrize("wrong", [None, {}, {"failed": True}, {"resources": {}}, shown(False), shown(True, 1)])
def test_a_primary_waits_for_its_backups(wrong: Any) -> None:
    volumes, found = [ONE, TWO], answered("abc", "a")
    good = {"a": shown(), "b": shown(), "c": shown()}
    assert layout(volumes, "a", found, demoted=good)["promoted"]["block_devices"] == disks((0, False))
    bad = {**good, "c": wrong}
    with pytest.raises(StorageError, match="one: nothing shows that the backup c has the disk read-only") as caught:
        layout(volumes, "a", found, demoted=bad)
    assert caught.value.code == "unfenced"
    del bad["c"]
    with pytest.raises(StorageError, match="backup c"):
        layout(volumes, "a", found, demoted=bad)
    for node in "bc":  # those that write to nothing of it
        assert layout(volumes, node, found, demoted=bad)["promoted"]["block_devices"] == []
    without = answered("ab", "a")
    assert layout(volumes, "a", without, demoted=bad)["promoted"]["block_devices"] == disks((0, False))


@pytest.mark.parametrize(
    "volumes, text",
    [
        ({"name": "a secret"}, "shard_node_volumes is a dict, not a list"),
        ([ONE, "a secret"], "shard_node_volumes[1] is a str, not a dictionary"),
        ([{**ONE, "ebs": "a secret"}], "shard_node_volumes[0]: ebs is a str, not a dictionary"),
        ([{**ONE, "backup": ["b"]}], "shard_node_volumes[0]: there is no backup (one of name, ebs, primary, backups, "),
        ([{**ONE, "name": ""}], "shard_node_volumes[0]: name is missing"),
        ([{**ONE, "name": 7}], "shard_node_volumes[0]: name 7 is no text"),
        ([ONE, {**TWO, "name": "one"}], "several of shard_node_volumes have the name 'one'"),
        ([{**ONE, "primary": None}], "shard_node_volumes[0]: primary is missing"),
        ([{**ONE, "primary": ["a"]}], "shard_node_volumes[0]: primary ['a'] is no text"),
        ([TWO, {**ONE, "backups": ["b", "a"]}], "shard_node_volumes[1]: a is the primary and a backup too"),
        ([{**ONE, "backups": ["b", "c", "b"]}], "shard_node_volumes[0]: backup b is there twice"),
        ([{**ONE, "backups": "b"}], "shard_node_volumes[0]: backups 'b' is not a list"),
        ([{**ONE, "backups": ["b", ""]}], "shard_node_volumes[0]: backup '' is no text"),
        ([{**ONE, "backups": [7]}], "shard_node_volumes[0]: backup 7 is no text"),
        (
            [{**ONE, "primary": "d"}],
            "shard_node_volumes[0]: no instance is known of the host d (set the variable that ",
        ),
        ([{**ONE, "backups": ["d"]}], "shard_node_volumes[0]: no instance is known of the host d"),
        ([{**ONE, "path": "one"}], "shard_node_volumes[0]: path 'one' is not absolute"),
    ],
)
def test_refusals(volumes: Any, text: str) -> None:
    with pytest.raises(StorageError) as caught:
        layout(volumes, "a", FOUND)
    assert caught.value.code == "invalid" and text in str(caught.value) and "secret" not in str(caught.value)


def test_no_instance_and_no_answer_are_refused() -> None:
    for instances in (None, {}, {"a": "", "b": IDS["b"], "c": IDS["c"]}, {**IDS, "a": 7}):
        with pytest.raises(StorageError, match="no instance is known of the host a"):
            shard_node.layout([ONE], instances=instances)
    for found in (FOUND[:1], FOUND, {}):
        with pytest.raises(StorageError, match="found is not what was answered of 2 volumes") as caught:
            layout([ONE, TWO], "a", found)
        assert caught.value.code == "invalid"


def test_nothing_declared_is_nothing_to_do() -> None:
    for empty in ([], None, ""):
        told = layout(empty, "a", [], demoted={})
        nothing = {"block_devices": [], "mounts": []}
        assert told == {"ebs_volumes": [], "demoted": nothing, "promoted": {"block_devices": []}}


def test_the_filter_answers_and_refuses() -> None:
    found = FilterModule().filters()["shard_node_layout"]
    assert found([ONE], node="b", instances=IDS, found=FOUND[:1]) == layout([ONE], "b", FOUND[:1])
    with pytest.raises(AnsibleFilterError, match="is a str, not a list"):
        found("x")


def test_the_specification_of_the_role_is_that_of_the_module() -> None:
    spec = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    assert {name: option["default"] for name, option in spec.items()} == defaults
    of_a_volume = spec["shard_node_volumes"]["options"]
    assert set(of_a_volume) == set(shard_node._FIELDS)
    assert _bare(of_a_volume["ebs"]["options"]) == _bare(ebs_volume.OPTIONS)


def _bare(spec: dict[str, Any]) -> dict[str, Any]:
    """Options without their descriptions. Other names and that a text is no secret cannot be said of a role's."""
    bare = {}
    for name, option in spec.items():
        kept = {key: value for key, value in option.items() if key not in ("description", "options", "aliases")}
        if kept.get("no_log") is False:
            del kept["no_log"]
        kept["options"] = _bare(option.get("options", {}))
        bare[name] = {"type": "str", **kept}
    return bare
