# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""For how many copies or parts a rule of CRUSH finds a place."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import ceph_poolcheck


def crush() -> dict[str, Any]:
    """Two racks of two hosts, each with two OSDs, of which one is of flash, and a host with nothing in it."""
    racks, hosts, shadows = [], [], []
    for rack in range(2):
        mine = []
        for host in range(2):
            number = -10 - 2 * rack - host
            osds = [{"id": 4 * rack + 2 * host + each, "weight": 1} for each in range(2)]
            hosts.append({"id": number, "name": "h%d" % number, "type_name": "host", "weight": 2, "items": osds})
            shadows.append({**hosts[-1], "id": number - 50, "name": "h%d~ssd" % number, "weight": 1, "items": osds[:1]})
            mine.append({"id": number, "weight": 2})
        racks.append({"id": -2 - rack, "name": "r%d" % rack, "type_name": "rack", "weight": 4, "items": mine})
    empty = {"id": -30, "name": "empty", "type_name": "host", "weight": 0, "items": []}
    above = [*({"id": rack["id"], "weight": 4} for rack in racks), {"id": -30, "weight": 0}]
    root = {"id": -1, "name": "default", "type_name": "root", "weight": 8, "items": above}
    flash = [{"id": shadow["id"], "weight": 1} for shadow in shadows]
    shadow = {"id": -100, "name": "default~ssd", "type_name": "root", "weight": 4, "items": flash}
    return {"buckets": [root, *racks, *hosts, empty, *shadows, shadow]}


def take(name: str = "default") -> dict[str, Any]:
    return {"op": "take", "item_name": name}


def choose(kind: str, number: int = 0, leaf: str = "leaf") -> dict[str, Any]:
    return {"op": "choose%s_firstn" % leaf, "num": number, "type": kind}


EMIT = {"op": "emit"}


@pytest.mark.parametrize(
    ("steps", "places"),
    [
        ([take(), choose("osd", leaf=""), EMIT], 6),
        ([take(), choose("host"), EMIT], 4),
        ([take(), choose("rack"), EMIT], 2),
        ([take(), choose("host", 3), EMIT], 3),
        ([take(), choose("host", -3), EMIT], 3),
        ([{"op": "set_chooseleaf_tries", "num": 5}, take(), choose("host"), EMIT], 4),
        ([take("default~ssd"), choose("osd", leaf=""), EMIT], 4),
        ([take("r0"), choose("host", 1), EMIT, take("r1"), choose("host", -1), EMIT], 3),
        ([take(), choose("rack", 2, ""), choose("host", 2), EMIT], 4),
        ([take(), choose("rack", 2, ""), choose("osd", 3, ""), EMIT], 6),
        ([take("none"), choose("host"), EMIT], 0),
        ([take("h-10"), choose("host"), EMIT], 1),
        ([take("empty"), choose("osd"), EMIT], 0),
    ],
)
def test_places(steps: Any, places: int) -> None:
    assert ceph_poolcheck._places(crush(), steps, 6) == places
