# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest's kernel has what it is there for, asked with the usual programs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Iterator

import pytest

DISK = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_data1"
MIB = 1 << 20


def run(*argv: str) -> str:
    done = subprocess.run(argv, stdout=-1, stderr=-2, encoding="utf-8", check=False)
    assert done.returncode == 0, "%s: %s" % (" ".join(argv), done.stdout)
    return done.stdout


@pytest.fixture
def mounted(arena: str) -> Iterator[str]:
    """Where a test mounts; taken down with the arena."""
    os.mkdir(arena + "/m")
    yield arena + "/m"


def written(path: str) -> int:
    """Bytes that user nobody can write to a file, at most 16 MiB."""
    argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"]
    subprocess.run([*argv, "dd", "if=/dev/zero", "of=" + path, "bs=1M", "count=16"], stderr=-3, check=False)
    return os.stat(path).st_size


@pytest.mark.parametrize("fstype", ["xfs", "ext4"])
def test_a_project_quota_stops_a_tenant(mounted: str, fstype: str) -> None:
    make = {"xfs": ["mkfs.xfs", "-q", "-f"], "ext4": ["mkfs.ext4", "-q", "-F", "-O", "project,quota"]}[fstype]
    run(*make, *(["-E", "quotatype=prjquota"] if fstype == "ext4" else []), DISK)
    run("mount", "-o", "prjquota", DISK, mounted)
    os.mkdir(mounted + "/t")
    os.chmod(mounted + "/t", 0o777)
    run("chattr", "-p", "1000", mounted + "/t")
    run("chattr", "+P", mounted + "/t")
    run("setquota", "-P", "1000", "0", "8192", "0", "0", mounted)
    assert 7 * MIB <= written(mounted + "/t/file") <= 8 * MIB
    os.unlink(mounted + "/t/file")
    run("setquota", "-P", "1000", "0", "0", "0", "0", mounted)
    assert written(mounted + "/t/file") == 16 * MIB


def test_btrfs_counts_with_simple_quotas(mounted: str) -> None:
    run("mkfs.btrfs", "-q", "-f", DISK)
    run("mount", DISK, mounted)
    run("btrfs", "quota", "enable", "--simple", mounted)
    (mode,) = Path("/sys/fs/btrfs").glob("*-*/qgroups/mode")
    assert mode.read_text() == "squota\n"


def test_device_mapper_makes_thin_volumes() -> None:
    run("wipefs", "-q", "-a", DISK)
    try:
        run("vgcreate", "-q", "labvg", DISK)
        run("lvcreate", "-q", "--type", "thin-pool", "-L", "64m", "-n", "pool", "labvg")
        run("lvcreate", "-q", "-V", "1g", "--thin", "-n", "thin", "labvg/pool")
        assert "thin" in run("dmsetup", "table", "labvg-thin").split()
    finally:
        subprocess.run(["vgremove", "-q", "-f", "labvg"], check=False)
        run("wipefs", "-q", "-a", DISK)


def test_two_guests_from_one_state_draw_other_random_numbers() -> None:
    """The kernel is told that it was restored: otherwise all guests would make filesystems of the same UUID."""
    assert run("dmesg").count("crng reseeded due to virtual machine fork") == 1
