# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Partitions on real disks. sfdisk, sgdisk, blkid, lsblk, sha256sum and the kernel tell every outcome."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

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
    subprocess.run(["partx", "-d", disk], check=False, capture_output=True)
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
        return hashlib.sha256(stream.read(64 * MIB)).hexdigest()


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
