# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools in a volume group and their volumes. lvs(8), findmnt(8), blkid(8) and the bytes of the devices tell of them."""

from __future__ import annotations

import os
from typing import Any, Iterator

import pytest

from ansible_collections.bulkhead.storage.tests.lab.inside.alpha import test_volume_group as vg
from ansible_collections.bulkhead.storage.tests.support.quotas import TENANT, as_tenant, converge, sh

MIB = vg.MIB
POOLS = "/var/lib/bulkhead/pools"
TARGET = "/mnt/lvmpool"
clean = vg.clean


@pytest.fixture(autouse=True)
def unmounted(clean: None) -> Iterator[None]:
    yield
    for path in sorted(sh(["findmnt", "-rno", "TARGET"]).split(), reverse=True):
        if path.startswith((POOLS + "/", TARGET)):
            sh(["umount", path])


def group(**more: Any) -> list[dict[str, Any]]:
    return [{"vg": "data", "pvs": [vg.DISK % 1], "thin_pools": [{"name": "thin", "size": "512MiB"}], **more}]


def pool(name: str = "fast", thin: bool = True, **more: Any) -> dict[str, Any]:
    config = {"vg": "data", **({"thin_pool": "thin"} if thin else {})}
    return {"name": name, "backend": "lvm", "config": config, **more}


def volume(name: str = "data", **more: Any) -> dict[str, Any]:
    return {"name": name, "pool": "fast", "size": "16MiB", **more}


def ports(answer: dict[str, Any]) -> list[tuple[str, str]]:
    return [(a["port"], a["verb"]) for a in answer["actions"]]


def run(*volumes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return converge([], volumes=list(volumes), **more)


def settle(*volumes: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Foreseen, done as foreseen; the next run does nothing."""
    foreseen = vg.done(run(*volumes, check=True, **more))
    made = vg.done(run(*volumes, **more))
    assert (made["actions"], made["digest"]) == (foreseen["actions"], foreseen["digest"])
    again = vg.done(run(*volumes, **more))
    assert again["actions"] == []
    return made


def kind_of(device: str) -> str:
    return sh(["blkid", "-p", "-o", "value", "-s", "TYPE", device], check=False).strip()


def refused(answer: dict[str, Any], *wanted: str) -> str:
    vg.refused(answer, *wanted)
    return str(answer["refused"][0]["message"])


@pytest.fixture
def made(unmounted: None) -> None:
    """A group, a thin pool, and the pool over them."""
    vg.done(converge([], volume_groups=group(), pools=[pool()]))


def test_from_bare_disk_to_an_attached_volume_and_back_in_one_call_each() -> None:
    every = {"volume_groups": group(), "pools": [pool()]}
    attached = volume(state="attached", owner=str(TENANT), mode="0700", target=TARGET)
    done = settle(attached, **every)
    assert vg.programs(lambda: run(attached, **every)["actions"] == []) == ["/usr/sbin/lvm"]
    where = "/dev/data/v+default+data"
    assert vg.lv("v+default+data", "lv_size,pool_lv,lv_tags") == [str(16 * MIB), "thin", "bulkhead.volume"]
    assert kind_of(where) == "ext4"
    for path in (POOLS + "/fast/default/data", TARGET):
        fields = sh(["findmnt", "-no", "SOURCE,FSTYPE", path]).split()
        assert os.stat(fields[0]).st_rdev == os.stat(where).st_rdev and fields[1] == "ext4"
        assert {"nosuid", "nodev"} <= set(sh(["findmnt", "-no", "OPTIONS", path]).strip().split(","))
    assert sh(["stat", "-c", "%u %a", TARGET]).split() == [str(TENANT), "700"]
    stored, error = as_tenant(TARGET + "/f", 20 * MIB)
    assert 8 * MIB < stored < 16 * MIB and error == 28
    shown = done["shown"]["volumes[0] (default/data)"]
    assert (shown["device"], shown["enforced_by"], shown["status"]) == (where, "block", "in_use")
    shown = run(attached, **every)["shown"]
    assert shown["pools[0] (fast)"]["capacity_bytes"] == 512 * MIB and shown["pools[0] (fast)"]["used_bytes"] > 0
    assert stored < shown["volumes[0] (default/data)"]["usage"]["bytes"] <= 16 * MIB
    # a group does not go while a volume of a pool is in it, whatever token is typed
    refused(converge([], volume_groups=group(state="absent")), "in_use")
    refused(run(volume(state="absent")), "in_use")
    # detached, and gone with everything beneath it
    settle(volume(state="detached"))
    assert not os.path.ismount(TARGET) and not os.path.ismount(POOLS + "/fast/default/data")
    gone = {
        "volume_groups": group(state="absent"),
        "pools": [pool(state="absent", confirm="fast")],
        "volumes": [volume(state="absent")],
    }
    vg.done(converge([], **gone))
    assert vg.told("vgs", "vg_name") == [] and vg.blank(vg.DISK % 1)
    assert vg.done(converge([], **gone))["actions"] == []


def test_what_is_not_there_or_is_somebody_elses_is_refused(made: None) -> None:
    refused(converge([], pools=[pool(config={"vg": "other"})]), "conflict")
    refused(converge([], pools=[pool("p2", config={"vg": "other"})]), "not_found")
    refused(converge([], pools=[pool("p2", config={"vg": "data", "thin_pool": "none"})]), "not_found")
    refused(converge([], pools=[pool("p2", config={})]), "invalid")
    assert "too long" in refused(run(volume("a" * 60, namespace="b" * 60)), "invalid")
    sh(["lvcreate", "-n", "v+default+data", "-V", "64m", "--thinpool", "thin", "data"])
    sh(["mkfs.ext4", "-q", "-L", "theirs", "/dev/data/v+default+data"])
    refused(run(volume()), "conflict")
    assert sh(["blkid", "-p", "-o", "value", "-s", "LABEL", "/dev/data/v+default+data"]).strip() == "theirs"
    refused(run(volume("big", size="8GiB", provisioning="thick")), "no_space")
    refused(converge([], pools=[pool(overcommit=1.0)], volumes=[volume("big", size="600MiB")]), "limit_exceeded")


def write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)
        os.fsync(stream.fileno())


def read(path: str) -> str:
    with open(path, encoding="utf-8") as stream:
        return stream.read()


def test_it_grows_while_in_use_and_shrinks_only_where_that_loses_nothing(made: None) -> None:
    at, where = POOLS + "/fast/default/data", "/dev/data/v+default+data"
    vg.done(run(volume(state="attached")))
    write(at + "/f", "kept")
    grown = settle(volume(state="attached", size="40MiB"))
    assert ports(grown) == [("record", "change"), ("lv", "change"), ("superblock", "change")]
    found = os.statvfs(at)
    assert vg.lv("v+default+data") == [str(40 * MIB)] and 30 * MIB < found.f_blocks * found.f_frsize < 40 * MIB
    refused(run(volume(size="20MiB")), "would_shrink")
    refused(run(volume(size="20MiB", allow_shrink=True)), "in_use")
    shrunk = settle(volume(state="detached", size="20MiB", allow_shrink=True))
    steps = [step for step in ports(shrunk) if step[0] in ("mount", "superblock", "lv")]
    assert steps == [("mount", "remove"), ("superblock", "change"), ("lv", "change")]
    assert vg.lv("v+default+data") == [str(20 * MIB)]
    sh(["e2fsck", "-fn", where])
    vg.done(run(volume(state="attached", size="20MiB")))
    assert read(at + "/f") == "kept"
    # killed between the two: the logical volume is larger already
    vg.done(run(volume(state="detached", size=None)))
    sh(["lvextend", "-L", "24m", "data/v+default+data"])
    assert ports(settle(volume(size="24MiB"))) == [("record", "change"), ("superblock", "change")]


def test_a_block_volume_is_a_bare_device_and_starts_empty(made: None) -> None:
    one, where = volume("disk", type="block"), "/dev/data/v+default+disk"
    settle(one)
    with open(where, "r+b", buffering=0) as disk:
        assert disk.seek(0, 2) == 16 * MIB and kind_of(where) == ""
        disk.seek(5 * MIB)
        disk.write(b"tenant" * 700)
        os.fsync(disk.fileno())
    done = settle({**one, "state": "attached", "job": "vm-1", "sharing": "exclusive"})
    shown = done["shown"]["volumes[0] (default/disk)"]
    assert (shown["device"], shown["path"], shown["job_ids"], shown["status"]) == (where, None, ["vm-1"], "in_use")
    assert POOLS not in sh(["findmnt", "-rno", "TARGET"])
    refused(run({**one, "state": "attached", "job": "vm-2"}), "in_use")
    one["size"] = "24MiB"
    settle(one)
    assert vg.lv("v+default+disk") == [str(24 * MIB)]
    refused(run({**one, "size": "8MiB", "allow_shrink": True}), "would_shrink")
    for option in ({"target": TARGET}, {"fstype": "ext4"}, {"owner": "0"}):
        refused(run(volume("other", type="block", state="attached", **option)), "invalid")
    refused(run(volume("other", type="block", state="attached", read_only=True)), "not_enforced")
    refused(run(volume("other", type="block", provisioning="thick")), "unsupported")
    refused(
        converge([], pools=[pool("plain", thin=False)], volumes=[volume(pool="plain", type="block")]), "unsupported"
    )
    sh(["lvchange", "-Zn", "data/thin"])  # lvmthin(7): what is handed out shows what was there
    refused(run(volume("other", type="block")), "unsupported")
    refused(run({**one, "size": "32MiB"}), "unsupported")
    assert vg.done(run(one))["actions"] == []
    sh(["lvchange", "-Zy", "data/thin"])
    refused(run({**one, "state": "absent"}), "in_use")
    vg.done(run({**one, "state": "detached"}))
    sh(["mkfs.ext4", "-q", "-F", where])
    os.makedirs(TARGET, exist_ok=True)
    sh(["mount", where, TARGET])
    refused(run({**one, "state": "absent"}), "in_use")
    sh(["umount", TARGET])
    vg.done(run({**one, "state": "absent"}))
    assert vg.lv("v+default+disk") == [] and not os.path.exists(where)
    vg.done(run(one))
    with open(where, "rb") as disk:
        assert not any(disk.read()), "nobody sees what was on it before"


@pytest.mark.parametrize("fstype,size", [("ext4", "16MiB"), ("xfs", "320MiB")])
def test_a_clone_is_a_thin_snapshot_of_a_volume_in_use(made: None, fstype: str, size: str) -> None:
    first = volume(state="attached", fstype=fstype, size=size)
    vg.done(run(first))
    at = POOLS + "/fast/default/"
    write(at + "data/f", "before")
    clone = {**first, "name": "copy", "namespace": "blue", "size": "320MiB"}
    clone["source"] = {"type": "clone", "name": "data", "namespace": "default"}
    done = settle(clone)
    assert [a["before"] for a in done["actions"] if a["port"] == "superblock"] in ([], ["UNKNOWN"]), done["actions"]
    assert vg.lv("v+blue+copy", "origin,pool_lv,lv_size") == ["v+default+data", "thin", str(320 * MIB)]
    there = POOLS + "/fast/blue/copy"
    assert read(there + "/f") == "before"
    write(there + "/f", "in the clone")
    write(at + "data/f", "in the source")
    assert (read(there + "/f"), read(at + "data/f")) == ("in the clone", "in the source")
    found = os.statvfs(there)
    assert found.f_blocks * found.f_frsize > 250 * MIB
    # its source may go, and it stays
    vg.done(run(volume(state="absent", force=True)))
    assert vg.lv("v+default+data") == [] and read(there + "/f") == "in the clone"
    settle(clone)


def keep(name: str = "s", **more: Any) -> dict[str, Any]:
    return {"snapshots": [{"name": name, "volume": "data", **more}]}


def state(name: str) -> list[str]:
    return vg.lv(name, "lv_permissions,lv_active,origin,pool_lv,lv_skip_activation")


KEPT = "s+default+data+"
SHUT = ["read-only", "", "v+default+data", "thin", "skip activation"]


@pytest.mark.parametrize("fstype,size", [("ext4", "16MiB"), ("xfs", "320MiB")])
def test_a_snapshot_keeps_one_moment_of_a_volume_in_use(made: None, fstype: str, size: str) -> None:
    first = volume(state="attached", fstype=fstype, size=size)
    vg.done(run(first))
    at = POOLS + "/fast/default/"
    write(at + "data/f", "before")
    done = settle(**keep())
    assert ports(done) == [("record", "create"), ("lv", "create")]
    assert vg.programs(lambda: converge([], **keep())["actions"] == []) == ["/usr/sbin/lvm"]
    assert state(KEPT + "s") == SHUT and not os.path.exists("/dev/data/" + KEPT + "s")
    (shown,) = done["shown"].values()
    assert (shown["path"], shown["status"]) == ("/dev/data/" + KEPT + "s", "ready")
    write(at + "data/f", "after")
    copy = {**first, "name": "copy", "source": {"type": "snapshot", "name": "data/s"}}
    settle(copy)
    assert (read(at + "copy/f"), read(at + "data/f")) == ("before", "after")
    write(at + "copy/f", "in the clone")
    # neither the volume nor the group goes before it, and whoever opened it is not disturbed
    refused(run(volume(state="absent", force=True)), "in_use")
    refused(converge([], volume_groups=group(state="absent")), *["in_use"] * 3)
    sh(["lvchange", "-ay", "-K", "data/" + KEPT + "s"])
    os.makedirs(TARGET, exist_ok=True)
    options = {"ext4": "ro,noload", "xfs": "ro,norecovery,nouuid"}[fstype]
    sh(["mount", "-t", fstype, "-o", options, "/dev/data/" + KEPT + "s", TARGET])
    assert read(TARGET + "/f") == "before" and vg.done(converge([], **keep()))["actions"] == []
    refused(converge([], **keep(state="absent")), "in_use")
    sh(["umount", TARGET])
    settle(**keep(state="absent"))
    assert vg.lv(KEPT + "s") == [] and read(at + "copy/f") == "in the clone"
    # with others of its name it goes by its rules
    for second in range(3):
        sh(["lvcreate", "-s", "-n", "theirs%d" % second, "data/v+default+data"])
        vg.done(converge([], **keep("at-%Y%m%d%H%M%S", keep={"last": 2})))
        sh(["sleep", "1.1"])
    names = [row["lv_name"] for row in vg.told("lvs", "lv_name")]
    assert len([name for name in names if name.startswith(KEPT + "at-")]) == 2 and "theirs0" in names
    gone = {"volumes": [{**each, "state": "absent", "force": True} for each in (first, copy)]}
    vg.done(converge([], **gone, **keep("at-%Y%m%d%H%M%S", state="absent")))
    assert [row["lv_name"] for row in vg.told("lvs", "lv_name")] == ["theirs0", "theirs1", "theirs2", "thin"]


def test_what_has_no_snapshots_on_lvm_says_so(made: None) -> None:
    vg.done(run(volume(provisioning="thick")))
    refused(converge([], **keep()), "unsupported")
    vg.done(run(volume(state="absent")))
    vg.done(run(volume()))
    sh(["lvcreate", "-n", KEPT + "s", "-V", "8m", "--thinpool", "thin", "data"])
    refused(converge([], **keep()), "conflict")
    long = volume("c" * 50)
    assert "too long" in refused(
        converge([], volumes=[long], snapshots=[{"name": "b" * 63, "volume": long["name"]}]), "invalid"
    )


def attached(**more: Any) -> str:
    """What the volume holds, as it is after it was attached; detached again."""
    at = POOLS + "/fast/default/data"
    vg.done(run(volume(state="attached", **more)))
    text = read(at + "/f")
    vg.done(run(volume(state="detached", **more)))
    return text


def kept_then(text: str) -> None:
    """A snapshot of a volume that was written to since."""
    vg.done(run(volume(state="attached")))
    at = POOLS + "/fast/default/data/f"
    write(at, "before")
    vg.done(converge([], **keep()))
    write(at, text)


def test_a_volume_gets_back_what_a_snapshot_kept_and_nothing_is_lost(made: None) -> None:
    kept_then("after")
    refused(converge([], **keep(state="restored")), "in_use")
    vg.done(run(volume(state="detached")))
    done = settle(**keep(state="restored"))
    assert ports(done) == [("record", "create"), ("lv_content", "change"), ("record", "change")]
    assert attached() == "before"
    assert state(KEPT + "before-restore-s")[:2] == ["read-only", ""] and state(KEPT + "s")[:2] == ["read-only", ""]
    assert vg.lv("v+default+data", "lv_tags") == [
        "bulkhead.restored=%s,bulkhead.volume" % done["actions"][0]["after"]["of"].replace(" ", "/")
    ]
    # what it was is a snapshot like any other, also to go back to
    assert vg.done(converge([], **keep("before-restore-s")))["actions"] == []
    settle(**keep("before-restore-s", state="restored", restore_id="back"))
    assert attached() == "after"
    settle(**keep(state="restored", restore_id="again"))
    assert attached() == "before"
    vg.done(run(volume(size="24MiB")))
    refused(converge([], **keep(state="restored", restore_id="grown")), "conflict")
    names = ["s", "before-restore-s", "before-restore-back", "before-restore-again"]
    every = {"snapshots": [{"name": name, "volume": "data", "state": "absent"} for name in names]}
    vg.done(converge([], volumes=[volume(state="absent")], **every))
    assert [row["lv_name"] for row in vg.told("lvs", "lv_name")] == ["thin"]


def test_the_device_of_a_block_volume_is_restored_when_nobody_has_it_open(made: None) -> None:
    where = "/dev/data/v+default+data"
    vg.done(run(volume(type="block")))
    with open(where, "r+b", buffering=0) as disk:
        disk.write(b"before")
        os.fsync(disk.fileno())
        vg.done(converge([], **keep()))
        disk.seek(0)
        disk.write(b"after!")
        os.fsync(disk.fileno())
        refused(converge([], **keep(state="restored")), "in_use")
    settle(**keep(state="restored"))
    with open(where, "rb", buffering=0) as disk:
        assert disk.read(6) == b"before"


MIDDLE = (2, True)  # between its two renames, when the volume has no name


@pytest.mark.parametrize(
    "then,points",
    [
        ("restored", [MIDDLE]),
        ("another", [MIDDLE]),
        ("volume", [(1, True)]),
        ("removed", [(0, True), MIDDLE]),
    ],
)
def test_a_killed_restore_is_finished_or_goes_with_its_volume(made: None, then: str, points: Any) -> None:
    """Killed before and after each program that changes something; in CI at some of them."""
    restored, gone = keep(state="restored"), {"volumes": [volume(state="absent")]}
    names = ("s", "before-restore-s", "before-restore-b")
    gone["snapshots"] = [{"name": name, "volume": "data", "state": "absent"} for name in names]
    if "BULKHEAD_SOAK" in os.environ:
        points = [(count, late) for count in range(5) for late in (False, True)]
    for point in points:
        kept_then("after")
        vg.done(run(volume(state="detached")))
        assert vg.killed(*point, **restored), point
        if then == "restored":
            vg.done(converge([], **restored, volumes=[volume()]))
        if then == "another":
            vg.done(converge([], **keep(state="restored", restore_id="b")))
            assert vg.lv("v+default+data", "lv_tags")[0].split(",")[0].endswith("/b") and vg.lv("r+default+data") == []
            assert attached() == "before" and bool(vg.lv(KEPT + "before-restore-s")) == (point >= MIDDLE)
        elif then != "removed":
            assert attached() == ("before" if then == "restored" or point >= MIDDLE else "after"), point
            vg.done(converge([], **restored))
            assert vg.done(converge([], **restored))["actions"] == [] and attached() == "before"
            assert state(KEPT + "before-restore-s")[:2] == ["read-only", ""]
        vg.done(converge([], **gone))
        assert [row["lv_name"] for row in vg.told("lvs", "lv_name")] == ["thin"], point
    if then != "restored":
        return
    kept_then("after")
    vg.done(run(volume(state="detached")))
    assert not vg.killed(5, False, **restored), "so many programs change something, and no more"
