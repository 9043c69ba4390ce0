# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots from birth to death on the real kernel, seen through other programs; nothing is left on the host."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from ansible_collections.bulkhead.storage.tests.integration.test_volumes import (
    BTRFS,
    fill,
    host,
    made,
    number,
    refused,
    removed,
    said,
    sums,
    volumes,
)
from ansible_collections.bulkhead.storage.tests.support import module, reconciling

__all__ = ["host"]
HOME = "/srv/fast/.snapshots"
ROW = "SELECT value FROM rows WHERE kind = 'snapshot' AND key = '%s'"


def row(key: str) -> Any:
    text = said("sqlite3", "/var/lib/bulkhead/catalogue.sqlite", ROW % key)
    return json.loads(text) if text else None


def kept(*names: str, volume: str = "a", **more: Any) -> dict[str, Any]:
    return {"snapshots": [{"name": name, "volume": volume, **more} for name in names]}


def property_ro(path: str) -> str:
    return said("btrfs", "property", "get", "-ts", path, "ro")


def uuid(path: str, what: str = "UUID") -> str:
    lines = said("btrfs", "subvolume", "show", path).splitlines()
    return next(line.split(":")[1].strip() for line in lines if line.strip().startswith(what + ":"))


def test_a_subvolume_is_kept_while_it_is_written_to(host: None) -> None:
    made(volumes(BTRFS, {"name": "a", "size": "64MiB", "owner": "1000", "state": "attached", "target": "/mnt/a"}))
    data = fill("/mnt/a/data", 2 << 20)
    checked = reconciling.run(kept("s"), check=True)
    assert not os.path.exists(HOME)
    done = made(kept("s"))
    assert checked["digest"] == done["digest"] and checked["actions"] == done["actions"]
    assert [(each["port"], each["verb"]) for each in done["actions"]] == [
        *[("record", "create"), *[("node", "create")] * 3, ("snapshot", "create")]
    ]
    path = HOME + "/default/a/s"
    assert uuid(path, "Parent UUID") == uuid("/srv/fast/default/a")
    assert property_ro(path) == "ro=true"
    assert sums(path + "/data") == data
    other = fill("/mnt/a/data", 1 << 20)
    assert sums(path + "/data") == data != other
    assert said("stat", "-c", "%a %u %g", HOME) == "700 0 0"
    asks = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "ls", HOME]
    assert "Permission denied" in said(*asks, rc=2)
    assert row("default/a/s")["path"] == path and row("default/a/s")["id"]

    # Made once: what is there under its name stays, and what lost its seal gets it back.
    before = uuid(path)
    said("btrfs", "property", "set", "-ts", path, "ro", "false")
    done = made(kept("s"))
    assert [(each["port"], each["verb"]) for each in done["actions"]] == [("snapshot", "change")]
    assert property_ro(path) == "ro=true" and uuid(path) == before and sums(path + "/data") == data

    made(kept("t"))
    made(volumes({}, {"name": "a", "state": "detached"}))
    made(kept("s", state="absent"))
    assert os.listdir(HOME + "/default/a") == ["t"] and row("default/a/s") is None
    made({**removed("a"), **kept("t", state="absent")})
    assert not os.path.exists("/srv/fast") and row("default/a/t") is None


def test_a_volume_does_not_go_before_its_snapshots(host: None) -> None:
    made(volumes(BTRFS, {"name": "a", "size": "16MiB"}, {"name": "ab", "size": "16MiB"}))
    made({"snapshots": [*kept("s", "t")["snapshots"], *kept("u", volume="ab")["snapshots"]]})
    answer = reconciling.run(removed("a", pool=False))["refused"]
    assert [(each["code"], each["details"]["snapshots"]) for each in answer] == [
        ("in_use", ["default/a/s", "default/a/t"])
    ]
    assert refused({**removed("a", pool=False), **kept("s", state="absent")}) == "in_use"
    assert refused({**removed("a", pool=False), **kept("new", state="present")}) == "in_use"
    made({**removed("a", pool=False), **kept("s", "t", state="absent")})
    assert row("default/ab/u")
    made({**removed("ab"), **kept("u", volume="ab", state="absent")})


def test_a_pool_a_volume_and_its_snapshot_in_one_call(host: None) -> None:
    document = {**volumes(BTRFS, {"name": "a", "size": "16MiB"}), **kept("s")}
    checked = reconciling.run(document, check=True)
    done = made(document)
    assert checked["actions"] == done["actions"] and checked["digest"] == done["digest"]
    made({**removed("a"), **kept("s", state="absent")})
    assert not os.path.exists("/srv/fast")


def test_what_is_nested_in_a_volume_is_kept_and_goes_with_it(host: None) -> None:
    made(volumes(BTRFS, {"name": "a", "size": "16MiB"}))
    said("btrfs", "subvolume", "create", "/srv/fast/default/a/one")
    said("btrfs", "subvolume", "create", "/srv/fast/default/a/one/two")
    data = fill("/srv/fast/default/a/one/two/data")
    made(kept("s"))
    path = HOME + "/default/a/s"
    assert sums(path + "/one/two/data") == data
    for inner in ("", "/one", "/one/two"):
        assert property_ro(path + inner) == "ro=true" and number(path + inner)
    made(kept("s", state="absent"))
    assert sums("/srv/fast/default/a/one/two/data") == data
    made(removed("a"))


def test_what_cannot_be_kept_says_so_beforehand(host: None) -> None:
    assert refused(kept("s")) == "not_found"
    memory = {"name": "m", "type": "memory", "size": "1MiB"}
    made({"volumes": [memory]})
    assert refused(kept("s", volume="m")) == "unsupported"
    made(removed("m", pool=False))
    assert refused(kept("../s")) == refused(kept("s", namespace="A")) == refused(kept("s", volume=".a")) == "invalid"
    made(kept("s", state="absent"))


@pytest.mark.parametrize("check", [True, False])
def test_the_module_answers(host: None, check: bool) -> None:
    made(volumes(BTRFS, {"name": "a", "size": "16MiB"}))
    options = {"name": "s", "volume": "a"}
    done = module.run("snapshot", options, check=check).result
    assert done["changed"] and done["resource"]["status"] == "ready"
    assert done["resource"]["path"] == HOME + "/default/a/s"
    again = module.run("snapshot", options).result
    assert again["changed"] is check
    assert again["resource"]["created_at"].endswith("Z")
    gone = module.run("snapshot", {**options, "state": "absent"}).result
    assert gone["changed"] and gone["resource"]["status"] == "absent"
    made(removed("a"))
