# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From options of volume_group to cells; what is refused before anything is asked of a device."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils import _kinds
from ansible_collections.bulkhead.storage.plugins.module_utils._engine import options
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.errors import StorageError
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import UNKNOWN
from ansible_collections.bulkhead.storage.plugins.module_utils._resources import volume_group

MIB = 1 << 20
DISK = "/dev/disk/by-id/virtio-1"
LV = {
    "uuid": "u",
    "share": None,
    "thin_pool": None,
    "origin": "",
    "new": False,
    "tags": (),
    "pool": False,
    "active": True,
}
GROUP = {
    "name": "data", "size": 1000 * MIB, "free": 500 * MIB, "extent": 8 * MIB, "problem": None,
    "pvs": [{"name": "/dev/vda", "rdev": 1, "size": 1000 * MIB, "free": 500 * MIB, "used": 500 * MIB}],
    "lvs": {
        "home": {**LV, "size": 400 * MIB, "share": "40%VG"},
        "pool": {**LV, "size": 96 * MIB, "pool": True, "metadata_size": 8 * MIB},
        "thin": {**LV, "size": 160 * MIB, "thin_pool": "pool"},
    },
}  # fmt: skip


class Look:
    """One group, or none."""

    def __init__(self, group: Any, declared: Any = None) -> None:
        self.rows = {"data": {"_group": group}} if group else {}
        self.declared = declared or {}

    def look(self, port: str, targets: Any) -> Any:
        assert port == "vg"
        return self.rows


def params(**given: Any) -> dict[str, Any]:
    return options.check(volume_group.OPTIONS, volume_group.RULES, {"vg": "data", "pvs": [DISK], **given}, set())


def cells(group: Any, **given: Any) -> dict[Any, Any]:
    unit = volume_group.unit(params(**given), Look(group))
    return {(cell.port, cell.target): cell.value for cell in unit.cells}


@pytest.mark.parametrize(
    ("group", "size", "wanted"),
    [
        (None, "5MiB", {"size": 8 * MIB, "share": None}),  # whole extents, of 4 MiB in a group that is made
        (GROUP, "5MiB", {"size": 8 * MIB, "share": None}),
        (GROUP, "9MiB", {"size": 16 * MIB, "share": None}),
        (None, "40%VG", {"size": UNKNOWN, "share": "40%VG"}),
        (GROUP, "40%VG", {"share": "40%VG"}),  # as it was made: whatever that is now
        (GROUP, "50%VG", {"size": 496 * MIB, "share": "50%VG"}),
        (GROUP, "100%FREE", {"size": UNKNOWN, "share": "100%FREE"}),
    ],
)
def test_sizes(group: Any, size: str, wanted: dict[str, Any]) -> None:
    (value,) = (v for k, v in cells(group, lvs=[{"name": "home", "size": size}]).items() if k[0] == "lv")
    assert {k: v for k, v in value.items() if k in ("size", "share")} == wanted


@pytest.mark.parametrize(
    ("given", "code", "word"),
    [
        ({"vg": "-x"}, "invalid", "'-x'"),
        ({"vg": "mapper"}, "invalid", "'mapper'"),
        ({"vg": "a\n"}, "invalid", r"'a\n'"),
        ({"pvs": []}, "invalid", "without devices"),
        ({"pvs": [DISK, DISK]}, "conflict", "twice"),
        ({"remove_pvs": [DISK]}, "conflict", "remove_pvs"),
        ({"lvs": [{"name": "a/b", "size": "1GiB"}]}, "invalid", "'a/b'"),
        ({"lvs": [{"name": "x_tdata", "size": "1GiB"}]}, "invalid", "LVM's own"),
        ({"lvs": [{"name": "new"}]}, "invalid", "required"),
        ({"lvs": [{"name": "new", "size": "101%VG"}]}, "invalid", "no share"),
        ({"lvs": [{"name": "new", "size": "0%VG"}]}, "invalid", "no share"),
        ({"lvs": [{"name": "new", "size": "10%ORIGIN"}]}, "invalid", "no share"),
        ({"lvs": [{"name": "new", "size": "10%VG", "thin_pool": "pool"}]}, "invalid", "thin"),
        ({"lvs": [{"name": "new", "size": "1GiB", "tags": ["a b"]}]}, "invalid", "tag"),
        ({"lvs": [{"name": "new", "size": "1GiB", "tags": ["bulkhead.new"]}]}, "invalid", "tag"),
        ({"lvs": [{"name": "x", "size": "1GiB"}, {"name": "x", "size": "1GiB"}]}, "conflict", "twice"),
        ({"thin_pools": [{"name": "p", "size": "1GiB", "metadata_size": "1MiB"}]}, "", ""),  # 8 MiB: an extent
        ({"thin_pools": [{"name": "p", "size": "1GiB", "metadata_size": "17GiB"}]}, "invalid", "metadata_size"),
        ({"thin_pools": [{"name": "p", "size": "1GiB", "autoextend_threshold": 49}]}, "invalid", "50..100"),
        ({"thin_pools": [{"name": "pool", "overcommit": 1.6}]}, "limit_exceeded", "overcommit"),  # of 160 in 96
        ({"thin_pools": [{"name": "pool", "overcommit": 1.7}]}, "", ""),
        ({"thin_pools": [{"name": "pool", "overcommit": 0}]}, "invalid", "overcommit"),
        ({"thin_pools": [{"name": "p", "size": "50%FREE", "overcommit": 2}]}, "unsupported", "overcommit"),
    ],
)
def test_what_is_refused(given: dict[str, Any], code: str, word: str) -> None:
    try:
        cells(GROUP, **given)
    except StorageError as error:
        assert error.code == code and word in str(error), error
    else:
        assert code == ""


def test_a_group_that_is_not_ours_to_change_is_refused_whatever_is_declared() -> None:
    for state in ("present", "absent"):
        with pytest.raises(StorageError, match="is exported") as caught:
            cells({**GROUP, "problem": ("protected", "data is exported")}, state=state)
        assert caught.value.code == "protected"


def test_absent_takes_down_all_that_is_there() -> None:
    assert cells(GROUP, state="absent", lvs=[{"name": "home"}, {"name": "gone"}]) == {
        ("pv", ("data", DISK)): None,
        ("thin_pool", ("data", "pool")): None,
        ("lv", "/dev/data/gone"): None,
        ("lv", "/dev/data/home"): None,
        ("lv", "/dev/data/thin"): None,
    }
    assert ("pv", ("data", "/dev/vda")) in cells(GROUP, state="absent", pvs=None)
    with pytest.raises(StorageError, match="name all of pvs"):
        cells(GROUP, state="absent", pvs=[DISK, "/dev/disk/by-id/virtio-2"])


@pytest.mark.parametrize(
    ("size", "told"), [(800 * MIB, 800 * MIB), (200 * MIB, 200 * MIB), (400 * MIB, None), (UNKNOWN, None)]
)
def test_what_stands_on_a_volume_is_told_how_large_it_will_be(size: Any, told: int | None) -> None:
    port = _kinds.ports(["volume_groups"])["lv"]
    assert port.resizes("/dev/data/home", {"size": 400 * MIB}, {"size": size}) == told
    assert (
        port.resizes("/dev/data/home", None, {"size": size})
        is None
        is port.resizes("/dev/data/home", {"size": 1}, None)
    )
