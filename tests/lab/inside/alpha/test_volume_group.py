# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volume groups on the guest's disks. lvs(8), pvs(8), blkid(8), dmsetup(8) and the bytes of the disks tell what became
of them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from typing import Any, Iterator

import pytest

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


@contextlib.contextmanager
def held(path: str) -> Iterator[None]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield
    finally:
        os.close(fd)


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
