# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of a disk to cells, and what is refused before anything is looked at."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._engine import options
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import block_device

MIB = 1 << 20
DISK = "/dev/disk/by-id/nvme-a"


def unit(**given: Any) -> Any:
    return block_device.unit(options.check(block_device.OPTIONS, block_device.RULES, given, set()), None)


def cells(**given: Any) -> dict[tuple[str, str], Any]:
    found = {}
    for port, target, value, _implied in unit(device=DISK, **given).cells:
        found[port, target] = value and {k: v for k, v in value.items() if k[0] != "_"}
    return found


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"label": "gpt"}, {("gpt", DISK): {"label": "gpt"}}),
        (
            {"partitions": [{"number": 1, "size": "1500KiB", "type": "LVM"}, {"number": 3, "state": "absent"}]},
            {
                ("gpt", DISK): {"label": "gpt"},
                ("partition", DISK + "-part1"): {"size": 2 * MIB, "type": block_device.TYPES["lvm"]},
                ("partition", DISK + "-part3"): None,
            },
        ),
        (
            {"scheduler": "none", "read_ahead": "4MiB", "read_only": False},
            {
                ("block", DISK): {"scheduler": "none", "read_ahead": 4 * MIB, "read_only": False},
                ("udev_rule", DISK): {"scheduler": "none", "read_ahead": 4 * MIB, "read_only": False, "intact": True},
            },
        ),
        (
            {"read_ahead": "0", "persist": False},
            {("block", DISK): {"read_ahead": 0}, ("udev_rule", DISK): None},
        ),
        ({"scheduler": "none", "state": "absent"}, {("udev_rule", DISK): None}),
        ({"state": "absent"}, {("gpt", DISK): None, ("udev_rule", DISK): None}),
        (
            {"partitions": [{"number": 2, "name": "x"}], "state": "absent"},
            {("gpt", DISK): None, ("partition", DISK + "-part2"): None, ("udev_rule", DISK): None},
        ),
    ],
)
def test_cells(given: dict[str, Any], expected: Any) -> None:
    assert cells(**given) == expected


def test_what_stands_on_a_partition_finds_it() -> None:
    found = unit(device=DISK, partitions=[{"number": 7}], wipe_token=["a", "b"])
    assert found.provides == (("path", DISK + "-part7"),) and found.consents["wipe_token"] == ["a", "b"]


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [
        ({}, "invalid", "nothing is declared"),
        ({"device": "/srv/image", "label": "gpt"}, "invalid", "not a disk"),
        ({"device": "/dev/mapper/x", "label": "gpt"}, "invalid", "not a disk"),
        ({"partitions": [{"number": 0}]}, "invalid", "1 to 128"),
        ({"partitions": [{"number": 129}]}, "invalid", "1 to 128"),
        ({"partitions": [{"number": 1}, {"number": 1, "size": "1GiB"}]}, "conflict", "twice"),
        ({"partitions": [{"number": 1}, {"number": 2}]}, "invalid", "1, 2 have no size"),
        ({"partitions": [{"number": 1, "start": "1500KiB"}]}, "invalid", "multiple of 1 MiB"),
        ({"partitions": [{"number": 1, "start": "512KiB"}]}, "invalid", "start"),
        ({"partitions": [{"number": 1, "size": "100"}]}, "invalid", "size"),
        ({"partitions": [{"number": 1, "type": "ext4"}]}, "invalid", "type"),
        ({"partitions": [{"number": 1, "name": 'a", size=1'}]}, "invalid", "name"),
        ({"partitions": [{"number": 1, "name": "a" * 37}]}, "invalid", "name"),
        ({"scheduler": "none\n"}, "invalid", "scheduler"),
        ({"read_ahead": "1000"}, "invalid", "4 KiB"),
        ({"read_ahead": "2GiB"}, "invalid", "read_ahead"),
    ],
)
def test_wrong_values(given: dict[str, Any], code: str, says: str) -> None:
    with pytest.raises(StorageError) as caught:
        unit(**{"device": DISK, **given})
    error = caught.value
    assert error.code == code and says in "%s %s" % (error.message, error.hint)
