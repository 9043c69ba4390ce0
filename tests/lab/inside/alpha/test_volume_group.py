# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volume groups on the guest's disks. lvs(8), pvs(8), blkid(8), dmsetup(8) and the bytes of the disks tell what became
of them."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from typing import Any, Iterator

import pytest

from ansible_collections.bulkhead.storage.plugins.module_utils import _kinds
from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import lvm2late, program
from ansible_collections.bulkhead.storage.tests.support import quotas
from ansible_collections.bulkhead.storage.tests.support.quotas import converge, sh

DISK = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_data%d"
MIB = 1 << 20
EDGE = 4 * MIB


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """No group, blank disks, an empty catalogue; whatever a test leaves is gone after it."""
    _wiped()
    with quotas.own_catalogue():
        yield
        for path in ("/mnt/vg", "/mnt/vg2"):
            while os.path.ismount(path):
                sh(["umount", path])
    _wiped()


def _wiped() -> None:
    for name in {row["vg_name"] for row in told("vgs", "vg_name")}:
        sh(["vgchange", "-an", name])
        sh(["vgremove", "-ff", "-y", name])
    for number in (1, 2, 3):
        zero(DISK % number)


def zero(device: str) -> None:
    with open(device, "r+b", buffering=0) as disk:
        for start in (0, disk.seek(0, 2) - EDGE):
            disk.seek(start)
            disk.write(bytes(EDGE))
        os.fsync(disk.fileno())


def told(program: str, fields: str) -> list[dict[str, str]]:
    text = sh([program, "--reportformat", "json", "--units", "b", "--nosuffix", "-o", fields])
    (rows,) = json.loads(text)["report"][0].values()
    return list(rows)


def lv(name: str, fields: str = "lv_size") -> list[str]:
    """Fields of one volume, as lvs(8) tells them."""
    found = [row for row in told("lvs", "lv_name," + fields) if row["lv_name"] == name]
    return [found[0][field] for field in fields.split(",")] if found else []


def blank(device: str) -> bool:
    with open(device, "rb") as disk:
        head = disk.read(EDGE)
        disk.seek(-EDGE, 2)
        return not any(head) and not any(disk.read())


def digest(device: str) -> str:
    """Of the first 64 MiB and the last 4, which is where everything that is made here lies."""
    with open(device, "rb") as disk:
        sha = hashlib.sha256(disk.read(64 * MIB))
        disk.seek(-EDGE, 2)
        sha.update(disk.read())
        return sha.hexdigest()


def run(groups: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return converge([], volume_groups=groups, **more)


def codes(answer: dict[str, Any]) -> list[str]:
    return [error["code"] for error in answer["refused"] + answer["errors"]]


def tokens(answer: dict[str, Any]) -> list[str]:
    return [e["details"]["wipe_token"] for e in answer["refused"] if "wipe_token" in e["details"]]


def done(answer: dict[str, Any]) -> dict[str, Any]:
    assert codes(answer) == [], "\n".join(e["message"] for e in answer["refused"] + answer["errors"])
    return answer


def quiet(groups: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    again = done(run(groups, **more))
    assert again["actions"] == [], again["actions"]
    return again


def programs(call: Any) -> list[str]:
    """What a call executes, as strace(1) sees it."""
    status, text = quotas.traced(lambda: 0 if call() else 1, "-e", "trace=execve")
    assert status == 0
    return [line.split('"')[1] for line in text.splitlines() if "execve(" in line and line.endswith("= 0")]


def stack(size: str = "256MiB") -> dict[str, Any]:
    return {
        "volume_groups": [{"vg": "data", "pvs": [DISK % 1], "lvs": [{"name": "home", "size": size}]}],
        "filesystems": [{"device": "/dev/data/home", "fstype": "ext4"}],
        "mounts": [{"path": "/mnt/vg", "source": "/dev/data/home", "fstype": "ext4", "persist": "none"}],
    }


def test_disk_to_mount_and_back() -> None:
    foreseen = done(converge([], check=True, **stack()))
    assert told("vgs", "vg_name") == [] and blank(DISK % 1)
    kinds = [(a["port"], a["verb"], a["before"]) for a in foreseen["actions"]]
    assert [kind for kind in kinds if kind[0] in ("pv", "lv", "superblock", "mount")] == [
        (port, "create", None) for port in ("pv", "lv", "superblock", "mount")
    ]
    made = done(converge([], **stack()))
    assert (made["actions"], made["digest"]) == (foreseen["actions"], foreseen["digest"])
    assert lv("home", "lv_size,lv_tags,lv_active") == [str(256 * MIB), "", "active"]
    assert sh(["findmnt", "-no", "SOURCE,FSTYPE", "/mnt/vg"]).split() == ["/dev/data/home", "ext4"]
    assert sh(["blkid", "-o", "value", "-s", "TYPE", "/dev/data/home"]).strip() == "ext4"
    _only_what_a_look_needs()
    assert programs(lambda: converge([], **stack())["actions"] == []) == ["/usr/sbin/lvm"]
    gone = {"state": "absent", **stack()}
    refused = converge([], **gone)
    assert codes(refused) == ["not_blank", "not_blank"] and len(set(tokens(refused))) == 1, refused
    assert os.path.ismount("/mnt/vg")
    (token,) = set(tokens(refused))
    gone["filesystems"][0]["wipe_token"] = token
    gone["volume_groups"][0]["wipe_token"] = [token]
    done(converge([], **gone))
    assert told("vgs", "vg_name") == [] and told("pvs", "pv_name") == [] and blank(DISK % 1)
    assert done(converge([], **gone))["actions"] == []


def group(*lvs: dict[str, Any], disks: tuple[int, ...] = (1,), **more: Any) -> list[dict[str, Any]]:
    return [{"vg": "data", "pvs": [DISK % n for n in disks], "lvs": list(lvs), **more}]


def refused(answer: dict[str, Any], *wanted: str) -> None:
    assert sorted(codes(answer)) == sorted(wanted) and answer["actions"] == [], answer


def _only_what_a_look_needs() -> None:
    """The module's own quiet call loads nothing that is there for changes; test_budget.py counts the rest."""
    code = (
        "import sys, time\n"
        "from ansible_collections.bulkhead.storage.plugins.module_utils._adapters import lvm2, program\n"
        "from ansible_collections.bulkhead.storage.plugins.module_utils._engine import options, reconcile, world\n"
        "from ansible_collections.bulkhead.storage.plugins.module_utils._resources import volume_group as kind\n"
        "given = {'vg': 'data', 'pvs': [sys.argv[1]], 'lvs': [{'name': 'home', 'size': '256MiB'}]}\n"
        "p = options.check(kind.OPTIONS, kind.RULES, given, set())\n"
        "def declare(look):\n"
        "    look.look('vg', ['data'])\n"
        "    return [kind.unit(p, look)], []\n"
        "ports = world.Ports(lvm2.makers(program.execute))\n"
        "report = reconcile.converge(declare, ports, reconcile.Options(check=True), time.monotonic)\n"
        "print(len(report.listed), *(n for n in sys.modules if '.storage.plugins.' in n))\n"
    )
    count, *names = sh([sys.executable, "-c", code, DISK % 1]).split()
    late = ("lvm2change", "catalogue", "mkfs", "blank", "sysfs_block", "plan", "runner")
    assert count == "0" and [n for n in names if n.rpartition(".")[2] in late] == []


def test_what_is_not_blank_is_not_taken() -> None:
    sh(["mkfs.ext4", "-qF", DISK % 1])
    before = digest(DISK % 1)
    first = run(group())
    refused(first, "not_blank")
    assert digest(DISK % 1) == before
    (stale,) = tokens(first)
    sh(["tune2fs", "-L", "other", DISK % 1])
    before = digest(DISK % 1)
    again = run(group(wipe_token=[stale]))
    refused(again, "not_blank")
    os.makedirs("/mnt/vg", exist_ok=True)
    sh(["mount", "-o", "ro,noload", DISK % 1, "/mnt/vg"])
    refused(run(group(wipe_token=tokens(again))), "in_use")
    sh(["umount", "/mnt/vg"])
    assert digest(DISK % 1) == before
    refused(converge([], volume_groups=[{"vg": "data", "pvs": ["/dev/sdb"]}]), "unstable_device")
    done(run(group(wipe_token=tokens(again))))
    assert [row["vg_name"] for row in told("pvs", "pv_name,vg_name")] == ["data"]
    # of another group, of another host, exported, and with a device that is missing
    refused(converge([], volume_groups=[{"vg": "other", "pvs": [DISK % 1]}]), "in_use")
    done(run(group({"name": "home", "size": "8MiB"}, disks=(1, 2))))
    more = group({"name": "home", "size": "12MiB"}, {"name": "new", "size": "4MiB"}, disks=(1, 2))
    sh(["vgchange", "-an", "data"])
    sh(["vgexport", "data"])
    refused(run(more), "protected")
    sh(["vgimport", "data"])
    sh(["vgchange", "--yes", "--config", 'local/extra_system_ids=["elsewhere"]', "--systemid", "elsewhere", "data"])
    refused(run(more), "protected")
    there = 'global/system_id_source="lvmlocal" local/system_id="elsewhere"'
    sh(["vgchange", "--yes", "--config", there, "--systemid", "", "data"])
    with open(DISK % 2, "r+b", buffering=0) as disk:
        label = disk.read(4096)
        disk.seek(0)
        disk.write(bytes(4096))
    refused(run(more), "unreadable")
    with open(DISK % 2, "r+b", buffering=0) as disk:
        disk.write(label)


def test_a_share_is_worked_out_once() -> None:
    lvs = [{"name": "most", "size": "40%VG"}, {"name": "rest", "size": "100%FREE"}]
    done(run(group(*lvs)))
    size = int(told("vgs", "vg_size")[0]["vg_size"])
    assert int(lv("most")[0]) == size // (4 * MIB) * 40 // 100 * 4 * MIB
    assert int(lv("most")[0]) + int(lv("rest")[0]) == size and told("vgs", "vg_free")[0]["vg_free"] == "0"
    quiet(group(*lvs))
    most, rest = lv("most"), lv("rest")
    done(run(group(*lvs, disks=(1, 2))))  # the group grows, they stay
    quiet(group(*lvs, disks=(1, 2)))
    assert (lv("most"), lv("rest")) == (most, rest)
    lvs[0]["size"] = "30%VG"
    grown = done(run(group(*lvs, disks=(1, 2))))
    size = int(told("vgs", "vg_size")[0]["vg_size"])
    assert int(lv("most")[0]) == size // (4 * MIB) * 30 // 100 * 4 * MIB > int(most[0])
    assert [(a["port"], a["after"]["size"]) for a in grown["actions"]] == [("lv", int(lv("most")[0]))]
    quiet(group(*lvs, disks=(1, 2)))
    lvs[0]["size"] = "10%VG"
    refused(run(group(*lvs, disks=(1, 2))), "would_shrink")
    lvs[0]["size"] = "8MiB"
    most = lv("most")
    refused(run(group(*lvs, disks=(1, 2), allow_shrink=True)), "would_shrink")  # its ends are blank: and its middle?
    assert lv("most") == most


def test_a_volume_grows_under_a_writer_with_what_is_on_it() -> None:
    done(converge([], **stack()))
    writer = subprocess.Popen(
        ["sh", "-c", "while :; do dd if=/dev/zero of=/mnt/vg/f bs=64k count=16 conv=fsync 2>/dev/null || exit 9; done"]
    )
    try:
        foreseen = done(converge([], check=True, **stack("512MiB")))
        grown = done(converge([], **stack("512MiB")))
        assert grown["digest"] == foreseen["digest"]
        assert [a["port"] for a in grown["actions"]] == ["lv", "superblock"]
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.wait()
    assert os.statvfs("/mnt/vg").f_blocks * os.statvfs("/mnt/vg").f_frsize > 400 * MIB
    assert done(converge([], **stack("512MiB")))["actions"] == []
    home = {"name": "home", "size": "600MiB", "grow_fs": True}
    sh(["lvextend", "-L", "600m", "data/home"])  # as after a kill: the filesystem was left behind
    done(run(group(home)))
    assert os.statvfs("/mnt/vg").f_blocks * os.statvfs("/mnt/vg").f_frsize > 500 * MIB
    quiet(group(home))
    refused(run(group({"name": "home", "size": "64MiB"}, allow_shrink=True)), "would_shrink")
    refused(run(group({**home, "active": False})), "in_use")
    refused(run(group({"name": "home", "state": "absent"})), "in_use")
    assert lv("home") == [str(600 * MIB)]


def test_a_thin_pool() -> None:
    pool = {"name": "pool", "size": "64MiB", "metadata_size": "4MiB", "autoextend_threshold": 80, "overcommit": 2.0}
    one, two = ({"name": n, "size": "60MiB", "thin_pool": "pool"} for n in ("one", "two"))
    refused(run(group(one, {**two, "size": "80MiB"}, thin_pools=[pool])), "limit_exceeded")
    assert blank(DISK % 1)
    made = group(one, {**two, "tags": ["tenant=2"]}, thin_pools=[pool])
    foreseen = done(run(made, check=True))
    assert done(run(made))["digest"] == foreseen["digest"]
    assert lv("pool", "lv_size,lv_metadata_size,lv_profile") == [str(64 * MIB), str(4 * MIB), "bulkhead-thin-80"]
    assert lv("two", "lv_size,pool_lv,lv_tags") == [str(60 * MIB), "pool", "tenant=2"]
    conf = sh(["lvmconfig", "--metadataprofile", "bulkhead-thin-80", "activation/thin_pool_autoextend_threshold"])
    assert conf.strip() == "thin_pool_autoextend_threshold=80"
    quiet(made)
    refused(run(group(thin_pools=[{"name": "pool", "state": "absent"}])), "in_use")
    made[0]["thin_pools"] = [{**pool, "size": "96MiB", "autoextend_threshold": 100}]
    done(run(made))
    assert lv("pool", "lv_size,lv_profile") == [str(96 * MIB), ""]
    quiet(made)
    sh(["dd", "if=/dev/urandom", "of=/dev/data/one", "bs=1M", "count=1", "conv=fsync"])
    gone = {"vg": "data", "state": "absent"}
    first = run([gone])
    refused(first, "not_blank")
    sh(["lvchange", "-an", "data/one"])
    refused(run([{**gone, "wipe_token": tokens(first)}]), "unreadable")
    sh(["lvchange", "-ay", "data/one"])
    done(run([{**gone, "wipe_token": tokens(first)}]))
    assert told("pvs", "pv_name") == [] and blank(DISK % 1)


def test_another_disk_takes_the_place_of_the_first() -> None:
    done(converge([], **stack()))
    with open("/mnt/vg/f", "wb") as stream:
        stream.write(os.urandom(8 * MIB))
        os.fsync(stream.fileno())
    before = sh(["sha256sum", "/mnt/vg/f"])
    home = {"name": "home", "size": "256MiB"}
    moved = group(home, disks=(2,), remove_pvs=[DISK % 1])
    done(run(moved))
    (row,) = told("pvs", "pv_name,vg_name")
    assert row == {"pv_name": os.path.realpath(DISK % 2), "vg_name": "data"} and blank(DISK % 1)
    sh(["sh", "-c", "echo 3 > /proc/sys/vm/drop_caches"])
    assert sh(["sha256sum", "/mnt/vg/f"]) == before
    quiet(moved)
    done(run(group(home, {"name": "big", "size": "3700MiB"}, disks=(2, 3))))
    full = group(home, {"name": "big", "size": "3700MiB"}, {"name": "more", "size": "2GiB"}, disks=(2, 3))
    done(run(full))
    refused(run([{**full[0], "pvs": [DISK % 2], "remove_pvs": [DISK % 3]}]), "no_space")


@pytest.mark.parametrize("way", ["up", "down", "move"])
def test_a_killed_run_is_finished_by_the_next(way: str) -> None:
    """Killed before each other program that changes something, and after those between; in CI at one of them."""
    up = group({"name": "home", "size": "8MiB"})
    down = [{"vg": "data", "state": "absent"}]
    first, then = {
        "up": (down, up),
        "down": (up, [{**down[0], "pvs": [DISK % 1]}]),
        "move": (up, group({"name": "home", "size": "8MiB"}, disks=(2,), remove_pvs=[DISK % 1])),
    }[way]
    every = {"up": 3, "down": 4, "move": 4}[way]
    for count in range(9) if "BULKHEAD_SOAK" in os.environ else (every // 2, every):
        if way == "move":
            done(run(down))
        done(run(first))
        if not killed(count, bool(count % 2), volume_groups=then):
            break
        done(run(then))
        quiet(then)
        left = [os.path.realpath(DISK % {"up": 1, "move": 2}[way])] if way != "down" else []
        assert [row["pv_name"] for row in told("pvs", "pv_name")] == left, count
        assert way == "up" or blank(DISK % 1), count
        assert way == "down" or (lv("home", "lv_size,lv_tags") == [str(8 * MIB), ""] and blank("/dev/data/home")), count
    print("%s: %d points" % (way, count))
    assert count == every, "so many programs change something, and no more"


def test_what_came_to_a_volume_whose_removal_was_killed_is_not_lost() -> None:
    """It was wiped and deactivated; then somebody activated it, wrote, and deactivated it again."""
    done(run(group({"name": "home", "size": "8MiB"})))
    gone = [{"vg": "data", "pvs": [DISK % 1], "lvs": [{"name": "home", "size": "8MiB", "state": "absent"}]}]
    assert killed(0, True, volume_groups=gone) and lv("home", "lv_active") == [""]
    sh(["lvchange", "-ay", "data/home"])
    with open("/dev/data/home", "r+b", buffering=0) as volume:
        volume.write(b"theirs" * 512)
        os.fsync(volume.fileno())
    sh(["lvchange", "-an", "data/home"])
    assert codes(run(gone)) == ["moved"]
    asked = run(gone)
    refused(asked, "not_blank")
    with open("/dev/data/home", "rb", buffering=0) as volume:
        assert volume.read(6) == b"theirs"
    (gone[0]["wipe_token"],) = [tokens(asked)]
    done(run(gone))
    assert lv("home") == []


def killed(count: int, after: bool, **lists: Any) -> bool:
    """Does a process of its own end at its program number ``count`` that changes something?"""
    left = [count]

    def execute(argv: list[str], stdin: bytes = b"", timeout: float = 60.0) -> Any:
        mine = argv[0] != "lvm" and left[0] == 0
        left[0] -= argv[0] != "lvm"
        if mine and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        told = program.execute(argv, stdin, timeout)
        if mine:
            os.kill(os.getpid(), signal.SIGKILL)
        return told

    child = os.fork()
    if child == 0:
        try:
            ports = _kinds.ports(list(lists))
            ports.makers.update(lvm2late.makers(ports["record"], execute))
            converge([], ports=ports, **lists)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_a_closed_volume_is_opened_and_looked_at_before_anything_is_done() -> None:
    done(converge([], **stack()))
    uuid = sh(["blkid", "-o", "value", "-s", "UUID", "/dev/data/home"])
    sh(["umount", "/mnt/vg"])
    sh(["vgchange", "-an", "data"])
    foreseen = done(converge([], check=True, **stack()))
    assert [a["before"] for a in foreseen["actions"] if a["port"] == "superblock"] == ["UNKNOWN"]
    assert lv("home", "lv_active") == [""]
    done(converge([], **stack()))
    assert sh(["blkid", "-o", "value", "-s", "UUID", "/dev/data/home"]) == uuid and os.path.ismount("/mnt/vg")
    sh(["umount", "/mnt/vg"])
    sh(["vgchange", "-an", "data"])
    before = digest(DISK % 1)
    other = stack()
    other["filesystems"][0]["fstype"] = other["mounts"][0]["fstype"] = "btrfs"
    answer = converge([], **other)
    assert codes(answer) == ["not_blank"], answer
    assert lv("home", "lv_active") == [""] and not os.path.ismount("/mnt/vg")
    assert digest(DISK % 1) == before
