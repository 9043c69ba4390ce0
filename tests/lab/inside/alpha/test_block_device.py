# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Partitions on real disks. sfdisk, sgdisk, blkid, lsblk, sha256sum and the kernel tell every outcome."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time

import pytest

from ansible_collections.bulkhead.storage.tests.support import quotas
from ansible_collections.bulkhead.storage.tests.support.quotas import sh, until

MIB = 1 << 20
DISKS = ["/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_data%d" % n for n in (1, 2, 3)]
LINUX, LVM = "0FC63DAF-8483-4772-8E79-3D69D8477DE4", "E6D6D379-F507-44C2-A23C-238F2A3DF928"


def codes(answer):
    return [error["code"] for error in answer["refused"] + answer["errors"]]


def converge(check=False, **lists):
    return quotas.converge([], check, **lists)


def cleared(disk):
    """As a new disk is, whatever was on it."""
    for line in sh(["lsblk", "-nrpo", "MOUNTPOINT", disk]).split():
        sh(["umount", line])
    with open(disk, "rb+", buffering=0) as stream:
        size = stream.seek(0, os.SEEK_END)
        for start in (0, size - 8 * MIB):
            stream.seek(start)
            stream.write(bytes(8 * MIB))
        os.fsync(stream.fileno())
    sh(["udevadm", "settle"])
    assert until(lambda: subprocess.run(["blockdev", "--rereadpt", disk], check=False).returncode == 0)
    sh(["udevadm", "settle"])


@pytest.fixture
def disk(tmp_path):
    with quotas.own_catalogue():
        cleared(DISKS[0])
        yield DISKS[0]
        cleared(DISKS[0])


_ran: list[str] = []
sys.addaudithook(lambda event, args: _ran.append(str(args[0])) if event == "subprocess.Popen" else None)


@pytest.fixture
def programs():
    """The programs that were run since, by name."""
    del _ran[:]
    return _ran


def table(disk):
    """The table as sfdisk tells it: number -> (start, size) in bytes, type, name."""
    found = json.loads(sh(["sfdisk", "--json", disk]))["partitiontable"]
    rows = {}
    for part in found.get("partitions", []):
        number = int(part["node"].rpartition("part")[2])
        rows[number] = (part["start"] * 512, part["size"] * 512, part["type"], part.get("name", ""))
    return rows


def intact(disk):
    said = sh(["sgdisk", "--verify", disk])
    return "No problems found" in said


def digest(disk):
    with open(disk, "rb", buffering=0) as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        head = stream.read(16 * MIB)
        stream.seek(-16 * MIB, os.SEEK_END)
        return hashlib.sha256(head + stream.read()).hexdigest()


def tokens(answer):
    return [error["details"]["wipe_token"] for error in answer["refused"] if "wipe_token" in error["details"]]


def stack(disk, size="200MiB", state="present", tokens=(), fs_tokens=(None, None)):
    one, two = disk + "-part1", disk + "-part2"
    parts = [{"number": 1, "size": "100MiB", "name": "first"}, {"number": 2, "size": size, "type": "linux"}]
    return {
        "block_devices": [{"device": disk, "partitions": parts, "state": state, "wipe_token": list(tokens)}],
        "filesystems": [
            {"device": one, "fstype": "ext4", "state": state, "wipe_token": fs_tokens[0]},
            {"device": two, "fstype": "ext4", "label": "data", "state": state, "wipe_token": fs_tokens[1]},
        ],
        "mounts": [
            {"path": "/mnt/two", "source": two, "fstype": "ext4", "persist": "none",
             "state": "absent" if state == "absent" else "mounted"},
        ],
    }  # fmt: skip


def test_from_a_bare_disk_to_filesystems_and_back(disk, programs):
    foreseen = converge(True, **stack(disk))
    assert codes(foreseen) == [] and set(programs) == set() and not os.path.exists(disk + "-part1"), foreseen
    assert all(action["before"] is None for action in foreseen["actions"]), foreseen["actions"]
    done = converge(**stack(disk))
    assert codes(done) == [] and (done["actions"], done["digest"]) == (foreseen["actions"], foreseen["digest"])
    print([(a["port"], a["verb"]) for a in done["actions"]], programs)
    assert table(disk) == {1: (MIB, 100 * MIB, LINUX, "first"), 2: (101 * MIB, 200 * MIB, LINUX, "")}
    assert intact(disk) and sh(["findmnt", "-no", "FSTYPE", "/mnt/two"]).strip() == "ext4"
    assert sh(["blkid", "-p", "-o", "value", "-s", "LABEL", disk + "-part2"]).strip() == "data"
    assert sh(["blockdev", "--getsize64", disk + "-part2"]).split() == [str(200 * MIB)]
    del programs[:]
    again = converge(**stack(disk))
    assert (again["actions"], codes(again), programs) == ([], [], [])

    writer = subprocess.Popen(
        [sys.executable, "-c", "import os\nf = open('/mnt/two/log', 'wb', 0)\n"
         "while 1: f.write(b'x' * 65536); os.fsync(f.fileno()); f.seek(0 if f.tell() > 1 << 24 else f.tell())"],
        stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert until(lambda: os.path.exists("/mnt/two/log"))
        foreseen = converge(True, **stack(disk, "1GiB"))
        grown = converge(**stack(disk, "1GiB"))
        assert codes(grown) == [] and grown["actions"] == foreseen["actions"] and len(grown["actions"]) == 2, grown
        assert writer.poll() is None
    finally:
        writer.kill()
        assert writer.communicate()[1] == b""
    assert table(disk)[2] == (101 * MIB, 1024 * MIB, LINUX, "") and intact(disk)
    assert os.statvfs("/mnt/two").f_blocks * os.statvfs("/mnt/two").f_frsize > 900 * MIB
    again = converge(**stack(disk, "1GiB"))
    assert (again["actions"], codes(again)) == ([], [])

    before = digest(disk)
    refused = converge(**stack(disk, "1GiB", "absent"))
    assert set(codes(refused)) == {"not_blank"} and digest(disk) == before and os.path.ismount("/mnt/two"), refused
    ways = {error["entry"] + error["message"]: error["details"]["wipe_token"] for error in refused["refused"]}
    assert len(ways) == 5, ways
    every = tokens(refused)
    fs = tuple(next(t for k, t in ways.items() if k.startswith("filesystems[%d]" % n)) for n in (0, 1))
    gone = converge(**stack(disk, "1GiB", "absent", every, fs))
    print(json.dumps([gone["errors"], [(a["port"], a["target"]) for a in gone["actions"]]]))
    assert codes(gone) == []
    assert not os.path.exists(disk + "-part1") and not os.path.ismount("/mnt/two")
    assert sh(["lsblk", "-nro", "NAME", disk]).split() == [os.path.basename(os.path.realpath(disk))]
    assert subprocess.run(["blkid", "-p", disk], check=False).returncode == 2
    assert sh(["wipefs", "-n", disk]) == ""
    again = converge(**stack(disk, "1GiB", "absent"))
    assert (again["actions"], codes(again)) == ([], [])


def test_a_new_boot_partition_takes_its_filesystem_and_no_other(disk):
    esp = disk + "-part1"
    lists = entry(disk, (1, {"size": "40MiB", "type": "esp"}))
    lists["filesystems"] = [{"device": esp, "fstype": "vfat"}]
    foreseen = converge(True, **lists)
    done = converge(**lists)
    assert (codes(done), done["actions"]) == ([], foreseen["actions"]), done
    assert sh(["blkid", "-p", "-o", "value", "-s", "TYPE", esp]).strip() == "vfat"
    quiet(lists)
    before = digest(disk)
    for wrong in ({"fstype": "ext4"}, {"state": "absent"}):
        lists["filesystems"] = [{"device": esp, **wrong}]
        assert codes(converge(**lists)) == ["protected"] and digest(disk) == before


def entry(disk, *partitions, **more):
    rows = [{"number": n, **fields} for n, fields in partitions]
    return {"block_devices": [{"device": disk, **({"partitions": rows} if rows else {"label": "gpt"}), **more}]}


def quiet(lists):
    answer = converge(**lists)
    assert (answer["actions"], codes(answer)) == ([], []), answer
    return answer


def poke(disk, at, data):
    with open(disk, "rb+", buffering=0) as stream:
        stream.seek(at, os.SEEK_END if at < 0 else os.SEEK_SET)
        stream.write(data)
        os.fsync(stream.fileno())


def by_sfdisk(disk, script, *options):
    subprocess.run(["sfdisk", "--quiet", *options, disk], input=script.encode(), check=True, capture_output=True)
    sh(["udevadm", "settle"])


def superblocks_of_two(disk):
    sh(["mkfs.xfs", "-q", disk])
    with open(disk, "rb") as stream:
        first = stream.read(512)
    sh(["mkfs.ext4", "-qF", disk])
    poke(disk, 0, first)


def noise(disk):
    poke(disk, 3 * MIB, b"a database of somebody's, without a signature")


WRITTEN = {
    "ext4 on the whole disk": lambda disk: sh(["mkfs.ext4", "-qF", disk]),
    "an MBR with a partition": lambda disk: by_sfdisk(disk, "label: dos\nsize=100MiB\n"),
    "an empty MBR": lambda disk: by_sfdisk(disk, "label: dos\n"),
    "a physical volume": lambda disk: sh(["pvcreate", "-q", disk]),
    "xfs and ext4 at once": superblocks_of_two,
    "noise": noise,
}


@pytest.mark.parametrize("what", WRITTEN)
def test_never_over_something(disk, what):
    WRITTEN[what](disk)
    before = digest(disk)
    for lists in (entry(disk), entry(disk, (1, {})), entry(disk, state="absent"), entry(disk, wipe_token=["0" * 16])):
        for check in (True, False):
            refused = converge(check, **lists)
            assert set(codes(refused)) == {"not_blank"}, (lists, refused)
    assert digest(disk) == before
    (token,) = set(tokens(refused))
    poke(disk, 2 * MIB, b"changed since")
    poke(disk, 9 * MIB, b"where nobody looks")
    stale = converge(**entry(disk, wipe_token=[token]))
    assert codes(stale) == ["not_blank"] and tokens(stale) != [token], "a token dies with what it was printed for"
    done = converge(**entry(disk, (1, {"size": "10MiB"}), wipe_token=tokens(stale)))
    assert codes(done) == [] and intact(disk) and list(table(disk)) == [1]
    with open(disk + "-part1", "rb") as stream:
        whole = stream.read()
    assert len(whole) == 10 * MIB and not any(whole[: 4 * MIB]) and not any(whole[-4 * MIB :]), "nothing old shows"
    assert sh(["lsblk", "-nro", "NAME", disk]).count("\n") == 2


def test_what_others_made_stays(disk):
    """A table that is there is never made again, and partitions that are not declared are left alone."""
    by_sfdisk(disk, "label: gpt\nstart=2048, size=204800, name=theirs\nstart=614400, size=204800, name=other\n")
    sh(["mkfs.ext4", "-qF", disk + "-part1"])
    sh(["mkfs.ext4", "-qF", disk + "-part2"])
    digests, guid = digest(disk + "-part1"), json.loads(sh(["sfdisk", "--json", disk]))["partitiontable"]["id"]
    quiet(entry(disk, (1, {"size": "100MiB"})))
    assert codes(converge(**entry(disk, (1, {"size": "50MiB"})))) == ["would_shrink"]
    assert codes(converge(**entry(disk, (1, {"size": "300MiB"})))) == ["no_space"]
    assert codes(converge(**entry(disk, (1, {"start": "2MiB"})))) == ["unsupported"]
    assert codes(converge(**entry(disk, (3, {"start": "50MiB", "size": "1MiB"})))) == ["no_space"]
    assert codes(converge(**entry(disk, (3, {"size": "9GiB"})))) == ["no_space"]
    done = converge(**entry(disk, (7, {"type": "lvm", "name": "ours"}), (3, {"size": "50MiB", "start": "150MiB"})))
    assert codes(done) == [] and intact(disk)
    rows = table(disk)
    assert rows[7] == (400 * MIB, (4095 - 400) * MIB, LVM, "ours") and rows[3][:2] == (150 * MIB, 50 * MIB)
    assert rows[1] == (MIB, 100 * MIB, LINUX, "theirs") and rows[2] == (300 * MIB, 100 * MIB, LINUX, "other")
    assert digest(disk + "-part1") == digests
    assert json.loads(sh(["sfdisk", "--json", disk]))["partitiontable"]["id"] == guid
    changed = converge(**entry(disk, (7, {"type": "swap", "name": "other name", "size": "3695MiB"})))
    assert codes(changed) == [] and len(changed["actions"]) == 1 and table(disk)[7][3] == "other name"
    refused = converge(**entry(disk, (1, {"state": "absent"}), (3, {"state": "absent"})))
    assert codes(refused) == ["not_blank"] and len(table(disk)) == 4, "the blank one needs no token, but waits"
    sh(["mkdir", "-p", "/mnt/p"])
    sh(["mount", disk + "-part1", "/mnt/p"])
    held = converge(**entry(disk, (1, {"state": "absent"}), wipe_token=tokens(refused)))
    assert codes(held) == ["in_use"]
    beside = converge(**entry(disk, (3, {"state": "absent"})))  # while another one of the disk is mounted
    assert codes(beside) == [] and 3 not in table(disk) and not os.path.exists(disk + "-part3")
    sh(["umount", "/mnt/p"])
    refused = converge(**entry(disk, (1, {"state": "absent"})))
    gone = converge(**entry(disk, (1, {"state": "absent"}), wipe_token=tokens(refused)))
    assert codes(gone) == [] and sorted(table(disk)) == [2, 7] and intact(disk)
    assert "unstable_device" in codes(converge(**entry("/dev/" + os.path.basename(os.path.realpath(disk)), (9, {}))))
    for root in {line.split()[0] for line in sh(["findmnt", "-no", "SOURCE", "/"]).splitlines()}:
        assert "protected" in codes(converge(**entry(root)))


DAMAGE = {
    "the first header": lambda disk: poke(disk, 512 + 40, b"\xff"),
    "the first entries": lambda disk: poke(disk, 1024 + 32, b"\xff"),
    "the backup header": lambda disk: poke(disk, -512 + 40, b"\xff"),
    "the backup entries": lambda disk: poke(disk, -33 * 512 + 32, b"\xff"),
    "no first copy": lambda disk: poke(disk, 512, bytes(512)),
    "no backup copy": lambda disk: poke(disk, -512, bytes(512)),
    "the protective MBR": lambda disk: poke(disk, 0, bytes(512)),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_table_is_refused(disk, programs, what):
    by_sfdisk(disk, "label: gpt\nstart=2048, size=204800\n")
    DAMAGE[what](disk)
    before = digest(disk)
    del programs[:]
    for lists in (entry(disk), entry(disk, (1, {"size": "100MiB"})), entry(disk, state="absent")):
        assert set(codes(converge(**lists))) == {"checksum"}, lists
    assert digest(disk) == before and programs == []


def test_two_tables_that_disagree(disk):
    by_sfdisk(disk, "label: gpt\nstart=2048, size=204800\n")
    with open(disk, "rb") as stream:
        old = stream.read(34 * 512)
    by_sfdisk(disk, "start=409600, size=204800\n", "--append")
    poke(disk, 0, old)
    assert set(codes(converge(**entry(disk, (1, {"size": "100MiB"}))))) == {"checksum"}


def test_a_disk_that_cannot_be_read(disk):
    sectors = int(sh(["blockdev", "--getsz", disk]))
    for first in (1, 2048, sectors - 8):
        spans = [(0, first, "linear %s 0" % disk), (first, 8, "error")]
        spans.append((first + 8, sectors - first - 8, "linear %s %d" % (disk, first + 8)))
        lines = "".join("%d %d %s\n" % span for span in spans if span[1])
        subprocess.run(["dmsetup", "create", "ill"], input=lines.encode(), check=True)
        loop = sh(["losetup", "--find", "--show", "/dev/mapper/ill"]).strip()
        try:
            said = codes(converge(**entry(loop))) + codes(converge(**entry(loop, (1, {}), state="absent")))
            assert set(said) == {"unreadable"}, (first, said)
        finally:
            sh(["losetup", "-d", loop])
            sh(["udevadm", "settle"])
            sh(["dmsetup", "remove", "--retry", "ill"])


def test_a_partition_the_kernel_was_not_told_of_is_a_door(disk):
    """What lies behind it is seen only once it is open; and it is closed again where that is refused."""
    by_sfdisk(disk, "label: gpt\nstart=2048, size=204800\n")
    sh(["mkfs.ext4", "-qF", disk + "-part1"])
    sh(["udevadm", "settle"])
    sh(["partx", "-d", "--nr", "1", os.path.realpath(disk)])
    sh(["udevadm", "settle"])
    lists = entry(disk, (1, {"size": "100MiB"}))
    lists["filesystems"] = [{"device": disk + "-part1", "fstype": "vfat"}]
    foreseen = converge(True, **lists)
    assert codes(foreseen) == [] and [a["before"] for a in foreseen["actions"]][1] == "UNKNOWN", foreseen
    refused = converge(**lists)
    assert codes(refused) == ["not_blank"] and not os.path.exists(disk + "-part1"), refused
    assert sh(["lsblk", "-nro", "NAME", disk]).count("\n") == 1
    lists["filesystems"][0]["fstype"] = "ext4"
    done = converge(**lists)
    assert codes(done) == [] and [a["port"] for a in done["actions"]] == ["partition", "superblock"], done
    assert os.path.exists(disk + "-part1")
    quiet(lists)


@pytest.mark.parametrize("sector", [512, 4096])
def test_a_disk_that_became_larger(disk, arena, sector):
    image = arena + "/disk.img"
    sh(["truncate", "-s", "64M", image])
    loop = sh(["losetup", "--find", "--show", "--sector-size", str(sector), image]).strip()
    try:
        lists = entry(loop, (1, {}))
        assert codes(converge(**lists)) == ["unstable_device", "unstable_device"]
        answer = unstable(lists)
        assert codes(answer) == [] and int(sh(["blockdev", "--getsize64", loop + "p1"])) == 62 * MIB
        sh(["truncate", "-s", "128M", image])
        sh(["losetup", "-c", loop])
        foreseen, done = unstable(lists, True), unstable(lists)
        assert codes(done) == [] and done["actions"] == foreseen["actions"]
        assert [a["port"] for a in done["actions"]] == ["gpt", "partition"] and intact(loop)
        assert int(sh(["blockdev", "--getsize64", loop + "p1"])) == 126 * MIB
        assert unstable(lists)["actions"] == []
    finally:
        sh(["losetup", "-d", loop])


def unstable(lists, check=False):
    return quotas.converge([], check, unstable=True, **lists)


PLAN = [(1, {"size": "20MiB", "name": "one"}), (2, {"size": "30MiB"})]
REACHED = {"execve": 1, "pwrite64": 16, "write": 6, "fsync": 8, "flock": 4, "ioctl": 40, "unlink": 8, "rename": 1}
CALLS = tuple(REACHED)


@pytest.mark.parametrize("going", [False, True], ids=["coming", "going"])
def test_killed_at_each_changing_call(disk, going):
    """Ours, or sfdisk at one of its own: the next run brings it to the same end."""
    there, gone = entry(disk, *PLAN), entry(disk, *PLAN, state="absent")
    entry_, start = (gone, there) if going else (there, gone)

    def consenting(lists):
        answer = converge(**lists)
        given = tokens(answer)
        if given:
            lists["block_devices"][0]["wipe_token"] = given
            answer = converge(**lists)
        return answer

    def reset():
        cleared(disk)
        if going:
            assert codes(consenting(entry(disk, *PLAN))) == []
            refused = converge(**gone)
            gone["block_devices"][0]["wipe_token"] = tokens(refused)

    def traced(*strace):
        return quotas.traced(lambda: len(codes(converge(**entry_))), *strace)

    reset()
    _status, counted = traced("-c", "-U", "name,calls", "-e", "trace=" + ",".join(CALLS))
    rows = [line.split() for line in counted.splitlines()]
    calls = {row[0]: int(row[1]) for row in rows if row and row[0] in CALLS}
    # strace counts each process by itself, so that the later ones of all that were counted are never reached
    points = [(name, at) for name, count in calls.items() for at in range(1, min(count, REACHED[name]) + 1)]
    if "BULKHEAD_SOAK" not in os.environ:
        points = random.Random(20261).sample(points, 2)
    killed = 0
    for name, at in points:
        reset()
        status, _said = traced("-e", "trace=" + name, "-e", "inject=%s:signal=KILL:when=%s" % (name, at))
        killed += status != 0  # ours by the signal, or with the error of sfdisk that was killed
        last = consenting({"block_devices": [dict(entry_["block_devices"][0])]})
        if codes(last):
            print(name, at, last["actions"], last["refused"] + last["errors"], sh(["sgdisk", "-v", disk], check=False))
        assert codes(last) == []
        quiet(entry_)
        if going:
            assert sh(["wipefs", "-n", disk]) == "" and sh(["lsblk", "-nro", "NAME", disk]).count("\n") == 1
        else:
            assert intact(disk) and {n: row[1] // MIB for n, row in table(disk).items()} == {1: 20, 2: 30}
            assert sh(["lsblk", "-nro", "NAME", disk]).count("\n") == 3
    print("killed at %d of %d points of %s" % (killed, len(points), calls))
    assert killed >= len(points) // 2  # others are calls of a process that makes fewer of them


def test_settings_now_and_whenever_the_disk_appears(disk, programs):
    queue = "/sys/class/block/%s/queue/" % os.path.basename(os.path.realpath(disk))
    rule = "/etc/udev/rules.d/90-bulkhead-%s.rules" % os.path.basename(disk)
    names = "/etc/udev/rules.d/61-names.rules"
    with open(queue + "read_ahead_kb", encoding="ascii") as stream:
        was = int(stream.read())
    lists = {"block_devices": [{"device": disk, "scheduler": "none", "read_ahead": "1MiB"}]}
    try:
        foreseen, done = converge(True, **lists), converge(**lists)
        assert codes(done) == [] and done["actions"] == foreseen["actions"] and programs == []
        assert sh(["cat", queue + "read_ahead_kb"]).strip() == "1024" and "[none]" in sh(["cat", queue + "scheduler"])
        quiet(lists)
        time.sleep(4)  # udevd looks for new rules every three seconds
        with open(queue + "read_ahead_kb", "w", encoding="ascii") as stream:
            stream.write("256")
        with open(queue + "scheduler", "w", encoding="ascii") as stream:
            stream.write("mq-deadline")
        assert len(converge(True, **lists)["actions"]) == 1
        sh(["udevadm", "trigger", "--action=add", "--settle", os.path.realpath(disk)])
        assert sh(["cat", queue + "read_ahead_kb"]).strip() == "1024" and "[none]" in sh(["cat", queue + "scheduler"])
        quiet(lists)
        with open(rule, "a", encoding="ascii") as stream:
            stream.write("# by hand\n")
        assert [a["port"] for a in converge(**lists)["actions"]] == ["udev_rule"]
        with open(names, "w", encoding="ascii") as stream:  # as udev 245 names an NVMe disk
            stream.write('SUBSYSTEM=="block", ENV{ID_SERIAL}=="?*", ENV{ID_SERIAL}="With Blanks_$env{ID_SERIAL}"\n')
        sh(["udevadm", "control", "--reload"])
        sh(["udevadm", "trigger", "--action=change", "--settle", os.path.realpath(disk)])
        assert "With Blanks_" in sh(["udevadm", "info", "--query=property", "--property=ID_SERIAL", disk])
        assert [a["port"] for a in converge(**lists)["actions"]] == ["udev_rule"]
        sh(["udevadm", "control", "--reload"])
        with open(queue + "read_ahead_kb", "w", encoding="ascii") as stream:
            stream.write("256")
        sh(["udevadm", "trigger", "--action=add", "--settle", os.path.realpath(disk)])
        assert sh(["cat", queue + "read_ahead_kb"]).strip() == "1024"
        quiet(lists)
        wrong = {"block_devices": [{"device": disk, "scheduler": "no-such"}]}
        assert codes(converge(**wrong)) == ["unsupported"]
        other = {"block_devices": [{"device": disk, "read_only": True, "persist": False}]}
        assert codes(converge(**other)) == [] and not os.path.exists(rule)
        assert sh(["blockdev", "--getro", disk]).strip() == "1"
        converge(block_devices=[{"device": disk, "read_only": False}])
        assert os.path.exists(rule) and sh(["blockdev", "--getro", disk]).strip() == "0"
        gone = {"block_devices": [{"device": disk, "read_only": False, "state": "absent"}]}
        assert codes(converge(**gone)) == [] and not os.path.exists(rule)
        quiet(gone)
    finally:
        if os.path.exists(names):
            os.unlink(names)
            sh(["udevadm", "control", "--reload"])
            sh(["udevadm", "trigger", "--action=change", "--settle", os.path.realpath(disk)])
        with open(queue + "read_ahead_kb", "w", encoding="ascii") as stream:
            stream.write(str(was))
