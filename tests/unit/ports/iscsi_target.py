# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real image, a real saveconfig.json, and a real target of the guest, for the port contract suite."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import Any, Iterator

from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lio_backing import LioBacking
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lio_saved import LioSaved
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters.lio_target import LioTarget
from ansible_collections.bulkhead.storage.plugins.module_utils._engine.model import Secret
from ansible_collections.bulkhead.storage.tests.support import namespace

IQN, INITIATOR = "iqn.2026-01.org.example:contract", "iqn.2026-01.org.example:me"
OTHERS = {
    "fabric_modules": [],
    "storage_objects": [{"name": "theirs", "plugin": "ramdisk", "size": 1 << 20, "wwn": "1"}],
    "targets": [{"fabric": "iscsi", "tpgs": [], "wwn": IQN + ":theirs"}],
}


def values(path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """With one password or another, and with one image or two."""
    luns = {
        str(number): {"plugin": "fileio", "path": "%s/%d" % (path, number), "size": 1 << 20, "serial": "%032x" % number}
        for number in (0, 3)
    }
    chap = {"username": "user", "password": Secret("one"), "mutual_username": None, "mutual_password": None}
    rest = {"demo_mode": False, "enabled": True, "leftover": (), "authentication": True}
    first = {
        "luns": {"0": luns["0"]},
        "portals": ("127.0.0.1:3270",),
        "initiators": {INITIATOR: {**chap, "luns": ("0",), "own_rule": None}},
        **rest,
    }
    more = {**chap, "password": Secret("two"), "mutual_username": "me", "mutual_password": Secret("three")}
    second = {
        "luns": luns,
        "portals": ("127.0.0.1:3271", "[::1]:3270"),
        "initiators": {INITIATOR + "2": {**more, "luns": ("0", "3"), "own_rule": None}},
        **rest,
    }
    return first, second


@contextmanager
def case_lio_saved() -> Iterator[tuple[Any, Any, Any, Any]]:
    with namespace.place() as path:
        with open(path + "/saveconfig.json", "w", encoding="ascii") as stream:
            json.dump(OTHERS, stream)
        yield LioSaved(path + "/saveconfig.json"), IQN, *values("/srv")


@contextmanager
def case_lio_backing() -> Iterator[tuple[Any, Any, Any, Any]]:
    with namespace.place() as path:
        yield LioBacking(), path + "/image", {"type": "file", "size": 1 << 20}, {"type": "file", "size": 3 << 20}


@contextmanager
def guest_case_lio_target() -> Iterator[tuple[Any, Any, Any, Any]]:
    with namespace.place() as path:
        for number in (0, 3):
            namespace.image("%s/%d" % (path, number), 1 << 20)
        port = LioTarget()
        try:
            yield port, IQN, *values(path)
        finally:
            row = port.row(IQN)
            if row is not None:
                port.put(IQN, row, None)
