# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots from birth to death on the real kernel, seen through other programs; nothing is left on the host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

import pytest

from ansible_collections.bulkhead.storage.tests.integration.test_volumes import (
    BTRFS,
    LOOP,
    Writer,
    failed,
    fill,
    host,
    limits,
    made,
    number,
    poured,
    refused,
    removed,
    said,
    sums,
    volumes,
)
from ansible_collections.bulkhead.storage.tests.support import module, namespace, reconciling

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


# -- images --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fstype,size", [("ext4", 32), ("xfs", 320), ("btrfs", 128)])
def test_an_image_is_held_still_while_it_is_copied(host: None, fstype: str, size: int) -> None:
    """While somebody writes and reads back; what is kept is a filesystem that needs no repair."""
    volume = {"name": "a", "size": "%dMiB" % size, "fstype": fstype, "owner": "0"}
    made(volumes(LOOP, {**volume, "state": "attached", "target": "/mnt/a"}))
    data = fill("/mnt/a/data", 2 << 20)
    with Writer("/mnt/a") as writer:
        for name in "stu":
            made(kept(name))
    assert writer.rounds and not writer.wrong
    image = HOME + "/default/a/s.img"
    assert said("stat", "-c", "%a %u %s", image) == "600 0 %d" % (size << 20)
    shared = said("filefrag", "-v", image)
    assert "shared" in shared  # /srv is Btrfs: a reflink
    check = {"ext4": ["e2fsck", "-fn"], "xfs": ["xfs_repair", "-n"], "btrfs": ["btrfs", "check"]}[fstype]
    copy = "/srv/look.img"
    said("cp", image, copy)
    if fstype == "ext4":
        said(*check, copy)  # as it is: its journal is empty
    made(volumes({}, {"name": "a", "state": "detached"}))
    os.mkdir("/mnt/look")
    options = "loop,nouuid" if fstype == "xfs" else "loop"
    said("mount", "-o", options, copy, "/mnt/look")
    assert sums("/mnt/look/data") == data
    said("umount", "/mnt/look")
    os.rmdir("/mnt/look")
    said(*check, copy)
    os.unlink(copy)
    for name in "stu":
        made(kept(name, state="absent"))
    made(removed("a"))


def test_a_detached_image_is_copied_as_it_is(host: None) -> None:
    made(volumes(LOOP, {"name": "a", "size": "8MiB"}))
    made(kept("s"))
    assert sums(HOME + "/default/a/s.img") == sums("/srv/fast/default/a.img")
    made({**removed("a"), **kept("s", state="absent")})
    assert not os.path.exists("/srv/fast")


def test_an_image_that_others_hold_is_not_copied(host: None) -> None:
    made(volumes(LOOP, {"name": "a", "size": "8MiB"}))
    device = said("losetup", "-f", "--show", "/srv/fast/default/a.img")
    assert failed(kept("s"))["code"] == "in_use"
    said("losetup", "-d", device)
    made(removed("a"))


def test_a_run_that_is_killed_lets_go(private_mounts: None, tmp_path: Any) -> None:
    """Somebody else writes again right after; so they do when it takes longer than it may."""
    with namespace.place("64m") as base:
        image = namespace.image(os.path.join(base, "x.img"), 16 << 20, "ext4")
        place = os.path.join(base, "mnt")
        os.mkdir(place)
        said("mount", "-o", "loop", image, place)
        try:
            code = (
                "import os, sys, time\n"
                "from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import fsfreeze\n"
                "fd = os.open(sys.argv[1], os.O_RDONLY)\n"
                "with fsfreeze.frozen(fd, sys.argv[1], float(sys.argv[2])):\n"
                "    print('frozen', flush=True)\n"
                "    time.sleep(float(sys.argv[3]))\n"
            )
            env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
            argv = [sys.executable, "-c", code, place]
            with subprocess.Popen([*argv, "60", "60"], env=env, stdout=subprocess.PIPE) as run:
                try:
                    assert run.stdout and run.stdout.readline() == b"frozen\n"
                    writes = subprocess.Popen(["touch", place + "/a"])
                    time.sleep(0.3)
                    assert writes.poll() is None, "whoever writes waits"
                    second = subprocess.run([*argv, "60", "0"], env=env, stderr=subprocess.PIPE, check=False)
                    assert b"is frozen already" in second.stderr
                finally:
                    run.kill()
            assert writes.wait(timeout=5) == 0
            late = subprocess.run([*argv, "0.2", "1"], env=env, stderr=subprocess.PIPE, check=False, timeout=20)
            assert b"could not be held still" in late.stderr
            assert subprocess.run([*argv, "5", "0"], env=env, stdout=subprocess.PIPE, check=False).returncode == 0
            said("touch", place + "/b")
        finally:
            namespace.take_down(place)


# -- a template ----------------------------------------------------------------------------------------------------


def test_a_template_keeps_what_it_made_last(host: None) -> None:
    made(volumes(BTRFS, {"name": "a", "size": "16MiB"}))
    made(kept("t20010101"))
    entry = {"name": "t%Y%m%d-%H%M%S", "volume": "a", "keep": {"last": 2}}
    seen = []
    for _each in range(4):
        done = module.run("snapshot", entry).result
        assert done["changed"], done
        seen.append(done["resource"]["name"])
        time.sleep(1.1)
    assert len(set(seen)) == 4
    assert sorted(os.listdir(HOME + "/default/a")) == sorted(["t20010101", *seen[2:]])
    assert row("default/a/" + seen[0]) is None and row("default/a/" + seen[3])["template"] == entry["name"]
    # of one day there is one
    daily = {"snapshots": [{"name": "d-%Y%j", "volume": "a", "keep": {"daily": 7}}]}
    made(daily)
    assert len([name for name in os.listdir(HOME + "/default/a") if name[:2] == "d-"]) == 1
    gone = [{"name": entry["name"], "volume": "a"}, {"name": "d-%Y%j", "volume": "a"}]
    assert refused({**removed("a"), "snapshots": gone}) == "in_use"
    made({**removed("a"), "snapshots": [*gone, {"name": "t20010101", "volume": "a"}]})
    assert not os.path.exists("/srv/fast")


# -- restored ------------------------------------------------------------------------------------------------------


def test_a_subvolume_gets_back_what_it_held(host: None) -> None:
    volume = {"name": "a", "size": "16MiB", "owner": "1000"}
    path = "/srv/fast/default/a"
    made(volumes(BTRFS, volume))
    said("btrfs", "subvolume", "create", path + "/nested")
    old = fill(path + "/data"), fill(path + "/nested/data")
    made(kept("s"))
    new = fill(path + "/data"), fill(path + "/more")
    made(volumes({}, {**volume, "size": "24MiB", "owner": "1001"}))
    first = uuid(path)

    restore = kept("s", state="restored")
    attached = {"volumes": [{"name": "a", "state": "attached", "target": "/mnt/a"}]}
    assert refused({**restore, **attached}) == "in_use"
    made(attached)
    assert refused(restore) == "in_use"
    made({"volumes": [{"name": "a", "state": "detached"}]})
    checked = reconciling.run(restore, check=True)
    assert uuid(path) == first and sums(path + "/data") == new[0]
    done = made(restore)
    assert checked["actions"] == done["actions"] and checked["digest"] == done["digest"]
    assert [(each["port"], each["verb"], each["risk"]) for each in done["actions"]] == [
        ("record", "create", "reversible"),
        ("content", "change", "forward"),
        ("record", "change", "reversible"),
    ]
    assert (sums(path + "/data"), sums(path + "/nested/data")) == old and not os.path.exists(path + "/more")
    before = HOME + "/default/a/before-restore-s"
    assert (sums(before + "/data"), sums(before + "/more")) == new and uuid(before) == first
    assert uuid(path, "Parent UUID") == uuid(HOME + "/default/a/s")
    assert [property_ro(each) for each in (before, before + "/nested", path, path + "/nested")] == [
        *["ro=true"] * 2,
        *["ro=false"] * 2,
    ]
    # as large as it was, and its owner's; what is kept has no limit of its own
    assert limits()["1/" + number(path)] == str(24 << 20) and "1/" + number(before) not in limits()
    assert said("stat", "-c", "%u", path) == "1001"
    assert "Disk quota exceeded" in poured(path + "/zero", 32)
    os.unlink(path + "/zero")
    assert reconciling.run(volumes({}, {**volume, "size": "24MiB", "owner": "1001"}))["actions"] == []

    # Once, whatever becomes of the volume, unless it is said to be another time.
    third = fill(path + "/data")
    assert reconciling.run(restore)["actions"] == [] and sums(path + "/data") == third
    again = kept("s", state="restored", restore_id="monday")
    made(again)
    assert sums(path + "/data") == old[0] and sums(HOME + "/default/a/before-restore-monday/data") == third
    assert row("default/a/s")["restored"] == ["s", "monday"]
    assert reconciling.run(restore)["actions"] == [] and sums(path + "/data") == old[0]
    assert refused(kept("before-restore-s", state="restored", restore_id="monday")) == "conflict"
    # and back
    made(kept("before-restore-s", state="restored"))
    assert (sums(path + "/data"), sums(path + "/more")) == new
    names = os.listdir(HOME + "/default/a")
    assert sorted(names) == ["before-restore-" + each for each in ("before-restore-s", "monday", "s")] + ["s"]
    made({**removed("a"), **kept(*names, state="absent")})
    assert not os.path.exists("/srv/fast")


def test_a_snapshot_made_anew_is_restored_anew(host: None) -> None:
    path = "/srv/fast/default/a"
    made(volumes(BTRFS, {"name": "a", "size": "16MiB"}))
    made(kept("s"))
    made(kept("s", state="restored"))
    made(kept("s", state="absent"))
    data = fill(path + "/data")
    made(kept("s"))
    os.unlink(path + "/data")
    assert refused(kept("s", state="restored")) == "conflict"
    made(kept("s", state="restored", restore_id="two"))
    assert sums(path + "/data") == data
    made({**removed("a"), **kept(*os.listdir(HOME + "/default/a"), state="absent")})


def test_an_image_gets_back_what_it_held(host: None) -> None:
    image = "/srv/fast/default/a.img"
    made(volumes(LOOP, {"name": "a", "size": "8MiB", "state": "attached", "target": "/mnt/a"}))
    old = fill("/mnt/a/data", 65536)
    made(kept("s"))
    fill("/mnt/a/data", 65536)
    assert refused(kept("s", state="restored")) == "in_use"
    made({"volumes": [{"name": "a", "state": "detached"}]})
    first = sums(image)
    device = said("losetup", "-f", "--show", image)
    assert failed(kept("s", state="restored"))["code"] == "in_use"
    said("losetup", "-d", device)
    made(kept("s", state="restored"))
    assert sums(HOME + "/default/a/before-restore-s.img") == first
    assert sums(image) == sums(HOME + "/default/a/s.img")
    made(volumes({}, {"name": "a", "state": "attached", "target": "/mnt/a"}))
    assert sums("/mnt/a/data") == old
    made({"volumes": [{"name": "a", "state": "detached"}]})
    made(volumes({}, {"name": "a", "size": "16MiB"}))
    assert refused(kept("before-restore-s", state="restored")) == "conflict"
    made({**removed("a"), **kept("s", "before-restore-s", state="absent")})


# -- a source ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", [BTRFS, LOOP], ids=["btrfs", "loop"])
def test_a_volume_begins_as_a_snapshot(host: None, pool: dict[str, Any]) -> None:
    """While the volume that it was made of is written to; and stays when both are gone."""
    made(volumes(pool, {"name": "a", "size": "16MiB", "state": "attached", "target": "/mnt/a"}))
    data = fill("/mnt/a/data", 65536)
    made(kept("s"))
    fill("/mnt/a/data", 65536)
    source = {"type": "snapshot", "name": "a/s"}
    assert refused(volumes(pool, {"name": "b", "size": "16MiB", "source": {**source, "name": "a/t"}})) == "not_found"
    assert refused(volumes(pool, {"name": "b", "size": "8MiB", "source": source})) == "would_shrink"
    one = {"name": "b", "size": "24MiB", "source": source, "state": "attached", "target": "/mnt/b"}
    two = {**one, "namespace": "blue", "source": {**source, "namespace": "default"}, "target": "/mnt/c"}
    made(volumes(pool, one, two))
    assert sums("/mnt/b/data") == sums("/mnt/c/data") == data
    gone = [{"name": "a", "state": "absent", "force": True}]
    made({"volumes": gone, **kept("s", state="absent")})
    fill("/mnt/b/more", 65536)
    assert sums("/mnt/b/data") == sums("/mnt/c/data") == data
    made({"volumes": [{"name": "b", "state": "detached"}, {"name": "b", "namespace": "blue", "state": "detached"}]})
    made(removed("b", "blue/b"))
