# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disks of a host as options of ``layout``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import options
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import (
    block_device,
    filesystem,
    luks_device,
    mount,
    volume_group,
)
from ansible_collections.bulkhead.storage.plugins.plugin_utils._maps import storage_host

ROLE = Path(__file__).resolve().parents[4] / "roles" / "storage_host"
KINDS = {
    "block_devices": block_device,
    "luks_devices": luks_device,
    "volume_groups": volume_group,
    "filesystems": filesystem,
    "mounts": mount,
}
DISK = "/dev/disk/by-id/virtio-data1"
STACK: dict[str, list[dict[str, Any]]] = {
    "block_devices": [{"device": DISK, "partitions": [{"number": 1, "type": "lvm"}]}],
    "luks_devices": [{"device": DISK + "-part1", "name": "safe", "key_file": "/root/key"}],
    "volume_groups": [{"vg": "data", "pvs": ["/dev/mapper/safe"], "lvs": [{"name": "srv", "size": "50%VG"}]}],
    "filesystems": [{"device": "/dev/data/srv", "fstype": "xfs", "quota": ["project"]}],
    "mounts": [{"path": "/srv", "source": "/dev/data/srv", "fstype": "xfs", "options": ["prjquota"]}],
}


def layout(*args: Any, **more: Any) -> dict[str, list[dict[str, Any]]]:
    found = storage_host.layout(*args, **more)
    assert list(found) == list(KINDS)
    for name, entries in found.items():
        for entry in entries:
            kind: Any = KINDS[name]
            options.check(kind.OPTIONS, kind.RULES, entry, set())
    return found


def test_entries_are_those_of_the_modules() -> None:
    assert layout(STACK) == STACK
    survey = {"filesystems": [{**STACK["filesystems"][0], "label": "", "uuid": None}]}
    assert layout(survey)["filesystems"] == STACK["filesystems"]
    for empty in ({}, dict.fromkeys(KINDS), dict.fromkeys(KINDS, ""), dict.fromkeys(KINDS, [])):
        assert layout(empty) == {kind: [] for kind in KINDS}


def test_absent_keeps_names_and_consents_only() -> None:
    stack = {kind: [{**entries[0], "wipe_token": "ab12", "state": "present"}] for kind, entries in STACK.items()}
    del stack["mounts"][0]["wipe_token"]
    stack["volume_groups"][0]["wipe_token"] = ["ab12"]
    found = layout(stack, state="absent")
    assert all(entry["state"] == "absent" for entries in found.values() for entry in entries)
    assert found["volume_groups"] == [
        {"vg": "data", "pvs": ["/dev/mapper/safe"], "wipe_token": ["ab12"], "state": "absent"}
    ]
    assert found["block_devices"] == [{"device": DISK, "wipe_token": "ab12", "state": "absent"}]
    assert found["mounts"] == [{"path": "/srv", "source": "/dev/data/srv", "state": "absent"}]
    assert "wipe_token" not in layout(STACK, state="absent")["luks_devices"][0]


@pytest.mark.parametrize(
    "wanted, state, text",
    [
        ({}, "gone", "state 'gone' is neither present nor absent"),
        ({"pools": []}, "present", "storage_host has no pools"),
        ([], "present", "storage_host has no ?"),
        ({"mounts": "/srv"}, "present", "storage_host_mounts '/srv' is not a list"),
        ({"mounts": [{}, "/srv"]}, "present", "storage_host_mounts[1] '/srv' is not a dictionary"),
    ],
)
def test_refusals(wanted: Any, state: str, text: str) -> None:
    with pytest.raises(StorageError) as caught:
        storage_host.layout(wanted, state)
    assert caught.value.code == "invalid" and text in str(caught.value)


def test_the_specification_of_the_role_is_that_of_the_modules() -> None:
    spec = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    assert {name: option["default"] for name, option in spec.items()} == defaults
    for name, kind in KINDS.items():
        resource: Any = kind
        assert _bare(spec["storage_host_" + name]["options"]) == _bare(resource.OPTIONS), name


def _bare(spec: dict[str, Any]) -> dict[str, Any]:
    """Options without their descriptions. Other names and that a text is no secret cannot be said of a role's."""
    bare = {}
    for name, option in spec.items():
        kept = {
            key: value for key, value in option.items() if key not in ("description", "default", "options", "aliases")
        }
        if kept.get("no_log") is False:
            del kept["no_log"]
        kept["options"] = _bare(option.get("options", {}))
        bare[name] = {"type": "str", **kept}
    return bare
